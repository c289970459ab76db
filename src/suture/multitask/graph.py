"""A multi-task model as one plain module: what a batch is made of, and the number of each input's task, to logits."""

from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from functools import partial

import torch
from jaxtyping import Float, Int
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from suture.backbones import Backbone, Blocks, Head
from suture.surgery import Correction, Surgery

NO_CLASS = -1e9
"""The logit of classes that a task does not have: the rows of a batch are as long as those of the task with the most."""


class StackedCorrections(nn.Module):
    """One site's corrections of all tasks, padded to one rank: each row of a batch gets its own task's.

    >>> halve, leave = Correction(torch.eye(2), 0.5 * torch.eye(2), activation="none"), Correction(torch.zeros(1, 2), torch.zeros(2, 1))
    >>> StackedCorrections([halve, leave])(torch.ones(2, 3, 2), torch.tensor([0, 1]))[:, 0]
    tensor([[0.5000, 0.5000],
            [1.0000, 1.0000]])
    """

    def __init__(self, corrections: Sequence[Correction]) -> None:
        super().__init__()
        rank = max(1, *(each.rank for each in corrections))
        shifts = [torch.zeros(each.width, dtype=each.down.dtype) if each.shift is None else each.shift for each in corrections]
        self.register_buffer("down", torch.stack([pad(each.down, (0, 0, 0, rank - each.rank)) for each in corrections]))
        self.register_buffer("up", torch.stack([pad(each.up, (0, rank - each.rank)) for each in corrections]))
        self.register_buffer("shift", torch.stack(shifts))
        self.register_buffer("relu", torch.tensor([each.activation == "relu" for each in corrections]))

    def forward(self, x: Float[Tensor, "n p k"], task: Int[Tensor, " n"]) -> Float[Tensor, "n p k"]:
        """Return the corrected tokens."""
        parts: dict[str, Tensor] = dict(self.named_buffers())
        hidden = x.to(parts["down"].dtype) @ parts["down"][task].mT
        hidden = torch.where(parts["relu"][task][:, None, None], hidden.relu(), hidden)
        return (x - hidden @ parts["up"][task].mT + parts["shift"][task][:, None]).to(x.dtype)


class StackedHeads(nn.Module):
    """The heads of all tasks, padded to one number of classes."""

    def __init__(self, heads: Sequence[Head]) -> None:
        super().__init__()
        most = max(len(head.weight) for head in heads)
        cosine = [head.bias is None for head in heads]
        weights = [head.weight if head.bias is not None else head.scale * normalize(head.weight, dim=1) for head in heads]
        biases = [torch.zeros(len(head.weight)) if head.bias is None else head.bias for head in heads]
        self.register_buffer("weight", torch.stack([pad(weight, (0, 0, 0, most - len(weight))) for weight in weights]))
        self.register_buffer("bias", torch.stack([pad(bias, (0, most - len(bias)), value=NO_CLASS) for bias in biases]))
        self.register_buffer("cosine", torch.tensor(cosine))

    def forward(self, z: Float[Tensor, "n k"], task: Int[Tensor, " n"]) -> Float[Tensor, "n c"]:
        """Return the logits."""
        parts: dict[str, Tensor] = dict(self.named_buffers())
        z = torch.where(parts["cosine"][task][:, None], normalize(z, dim=1), z)
        return (parts["weight"][task] @ z[:, :, None])[:, :, 0] + parts["bias"][task]


class Graph(nn.Module):
    """Everything from a batch of the backbone's to logits, for inputs of several tasks at once.

    ``names`` are the parts of a batch, in the order in which they are given; the tasks' numbers come last. The backbone's own code
    runs, and what comes out of each block is corrected on its way.
    """

    def __init__(self, backbone: Backbone, heads: Sequence[Head], surgery: Surgery | None, tasks: Sequence[str], names: Sequence[str]):
        super().__init__()
        self.model, self.names = backbone.model, list(names)
        self._pooled: Callable[[Mapping[str, Tensor]], Tensor] = backbone.pooled
        self.heads = StackedHeads(heads)
        self.final = None if surgery is None else StackedCorrections([surgery.final[task] for task in tasks])
        self._blocks: Callable[[], Blocks] = lambda: backbone.blocks
        self.sites = nn.ModuleList()
        if surgery is not None and surgery.deep:
            depth = backbone.blocks.depth
            self.sites.extend(StackedCorrections([surgery.blocks[task][site] for task in tasks]) for site in range(depth))

    def forward(self, *given: Tensor) -> Float[Tensor, "n c"]:
        """Return the logits of a batch; raises nothing of its own."""
        *batch, task = given
        sites = [partial(site, task=task) for site in self.sites]
        with self._blocks().corrected(sites) if sites else nullcontext():
            z = self._pooled(dict(zip(self.names, batch, strict=True)))
        if self.final is not None:
            z = self.final(z[:, None], task)[:, 0]
        logits: Tensor = self.heads(z, task)
        return logits
