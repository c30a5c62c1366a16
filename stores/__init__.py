"""Feature stores: bags of instances on disk, complete or absent, and verified when read."""

from stores.base import FeatureStore
from stores.copying import CopyRecord, copy_store, merge_stores
from stores.diff import BagDiff, diff_manifests, diff_stores
from stores.documents import JSON
from stores.errors import (
    BagDamagedError,
    BagExistsError,
    BagNotFoundError,
    InvalidBagError,
    NotAStoreError,
    StoreDamagedError,
    StoreError,
    StoreExistsError,
    StoreMismatchError,
    StoreVersionError,
)
from stores.info import store_info
from stores.open import create_store, open_or_create_store, open_store, store_exists
from stores.packed import PackedBags, pack_bags
from stores.repair import RepairRecord, repair_store
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
    "BagDiff",
    "BagExistsError",
    "BagNotFoundError",
    "BagRecord",
    "CopyRecord",
    "FeatureStore",
    "InvalidBagError",
    "Manifest",
    "NotAStoreError",
    "PackedBags",
    "QuarantinedFile",
    "RepairRecord",
    "StoreDamagedError",
    "StoreError",
    "StoreExistsError",
    "StoreMismatchError",
    "StoreVersionError",
    "VerifyRecord",
    "copy_store",
    "create_store",
    "diff_manifests",
    "diff_stores",
    "merge_stores",
    "open_or_create_store",
    "open_store",
    "pack_bags",
    "repair_store",
    "store_exists",
    "store_info",
    "verify_store",
]
