"""What stands behind every block of a network, input by input: what SurgeryV2 looks at, and how far it has drifted."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

from suture.backbones import BlockwiseBackbone, mean_of_real
from suture.errors import DataError
from suture.surgery.module import Correction

Sites = Sequence[Tensor]
"""Rows per site, shape (n, k) each: the mean token behind every block, then the representation."""


def mean_tokens(network: BlockwiseBackbone, batch: Any, corrections: Sequence[Correction] | None = None) -> Sites:
    """Return the mean token behind every block, and the representation, of a batch; gradients flow.

    ``corrections``, one for every block and one for the representation, go over all of it; raises :class:`DataError` for another
    number of them.
    """
    if corrections is not None and len(corrections) != network.blocks.depth + 1:
        raise DataError(f"{network.blocks.depth} blocks and a representation take as many corrections, not {len(corrections)}")
    passage, real, sites = network.blocks.enter(batch), network.real(batch), list[Tensor]()
    for number in range(network.blocks.depth):
        passage = network.blocks.step(number, passage)
        if corrections is not None:
            passage = passage.corrected(corrections[number])
        sites.append(mean_of_real(passage.tokens.float(), real))
    z = network.blocks.leave(passage).float()
    return [*sites, z if corrections is None else corrections[-1](z)]


@torch.no_grad()
def sites_of(network: BlockwiseBackbone, inputs: Sequence[Any], corrections: Sequence[Correction] | None = None) -> Sites:
    """Return the same of any number of inputs, in their order; raises :class:`DataError` when there is none."""
    if not inputs:
        raise DataError("there are no inputs to look at")
    found: list[Sites] = []
    order: list[int] = []
    for places, batch in network.batches(inputs):
        order += places
        found.append(mean_tokens(network, batch, corrections))
    back = torch.tensor(order).argsort()
    return [torch.cat(site)[back] for site in zip(*found, strict=True)]


def bias_by_block(
    merged: BlockwiseBackbone, expert: BlockwiseBackbone, inputs: Sequence[Any], corrections: Sequence[Correction] | None = None
) -> list[float]:
    """Return the mean absolute difference between both networks' mean tokens behind every block, and of their representations.

    The last is the representation bias ÷ k. Source: Yang et al., 2024, arXiv 2410.14389, the layer-wise bias of SurgeryV2.
    Raises :class:`DataError` when there is no input.
    """
    pairs = zip(sites_of(merged, inputs, corrections), sites_of(expert, inputs), strict=True)
    return [float((own - theirs).abs().mean()) for own, theirs in pairs]
