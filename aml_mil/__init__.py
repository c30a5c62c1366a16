"""Patient-level diagnosis from single-cell microscopy: the few names users need."""

from typing import TYPE_CHECKING, Any

from stores import create_store, open_store

if TYPE_CHECKING:
    from aml_mil.evaluation.run import open_run

__all__ = ["create_store", "open_run", "open_store"]


def __getattr__(name: str) -> Any:
    """Import what needs torch only when it is asked for."""
    if name == "open_run":
        from aml_mil.evaluation.run import open_run

        return open_run
    message = f"module {__name__!r} has no attribute {name!r}"
    raise AttributeError(message)


def __dir__() -> list[str]:
    """Name what is imported late, too, for `help` and completion."""
    return sorted({*globals(), *__all__})
