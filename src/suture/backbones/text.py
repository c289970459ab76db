"""Text encoders from Hugging Face folders: texts in, one representation each out."""

import hashlib
import json
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, Literal

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from suture.backbones.blocks import Blocks, block_names, mean_of_real
from suture.checkpoints import Weights, open_checkpoint, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, DataError, IncompatibleExperts, UnsupportedFormat

Pooling = Literal["mean", "cls"]
COMPANION = re.compile(r"^config\.json$|token|vocab|merges|\.model$|sentencepiece")
"""Files beside the weights that decide what a text becomes: configuration and everything a tokenizer reads."""

TOKENS_PER_BATCH = 4096
"""Padded tokens per forward pass: enough to keep the matrix products busy, few enough for a processor's cache."""

MARKS = 1000
"""The first number that marks a tensor: none that a library starts parameters at."""


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
        model, info = self._load(dict(self.weights))
        missing = sorted(name for name in info["missing_keys"] if "pooler" not in name)
        if missing or info["mismatched_keys"]:
            wrong = ", ".join([*missing, *(str(key) for key in info["mismatched_keys"])])
            raise IncompatibleExperts(f"{self.weights.path} does not fill the model that {self.folder / 'config.json'} describes: {wrong}")
        return model

    @property
    def width(self) -> int:
        """The width k of the representations."""
        config: Any = self.model.config
        return int(config.hidden_size)

    @cached_property
    def names(self) -> dict[str, str]:
        """The name on disk of each of the model's parameters, by its name in the model; those that are not on disk are left out.

        Libraries rename on loading, so the mapping is not guessed from the names but seen: a model is filled with tensors that each
        hold a number of their own. Raises :class:`UnsupportedFormat` when the library joins tensors or cuts them.
        """
        on_disk = [name for name, spec in self.weights.specs.items() if spec.dtype.is_floating_point]
        marks = {name: torch.tensor(float(mark)).expand(self.weights.specs[name].shape) for mark, name in enumerate(on_disk, MARKS)}
        model, info = self._load(marks)
        names = {}
        for name, parameter in model.named_parameters():
            if name not in info["missing_keys"] and parameter.numel():
                mark = int(parameter.flatten()[0]) - MARKS
                source = on_disk[mark] if 0 <= mark < len(on_disk) else None
                if source is None or parameter.shape != marks[source].shape or bool((parameter != mark + MARKS).any()):
                    raise UnsupportedFormat(f"{self.weights.path}: {name!r} of the model is not one tensor on disk")
                names[name] = source
        return names

    def _load(self, tensors: dict[str, Tensor]) -> tuple[torch.nn.Module, dict[str, Any]]:
        """Return the model that the configuration describes, filled with tensors, and what the library says of their names."""
        from transformers import MODEL_MAPPING, AutoConfig

        config = _from_folder(AutoConfig, self.folder)
        if type(config) not in MODEL_MAPPING:
            raise UnsupportedFormat(f"{self.folder}: models of type {config.model_type!r} have no text encoder that Suture knows")
        # Files written by an old library may hold tensors that the model no longer has; missing ones would be random.
        with _no_progress_bars():
            model, info = MODEL_MAPPING[type(config)].from_pretrained(
                None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True
            )
        return model.eval().requires_grad_(False), info

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token numbers, cut where the model's positions or ``max_length`` end."""
        positions = getattr(self.model.config, "max_position_embeddings", self.max_length)
        longest = min(self.max_length, positions)
        numbers: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=longest)["input_ids"]
        return numbers

    def represent(self, tokens: Sequence[list[int]], weights: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of tokenised texts, one forward pass.

        ``weights``, by their names on disk, stand in for the backbone's own; gradients flow to them.
        """
        given = weights or {}
        stand_ins = {name: given[source] for name, source in self.names.items() if source in given} if given else {}
        return self.pooled(self.pad(tokens), stand_ins)

    def pooled(self, batch: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of a padded batch; ``stand_ins`` replace parameters, by their names in the model."""
        hidden: Tensor = torch.func.functional_call(self.model, dict(stand_ins or {}), (), dict(batch)).last_hidden_state
        if self.pooling == "cls":
            return hidden[:, 0]
        return mean_of_real(hidden, batch["attention_mask"])

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks, to be run one by one on padded texts (:meth:`pad`).

        Raises :class:`UnsupportedFormat` for a model without a list of blocks.
        """
        names = block_names(self.model)
        if not names:
            raise UnsupportedFormat(f"{self.folder}: {type(self.model).__name__} has no list of blocks")
        return Blocks([self.model.get_submodule(name) for name in names], self.pooled)

    def batches(self, inputs: Sequence[str]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        """Cut texts into padded batches of like length: the places of the texts in each, and what the blocks take."""
        tokens = self.tokenize(inputs)
        for places in batches_of_like_length([len(each) for each in tokens], TOKENS_PER_BATCH):
            yield places, self.pad([tokens[place] for place in places])

    def real(self, batch: Mapping[str, Tensor]) -> Bool[Tensor, "n tokens"]:
        """Return which tokens of a padded batch are real."""
        return batch["attention_mask"].bool()

    def corrected(self, batch: Mapping[str, Tensor], corrections: Sequence[Callable[[Tensor], Tensor]]) -> Float[Tensor, "n k"]:
        """Return the representations of a padded batch, with a correction after every block; gradients flow.

        Raises :class:`DataError` unless there is one correction for every block.
        """
        if len(corrections) != self.blocks.depth:
            raise DataError(f"{self.blocks.depth} blocks take as many corrections, not {len(corrections)}")
        passage = self.blocks.enter(batch)
        for number, correct in enumerate(corrections):
            passage = self.blocks.step(number, passage)
            passage = passage.moved(correct(passage.hidden))
        return self.blocks.leave(passage)

    def pad(self, tokens: Sequence[list[int]]) -> Mapping[str, Tensor]:
        """Return tokenised texts as the model takes them: token numbers and mask of the real ones, shape (n, longest)."""
        padded: Mapping[str, Tensor] = self.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return padded


def batches_of_like_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of texts, the shortest first, in batches of at most ``most_tokens`` padded tokens (one text at least).

    >>> list(batches_of_like_length([5, 1, 2, 9], 10))
    [[1, 2], [0], [3]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[place] > most_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch


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
