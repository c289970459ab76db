"""What data-driven methods see of the world: a network that runs with any weights, unlabelled inputs, frozen heads.

Merging stands beside the backbones, not on them, so it says here what it needs; :class:`suture.backbones.TaskCalibration` is one.
"""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Protocol, runtime_checkable

import torch
from jaxtyping import Float
from torch import Tensor

from suture.randomness import generator_for


@runtime_checkable
class Batch(Protocol):
    """Inputs, of one task or of several, that take one forward pass together."""

    def logits(self, weights: Mapping[str, Tensor]) -> Sequence[tuple[int, Tensor]]:
        """Return the numbers of the tasks in it, each with its inputs' logits, shape (n, C_t), under its own head.

        ``weights`` stand in, by their names on disk, for the network's own, which are the base's. Gradients flow to them.
        """
        ...


Layer = tuple[str, str | None]
"""The names on disk of a layer's weight, shape (out, in) of a linear layer, (k,) of a norm, and of its bias, if it has one."""


@runtime_checkable
class Walk(Protocol):
    """A network on its way through inputs, block by block: what came out of the last block waits on disk."""

    @property
    def names(self) -> Collection[str]:
        """The names on disk of all tensors of the block that it stands before."""
        ...

    def inputs(self, weights: Mapping[str, Tensor], layer: str) -> Iterator[Tensor]:
        """Run that block with these weights as far as one of its layers, and yield, batch by batch, what enters that.

        The layer goes by its weight's name. Shape (n, in), the real tokens only; for a norm, normalised. Walks through the same inputs
        yield the same tokens together.
        """
        ...

    def step(self, weights: Mapping[str, Tensor]) -> None:
        """Go through that block with these weights."""
        ...


@runtime_checkable
class Calibration(Protocol):
    """Unlabelled inputs of every task, in the order of the experts, and the network to run them through."""

    @property
    def tasks(self) -> Sequence[str]:
        """The tasks' names."""
        ...

    @property
    def sizes(self) -> Sequence[int]:
        """How many inputs each task has."""
        ...

    @property
    def parameters(self) -> frozenset[str]:
        """The names on disk of the tensors that the network reads."""
        ...

    @property
    def layers(self) -> Sequence[Sequence[str]]:
        """The names on disk of the linear layers' weights, block by block of the network, in forward order."""
        ...

    @property
    def blocks(self) -> Sequence[Sequence[str]]:
        """The names on disk of all tensors of the same blocks; those in no block (embeddings, a last norm) belong to all of them."""
        ...

    def batches(self, rows: Sequence[Sequence[int]]) -> Iterator[Batch]:
        """Cut the given inputs of each task into batches, every input once."""
        ...

    def watch(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], look: Callable[[str, Tensor], None]) -> None:
        """Run inputs forward and show ``look`` what enters every linear layer: its weight's name and the rows, shape (n, in).

        Layers that one tensor enters may be shown one and the same, one after the other.
        """
        ...

    @property
    def stages(self) -> Sequence[Sequence[Sequence[Layer]]]:
        """The linear layers and norms, block by block of a walk, as they run; those that one tensor enters stand together."""
        ...

    def settled(self, statistics: Mapping[str, Tensor]) -> "Calibration":
        """Return the same with these tensors, by their names on disk, in the network wherever none are given for them."""
        ...

    def statistics(self, weights: Mapping[str, Tensor]) -> Mapping[str, Tensor]:
        """Return the running statistics of norms over batches, by name, as a network with these weights has them over all inputs."""
        ...

    def walk(self, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]], folder: Path) -> Walk:
        """Take inputs to the first block of a network with these weights; what it has come to is kept in a new folder."""
        ...


def sampled_rows(calibration: Calibration, samples: int, seed: int) -> list[list[int]]:
    """Return at most ``samples`` inputs of every task, each task's drawn by a generator of its own: tasks beside it do not change them."""
    drawn = []
    for task, size in zip(calibration.tasks, calibration.sizes, strict=True):
        drawn.append(torch.randperm(size, generator=generator_for(seed, task, "merging"))[:samples].tolist())
    return drawn


def sampled_count(calibration: Calibration, samples: int) -> int:
    """Return how many inputs :func:`sampled_rows` draws in all."""
    return sum(min(samples, size) for size in calibration.sizes)


def rows_of_one(calibration: Calibration, task: int, rows: Sequence[int]) -> list[Sequence[int]]:
    """Return inputs of one task as :meth:`Calibration.batches` takes them: none of the others."""
    return [rows if place == task else [] for place in range(len(calibration.tasks))]


def softmax_entropy(logits: Float[Tensor, "n c"]) -> Float[Tensor, " n"]:
    """Return −Σ_y p(y) log p(y) of each row, in nats: how undecided a model is, without labels.

    >>> softmax_entropy(torch.zeros(1, 4)).exp().round(decimals=4)
    tensor([4.])
    """
    log_p = logits.log_softmax(dim=1)
    return -(log_p.exp() * log_p).sum(dim=1)


def entropy_backward(calibration: Calibration, weights: Mapping[str, Tensor], rows: Sequence[Sequence[int]]) -> float:
    """Add to the ``grad`` of the weights that of L = Σ_t mean entropy of task t's rows, batch by batch, and return L."""
    total = 0.0
    for batch in calibration.batches(rows):
        loss = torch.stack([softmax_entropy(logits).sum() / len(rows[task]) for task, logits in batch.logits(weights)]).sum()
        loss.backward()
        total += loss.item()
    return total
