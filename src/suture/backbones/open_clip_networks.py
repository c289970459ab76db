"""CLIP as open_clip saves it: ``open_clip_config.json`` beside ``open_clip_model.safetensors``."""

import json
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from suture.backbones.networks import Network
from suture.errors import CorruptCheckpoint, UnsupportedFormat

OPEN_CLIP = "open_clip_config.json"


def open_clip_network(folder: Path) -> Network:
    """Return the image tower that a folder describes, with the text tower beside it; the representation is not normalised.

    Raises :class:`UnsupportedFormat` when open_clip is not installed, :class:`CorruptCheckpoint` when it cannot read the folder.
    """
    try:
        import open_clip
        from open_clip.transform import PreprocessCfg, image_transform_v2
    except ImportError as error:
        raise UnsupportedFormat(f"{folder} is a model of open_clip, which is not installed: pip install 'suture[open-clip]'") from error
    try:
        model = open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False)
        settings = model.visual.preprocess_cfg
        transform = image_transform_v2(PreprocessCfg(**settings), is_train=False)
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise CorruptCheckpoint(f"{folder}: open_clip makes no network of its {OPEN_CLIP}: {error}") from error
    return Network(
        model,
        transform,
        represent=_image_embeddings,
        blocks=r"visual\.transformer\.resblocks\.\d+|visual\.layer\d\.\d+|visual\.trunk\.blocks\.\d+",
        identity=(json.dumps(settings, sort_keys=True, default=str), version("open_clip_torch"), version("torchvision")),
    )


def _image_embeddings(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model.encode_image(pixels, normalize=False)
    return found
