"""Rows to spreads."""

from statistics import stdev

import pytest
import torch

from suture.errors import DataError
from suture.evaluation import COLUMNS, Model, Record, Results, accuracy

OPERATED = Model("ties()", "surgery", 16, "held-out", 8)


def row(merge: str, surgery: str, seed: int, task: str, value: float, rank: int = 16, samples: int = 8) -> Record:
    fit = ("none", 0, "none", 0) if surgery == "none" else (surgery, rank, "held-out", samples)
    return Record("s", merge, *fit, seed, task, "accuracy", value)


RESULTS = Results(
    [
        row("pretrained", "none", 0, "a", 0.4),
        row("pretrained", "none", 0, "b", 0.2),
        row("individual", "none", 0, "a", 0.9),
        row("individual", "none", 0, "b", 0.7),
        row("ties()", "none", 0, "a", 0.5),
        row("ties()", "none", 0, "b", 0.5),
        *(row("ties()", "surgery", seed, "a", value) for seed, value in enumerate((0.7, 0.8, 0.9))),
        *(row("ties()", "surgery", seed, "b", 0.6) for seed in range(3)),
    ]
)


def test_columns_are_the_contract() -> None:
    assert COLUMNS == ["suite", "merge", "surgery", "rank", "calibration", "samples", "seed", "task", "metric", "value"]
    assert RESULTS.rows()[0] == ("s", "pretrained", "none", 0, "none", 0, 0, "a", "accuracy", 0.4)


def test_the_average_is_taken_seed_by_seed() -> None:
    spread = RESULTS.spread(OPERATED, "accuracy")
    assert spread is not None
    assert spread.mean == pytest.approx(0.7)
    assert spread.deviation == pytest.approx(stdev([0.65, 0.7, 0.75]))
    assert f"{spread:.2f}" == "0.70 ± 0.05"
    single = RESULTS.spread(Model("individual"), "accuracy", "a", 100.0)
    assert f"{single:.1f}" == "90.0"
    assert RESULTS.spread(Model("individual"), "bias_l1") is None


def test_gap_closed() -> None:
    assert RESULTS.gap_closed(OPERATED) == pytest.approx((0.7 - 0.5) / (0.8 - 0.5))
    assert RESULTS.gap_closed(Model("individual")) is None
    assert RESULTS.gap_closed(OPERATED._replace(merge="absent")) is None
    assert RESULTS.merges == ["ties()"]
    assert RESULTS.operated("ties()") == [OPERATED]


def test_other_ranks_and_sample_counts_are_other_models() -> None:
    results = Results(
        [row("ties", "surgery", 0, "a", value, rank, size) for value, rank, size in ((0.5, 4, 8), (0.6, 64, 8), (0.7, 4, 16))]
    )
    spreads = [results.spread(model, "accuracy") for model in results.operated("ties")]
    assert [spread.mean for spread in spreads if spread] == [0.5, 0.6, 0.7]


def test_one_thing_is_not_measured_twice() -> None:
    with pytest.raises(DataError, match="task 'a' with seed 0 was measured twice"):
        Results([row("ties", "none", 0, "a", 0.5), row("ties", "none", 0, "a", 0.6)])


def test_accuracy_needs_a_label_per_row() -> None:
    assert accuracy(torch.eye(3), torch.tensor([0, 1, 0])) == pytest.approx(2 / 3)
    with pytest.raises(DataError, match="3 rows of logits, but 2 labels"):
        accuracy(torch.eye(3), torch.tensor([0, 1]))
