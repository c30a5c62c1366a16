"""Read labelled images from class folders without patients: material for pre-training only."""

from dataclasses import dataclass
from pathlib import Path

from aml_mil.cohort.errors import LayoutError, name_some
from aml_mil.cohort.listing import is_image_name, list_cells, subfolders


@dataclass(frozen=True, slots=True, kw_only=True)
class LabelledImage:
    """One image and its class.

    Attributes:
        image_id: Posix path relative to the folder of all classes.
        path: Where the file lies.
        label: Name of the class folder.
    """

    image_id: str
    path: Path
    label: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ClassFolders:
    """Images by class, without patients.

    Attributes:
        root: Folder of all classes.
        images: Class by class, each in natural order.
        skipped_files: Files in the class folders that are no images.
    """

    root: Path
    images: tuple[LabelledImage, ...]
    skipped_files: int = 0

    @property
    def classes(self) -> dict[str, int]:
        """Number of images of each class."""
        counts: dict[str, int] = {}
        for image in self.images:
            counts[image.label] = counts.get(image.label, 0) + 1
        return counts


def holds_class_folders(path: Path) -> bool:
    """Whether images lie directly in at least one folder of this folder."""
    return path.is_dir() and any(
        any(is_image_name(entry.name) and entry.is_file() for entry in folder.iterdir())
        for folder in subfolders(path).values()
    )


def read_class_folders(path: str | Path) -> ClassFolders:
    """Read ``<class>/…/<image>`` for pre-training.

    Raises:
        LayoutError: There is no such folder, or a class has no images.
    """
    root = Path(path)
    if not root.is_dir():
        message = f"expected a folder with one folder a class, got no folder at {root}"
        raise LayoutError(message)
    images: list[LabelledImage] = []
    skipped, empty = 0, []
    folders = subfolders(root)
    for label, folder in folders.items():
        listing = list_cells(folder)
        skipped += len(listing.skipped)
        if not listing.cells:
            empty.append(label)
        images.extend(
            LabelledImage(image_id=f"{label}/{c.instance_id}", path=c.path, label=label)
            for c in listing.cells
        )
    if empty or not folders:
        found = f"classes without: {name_some(empty)}" if folders else "no folders"
        message = f"expected images in every class folder of {root}, got {found}"
        raise LayoutError(f"{message}; add images or remove the empty folders")
    return ClassFolders(root=root, images=tuple(images), skipped_files=skipped)
