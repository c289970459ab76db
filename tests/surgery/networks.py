"""Tiny networks of blocks, on sequences of vectors in place of texts: attention-free, but tokens of an input do mix."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor, nn

from suture.backbones import Blocks

Batch = Mapping[str, Tensor]


class MixingBlock(nn.Module):
    """x + tanh(x W + mean over real tokens of x)."""

    def __init__(self, weight: Tensor) -> None:
        super().__init__()
        self.weight = nn.Parameter(weight, requires_grad=False)

    def forward(self, x: Tensor, mask: Tensor, *, scale: float) -> Tensor:
        mean = (x * mask[..., None]).sum(dim=1, keepdim=True) / mask.sum(dim=1)[:, None, None]
        return x + scale * torch.tanh(x @ self.weight + mean)


class Network(nn.Module):
    def __init__(self, weights: Sequence[Tensor], tail: Tensor | None) -> None:
        super().__init__()
        self.tail = tail
        self.layers = nn.ModuleList(map(MixingBlock, weights))

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        x = 1.5 * x
        for layer in self.layers:
            x = layer(x, mask, scale=0.7)
        z = (x * mask[..., None]).sum(dim=1) / mask.sum(dim=1)[:, None]
        return z if self.tail is None else z @ self.tail


@dataclass(frozen=True)
class TinyBackbone:
    """It fulfils :class:`suture.backbones.BlockwiseBackbone`; inputs are tensors of shape (tokens, k)."""

    weights: Sequence[Tensor]
    batch_size: int = 3
    tail: Tensor | None = None
    """A matrix on the representation."""

    @cached_property
    def network(self) -> Network:
        return Network(self.weights, self.tail)

    @cached_property
    def blocks(self) -> Blocks:
        return Blocks(list(self.network.layers), lambda batch: self.network(batch["x"], batch["mask"]))

    def batches(self, inputs: Sequence[Tensor]) -> Iterator[tuple[list[int], Batch]]:
        # As batches of like length do, these come in another order than the inputs.
        order = sorted(range(len(inputs)), key=lambda place: (place * 7) % 10)
        for start in range(0, len(inputs), self.batch_size):
            places = order[start : start + self.batch_size]
            chosen = [inputs[place] for place in places]
            mask = torch.zeros(len(chosen), max(map(len, chosen)))
            for row, own in zip(mask, chosen, strict=True):
                row[: len(own)] = 1
            # What stands in the padding is wild: nothing may come of it.
            padded = torch.full((*mask.shape, chosen[0].shape[1]), 1e3)
            for row, own in zip(padded, chosen, strict=True):
                row[: len(own)] = own
            yield places, {"x": padded, "mask": mask}

    def real(self, batch: Batch) -> Tensor:
        return batch["mask"].bool()


def network(seed: int, width: int = 4, depth: int = 2) -> TinyBackbone:
    generator = torch.Generator().manual_seed(seed)
    return TinyBackbone([0.5 * torch.randn(width, width, generator=generator) for _ in range(depth)])


def sequences(seed: int, count: int, width: int = 4) -> list[Tensor]:
    """Make inputs of two to five tokens."""
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.randint(2, 6, (count,), generator=generator).tolist()
    return [torch.randn(length, width, generator=generator) for length in lengths]
