"""Reading folders of images: a folder for every class, or images alone."""

from collections.abc import Sequence
from pathlib import Path

import torch

from suture.errors import DataError
from suture.tasks.task import Split

SUFFIXES = {".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp"}


def read_image_folder(folder: Path, classes: Sequence[str] | None, *, labelled: bool = True) -> tuple[Split, list[str]]:
    """Read a split and its classes from a folder that holds a folder of images for every class, or images alone, without labels.

    ``classes`` gives the order of the classes, which need not all occur; when it is None they are the folders' names, sorted. Images
    come in the order of their names, class after class, and are opened when they are looked at. Files of other kinds, and what is
    hidden, are passed over. ``labelled=False`` reads no labels.

    Raises :class:`DataError` for a folder without images, with images beside folders of them, or with folders that are no class.
    """
    seen = sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
    alone, folders = _images(seen), [entry for entry in seen if entry.is_dir()]
    if alone and folders:
        raise DataError(f"{folder} holds images beside folders of images; expected one or the other")
    if alone:
        return Split(alone), list(classes or [])
    names = list(classes) if classes else [entry.name for entry in folders]
    if labelled and (others := [entry.name for entry in folders if entry.name not in names]):
        raise DataError(f"{folder}: the folders {', '.join(others)} are no classes; the classes are {', '.join(names)}")
    found = [(image, entry.name) for entry in folders for image in _images(sorted(entry.iterdir()))]
    if not found:
        raise DataError(f"{folder} holds no images, nor folders of images ({', '.join(sorted(SUFFIXES))})")
    images = [image for image, _ in found]
    return Split(images, torch.tensor([names.index(name) for _, name in found]) if labelled else None), names


def _images(entries: Sequence[Path]) -> list[Path]:
    return [entry for entry in entries if entry.suffix.lower() in SUFFIXES and entry.is_file()]
