"""Corrections folded into linear heads: surgery at no cost when the model is used."""

from dataclasses import replace

import torch

from suture.backbones import Head
from suture.errors import DataError
from suture.surgery import Correction


def fold(head: Head, correction: Correction) -> Head:
    """Return the linear head that takes raw representations to the logits of corrected ones.

    With Ẑ = Z − Z DᵀUᵀ + s and logits ẐWᵀ + b it has the weight W − (W U) D and the bias b + W s; computed in float64, kept in the head's
    precision.

    Raises :class:`DataError` for a cosine head, which divides by the length of Ẑ, and for a correction with a ReLU: neither is linear.

    >>> head, correction = Head(torch.eye(2), torch.zeros(2)), Correction(torch.eye(2), 0.5 * torch.eye(2), activation="none")
    >>> fold(head, correction)(torch.tensor([[2.0, 4.0]]))
    tensor([[1., 2.]])
    """
    if head.bias is None:
        raise DataError("a cosine head divides by the length of what it is given, so no correction folds into it; linear heads take one")
    if correction.activation != "none":
        raise DataError("a correction with a ReLU does not fold into a head; those of closed forms do")
    if correction.width != head.weight.shape[1]:
        raise DataError(f"the head takes representations of width {head.weight.shape[1]}, the correction those of {correction.width}")
    weight, down, up = head.weight.double(), correction.down.double(), correction.up.double()
    shift = torch.zeros(1, dtype=torch.float64) if correction.shift is None else weight @ correction.shift.double()
    folded = weight - (weight @ up) @ down
    return replace(head, weight=folded.to(head.weight.dtype), bias=(head.bias.double() + shift).to(head.bias.dtype))
