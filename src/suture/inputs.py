"""What networks take: texts and images, and what tells one input from another."""

import hashlib
from collections.abc import Iterable
from pathlib import Path

import numpy as np
from PIL import Image, UnidentifiedImageError

from suture.errors import DataError

Picture = Image.Image | np.ndarray | Path
"""An image: of Pillow, an array of uint8 of shape (height, width) or (height, width, 3), or a file."""

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
    if not isinstance(picture, Image.Image):
        try:
            picture = Image.open(picture)
        except (OSError, UnidentifiedImageError) as error:
            raise DataError(f"{picture}: not an image that can be read: {error}") from error
    return picture.convert("RGB")


def identity_of(given: Input) -> str:
    """Return what tells an input from all others: a text itself, the sha256 of an image's size and pixels.

    >>> identity_of("a text")
    'a text'
    """
    if isinstance(given, str):
        return given
    image = opened_image(given)
    return hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest()


def identities(inputs: Iterable[Input]) -> list[str]:
    """Return the identity of every input."""
    return [identity_of(each) for each in inputs]
