"""Task vectors: what fine-tuning added to the base (Ilharco et al., 2023, arXiv 2212.04089)."""

from collections.abc import Iterator, Mapping, Sequence

import torch
from torch import Tensor

Tensors = Mapping[str, Tensor]
"""A lazy mapping of tensor names, as they stand on disk, to tensors: indexing reads one tensor."""


class TaskVector(Mapping[str, Tensor]):
    """τ_t = θ_t − θ_0, tensor by tensor, computed when asked for, in at least float32.

    Only floating-point tensors have a task vector: integer and boolean buffers are left out.

    >>> base, expert = {"w": torch.ones(2)}, {"w": torch.tensor([1.0, 3.0])}
    >>> TaskVector(base, expert)["w"]
    tensor([0., 2.])
    """

    def __init__(self, base: Tensors, expert: Tensors) -> None:
        self.base, self.expert = base, expert

    def __getitem__(self, name: str) -> Tensor:
        base, expert = self.base[name], self.expert[name]
        wide = accumulation_dtype(base.dtype)
        return expert.to(wide) - base.to(wide)

    def __iter__(self) -> Iterator[str]:
        return (name for name in self.base if self.base[name].is_floating_point())

    def __len__(self) -> int:
        return sum(1 for _ in self)


def accumulation_dtype(dtype: torch.dtype) -> torch.dtype:
    """Return the dtype that sums over tensors of ``dtype`` run in: float64 for float64, else float32.

    >>> accumulation_dtype(torch.bfloat16)
    torch.float32
    """
    return torch.float64 if dtype == torch.float64 else torch.float32


def stack_task_vectors(base: Tensor, experts: Sequence[Tensor]) -> Tensor:
    """Return the task vectors of one tensor, stacked: shape ``(T, *base.shape)``, in at least float32.

    >>> stack_task_vectors(torch.ones(2), [torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])])
    tensor([[ 0.,  1.],
            [-1.,  0.]])
    """
    wide = base.to(accumulation_dtype(base.dtype))
    stacked = torch.empty((len(experts), *base.shape), dtype=wide.dtype)
    for row, expert in zip(stacked, experts, strict=True):
        _subtract(expert, wide, row)
    return stacked


def weigh_task_vectors(base: Tensor, experts: Sequence[Tensor], weights: Sequence[float]) -> Tensor:
    """Return Σ_t w_t τ_t of one tensor, in at least float32, holding one task vector at a time.

    >>> weigh_task_vectors(torch.ones(2), [torch.tensor([1.0, 2.0]), torch.tensor([0.0, 1.0])], [1.0, 0.5])
    tensor([-0.5000,  1.0000])
    """
    wide = base.to(accumulation_dtype(base.dtype))
    total, row = torch.zeros_like(wide), torch.empty_like(wide)
    for expert, weight in zip(experts, weights, strict=True):
        total.add_(_subtract(expert, wide, row), alpha=weight)
    return total


def _subtract(expert: Tensor, wide: Tensor, out: Tensor) -> Tensor:
    """Set ``out`` to expert minus base; converting first would make a tensor of its own."""
    return torch.sub(expert, wide, out=out) if expert.dtype == wide.dtype else out.copy_(expert).sub_(wide)
