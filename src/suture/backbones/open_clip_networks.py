"""CLIP as open_clip saves it: ``open_clip_config.json`` beside ``open_clip_model.safetensors``."""

import logging
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path
from typing import Any

from torch import Tensor

from suture.backbones.networks import Network
from suture.checkpoints import OPEN_CLIP, sha256_of
from suture.errors import CorruptCheckpoint, UnsupportedFormat, in_short


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
        identity=(sha256_of(folder / OPEN_CLIP), version("open_clip_torch"), version("torchvision")),
    )


def open_clip_texts(folder: Path) -> Network:
    """Return the text tower; raises what :func:`open_clip_network` raises."""
    model, library = _made(folder)
    with _faults(folder):
        tokenizer = library.get_tokenizer(f"local-dir:{folder}")
    return Network(
        model,
        _Tokens(tokenizer),
        represent=_text_embeddings,
        kind="text",
        identity=(sha256_of(folder / OPEN_CLIP), version("open_clip_torch")),
    )


def _made(folder: Path) -> tuple[Any, Any]:
    """Return a model with weights of no meaning, and the library."""
    try:
        import open_clip
    except ImportError as error:
        raise UnsupportedFormat(f"{folder} is a model of open_clip, which is not installed: pip install 'suture[open-clip]'") from error
    with _faults(folder):
        return open_clip.create_model(f"local-dir:{folder}", load_weights=False, pretrained_text=False), open_clip


@contextmanager
def _faults(folder: Path) -> Iterator[None]:
    """Say what the library finds wrong with a folder, and keep it from warning that the weights are random, which ours replace."""
    told = logging.root.manager.disable
    logging.disable(logging.WARNING)
    try:
        yield
    except Exception as error:
        raise CorruptCheckpoint(f"{folder}: open_clip makes no network of its {OPEN_CLIP}: {in_short(error)}") from error
    finally:
        logging.disable(told)


@dataclass(frozen=True)
class _Tokens:
    """Makes a row of token numbers of a text."""

    tokenizer: Any

    def __call__(self, text: str) -> Tensor:
        row: Tensor = self.tokenizer([text])[0]
        return row


def _image_embeddings(model: Any, pixels: Tensor) -> Tensor:
    found: Tensor = model.encode_image(pixels, normalize=False)
    return found


def _text_embeddings(model: Any, tokens: Tensor) -> Tensor:
    found: Tensor = model.encode_text(tokens, normalize=False)
    return found
