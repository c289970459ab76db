"""The Gram matrix XᵀX of rows, which what calibrates asks for of every layer and every batch."""

from jaxtyping import Float, Float64
from torch import Tensor

PANEL = 192
"""Columns that are multiplied at a time: few enough to skip nearly half of the products, and enough to keep each an efficient one."""


def gram(rows: Float[Tensor, "*k n p"]) -> Float64[Tensor, "*k p p"]:
    """Return XᵀX in float64, X being the (n, p) rows, or a stack of them; of its two equal halves one is computed.

    >>> import torch
    >>> gram(torch.tensor([[1.0, 2.0], [3.0, 4.0]]))
    tensor([[10., 14.],
            [14., 20.]], dtype=torch.float64)
    """
    wide = rows.double()
    width = wide.shape[-1]
    whole = wide.new_empty(*wide.shape[:-2], width, width)
    for start in range(0, width, PANEL):
        panel = slice(start, start + PANEL)
        below = wide[..., start:].mT @ wide[..., panel]
        whole[..., start:, panel] = below
        whole[..., panel, start:] = below.mT
    return whole
