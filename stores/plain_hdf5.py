"""Datasets of foreign HDF5 files, handed out only where reading them does nothing else.

HDF5 follows links into other files, gathers virtual and external data, loads filters, and inflates
a chunk for as long as its stream goes on, whatever size the chunk is said to have.
"""

import zlib
from math import prod

import h5py

from stores.claims import check_claim

NUMBERS = "fiu"
KINDS = "fiubSOV"
# In the order in which they are applied; each at most once.
FILTERS = (h5py.h5z.FILTER_SHUFFLE, h5py.h5z.FILTER_DEFLATE, h5py.h5z.FILTER_FLETCHER32)
TEXTS_AT_ONCE = 64


def plain_dataset(group: h5py.Group, name: str, *, kinds: str = NUMBERS) -> h5py.Dataset:
    """Open a dataset that lies in this very file and is as large as it says.

    Args:
        group: Where it is.
        name: Of the member of the group.
        kinds: Kinds of dtype that are read, as NumPy's letters.

    Raises:
        KeyError: there is no such member.
        ValueError: a link elsewhere, a group, another kind of data, a filter that could do more
            than shuffle, inflate and check, or a bomb.
    """
    link = group.get(name, getlink=True)
    if link is None:
        raise KeyError(f"no dataset {name!r}")
    if not isinstance(link, h5py.HardLink):
        raise ValueError(f"{name} is a {type(link).__name__}; links are not followed")
    dataset = group[name]
    if not isinstance(dataset, h5py.Dataset):
        raise ValueError(f"{name} is a {type(dataset).__name__}, expected a dataset")
    if dataset.is_virtual or dataset.external:
        raise ValueError(f"the numbers of {name} lie in other files, which are not opened")
    if dataset.dtype.kind not in kinds:
        raise ValueError(f"{name} holds {dataset.dtype}, expected numbers")
    _check_size(dataset, name)
    return dataset


def check_members(file: h5py.File) -> None:
    """Check every dataset of a file as ``plain_dataset`` does; texts may be among them.

    Raises:
        ValueError: a member is a link elsewhere, stands in two places, or is a dataset that is not
            plain.
    """
    pending, seen = [file["/"]], {_place(file["/"])}
    while pending:
        group = pending.pop()
        for name in group:
            is_own = isinstance(group.get(name, getlink=True), h5py.HardLink)
            if is_own and isinstance(group[name], h5py.Group):
                pending.append(group[name])
            else:
                dataset = plain_dataset(group, name, kinds=KINDS)
                if dataset.dtype.hasobject:
                    _check_texts(dataset, name)
            if _place(group[name]) in seen:
                raise ValueError(f"{name} stands in two places, or in itself")
            seen.add(_place(group[name]))


def _place(item: h5py.Group | h5py.Dataset) -> int:
    place: int = h5py.h5o.get_info(item.id).addr
    return place


def _check_size(dataset: h5py.Dataset, name: str) -> None:
    stored = dataset.id.get_storage_size()
    check_claim(dataset.nbytes, stored, what=name)
    if dataset.chunks is None:
        return
    chunk_bytes = prod(dataset.chunks) * dataset.dtype.itemsize
    check_claim(chunk_bytes, stored, what=f"a chunk of {name}")
    plist = dataset.id.get_create_plist()
    filters = [plist.get_filter(i)[0] for i in range(plist.get_nfilters())]
    if filters != [known for known in FILTERS if known in filters]:
        raise ValueError(
            f"{name} is stored through filters {filters}, expected shuffle, gzip, Fletcher-32 "
            "in this order; write it again with gzip or uncompressed"
        )
    if h5py.h5z.FILTER_DEFLATE in filters:
        _check_streams(dataset, name, chunk_bytes)


def _check_streams(dataset: h5py.Dataset, name: str, chunk_bytes: int) -> None:
    """Inflate every chunk as far as its size, and refuse one that goes on."""
    for i in range(dataset.id.get_num_chunks()):
        place = dataset.id.get_chunk_info(i)
        mask, data = dataset.id.read_direct_chunk(place.chunk_offset)
        if mask:
            raise ValueError(f"chunk {i} of {name} leaves out filters")
        stream = zlib.decompressobj()
        try:
            stream.decompress(data, chunk_bytes + 1)
        except zlib.error as error:
            raise ValueError(f"chunk {i} of {name} cannot be inflated: {error}") from error
        if not stream.eof:
            raise ValueError(
                f"chunk {i} of {name} does not end after the {chunk_bytes} bytes of a chunk"
            )


def _check_texts(dataset: h5py.Dataset, name: str) -> None:
    """Refuse texts that take far more memory than the file has: many may be one and the same."""
    if h5py.check_string_dtype(dataset.dtype) is None or dataset.ndim > 1:
        raise ValueError(f"{name} holds {dataset.dtype}, expected numbers or a list of texts")
    if dataset.ndim == 0:
        return
    stored, total = dataset.file.id.get_filesize(), 0
    for first in range(0, len(dataset), TEXTS_AT_ONCE):
        total += sum(len(text) for text in dataset[first : first + TEXTS_AT_ONCE])
        check_claim(total, stored, what=name)
