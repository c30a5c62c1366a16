"""Feature stores: bags of instances on disk, complete or absent, and verified when read."""

from stores.base import FeatureStore
from stores.documents import JSON
from stores.errors import (
    BagDamagedError,
    BagExistsError,
    BagNotFoundError,
    InvalidBagError,
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreMismatchError,
    StoreVersionError,
)
from stores.info import store_info
from stores.open import create_store, open_or_create_store, open_store
from stores.packed import PackedBags, pack_bags
from stores.schema import (
    SCHEMA_VERSION,
    ArraySpec,
    Bag,
    BagRecord,
    Manifest,
    QuarantinedFile,
)
from stores.verify import VerifyRecord, verify_store

__all__ = [
    "JSON",
    "SCHEMA_VERSION",
    "ArraySpec",
    "Bag",
    "BagDamagedError",
    "BagExistsError",
    "BagNotFoundError",
    "BagRecord",
    "FeatureStore",
    "InvalidBagError",
    "Manifest",
    "NotAStoreError",
    "PackedBags",
    "QuarantinedFile",
    "StoreDamagedError",
    "StoreError",
    "StoreMismatchError",
    "StoreVersionError",
    "VerifyRecord",
    "create_store",
    "open_or_create_store",
    "open_store",
    "pack_bags",
    "store_info",
    "verify_store",
]
