"""Joint training: what it changes, and that a seed fixes it."""

from pathlib import Path

import pytest
import torch
from torch import Tensor

from suture.backbones import Head, TaskCalibration, TextBackbone
from suture.errors import DataError, InvalidHyperparameter
from suture.training import FineTuning, fine_tune

TEXTS = {"colours": ["red", "the blue", "so red", "blue blue"] * 4, "pets": ["cat", "a dog", "very cat"] * 4}
LABELS = [torch.tensor([0, 1, 0, 1] * 4), torch.tensor([0, 1, 0] * 4)]
NAMES = ("encoder.layer.0.output.dense.weight", "encoder.layer.1.output.dense.bias")


@pytest.fixture
def inputs(bert: Path) -> TaskCalibration:
    generator = torch.Generator().manual_seed(1)
    heads = {task: Head(torch.randn(2, 16, generator=generator)) for task in TEXTS}
    return TaskCalibration(TextBackbone.open(bert, max_length=16), TEXTS, heads)


def trained(inputs: TaskCalibration, seed: int = 0, epochs: int = 8, rate: float = 1e-2) -> dict[str, Tensor]:
    start = {name: inputs.backbone.weights[name] for name in NAMES}
    return fine_tune(inputs, LABELS, start, FineTuning(epochs=epochs, batch_size=8, learning_rate=rate), seed)


def accuracy(inputs: TaskCalibration, weights: dict[str, Tensor]) -> float:
    right = 0
    for batch in inputs.batches([range(size) for size in inputs.sizes]):
        right += sum(int((logits.argmax(dim=1) == LABELS[task][rows]).sum()) for task, rows, logits in batch.classified(weights))
    return right / sum(inputs.sizes)


def test_both_tasks_are_learnt(inputs: TaskCalibration) -> None:
    before = accuracy(inputs, {})
    assert accuracy(inputs, trained(inputs, epochs=20)) > max(0.9, before)


def test_a_seed_fixes_everything_and_nothing_global_moves(inputs: TaskCalibration) -> None:
    state, base = torch.random.get_rng_state(), {name: inputs.backbone.weights[name].clone() for name in NAMES}
    first, again, other = trained(inputs, epochs=1), trained(inputs, epochs=1), trained(inputs, seed=1, epochs=1)
    assert all(torch.equal(first[name], again[name]) for name in NAMES)
    assert not all(torch.equal(first[name], other[name]) for name in NAMES)
    assert torch.equal(torch.random.get_rng_state(), state)
    assert not inputs.backbone.model.training
    assert all(torch.equal(inputs.backbone.weights[name], base[name]) for name in NAMES)


def test_every_sample_is_seen_once_an_epoch(inputs: TaskCalibration) -> None:
    seen: list[int] = []
    start = {name: inputs.backbone.weights[name] for name in NAMES}
    fine_tune(inputs, LABELS, start, FineTuning(epochs=2, batch_size=8), 0, seen.append)
    assert sum(seen) == 2 * sum(inputs.sizes)


def test_wrong_labels_and_settings_are_refused(inputs: TaskCalibration) -> None:
    with pytest.raises(DataError, match=r"\[16, 12\] inputs, but \[16, 3\] labels"):
        fine_tune(inputs, [LABELS[0], LABELS[1][:3]], {}, FineTuning(), 0)
    with pytest.raises(DataError, match="nothing to train"):
        fine_tune(inputs, LABELS, {}, FineTuning(), 0)
    with pytest.raises(DataError, match="diverged"):
        trained(inputs, epochs=1, rate=1e30)
    for wrong in ({"epochs": 0}, {"learning_rate": -1.0}, {"warmup": 1.0}):
        with pytest.raises(InvalidHyperparameter):
            FineTuning(**wrong)  # type: ignore[arg-type]
