"""A task: a name, its classes, and named splits of inputs."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor

from suture.errors import DataError
from suture.inputs import Input


@dataclass(frozen=True)
class Split:
    """Inputs and, where they are known, their labels.

    Raises :class:`DataError` when it is empty, or there are not as many labels as inputs.

    >>> len(Split(["good", "bad"], torch.tensor([1, 0])))
    2
    """

    inputs: Sequence[Input]
    """Texts, or images."""
    labels: Int[Tensor, " n"] | None = None

    def __post_init__(self) -> None:
        if not self.inputs:
            raise DataError("a split needs at least one sample")
        if self.labels is not None and len(self.labels) != len(self.inputs):
            raise DataError(f"{len(self.inputs)} inputs, but {len(self.labels)} labels")

    @classmethod
    def of(cls, samples: Iterable[tuple[Input, int]]) -> "Split":
        """Return a split of inputs with the numbers of their classes, from anything that yields such pairs.

        >>> Split.of((text, len(text) % 2) for text in ["a", "bb"]).known_labels()
        tensor([1, 0])
        """
        found = list(samples)
        return cls([given for given, _ in found], torch.tensor([label for _, label in found], dtype=torch.int64))

    def __len__(self) -> int:
        return len(self.inputs)

    def first(self, size: int | None) -> "Split":
        """Return the first samples, at most ``size`` of them; all when it is None.

        >>> Split(["a", "b", "c"]).first(2).inputs
        ['a', 'b']
        """
        return Split(self.inputs[:size], None if self.labels is None else self.labels[:size])

    def known_labels(self) -> Int[Tensor, " n"]:
        """Return the labels; raises :class:`DataError` when the split has none."""
        if self.labels is None:
            raise DataError("this split has no labels, and labels are needed here")
        return self.labels


@dataclass(frozen=True)
class Task:
    """One classification task. The calibration split is disjoint from the test split unless the task says otherwise.

    >>> Task("films", ("bad", "good"), {"test": Split(["a gem"], torch.tensor([1]))}).split("test").known_labels()
    tensor([1])
    """

    name: str
    classes: Sequence[str]
    splits: Mapping[str, Split]

    def split(self, name: str) -> Split:
        """Return a split; raises :class:`DataError` with the splits there are."""
        if name not in self.splits:
            raise DataError(f"task {self.name!r} has no split {name!r}; it has {', '.join(self.splits) or 'none'}")
        return self.splits[name]
