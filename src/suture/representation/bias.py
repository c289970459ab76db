"""Representation bias: how far a merged model's representations have drifted from the expert's."""

from typing import NamedTuple

from jaxtyping import Float
from torch import Tensor

from suture.errors import DataError


class Bias(NamedTuple):
    """The two normalisations of one task's bias."""

    l1: float
    """(1/N) ‖Z_merged − Z_expert‖₁: the paper's Eq. 1."""
    mean_abs: float
    """The mean absolute difference, ``l1`` / k: what the paper's figures show."""


def representation_bias(merged: Float[Tensor, "n k"], expert: Float[Tensor, "_ _"]) -> Bias:
    """Return d_t of Eq. 1 (Yang et al., 2024, arXiv 2402.02705) for N samples and representations of width k.

    Raises :class:`DataError` when the two do not belong together.

    >>> import torch
    >>> representation_bias(torch.zeros(2, 4), torch.ones(2, 4))
    Bias(l1=4.0, mean_abs=1.0)
    """
    if merged.shape != expert.shape or merged.numel() == 0:
        raise DataError(f"representations of {list(merged.shape)} and {list(expert.shape)} cannot be compared")
    mean_abs = float((merged.double() - expert.double()).abs().mean())
    return Bias(mean_abs * merged.shape[1], mean_abs)
