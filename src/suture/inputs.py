"""What networks take: texts and images, and what tells one input from another."""

import hashlib
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np
from PIL import Image

from suture.errors import DataError, SutureError, in_short


class StoredPicture(ABC):
    """An image that is kept somewhere, and opened when it is looked at."""

    @abstractmethod
    def open(self) -> Image.Image:
        """Return the image; raises ``OSError`` or ``ValueError`` when it is none."""

    @abstractmethod
    def __str__(self) -> str:
        """Say where it is kept."""

    @cached_property
    def identity(self) -> str:
        """What tells it from all others; it is opened for that once."""
        return _identity_of_pixels(self)


Picture = Image.Image | np.ndarray | Path | StoredPicture
"""An image: of Pillow, an array of uint8 of shape (height, width) or (height, width, 3), a file, or one that is kept elsewhere."""

MODES = {"1", "L", "LA", "P", "PA", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "LAB", "La", "RGBa"}
"""Pillow's names of what has 8 bits at most: wider ones would be clipped."""

Input = str | Picture
"""A text, or an image."""


def opened_image(picture: Picture) -> Image.Image:
    """Return an image in colour; raises :class:`DataError` for a file that is none, or an array that is not uint8 of its shape.

    >>> opened_image(np.zeros((2, 3), dtype=np.uint8)).size
    (3, 2)
    """
    if isinstance(picture, np.ndarray):
        if picture.dtype != np.uint8 or picture.ndim not in (2, 3) or (picture.ndim == 3 and picture.shape[2] != 3):
            raise DataError(f"an image is an array of uint8, (height, width) or (height, width, 3), not {picture.dtype} {picture.shape}")
        picture = Image.fromarray(picture)
    with _decoding(picture):
        stored = picture.open() if isinstance(picture, StoredPicture) else picture
        image = stored if isinstance(stored, Image.Image) else Image.open(stored)
    if image.mode not in MODES:
        raise DataError(f"{_named(picture)}: images of mode {image.mode} are not read, only those of 8 bits; convert it first")
    with _decoding(picture):
        return image.convert("RGB")


@contextmanager
def _decoding(picture: Picture) -> Iterator[None]:
    """Map what decoders raise, which is whatever they come upon."""
    try:
        yield
    except SutureError:
        raise
    except Exception as error:
        raise DataError(f"{_named(picture)}: not an image that can be read: {in_short(error)}") from error


def _named(picture: Picture) -> str:
    return str(getattr(picture, "filename", "") or "an image") if isinstance(picture, Image.Image) else str(picture)


def identity_of(given: Input) -> str:
    """Return what tells an input from all others: a text itself, the sha256 of an image's size and pixels.

    >>> identity_of("a text")
    'a text'
    """
    if isinstance(given, str):
        return given
    if isinstance(given, StoredPicture):
        return given.identity
    if isinstance(given, Path) and given.is_file():
        state = given.stat()
        return _identity_of_file(given, state.st_mtime_ns, state.st_size)
    return _identity_of_pixels(given)


@lru_cache(maxsize=2**17)
def _identity_of_file(file: Path, _changed: int, _size: int) -> str:
    """Return the identity of an image file; one that has not changed is not opened again."""
    return _identity_of_pixels(file)


def _identity_of_pixels(picture: Picture) -> str:
    image = opened_image(picture)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def identities(inputs: Iterable[Input]) -> list[str]:
    """Return the identity of every input."""
    return [identity_of(each) for each in inputs]
