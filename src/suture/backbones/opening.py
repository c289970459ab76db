"""Which network a folder holds."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from suture.backbones.backbone import Backbone
from suture.backbones.families import Pooling, family_of, unknown_family
from suture.backbones.huggingface import from_folder
from suture.backbones.images import ImageBackbone
from suture.backbones.networks import Network, NetworkBackbone, made_by
from suture.backbones.open_clip_networks import open_clip_network
from suture.backbones.text import TextBackbone
from suture.backbones.timm_networks import timm_network
from suture.checkpoints import OPEN_CLIP, Weights
from suture.checkpoints.header import parsed, text_of
from suture.errors import CorruptCheckpoint, DataError, reading


def open_backbone(
    folder: Path, weights: Weights, pooling: Pooling | None = None, max_length: int = 128, network: str | Callable[[], Network] = ""
) -> Backbone:
    """Return the network of a folder with these weights: of transformers, timm or open_clip, by its configuration; or one's own.

    ``pooling`` and ``max_length`` (of texts) are for those of transformers. ``network`` is a function that makes a :class:`Network`, or
    the place of one, ``package.module:function``.

    Raises :class:`suture.errors.CheckpointNotFound` or :class:`suture.errors.CorruptCheckpoint` for a folder without a configuration
    that can be read, :class:`suture.errors.UnsupportedFormat` for a family that is not known or a library that is not installed,
    :class:`DataError` for a ``pooling`` where it has no meaning.

    >>> network = open_backbone(base.folder, base, network=make)
    >>> network.kind, network.width
    ('text', 4)
    """
    found = _own_network(network) or _other_library(folder, weights)
    if found is not None:
        name, make = found
        if pooling is not None:
            raise DataError(f"backbone.pooling is for networks of transformers; {name} says itself what represents an input")
        return NetworkBackbone(folder, weights, make, name)
    from transformers import AutoConfig

    config: Any = from_folder(AutoConfig, folder)
    family = family_of(config)
    if family is None:
        raise unknown_family(folder, config)
    if family.kind == "image":
        return ImageBackbone(folder, weights, pooling)
    return TextBackbone(folder, weights, pooling, max_length)


def _own_network(network: str | Callable[[], Network]) -> tuple[str, Callable[[], Network]] | None:
    if isinstance(network, str):
        return (network, made_by(network)) if network else None
    return f"{network.__module__}:{getattr(network, '__qualname__', type(network).__name__)}", network


def _other_library(folder: Path, weights: Weights) -> tuple[str, Callable[[], Network]] | None:
    """Return the name and the maker of a network of timm or open_clip; None where the folder is of transformers, or of nobody."""
    config = folder / "config.json"
    # Folders of open_clip's makers may hold the same model as transformers names its tensors, too.
    if (folder / OPEN_CLIP).is_file() and (any("visual." in name for name in weights) or not config.is_file()):
        return f"open_clip: {_read(folder / OPEN_CLIP).get('model_cfg')}", partial(open_clip_network, folder)
    if config.is_file() and (name := _read(config).get("architecture")):
        return f"timm: {name}", partial(timm_network, folder)
    return None


def _read(file: Path) -> dict[str, Any]:
    with reading(file, "JSON that can be read", absent=CorruptCheckpoint):
        content = parsed(text_of(file))
    if not isinstance(content, dict):
        raise CorruptCheckpoint(f"{file}: expected a mapping, found {type(content).__name__}")
    return content
