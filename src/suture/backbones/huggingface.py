"""Networks from Hugging Face folders: inputs in, one representation each out."""

import hashlib
import json
import re
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Bool, Float
from torch import Tensor

from suture.backbones.batching import TOKENS_PER_BATCH, batches_of_like_length
from suture.backbones.blocks import Blocks
from suture.backbones.families import FAMILIES, Family, Kind, Pooling, block_names, family_of, pooled
from suture.checkpoints import AlignedExpert, Weights, open_checkpoint, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, DataError, IncompatibleExperts, UnsupportedFormat

COMPANION = re.compile(r"^config\.json$|token|vocab|merges|\.model$|sentencepiece|processor_config\.json$")
"""Files beside the weights that decide what an input becomes: configuration, and everything a tokenizer or image processor reads."""

MARKS = 1000
"""The first number that marks a tensor: none that a library starts parameters at."""

Own = TypeVar("Own", bound="HuggingFaceBackbone")


@dataclass(frozen=True)
class HuggingFaceBackbone(ABC):
    """A network: its configuration, and what prepares its inputs, from ``folder``, its weights from ``weights``; loaded at first use.

    The representation, in float32, is what ``pooling`` says (:data:`suture.backbones.families.POOLINGS`); without, what is usual in its
    family.

    Raises :class:`CheckpointNotFound` when the folder lacks a file, :class:`UnsupportedFormat` for a family that is not known, and
    :class:`IncompatibleExperts` when the weights do not fill the model: nothing is ever left at a random start.
    """

    folder: Path
    weights: Weights
    pooling: Pooling | None = None

    @classmethod
    def open(cls: type[Own], folder: str | Path, pooling: Pooling | None = None, *settings: Any, **named: Any) -> Own:
        """Return the network of a folder with the folder's own weights."""
        weights = open_checkpoint(folder)
        return cls(weights.folder, weights, pooling, *settings, **named)

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What it takes."""

    @abstractmethod
    def prepare(self, inputs: Sequence[Any]) -> list[Any]:
        """Return what is kept of each input until it goes through the network."""

    @abstractmethod
    def length(self, prepared: Any) -> int:
        """Return the length of a prepared input in tokens."""

    @abstractmethod
    def collate(self, prepared: Sequence[Any]) -> Mapping[str, Tensor]:
        """Return prepared inputs as the network takes them, padded to one length."""

    @cached_property
    def config(self) -> Any:
        """The configuration of the folder."""
        from transformers import AutoConfig

        return from_folder(AutoConfig, self.folder)

    @cached_property
    def family(self) -> Family:
        """The family of the network; raises :class:`UnsupportedFormat` where it is not known, or takes something else."""
        family = family_of(self.config)
        if family is None or family.kind != self.kind:
            known = ", ".join(sorted(name for name, own in FAMILIES.items() if own.kind == self.kind))
            raise UnsupportedFormat(
                f"{self.folder}: models of type {self.config.model_type!r} take no {self.kind}s that Suture knows how to represent; "
                f"it knows {known}" + (" and other text encoders" if self.kind == "text" else "")
            )
        return family

    @property
    def pooled_by(self) -> Pooling:
        """How its representations are made."""
        return self.pooling or self.family.pooling

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the representations."""
        companions = sorted(file for file in self.folder.iterdir() if file.is_file() and COMPANION.search(file.name))
        libraries = [version("torch"), version("transformers")]
        named = [(file.name, sha256_of(file)) for file in companions]
        identity = [self.weights.digest, named, self.pooled_by, *self._settings(), *libraries]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _settings(self) -> list[object]:
        """Return the settings of its own that decide the representations."""
        return []

    @cached_property
    def model(self) -> torch.nn.Module:
        """The network, in evaluation mode, float32, its parameters frozen."""
        model, info = self._load(dict(self.weights))
        # Networks bring poolers that not every checkpoint has; they matter only where they are used.
        unused = "pooler" if self.pooled_by != "pooler" else None
        missing = sorted(name for name in info["missing_keys"] if unused is None or unused not in name)
        if unused is None and isinstance(self.weights, AlignedExpert):
            missing += [source for name, source in self.names.items() if "pooler" in name and source not in self.weights.names]
        if missing or info["mismatched_keys"]:
            wrong = ", ".join([*missing, *(str(key) for key in info["mismatched_keys"])])
            raise IncompatibleExperts(f"{self.weights.path} does not fill the model that {self.folder / 'config.json'} describes: {wrong}")
        return model

    @cached_property
    def names(self) -> dict[str, str]:
        """The name on disk of each of the model's tensors, by its name in the model; those that are not on disk are left out.

        Tensors are parameters, and the statistics of norms over batches, which merging changes as well.

        Libraries rename on loading, so the mapping is not guessed from the names but seen: a model is filled with tensors that each
        hold a number of their own. Raises :class:`UnsupportedFormat` when the library joins tensors or cuts them.
        """
        on_disk = [name for name, spec in self.weights.specs.items() if spec.dtype.is_floating_point]
        marks = {name: torch.tensor(float(mark)).expand(self.weights.specs[name].shape) for mark, name in enumerate(on_disk, MARKS)}
        model, info = self._load(marks)
        names = {}
        saved = model.state_dict(keep_vars=True)
        for name, tensor in saved.items():
            if name not in info["missing_keys"] and tensor.numel() and tensor.is_floating_point():
                mark = int(tensor.flatten()[0]) - MARKS
                source = on_disk[mark] if 0 <= mark < len(on_disk) else None
                if source is None or tensor.shape != marks[source].shape or bool((tensor != mark + MARKS).any()):
                    raise UnsupportedFormat(f"{self.weights.path}: {name!r} of the model is not one tensor on disk")
                names[name] = source
        return names

    def _load(self, tensors: dict[str, Tensor]) -> tuple[torch.nn.Module, dict[str, Any]]:
        """Return the model that the configuration describes, filled with tensors, and what the library says of their names."""
        import transformers

        config = self.config
        if self.family.part:
            config = copy(getattr(config, self.family.part))
            config.projection_dim = self.config.projection_dim  # the whole's, where both tell one
        loader = getattr(transformers, self.family.loader) if self.family.loader else transformers.MODEL_MAPPING[type(config)]
        # Files written by an old library may hold tensors that the model no longer has; missing ones would be random.
        with _quietly():
            try:
                model, info = loader.from_pretrained(None, config=config, state_dict=tensors, dtype=torch.float32, output_loading_info=True)
            except RuntimeError as error:  # tensors of other shapes than the configuration says
                told = " ".join(str(error).split())
                raise IncompatibleExperts(
                    f"{self.weights.path} does not fill the model that {self.folder / 'config.json'} describes: {told}"
                ) from error
        return model.eval().requires_grad_(False), info

    def pooled(self, batch: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of a batch; ``stand_ins`` replace parameters, by their names in the model."""
        answer = torch.func.functional_call(self.model, dict(stand_ins or {}), (), dict(batch))
        return pooled(answer, self.pooled_by, batch.get("attention_mask"))

    @cached_property
    def block_names(self) -> list[list[str]]:
        """The names of the modules of its blocks, in forward order."""
        return block_names(self.model, self.family)

    @cached_property
    def blocks(self) -> Blocks:
        """The blocks, to be run one by one; raises :class:`UnsupportedFormat` for a model without a list of blocks."""
        if not self.block_names:
            raise UnsupportedFormat(f"{self.folder}: {type(self.model).__name__} has no list of blocks")
        return Blocks([[self.model.get_submodule(name) for name in names] for names in self.block_names], self.pooled)

    def batches(self, inputs: Sequence[Any]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        """Cut inputs into batches of like length: the places of the inputs in each, and what the network takes."""
        prepared = self.prepare(inputs)
        for places in batches_of_like_length([self.length(each) for each in prepared], TOKENS_PER_BATCH):
            yield places, self.collate([prepared[place] for place in places])

    def represent(self, prepared: Sequence[Any], weights: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of prepared inputs, one forward pass.

        ``weights``, by their names on disk, stand in for the backbone's own; gradients flow to them.
        """
        given = weights or {}
        stand_ins = {name: given[source] for name, source in self.names.items() if source in given} if given else {}
        return self.pooled(self.collate(prepared), stand_ins)

    def real(self, batch: Mapping[str, Tensor]) -> Bool[Tensor, "n tokens"] | None:
        """Return which tokens of a batch are real; None where there is no mask, as with images."""
        mask = batch.get("attention_mask")
        return None if mask is None else mask.bool()

    def corrected(self, batch: Mapping[str, Tensor], corrections: Sequence[Callable[[Tensor], Tensor]]) -> Float[Tensor, "n k"]:
        """Return the representations of a batch, with a correction after every block; gradients flow.

        Raises :class:`DataError` unless there is one correction for every block.
        """
        if len(corrections) != self.blocks.depth:
            raise DataError(f"{self.blocks.depth} blocks take as many corrections, not {len(corrections)}")
        passage = self.blocks.enter(batch)
        for number, correct in enumerate(corrections):
            passage = self.blocks.step(number, passage).corrected(correct)
        return self.blocks.leave(passage)

    @cached_property
    @torch.no_grad()
    def width(self) -> int:
        """The width k of the representations."""
        ((_, batch),) = self.batches([self.sample])
        return self.pooled(batch).shape[1]

    @cached_property
    @torch.no_grad()
    def widths(self) -> list[int]:
        """The width of what comes out of every block, and of the representation."""
        ((_, batch),) = self.batches([self.sample])
        passage, found = self.blocks.enter(batch), list[int]()
        for number in range(self.blocks.depth):
            passage = self.blocks.step(number, passage)
            found.append(passage.tokens.shape[-1])
        return [*found, self.blocks.leave(passage).shape[1]]

    @property
    @abstractmethod
    def sample(self) -> Any:
        """Some input, whatever it is."""


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from drawing bars between ours, and from reporting on tensors, which we do."""
    from transformers.utils import logging

    shown, told = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(told)
        if shown:
            logging.enable_progress_bar()


def from_folder(kind: Any, folder: Path, **settings: Any) -> Any:
    """Load a configuration, tokenizer or image processor from a local folder, and never from a hub or from code in the folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **settings)
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise CorruptCheckpoint(f"{folder}: {kind.__name__} cannot be made from this folder: {error}") from error
