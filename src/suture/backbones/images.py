"""Image networks from Hugging Face folders: images in, one representation each out."""

import hashlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image, UnidentifiedImageError
from torch import Tensor

from suture.backbones.families import IMAGE, Kind
from suture.backbones.huggingface import HuggingFaceBackbone, from_folder
from suture.errors import DataError

IMAGES_PER_BATCH = 32

Picture = Image.Image | np.ndarray | Path | str
"""An image: of Pillow, an array of uint8 of shape (height, width) or (height, width, 3), or a file."""


@dataclass(frozen=True)
class ImageBackbone(HuggingFaceBackbone):
    """An image network; see :class:`HuggingFaceBackbone`. Images are prepared by the folder's own image processor, through Pillow."""

    @property
    def kind(self) -> Kind:
        """It takes images."""
        return "image"

    @property
    def sample(self) -> Picture:
        """Some image."""
        return np.zeros((8, 8, 3), dtype=np.uint8)

    @cached_property
    def processor(self) -> Any:
        """The image processor of the folder: the same on every machine, whether torchvision is there or not."""
        from transformers import AutoImageProcessor

        return from_folder(AutoImageProcessor, self.folder, backend="pil")

    def identities(self, inputs: Sequence[Picture]) -> list[str]:
        """Return what tells each image from all others: the sha256 of its size and its pixels."""
        opened = (opened_image(picture) for picture in inputs)
        return [hashlib.sha256(repr(image.size).encode() + image.tobytes()).hexdigest() for image in opened]

    def batches(self, inputs: Sequence[Picture]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        """Cut images into batches, in their order: the places of the images in each, and what the network takes."""
        for start in range(0, len(inputs), IMAGES_PER_BATCH):
            images = [opened_image(picture) for picture in inputs[start : start + IMAGES_PER_BATCH]]
            pixels: Tensor = self.processor(images, return_tensors="pt")[IMAGE]
            yield list(range(start, start + len(images))), {IMAGE: pixels.to(torch.float32)}


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
