"""Which backbone a folder holds."""

from pathlib import Path
from typing import Any

from suture.backbones.families import Pooling, family_of
from suture.backbones.huggingface import from_folder
from suture.backbones.images import ImageBackbone
from suture.backbones.text import TextBackbone
from suture.checkpoints import Weights

Backbone = TextBackbone | ImageBackbone


def open_backbone(folder: Path, weights: Weights, pooling: Pooling | None = None, max_length: int = 128) -> Backbone:
    """Return the network of a Hugging Face folder with these weights; ``max_length`` is of texts.

    Raises :class:`suture.errors.CheckpointNotFound` or :class:`suture.errors.CorruptCheckpoint` for a folder without a configuration
    that can be read; what family it is of is only looked at when the network is loaded.
    """
    from transformers import AutoConfig

    config: Any = from_folder(AutoConfig, folder)
    family = family_of(config)
    if family is not None and family.kind == "image":
        return ImageBackbone(folder, weights, pooling)
    return TextBackbone(folder, weights, pooling, max_length)
