"""Text encoders from Hugging Face folders: texts in, one representation each out."""

import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Float
from torch import Tensor

from suture.checkpoints import Weights, open_checkpoint, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, IncompatibleExperts, UnsupportedFormat

Pooling = Literal["mean", "cls"]
COMPANION = re.compile(r"^config\.json$|token|vocab|merges|\.model$|sentencepiece")
"""Files beside the weights that decide what a text becomes: configuration and everything a tokenizer reads."""


@dataclass(frozen=True)
class TextBackbone:
    """A text encoder: configuration and tokenizer from ``folder``, weights from ``weights``; nothing is loaded before the first use.

    The representation is the mean of the last layer's outputs over the real tokens (``pooling="mean"``), or its first token
    (``"cls"``), in float32. Texts are cut at ``max_length`` tokens, or at the
    number of positions that the model has, if that is less.

    Raises :class:`CheckpointNotFound` when the folder has no configuration or tokenizer, :class:`UnsupportedFormat` for a model family
    that is not a text encoder, and :class:`IncompatibleExperts` when the weights do not fill the model: nothing is ever left at a
    random start.
    """

    folder: Path
    weights: Weights
    pooling: Pooling = "mean"
    max_length: int = 128

    @classmethod
    def open(cls, folder: str | Path, pooling: Pooling = "mean", max_length: int = 128) -> "TextBackbone":
        """Return the encoder of a Hugging Face folder with the folder's own weights."""
        return cls(Path(folder), open_checkpoint(folder), pooling, max_length)

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the representations."""
        companions = sorted(file for file in self.folder.iterdir() if file.is_file() and COMPANION.search(file.name))
        libraries = [version("torch"), version("transformers")]
        named = [(file.name, sha256_of(file)) for file in companions]
        identity = [self.weights.digest, named, self.pooling, self.max_length, *libraries]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder."""
        from transformers import AutoTokenizer

        tokenizer = _from_folder(AutoTokenizer, self.folder)
        # The first token is read as position 0 whatever side a folder's generation settings pad on.
        tokenizer.padding_side = "right"
        return tokenizer

    @cached_property
    def model(self) -> torch.nn.Module:
        """The encoder, in evaluation mode, float32, its parameters frozen."""
        from transformers import MODEL_MAPPING, AutoConfig

        config = _from_folder(AutoConfig, self.folder)
        if type(config) not in MODEL_MAPPING:
            raise UnsupportedFormat(f"{self.folder}: models of type {config.model_type!r} have no text encoder that Suture knows")
        # Files written by an old library may hold tensors that the model no longer has; missing ones would be random.
        with _no_progress_bars():
            model, info = MODEL_MAPPING[type(config)].from_pretrained(
                None, config=config, state_dict=dict(self.weights), dtype=torch.float32, output_loading_info=True
            )
        missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
        if missing or info["mismatched_keys"]:
            wrong = ", ".join([*missing, *(str(key) for key in info["mismatched_keys"])])
            raise IncompatibleExperts(f"{self.weights.path} does not fill the model that {self.folder / 'config.json'} describes: {wrong}")
        encoder: torch.nn.Module = model.eval().requires_grad_(False)
        return encoder

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token numbers, cut where the model's positions or ``max_length`` end."""
        positions = getattr(self.model.config, "max_position_embeddings", self.max_length)
        longest = min(self.max_length, positions)
        numbers: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return numbers

    def represent(self, tokens: Sequence[list[int]]) -> Float[Tensor, "n k"]:
        """Return the representations of tokenised texts, one forward pass."""
        batch = self.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        hidden: Tensor = self.model(**batch).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        mask = batch["attention_mask"].unsqueeze(-1).to(hidden.dtype)
        pooled: Tensor = (hidden * mask).sum(dim=1) / mask.sum(dim=1).clamp(min=1)
        return pooled


@contextmanager
def _no_progress_bars() -> Iterator[None]:
    """Keep the library from drawing bars between ours."""
    from transformers.utils import logging

    shown = logging.is_progress_bar_enabled()
    logging.disable_progress_bar()
    try:
        yield
    finally:
        if shown:
            logging.enable_progress_bar()


def _from_folder(kind: Any, folder: Path) -> Any:
    """Load a configuration or tokenizer from a local folder, and never from a hub or from code in the folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{folder}: {kind.__name__} cannot be made from this folder: {error}") from error
