"""What every backend must do; a backend's tests inherit ``StoreContract``."""

from tests.stores.contract.commits import CommitContract
from tests.stores.contract.crashes import CrashContract
from tests.stores.contract.damage import DamageContract
from tests.stores.contract.ids import MORE_IDS, ODD_IDS, IdContract
from tests.stores.contract.reading import ReadingContract
from tests.stores.contract.refusals import RefusalContract

__all__ = ["MORE_IDS", "ODD_IDS", "StoreContract"]


class StoreContract(
    ReadingContract, IdContract, CommitContract, CrashContract, RefusalContract, DamageContract
):
    """All of it."""
