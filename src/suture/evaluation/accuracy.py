"""Accuracy: the share of samples whose highest logit is their class's."""

from jaxtyping import Float, Int
from torch import Tensor

from suture.errors import DataError


def accuracy(logits: Float[Tensor, "n c"], labels: Int[Tensor, " _"]) -> float:
    """Return the share in [0, 1]; raises :class:`DataError` when there are not as many labels as rows, or none.

    >>> import torch
    >>> accuracy(torch.tensor([[2.0, 1.0], [0.0, 3.0]]), torch.tensor([0, 0]))
    0.5
    """
    if len(logits) != len(labels) or len(labels) == 0:
        raise DataError(f"{len(logits)} rows of logits, but {len(labels)} labels")
    return float((logits.argmax(dim=1) == labels).double().mean())
