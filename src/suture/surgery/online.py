"""Surgery from a stream: samples are seen once, one by one or in portions, and the closed form of all so far is at hand at any time."""

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass, fields
from pathlib import Path
from typing import Any

import torch
from jaxtyping import Float, Float64, Int64
from torch import Tensor

from suture.checkpoints import Checkpoint, TensorSpec, open_sealed, write_sealed
from suture.errors import CorruptCheckpoint, DataError, InvalidHyperparameter
from suture.surgery.closed_form import ClosedForm, Moments, solve
from suture.surgery.module import Surgery
from suture.surgery.pairs import check_pairs

KIND = "online surgery"


class OnlineSurgery:
    """Closed-form surgery of samples that come once each, in any order of tasks and in any portions.

    Table 5 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705) fits its modules in one pass over a stream. Here each sample
    is a rank-one update of its task's :class:`suture.surgery.closed_form.Moments`, in float64 and in place, and is then forgotten.
    Sample i of a task belongs to fold i mod ``settings.folds`` of the cross-validation, as in
    :func:`suture.surgery.fit_closed_form`, so :meth:`surgery` is, but for rounding, what that function makes of all samples so far.

    Cost: O(k²) for a sample of width k; 2k² numbers of memory for every task and fold; O(k³) for :meth:`surgery`.

    >>> z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> online = OnlineSurgery(ClosedForm(rank=8))
    >>> for row in z:
    ...     online.see("half", row[None], 0.5 * row[None] + 1)
    >>> online.seen
    {'half': 64}
    >>> bool((online.surgery()("half", z) - 0.5 * z - 1).abs().mean() < 0.01)
    True
    """

    def __init__(self, settings: ClosedForm | None = None) -> None:
        self.settings = settings or ClosedForm()
        self._sums: dict[str, _Sums] = {}

    @property
    def seen(self) -> dict[str, int]:
        """How many samples of each task it has seen; tasks are in the order of their first samples."""
        return {task: int(sums.count.sum()) for task, sums in self._sums.items()}

    def see(self, task: str, merged: Float[Tensor, "_ _"], expert: Float[Tensor, "_ _"]) -> None:
        """Take in representations, shape (n, k) each, of the same unlabelled inputs under the merged backbone and the task's expert.

        Raises :class:`DataError`, and takes nothing in, when they are empty, not of one shape, not finite, or of another width than
        those before.
        """
        width = check_pairs({task: (merged, expert)})
        known = {sums.x.shape[1] for sums in self._sums.values()}
        if known and known != {width}:
            raise DataError(f"task {task!r}: representations of width {width} after others of width {known.pop()}")
        self._sums.setdefault(task, _Sums.zero(self.settings.folds, width)).add_(merged.detach().double(), expert.detach().double())

    def surgery(self) -> Surgery:
        """Return the corrections of all tasks of which there has been a sample; raises :class:`DataError` before the first."""
        if not self._sums:
            raise DataError("there is no surgery before the first sample")
        return Surgery({task: solve(sums.moments(), self.settings).regression.correction() for task, sums in self._sums.items()})

    def save(self, file: Path) -> None:
        """Write the settings and all that is known of the samples to a safetensors file, whole or not at all, in the place of any before.

        Raises :class:`suture.errors.OutputError` when it cannot be written.
        """
        tensors = {f"{task}.{name}": tensor for task, sums in self._sums.items() for name, tensor in sums.tensors().items()}
        told = {"suture": KIND, "settings": json.dumps(asdict(self.settings)), "tasks": json.dumps(list(self._sums))}
        write_sealed(file, tensors, told)

    @classmethod
    def load(cls, file: Path) -> "OnlineSurgery":
        """Return what :meth:`save` wrote, to see more; raises :class:`CorruptCheckpoint` for a file that is not whole, or another's."""
        tensors, told = open_sealed(file)
        if told.get("suture") != KIND:
            raise CorruptCheckpoint(f"{file} is not a file of online surgery")
        try:
            tasks, settings = json.loads(told["tasks"]), json.loads(told["settings"])
            found = cls(ClosedForm(int(settings["rank"]), tuple(map(float, settings["shrinkages"])), int(settings["folds"])))
            if sorted(tensors) != sorted(f"{task}.{name}" for task in tasks for name in NAMES):
                raise CorruptCheckpoint(f"{file} is not whole: expected {', '.join(NAMES)} for each of its tasks, and nothing else")
        except (KeyError, TypeError, ValueError, InvalidHyperparameter) as error:
            raise CorruptCheckpoint(f"{file} does not say which tasks it is of and how they are to be solved: {error!r}") from error
        found._sums = {task: _read(file, tensors, task, found.settings.folds) for task in tasks}
        if len({sums.x.shape[1] for sums in found._sums.values()}) > 1:
            raise CorruptCheckpoint(f"{file} is not whole: its tasks are of different widths")
        return found


@dataclass(frozen=True)
class _Sums:
    """The moments of one task's samples, fold by fold, changed in place."""

    count: Int64[Tensor, " f"]
    x: Float64[Tensor, "f k"]
    y: Float64[Tensor, "f k"]
    xx: Float64[Tensor, "f k k"]
    xy: Float64[Tensor, "f k k"]

    @classmethod
    def zero(cls, folds: int, width: int) -> "_Sums":
        """Return the sums over no samples."""
        return cls(**{name: torch.zeros(spec.shape, dtype=spec.dtype) for name, spec in _specs(folds, width).items()})

    def add_(self, x: Float64[Tensor, "n k"], y: Float64[Tensor, "n k"]) -> None:
        """Add the samples that come next."""
        folds, before = len(self.count), int(self.count.sum())
        for first in range(min(folds, len(x))):
            fold, own, target = (before + first) % folds, x[first::folds], y[first::folds]
            self.count[fold] += len(own)
            self.x[fold] += own.sum(dim=0)
            self.y[fold] += target.sum(dim=0)
            self.xx[fold].addmm_(own.T, own)
            self.xy[fold].addmm_(own.T, target)

    def moments(self) -> Sequence[Moments]:
        """Return each fold's moments; they share memory with the sums."""
        return [Moments(int(n), *rest) for n, *rest in zip(self.count, self.x, self.y, self.xx, self.xy, strict=True)]

    def tensors(self) -> dict[str, Tensor]:
        """Return them by name."""
        return {name: getattr(self, name) for name in NAMES}


NAMES = tuple(each.name for each in fields(_Sums))


def _specs(folds: int, width: int) -> dict[str, TensorSpec]:
    shapes = {"count": (folds,), "x": (folds, width), "y": (folds, width), "xx": (folds, width, width), "xy": (folds, width, width)}
    return {name: TensorSpec(shape, torch.int64 if name == "count" else torch.float64) for name, shape in shapes.items()}


def _read(file: Path, tensors: Checkpoint, task: str, folds: int) -> _Sums:
    """Return one task's sums, their shapes checked before anything is read."""
    specs: dict[str, Any] = {name: tensors.specs[f"{task}.{name}"] for name in NAMES}
    if specs != _specs(folds, specs["x"].shape[-1] if specs["x"].shape else 0):
        raise CorruptCheckpoint(f"{file} is not whole: {task!r} does not have the sums of {folds} folds of one width in float64")
    # Sums are changed in place, and not in a mapped file.
    sums = _Sums(**{name: tensors[f"{task}.{name}"].clone() for name in NAMES})
    total = int(sums.count.sum())
    if total < 1 or sums.count.tolist() != [len(range(fold, total, folds)) for fold in range(folds)]:
        raise CorruptCheckpoint(f"{file} is not whole: samples of {task!r} do not go to {folds} folds in turn")
    if not all(bool(tensor.isfinite().all()) for tensor in sums.tensors().values()):
        raise CorruptCheckpoint(f"{file} is not whole: the sums of {task!r} hold NaN or Inf")
    return sums
