"""An expert of another layout than its base, seen in the base's: other names for the same tensors, and heads that the base lacks."""

import hashlib
import json
from collections.abc import Iterator, Mapping
from functools import cached_property
from pathlib import Path

from torch import Tensor

from suture.checkpoints.reading import Checkpoint, TensorSpec, sha256_of


class AlignedExpert(Mapping[str, Tensor]):
    """The tensors of a base, in its order and by its names: those of ``names`` are the expert's, all else is the base's."""

    def __init__(self, base: Checkpoint, expert: Checkpoint, names: Mapping[str, str]) -> None:
        self.path, self.base, self.expert, self.names = expert.path, base, expert, names

    @property
    def files(self) -> list[Path]:
        """The files that these weights come from."""
        return [*self.base.files, *self.expert.files]

    @property
    def left_out(self) -> list[str]:
        """The expert's tensors that the base has no place for, by their own names; integer buffers, which are the base's, apart."""
        placed = set(self.names.values())
        return [name for name, spec in self.expert.specs.items() if name not in placed and spec.dtype.is_floating_point]

    @cached_property
    def specs(self) -> dict[str, TensorSpec]:
        """Shape and dtype of every tensor."""
        return {name: self.expert.specs[self.names[name]] if name in self.names else spec for name, spec in self.base.specs.items()}

    @property
    def elements(self) -> int:
        """The number of elements of all tensors together: that of the base."""
        return self.base.elements

    @cached_property
    def digest(self) -> str:
        """The identity of these weights: base, expert, and which tensors are whose."""
        return self._joined(sha256_of(*self.files))

    @cached_property
    def fingerprint(self) -> str:
        """A cheap identity, of the fingerprints of both; raises what :attr:`Checkpoint.fingerprint` raises."""
        return self._joined(f"{self.base.fingerprint}\n{self.expert.fingerprint}")

    def _joined(self, identity: str) -> str:
        return hashlib.sha256(f"{identity}\n{json.dumps(sorted(self.names.items()))}".encode()).hexdigest()

    def __getitem__(self, name: str) -> Tensor:
        return self.expert[self.names[name]] if name in self.names else self.base[name]

    def __iter__(self) -> Iterator[str]:
        return iter(self.base)

    def __len__(self) -> int:
        return len(self.base)
