"""Patient-level diagnosis from single-cell microscopy: the few names users need."""

from stores import create_store, open_store

__all__ = ["create_store", "open_store"]
