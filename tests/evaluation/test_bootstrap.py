"""Paired bootstrap intervals: their laws, and SciPy's."""

from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import bootstrap

from suture.errors import DataError, InvalidHyperparameter
from suture.evaluation import Interval, average_interval, paired_interval
from suture.evaluation import bootstrap as module


def drawn(seed: int, n: int, seeds: int = 3, share: float = 0.8) -> np.ndarray:
    return np.random.default_rng(seed).random((seeds, n)) < share


CASES = {"seed": st.integers(0, 2**31), "n": st.integers(1, 60), "seeds": st.integers(1, 4)}


@given(**CASES)
@settings(max_examples=50, deadline=None)
def test_a_model_does_not_differ_from_itself(seed: int, n: int, seeds: int) -> None:
    one = drawn(seed, n, seeds)
    assert paired_interval(one, one.copy(), seed) == Interval(0.0, 0.0, 0.0)
    assert not paired_interval(one, one, seed).sure


@given(**CASES)
@settings(max_examples=50, deadline=None)
def test_exchanged_models_change_the_signs(seed: int, n: int, seeds: int) -> None:
    one, other = drawn(seed, n, seeds), drawn(seed + 1, n, 2, share=0.5)
    there, back = (paired_interval(*pair, seed, resamples=200) for pair in ((one, other), (other, one)))
    assert (back.difference, back.low, back.high) == pytest.approx((-there.difference, -there.high, -there.low), abs=1e-12)


@given(**CASES)
@settings(max_examples=50, deadline=None)
def test_what_was_found_lies_within(seed: int, n: int, seeds: int) -> None:
    one, other = drawn(seed, n, seeds), drawn(seed + 1, n, seeds, share=0.6)
    found = paired_interval(one, other, seed)
    assert found.difference == pytest.approx(one.mean() - other.mean())
    assert -1 <= found.low <= found.difference + 1e-12
    assert found.difference - 1e-12 <= found.high <= 1
    wider = paired_interval(one, other, seed, confidence=0.99)
    assert wider.low <= found.low <= found.high <= wider.high


@pytest.mark.parametrize(("n", "seeds", "share"), [(50, 1, 0.5), (400, 3, 0.9), (1500, 2, 0.7)])
def test_equal_to_scipy(n: int, seeds: int, share: float) -> None:
    one, other = drawn(0, n, seeds, share), drawn(1, n, seeds, 0.6)
    theirs = bootstrap(
        (one.mean(axis=0), other.mean(axis=0)),
        lambda x, y, axis: x.mean(axis=axis) - y.mean(axis=axis),
        paired=True,
        vectorized=True,
        method="percentile",
        n_resamples=20_000,
        rng=np.random.default_rng(2),
    ).confidence_interval
    ours = paired_interval(one, other, resamples=20_000)
    assert (ours.low, ours.high) == pytest.approx((theirs.low, theirs.high), abs=0.03 * (theirs.high - theirs.low) + 1 / (n * seeds))


def test_the_average_of_tasks_by_hand() -> None:
    sizes = {"a": 40, "b": 300}
    tasks = {task: (drawn(n, n), drawn(n + 1, n, share=0.6)) for task, n in sizes.items()}
    found = average_interval(tasks, resamples=20_000)
    alone = [one.mean(axis=0) - other.mean(axis=0) for one, other in tasks.values()]
    assert found.difference == pytest.approx(np.mean([own.mean() for own in alone]))
    deviation = np.sqrt(sum(own.var() / len(own) for own in alone)) / 2
    assert (found.low, found.high) == pytest.approx((found.difference - 1.96 * deviation, found.difference + 1.96 * deviation), abs=0.01)
    again = average_interval(dict(reversed(tasks.items())), resamples=20_000)
    assert (again.low, again.high) == pytest.approx((found.low, found.high), abs=1e-12)


def test_a_task_draws_the_same_whatever_stands_beside_it() -> None:
    one, other = drawn(0, 90), drawn(1, 90, share=0.5)
    same = np.ones((1, 7), dtype=bool)
    alone, beside = average_interval({"a": (one, other)}, 3), average_interval({"still": (same, same), "a": (one, other)}, 3)
    assert [2 * each for each in (beside.difference, beside.low, beside.high)] == pytest.approx([alone.difference, alone.low, alone.high])


def test_a_seed_fixes_it_tensors_are_welcome_and_portions_change_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    one, other = drawn(0, 90), drawn(1, 90, share=0.5)
    state = np.random.get_state()[1].copy()  # noqa: NPY002
    found = paired_interval(one, other, 5)
    assert paired_interval(torch.from_numpy(one), torch.from_numpy(other), 5) == found
    assert paired_interval(one, other, 6) != found
    monkeypatch.setattr(module, "CELLS", 1000)
    assert paired_interval(one, other, 5).difference == found.difference
    assert paired_interval(one, other, 5).low == pytest.approx(found.low, abs=0.02)
    assert np.array_equal(np.random.get_state()[1], state)  # noqa: NPY002


@pytest.mark.parametrize(
    ("one", "other"),
    [
        (np.ones((1, 3), dtype=bool), np.ones((1, 4), dtype=bool)),
        (np.ones((1, 0), dtype=bool), np.ones((1, 0), dtype=bool)),
        (np.ones((0, 3), dtype=bool), np.ones((1, 3), dtype=bool)),
    ],
)
def test_what_cannot_be_compared(one: Any, other: Any) -> None:
    with pytest.raises(DataError, match="expected booleans"):
        paired_interval(one, other)
    with pytest.raises(DataError, match="task 'a': expected booleans"):
        average_interval({"a": (one, other)})


def test_settings_that_make_no_sense() -> None:
    one = np.ones((1, 3), dtype=bool)
    with pytest.raises(DataError, match="no tasks"):
        average_interval({})
    for confidence in (0.0, 1.0, float("nan")):
        with pytest.raises(InvalidHyperparameter, match="confidence"):
            paired_interval(one, one, confidence=confidence)
    with pytest.raises(InvalidHyperparameter, match="resamples"):
        paired_interval(one, one, resamples=0)
