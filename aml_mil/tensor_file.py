"""Files of torch: loaded without running what is pickled in them, and no larger than they are.

``weights_only`` keeps code out. It does not keep out a compressed part that inflates without end,
nor a tensor of a few bytes that strides of 0 spread over terabytes as soon as it is copied.
"""

import warnings
import zipfile
from pathlib import Path

import torch
from torch import Tensor


def load_tensors(path: Path) -> object:
    """Load a .pt file; of today's format only what is used is read from the disk.

    Raises:
        OSError: It cannot be read.
        pickle.UnpicklingError: It holds more than tensors and plain values; nothing of it was run.
        ValueError: Its parts are compressed, which torch never does.
        Exception: What torch raises on damaged files: RuntimeError, EOFError, KeyError, TypeError.
    """
    is_zip = zipfile.is_zipfile(path)
    if is_zip:
        _check_parts(path)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about formats and kinds; what is wrong raises
        content: object = torch.load(path, map_location="cpu", weights_only=True, mmap=is_zip)
    return content


def check_extent(tensor: Tensor, *, what: str) -> None:
    """Refuse a tensor that would be larger, copied, than what the file holds of it.

    Raises:
        ValueError: It would.
    """
    if tensor.layout != torch.strided or tensor.is_quantized:
        raise ValueError(f"{what} is {tensor.layout}, expected a dense tensor")
    size, stored = tensor.numel() * tensor.element_size(), tensor.untyped_storage().nbytes()
    if size > stored:
        raise ValueError(f"{what} claims {size} bytes, the file holds {stored} of it")


def _check_parts(path: Path) -> None:
    size = path.stat().st_size
    try:
        with zipfile.ZipFile(path) as archive:
            claimed = sum(member.file_size for member in archive.infolist())
    except zipfile.BadZipFile as error:
        raise ValueError(f"no whole zip file ({error})") from error
    if claimed > size:
        raise ValueError(f"its parts claim {claimed} bytes, the file has {size}")
