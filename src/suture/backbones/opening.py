"""Which backbone a folder holds."""

from pathlib import Path
from typing import Any

from suture.backbones.families import FAMILIES, Pooling, family_of
from suture.backbones.huggingface import from_folder
from suture.backbones.images import ImageBackbone
from suture.backbones.text import TextBackbone
from suture.checkpoints import Weights
from suture.errors import UnsupportedFormat

Backbone = TextBackbone | ImageBackbone


def open_backbone(folder: Path, weights: Weights, pooling: Pooling | None = None, max_length: int = 128) -> Backbone:
    """Return the network of a Hugging Face folder with these weights; ``max_length`` is of texts.

    Raises :class:`suture.errors.CheckpointNotFound` or :class:`suture.errors.CorruptCheckpoint` for a folder without a configuration
    that can be read, :class:`UnsupportedFormat` for a family that is not known.
    """
    from transformers import AutoConfig

    config: Any = from_folder(AutoConfig, folder)
    family = family_of(config)
    if family is None:
        raise UnsupportedFormat(
            f"{folder}: models of type {config.model_type!r} are not known; known are {', '.join(sorted(FAMILIES))} and other text encoders"
        )
    if family.kind == "image":
        return ImageBackbone(folder, weights, pooling)
    return TextBackbone(folder, weights, pooling, max_length)
