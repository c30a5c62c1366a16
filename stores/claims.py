"""How much memory a foreign file may ask for: what it claims against what lies on the disk."""

from stores.schema import MAX_ARRAY_BYTES

FREE_BYTES = 2**26
MAX_EXPANSION = 100


def check_claim(claimed_bytes: int, stored_bytes: int, *, what: str) -> None:
    """Refuse numbers that would take more memory than an honest file needs.

    Compressed features take a half to a tenth of their size; a bomb takes a thousandth.

    Args:
        claimed_bytes: Size in memory, as the file announces it.
        stored_bytes: Size on the disk.
        what: For the message.

    Raises:
        ValueError: over 4 GiB, or over 64 MiB and over 100 times the size on the disk.
    """
    most = min(MAX_ARRAY_BYTES, max(FREE_BYTES, MAX_EXPANSION * stored_bytes))
    if claimed_bytes > most:
        raise ValueError(
            f"{what} would take {claimed_bytes} bytes of memory out of {stored_bytes} on the disk, "
            f"at most {most} are read"
        )
