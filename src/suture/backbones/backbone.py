"""What every network is to the rest: inputs in, one representation each out, and its tensors by their names on disk."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Bool, Float
from torch import Tensor, nn

from suture.backbones.batching import TOKENS_PER_BATCH, batches_of_like_length
from suture.backbones.blocks import Blocks
from suture.backbones.families import Kind, Pooling
from suture.checkpoints import Weights
from suture.errors import DataError, IncompatibleExperts, UnsupportedFormat

MARKS = 1000
"""The first number that marks a tensor: none that a library starts parameters at."""


@dataclass(frozen=True)
class Backbone(ABC):
    """A network: what describes it, and prepares its inputs, from ``folder``, its weights from ``weights``; loaded at first use.

    Raises :class:`IncompatibleExperts` when the weights do not fill the network: nothing is ever left at a random start.
    """

    folder: Path
    weights: Weights

    @property
    @abstractmethod
    def kind(self) -> Kind:
        """What it takes."""

    @property
    @abstractmethod
    def architecture(self) -> str:
        """What tells networks of the same tensors: experts are of their base's."""

    @property
    @abstractmethod
    def digest(self) -> str:
        """The sha256 of everything that decides the representations."""

    @abstractmethod
    def prepare(self, inputs: Sequence[Any]) -> list[Any]:
        """Return what is kept of each input until it goes through the network; raises :class:`DataError` for what it does not take."""

    @abstractmethod
    def length(self, prepared: Any) -> int:
        """Return the length of a prepared input in tokens."""

    @abstractmethod
    def collate(self, prepared: Sequence[Any]) -> Mapping[str, Tensor]:
        """Return prepared inputs as the network takes them, padded to one length."""

    @property
    @abstractmethod
    def sample(self) -> Any:
        """Some input, whatever it is."""

    @abstractmethod
    def pooled(self, batch: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of a batch; ``stand_ins`` replace parameters, by their names in the model."""

    @property
    @abstractmethod
    def block_names(self) -> list[list[str]]:
        """The names of the modules of its blocks, in forward order."""

    @property
    @abstractmethod
    def classifier(self) -> str:
        """The name on disk of the linear layer behind the representation; raises :class:`DataError` where there is none to speak of."""

    @property
    @abstractmethod
    def classes(self) -> tuple[str, ...]:
        """The names of that layer's classes; empty where they are not known."""

    @property
    def pooled_by(self) -> Pooling | None:
        """How its representations are made, where there are several ways."""
        return None

    @abstractmethod
    def _load(self, tensors: dict[str, Tensor]) -> tuple[nn.Module, set[str]]:
        """Return the network filled with tensors, by their names on disk, and the names in the model of those that were not found.

        Raises :class:`IncompatibleExperts` for tensors of other shapes than the network's.
        """

    @abstractmethod
    def _lacking(self, missing: set[str]) -> list[str]:
        """Return what the network cannot do without, of the tensors that were not found."""

    @cached_property
    def model(self) -> nn.Module:
        """The network, in evaluation mode, float32, its parameters frozen."""
        model, missing = self._load(dict(self.weights))
        if lacking := self._lacking(missing):
            raise self._unfilled(", ".join(lacking))
        return model

    def _unfilled(self, told: str) -> IncompatibleExperts:
        return IncompatibleExperts(f"{self.weights.path} does not fill the model that {self.folder} describes: {told}")

    @cached_property
    def names(self) -> dict[str, str]:
        """The name on disk of each of the model's tensors, by its name in the model; those that are not on disk are left out.

        Tensors are parameters, and the statistics of norms over batches, which merging changes as well.

        Libraries rename on loading, so the mapping is not guessed from the names but seen: a model is filled with tensors that each
        hold a number of their own. Raises :class:`UnsupportedFormat` when the library joins tensors or cuts them.
        """
        on_disk = [name for name, spec in self.weights.specs.items() if spec.dtype.is_floating_point]
        marks = {name: torch.tensor(float(mark)).expand(self.weights.specs[name].shape) for mark, name in enumerate(on_disk, MARKS)}
        model, missing = self._load(marks)
        names = {}
        for name, tensor in model.state_dict(keep_vars=True).items():
            if name not in missing and tensor.numel() and tensor.is_floating_point():
                mark = int(tensor.flatten()[0]) - MARKS
                source = on_disk[mark] if 0 <= mark < len(on_disk) else None
                if source is None or tensor.shape != marks[source].shape or bool((tensor != mark + MARKS).any()):
                    raise UnsupportedFormat(f"{self.weights.path}: {name!r} of the model is not one tensor on disk")
                names[name] = source
        return names

    @cached_property
    def statistics(self) -> frozenset[str]:
        """The names on disk of what the network measures and does not learn: statistics of norms over batches."""
        measured = {name for name, _ in self.model.named_buffers() if name.endswith(("running_mean", "running_var"))}
        return frozenset(source for name, source in self.names.items() if name in measured)

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

        ``weights``, by their names on disk, stand in for the backbone's own; gradients flow to them, but to statistics.
        """
        given = {name: tensor.detach() if name in self.statistics else tensor for name, tensor in (weights or {}).items()}
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
        self.blocks.check(batch)
        with self.blocks.corrected(corrections):
            return self.pooled(batch)

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
