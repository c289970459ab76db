"""Traditional multi-task learning: one backbone fine-tuned on the labelled data of all tasks together, under their frozen heads."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from jaxtyping import Int
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.backbones import NORMS, TaskCalibration
from suture.errors import DataError, InvalidHyperparameter
from suture.randomness import generator_for
from suture.types import Progress, no_progress


@dataclass(frozen=True)
class FineTuning:
    """AdamW with linear warm-up and decay over mixed batches of all tasks; gradients are clipped to a norm of one.

    Raises :class:`InvalidHyperparameter` for values out of their range.
    """

    epochs: int = 3
    batch_size: int = 32
    learning_rate: float = 1e-4
    warmup: float = 0.1

    def __post_init__(self) -> None:
        for name in ("epochs", "batch_size", "learning_rate"):
            if not getattr(self, name) > 0:
                raise InvalidHyperparameter(f"{name} must be positive, not {getattr(self, name)}")
        if not 0 < self.warmup < 1:
            raise InvalidHyperparameter(f"warmup must be in (0, 1), not {self.warmup}")

    def rate(self, step: int, steps: int) -> float:
        """Return the share of the learning rate at a step.

        >>> [round(FineTuning(warmup=0.5).rate(step, 4), 2) for step in range(4)]
        [0.5, 1.0, 1.0, 0.5]
        """
        return min(1.0, (step + 1) / (self.warmup * steps), (steps - step) / ((1 - self.warmup) * steps))


def fine_tune(
    inputs: TaskCalibration,
    labels: Sequence[Int[Tensor, " _"]],
    start: Mapping[str, Tensor],
    schedule: FineTuning,
    seed: int,
    progress: Progress = no_progress,
) -> dict[str, Tensor]:
    """Return the tensors of ``start``, by their names on disk, trained in float32 on all tasks' inputs; all others stay the base's.

    ``labels`` holds each task's classes, shape (N_t,), in the order of ``inputs``; every sample weighs the same. Dropout is as the
    backbone's configuration has it. The seed fixes order and dropout. ``progress`` counts samples.

    Source: the "Traditional MTL" rows of Yang et al., 2024, arXiv 2402.02705. Raises :class:`DataError` when labels and inputs differ
    in number, there is nothing to train, or training diverges.
    """
    if [len(own) for own in labels] != inputs.sizes:
        raise DataError(f"{inputs.sizes} inputs, but {[len(own) for own in labels]} labels, task by task")
    if not start:
        raise DataError("there is nothing to train: no expert differs from the base in a tensor that the network reads")
    weights = {name: tensor.float().clone().requires_grad_() for name, tensor in start.items()}
    optimizer = torch.optim.AdamW(weights.values(), lr=schedule.learning_rate)
    steps = schedule.epochs * -(-sum(inputs.sizes) // schedule.batch_size)
    pace = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: schedule.rate(step, steps))
    with _dropout(inputs.backbone.model, seed):
        for rows in _mixed(inputs.sizes, schedule, seed):
            optimizer.zero_grad()
            count = sum(map(len, rows))
            for batch in inputs.batches(rows):
                losses = [cross_entropy(logits, labels[task][own], reduction="sum") for task, own, logits in batch.classified(weights)]
                (torch.stack(losses).sum() / count).backward()
            nn.utils.clip_grad_norm_(weights.values(), 1.0)
            optimizer.step()
            pace.step()
            progress(count)
    if not all(bool(weight.isfinite().all()) for weight in weights.values()):
        raise DataError(f"joint training diverged; try a learning rate below {schedule.learning_rate}")
    return {name: weight.detach().to(start[name].dtype) for name, weight in weights.items()}


def _mixed(sizes: Sequence[int], schedule: FineTuning, seed: int) -> Iterator[list[list[int]]]:
    """Yield rows of each task, drawn from all samples alike, epoch by epoch."""
    samples = torch.tensor([(task, row) for task, size in enumerate(sizes) for row in range(size)])
    generator = generator_for(seed, "fine-tuning")
    for _ in range(schedule.epochs):
        for chosen in samples[torch.randperm(len(samples), generator=generator)].split(schedule.batch_size):
            yield [chosen[chosen[:, 0] == task, 1].tolist() for task in range(len(sizes))]


@contextmanager
def _dropout(model: nn.Module, seed: int) -> Iterator[None]:
    """Switch a model's dropout on; it can draw from the global generator alone, which is put back as it was."""
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model.train()
        for module in model.modules():
            if isinstance(module, NORMS):  # their statistics stay the base's, so that task vectors mean one thing
                module.eval()
        try:
            yield
        finally:
            model.eval()
