"""Image networks from Hugging Face folders: images in, one representation each out."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np
import torch
from torch import Tensor

from suture.backbones.batching import WHOLE
from suture.backbones.families import IMAGE, Kind
from suture.backbones.huggingface import HuggingFaceBackbone, from_folder
from suture.errors import DataError
from suture.inputs import Input, Picture, opened_image


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

    def prepare(self, inputs: Sequence[Input]) -> list[Picture]:
        """Return images as they are: their pixels are many, and are made batch by batch. Raises :class:`DataError` for a text."""
        images = [each for each in inputs if not isinstance(each, str)]
        if len(images) < len(inputs):
            raise DataError(f"{self.folder} takes images, not texts")
        return images

    def length(self, prepared: Picture) -> int:  # noqa: ARG002
        """Return what an image counts for in a batch: all count the same."""
        return WHOLE

    def collate(self, prepared: Sequence[Picture]) -> Mapping[str, Tensor]:
        """Return images as the network takes them, resized and normalised."""
        pixels: Tensor = self.processor([opened_image(picture) for picture in prepared], return_tensors="pt")[IMAGE]
        return {IMAGE: pixels.to(torch.float32)}
