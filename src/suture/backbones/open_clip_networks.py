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
    model, library = _made(folder)
    settings = model.visual.preprocess_cfg
    return Network(
        model,
        library.transform.image_transform_v2(library.transform.PreprocessCfg(**settings), is_train=False),
        represent=_image_embeddings,
        blocks=r"visual\.transformer\.resblocks\.\d+|visual\.layer\d\.\d+|visual\.trunk\.blocks\.\d+",
        identity=(json.dumps(settings, sort_keys=True, default=str), version("open_clip_torch"), version("torchvision")),
    )


def open_clip_texts(folder: Path) -> Network:
    """Return the text tower; raises what :func:`open_clip_network` raises."""
    model, library = _made(folder)
    tokenizer = library.get_tokenizer(f"local-dir:{folder}")
    return Network(
        model,
        lambda text: tokenizer([text])[0],
        represent=_text_embeddings,
        kind="text",
        identity=(version("open_clip_torch"),),
    )


def _made(folder: Path) -> tuple[Any, Any]:
    """Return a model with weights of no meaning, and the library."""
    try:
        import open_clip
    except ImportError as error:
        raise UnsupportedFormat(f"{folder} is a model of open_clip, which is not installed: pip install 'suture[open-clip]'") from error
    try:
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False), open_clip
    except (RuntimeError, ValueError, KeyError, TypeError, OSError) as error:
        raise CorruptCheckpoint(f"{folder}: open_clip makes no network of its {OPEN_CLIP}: {error}") from error


def _image_embeddings(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model.encode_image(pixels, normalize=False)
    return found


def _text_embeddings(model: Any, tokens: Tensor) -> Tensor:
    found: Tensor = model.encode_text(tokens, normalize=False)
    return found
