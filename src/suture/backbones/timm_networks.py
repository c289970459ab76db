"""Networks of timm, from folders as its models lie on the hub: ``config.json`` with an ``architecture``, and ``model.safetensors``."""

import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from suture.backbones.networks import Network
from suture.checkpoints import sha256_of
from suture.errors import CorruptCheckpoint, UnsupportedFormat, in_short

BLOCKS = r"(layers|stages)(\.|_)\d+\.blocks\.\d+|blocks\.\d+(\.\d+)?|layer\d\.\d+"
"""The names of blocks, of its networks of one list, and of stages."""
LEADS = r"(layers|stages)(\.|_)\d+\.downsample"


def timm_network(folder: Path) -> Network:
    """Return the network that a folder describes; the representation is what timm hands its classifier.

    Raises :class:`UnsupportedFormat` when timm is not installed, :class:`CorruptCheckpoint` when it does not know the architecture.
    """
    try:
        import timm
    except ImportError as error:
        raise UnsupportedFormat(f"{folder} is a model of timm, which is not installed: pip install 'suture[timm]'") from error
    try:
        model = timm.create_model(f"local-dir:{folder}", pretrained=False, num_classes=0)
        settings = timm.data.resolve_data_config({}, model=model)
        transform = timm.data.create_transform(**settings, is_training=False)
    except Exception as error:
        raise CorruptCheckpoint(f"{folder}: timm makes no network of its config.json: {in_short(error)}") from error
    told = model.pretrained_cfg
    return Network(
        model,
        transform,
        # Maps with the channels last are no maps to the blocks; the pattern matches nothing.
        blocks=_innermost(model) if getattr(model, "output_fmt", "NCHW") == "NCHW" else r"(?!)",
        leads=LEADS,
        # Distilled models have two classifiers, whose answers are averaged: no one layer.
        classifier=told["classifier"] if isinstance(told.get("classifier"), str) else "",
        classes=tuple(told.get("label_names") or ()),
        identity=(sha256_of(folder / "config.json"), version("timm"), version("torchvision")),
    )


def _innermost(model: Any) -> str:
    """Return the pattern of blocks that hold no others: in some networks ``blocks.0`` is one, in others it is a stage of them."""
    found = [name for name, _ in model.named_modules() if re.fullmatch(BLOCKS, name)]
    inner = [name for name in found if not any(other.startswith(f"{name}.") for other in found)]
    return "|".join(map(re.escape, inner)) or r"(?!)"
