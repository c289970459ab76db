"""Surgeries with random numbers in them."""

import torch

from suture.surgery import Correction, Surgery
from suture.surgery.module import Activation

TASKS = ("a", "b.down", "c")


def correction(generator: torch.Generator, width: int = 6, rank: int = 3, activation: Activation = "relu") -> Correction:
    """Return one without a shift after ReLU, and with one otherwise."""
    down, up, shift = (torch.randn(*shape, generator=generator) for shape in ((rank, width), (width, rank), (width,)))
    return Correction(down, up, None if activation == "relu" else shift, activation)


def trained(seed: int, tasks: tuple[str, ...] = TASKS, depth: int = 0, activation: Activation = "relu") -> Surgery:
    """Return surgery of width 6 and rank 3, after ``depth`` blocks and at the end."""
    generator = torch.Generator().manual_seed(seed)
    final = {task: correction(generator, activation=activation) for task in tasks}
    blocks = {task: [correction(generator, activation=activation) for _ in range(depth)] for task in tasks}
    return Surgery(final, blocks if depth else {})
