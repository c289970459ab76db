"""Low-rank residual experts, the rival of surgery that keeps weights in place of corrections: θ_t − θ_m of every block, in few numbers."""

import hashlib
import json
import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from suture.backbones import Backbone
from suture.checkpoints import Checkpoint
from suture.errors import IncompatibleExperts, InvalidHyperparameter, NonFiniteTensor, UnknownName
from suture.factoring import eigh
from suture.gram import gram
from suture.surgery.threads import one_thread
from suture.task_vector import accumulation_dtype
from suture.types import Progress, no_progress

MATRIX = 2
"""The dimensions of a matrix; a tensor of more is the matrix of its first one and of all others, as a convolution's filters in rows."""


@dataclass(frozen=True)
class LowRank:
    """A change Δ = left · right of a weight matrix: ``left`` is (out, r), ``right`` is (r, in).

    >>> LowRank(torch.tensor([[1.0], [2.0]]), torch.tensor([[3.0, 4.0, 5.0]])).whole()
    tensor([[ 3.,  4.,  5.],
            [ 6.,  8., 10.]])
    """

    left: Float[Tensor, "out r"]
    right: Float[Tensor, "r in"]

    @property
    def rank(self) -> int:
        """The rank r."""
        return self.left.shape[1]

    @property
    def shape(self) -> tuple[int, int]:
        """The shape of the matrix; of a convolution, (out, in · kernel)."""
        return self.left.shape[0], self.right.shape[1]

    def parts(self) -> tuple[Tensor, ...]:
        """Return the tensors that it is kept as."""
        return self.left, self.right

    def whole(self) -> Float[Tensor, "out in"]:
        """Return the matrix."""
        return self.left @ self.right


@dataclass(frozen=True)
class Whole:
    """The change of a tensor that is no matrix, such as a bias or the scale of a norm: kept as it is."""

    change: Float[Tensor, "..."]

    @property
    def shape(self) -> tuple[int, ...]:
        """The shape of the tensor."""
        return tuple(self.change.shape)

    def parts(self) -> tuple[Tensor, ...]:
        """Return the tensors that it is kept as."""
        return (self.change,)

    def whole(self) -> Float[Tensor, "..."]:
        """Return the tensor."""
        return self.change


Change = LowRank | Whole


@dataclass(frozen=True)
class Residuals:
    """What to add to a merged model for each task: θ_m + Δ_t stands in for the expert θ_t. ``changes`` go by task and by name on disk.

    >>> merged, expert = {"w": torch.zeros(2, 3), "b": torch.zeros(2)}, {"w": torch.ones(2, 3), "b": torch.ones(2)}
    >>> residuals = low_rank_residuals(merged, {"spam": expert}, ["w", "b"], rank=1)
    >>> residuals.tasks, residuals.parameters("spam")
    (('spam',), 7)
    """

    changes: Mapping[str, Mapping[str, Change]]

    @property
    def tasks(self) -> tuple[str, ...]:
        """The tasks, in order."""
        return tuple(self.changes)

    @property
    def rank(self) -> int:
        """The highest rank of any change of a matrix."""
        return max((change.rank for own in self.changes.values() for change in own.values() if isinstance(change, LowRank)), default=0)

    def of(self, task: str) -> Mapping[str, Change]:
        """Return a task's changes by names on disk; raises :class:`UnknownName` for another task."""
        if task not in self.changes:
            raise UnknownName("task", task, self.tasks)
        return self.changes[task]

    def parameters(self, task: str) -> int:
        """Return how many numbers a task's changes hold: r(out + in) for a matrix."""
        return sum(part.numel() for change in self.of(task).values() for part in change.parts())

    def weights(self, task: str, merged: Checkpoint) -> "ResidualExpert":
        """Return θ_m + Δ_t, made tensor by tensor when asked for; raises what :class:`ResidualExpert` raises."""
        return ResidualExpert(merged, self.of(task))


class ResidualExpert(Checkpoint):
    """A merged checkpoint and a task's changes, seen as full weights of the merged model's layout and precisions.

    Raises :class:`IncompatibleExperts` when the changes speak of tensors that the checkpoint does not have, or has in another shape.
    """

    def __init__(self, merged: Checkpoint, changes: Mapping[str, Change]) -> None:
        super().__init__(merged.path, merged.files)
        self.merged, self.changes = merged, changes
        for name, change in changes.items():
            spec = merged.specs.get(name)
            if spec is None or not _fits(change, spec.shape) or not spec.dtype.is_floating_point:
                found = "no such tensor" if spec is None else f"{list(spec.shape)} {spec.dtype}"
                raise IncompatibleExperts(f"the residual changes {name!r} of shape {list(change.shape)}; {merged.path} has {found}")

    def __getitem__(self, name: str) -> Tensor:
        return changed(self.merged[name], self.changes.get(name))

    @cached_property
    def digest(self) -> str:
        """The identity of these weights: the merged ones', and every bit of the changes."""
        return hashlib.sha256(f"{self.merged.digest}\n{digest_of(self.changes)}".encode()).hexdigest()

    @cached_property
    def fingerprint(self) -> str:
        """A cheap identity: the fingerprint of the merged weights, and every bit of the changes; raises what that one raises."""
        return hashlib.sha256(f"{self.merged.fingerprint}\n{digest_of(self.changes)}".encode()).hexdigest()


def changed(weight: Tensor, change: Change | None) -> Tensor:
    """Return a tensor with its change, if there is one, in the tensor's own precision."""
    if change is None:
        return weight
    wide = accumulation_dtype(weight.dtype)
    return (weight.to(wide) + change.whole().to(wide).reshape(weight.shape)).to(weight.dtype)


def as_matrix(shape: Sequence[int]) -> tuple[int, int]:
    """Return the shape of the matrix that a tensor of two dimensions or more is.

    >>> as_matrix((32, 16, 3, 3))
    (32, 144)
    """
    return shape[0], math.prod(shape[1:])


def _fits(change: Change, shape: Sequence[int]) -> bool:
    """Say whether it is the change of a tensor of a shape."""
    if isinstance(change, LowRank):
        return len(shape) >= MATRIX and change.shape == as_matrix(shape)
    return change.shape == tuple(shape)


def digest_of(changes: Mapping[str, Change]) -> str:
    """Return the sha256 of a task's changes, whatever their order."""
    total = hashlib.sha256()
    for name, change in sorted(changes.items()):
        parts = [part.detach().contiguous() for part in change.parts()]
        total.update(json.dumps([name, [[list(part.shape), str(part.dtype)] for part in parts]]).encode())
        for part in parts:
            total.update(part.reshape(-1).view(torch.uint8).numpy().data)
    return total.hexdigest()


def tensors_of_blocks(backbone: Backbone) -> list[str]:
    """Return the names on disk of all tensors of an encoder's blocks; embeddings, and what stands after the blocks, are not among them."""
    blocks = tuple(f"{name}." for names in backbone.block_names for name in names)
    return [source for name, source in backbone.names.items() if name.startswith(blocks)]


def parameters_of_residuals(backbone: Backbone) -> tuple[int, int]:
    """Return what residuals of an encoder's blocks cost a task: the parameters kept whole, and those of the factors for each rank."""
    shapes = [backbone.weights.specs[name].shape for name in tensors_of_blocks(backbone)]
    factors = [sum(as_matrix(shape)) for shape in shapes if len(shape) >= MATRIX]
    return sum(math.prod(shape) for shape in shapes if len(shape) < MATRIX), sum(factors)


@torch.no_grad()
def low_rank_residuals(
    merged: Mapping[str, Tensor],
    experts: Mapping[str, Mapping[str, Tensor]],
    names: Iterable[str],
    rank: int,
    progress: Progress = no_progress,
) -> Residuals:
    """Return Δ_t ≈ θ_t − θ_m for each task, without data: matrices by truncated SVD, all else whole.

    Of all matrices of that rank a truncated SVD is the nearest in Frobenius norm (Eckart and Young, 1936). A convolution's weights are the
    matrix of its filters, (out, in · kernel). ``names`` are names on disk, as :func:`tensors_of_blocks` gives them. Matrices that have less
    than that rank get their own. Deterministic; computed in float64, kept in float32 (float64 for weights in float64). ``progress`` counts
    tensors.

    Raises :class:`InvalidHyperparameter` for a negative rank, :class:`IncompatibleExperts` when a tensor is absent or of another shape,
    :class:`NonFiniteTensor` for NaN or Inf.

    >>> merged = {"w": torch.zeros(2, 2)}
    >>> residuals = low_rank_residuals(merged, {"spam": {"w": torch.diag(torch.tensor([3.0, 1.0]))}}, ["w"], rank=1)
    >>> residuals.of("spam")["w"].whole()
    tensor([[3., 0.],
            [0., 0.]])
    """
    check_rank(rank)
    changes: dict[str, dict[str, Change]] = {task: {} for task in experts}
    names = list(names)
    for task, expert in experts.items():
        for name in names:
            delta, dtype = difference(task, name, merged, expert), accumulation_dtype(merged[name].dtype)
            changes[task][name] = truncated(delta.flatten(1), rank, dtype) if delta.dim() >= MATRIX else Whole(delta.to(dtype))
            progress(1)
    return Residuals(changes)


def check_rank(rank: int) -> None:
    """Raise :class:`InvalidHyperparameter` for a negative rank."""
    if rank < 0:
        raise InvalidHyperparameter(f"rank must be at least 0, not {rank}")


def difference(task: str, name: str, merged: Mapping[str, Tensor], expert: Mapping[str, Tensor]) -> Float64[Tensor, "..."]:
    """Return expert minus merged of one tensor, checked."""
    if name not in merged or name not in expert or merged[name].shape != expert[name].shape:
        shapes = [list(weights[name].shape) if name in weights else "none" for weights in (merged, expert)]
        raise IncompatibleExperts(f"task {task!r}: {name!r} has the shape {shapes[0]} in the merged model and {shapes[1]} in the expert")
    delta = expert[name].double() - merged[name].double()
    if not bool(delta.isfinite().all()):
        raise NonFiniteTensor(f"task {task!r}: {name!r} of the merged model or of the expert holds NaN or Inf")
    return delta


@one_thread()
def truncated(
    delta: Float64[Tensor, "out in"], rank: int, dtype: torch.dtype = torch.float32, root: Float64[Tensor, "in in"] | None = None
) -> LowRank:
    """Return the Δ_r of that rank that is nearest to Δ: it has the least ‖(Δ − Δ_r) L‖ in Frobenius norm, L = ``root``, else the identity.

    Δ_r = U Uᵀ Δ, U the leading left singular vectors of ΔL; so of full rank it is Δ, and with L Lᵀ = XᵀX/n the n rows of X lose the
    least in going through it.

    >>> delta, inputs = torch.diag(torch.tensor([3.0, 1.0])).double(), torch.diag(torch.tensor([1.0, 10.0])).double()
    >>> truncated(delta, 1, root=inputs).whole()
    tensor([[0., 0.],
            [0., 1.]])
    """
    seen = delta if root is None else delta @ root
    rank = min(rank, *delta.shape)
    # Eigenvectors of the smaller Gram matrix; the basis is orthonormal whatever the rank of what is seen.
    if seen.shape[0] <= seen.shape[1]:
        basis = eigh(gram(seen.T))[1].flip(1)[:, :rank]
    else:
        basis = torch.linalg.qr(seen @ eigh(gram(seen))[1].flip(1)[:, :rank])[0]
    return LowRank(basis.to(dtype).contiguous(), (basis.T @ delta).to(dtype))
