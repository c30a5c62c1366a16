"""Everything that can be wrong with a store, as one small tree of errors."""

from pathlib import Path


class StoreError(Exception):
    """A feature store cannot do what was asked."""


class NotAStoreError(StoreError):
    """The path holds no feature store."""


class StoreExistsError(StoreError):
    """Something has the name that a new store was to get."""


class StoreVersionError(StoreError):
    """The store was written by a newer release."""


class StoreDamagedError(StoreError):
    """The manifest, and with it the whole store, cannot be trusted."""

    def __init__(self, path: Path, reason: str) -> None:
        super().__init__(
            f"store {path} is damaged: {reason}; restore its manifest from a copy or embed again"
        )
        self.path = path
        self.reason = reason


class StoreMismatchError(StoreError):
    """What is to be written was made in another way than what the store holds."""


class BagNotFoundError(StoreError):
    """The store holds no bag of this id."""

    def __init__(self, bag_id: str, path: Path) -> None:
        super().__init__(f"no bag {bag_id!r} in {path}; see bag_ids for what there is")
        self.bag_id = bag_id


class BagExistsError(StoreError):
    """The bag was committed before: the first commit wins."""

    def __init__(self, bag_id: str, path: Path) -> None:
        super().__init__(
            f"bag {bag_id!r} is already in {path}, the first commit wins; "
            "use replace to write it anew"
        )
        self.bag_id = bag_id


class BagDamagedError(StoreError):
    """The files of a bag are not the ones that were committed."""

    def __init__(self, bag_id: str, path: Path, reason: str) -> None:
        super().__init__(
            f"bag {bag_id!r} of {path} is damaged: {reason}; delete the bag and embed it again"
        )
        self.bag_id = bag_id
        self.reason = reason


class InvalidBagError(StoreError):
    """The bag to be written breaks a rule of the schema."""

    def __init__(self, bag_id: str, reason: str) -> None:
        super().__init__(f"bag {bag_id!r} cannot be stored: {reason}")
        self.bag_id = bag_id
        self.reason = reason
