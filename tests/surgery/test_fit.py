"""The fit of Eq. 2: against a step-by-step NumPy Adam, and its laws."""

import numpy as np
import pytest
import torch
from torch import Tensor

from suture.errors import DataError, InvalidHyperparameter
from suture.randomness import generator_for
from suture.representation import representation_bias
from suture.surgery import Schedule, fit_surgery
from suture.surgery.fit import _batches, one_thread
from suture.surgery.module import start_of_fit


def pairs(seed: int, sizes: dict[str, int], width: int = 8) -> dict[str, tuple[Tensor, Tensor]]:
    """Make tasks whose drift a rank-two module can take out."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for task, size in sizes.items():
        z, drift = torch.randn(size, width, generator=generator), torch.randn(2, 2, width, generator=generator)
        made[task] = z, z - torch.relu(z @ drift[0].T) @ drift[1]
    return made


def numpy_fit(
    z: np.ndarray, target: np.ndarray, down: np.ndarray, up: np.ndarray, rows: list[np.ndarray], rate: float
) -> tuple[np.ndarray, np.ndarray]:
    """Fit one task by hand-written gradients of the mean L1 loss and Adam in float64."""
    parameters, first, second = [down.copy(), up.copy()], [0.0, 0.0], [0.0, 0.0]
    for step, batch in enumerate(rows, 1):
        x, (d, u) = z[batch], parameters
        hidden = x @ d.T
        active = np.maximum(hidden, 0)
        sign = np.sign(x - active @ u.T - target[batch]) / target[batch].size
        gradients = [-((sign @ u) * (hidden > 0)).T @ x, -sign.T @ active]
        for place, gradient in enumerate(gradients):
            first[place] = 0.9 * first[place] + 0.1 * gradient
            second[place] = 0.999 * second[place] + 0.001 * gradient**2
            corrected = np.sqrt(second[place] / (1 - 0.999**step)) + 1e-8
            parameters[place] = parameters[place] - rate * first[place] / (1 - 0.9**step) / corrected
    return parameters[0], parameters[1]


def test_equal_to_adam_by_hand() -> None:
    sets, schedule = pairs(0, {"a": 40, "b": 23}), Schedule(rank=3, iterations=15)
    fitted = fit_surgery(sets, schedule, seed=5)
    generators = [generator_for(5, task) for task in "ab"]
    starts = [start_of_fit(8, 3, own) for own in generators]
    batches = _batches([40, 23], 16, generators)
    rows = [next(batches).numpy() for _ in range(schedule.steps)]
    for place, (task, offset) in enumerate({"a": 0, "b": 40}.items()):
        z, target = (tensor.double().numpy() for tensor in sets[task])
        own = [batch[place] - offset for batch in rows]
        down, up = numpy_fit(z, target, starts[place].down.double().numpy(), starts[place].up.double().numpy(), own, 1e-3)
        np.testing.assert_allclose(fitted.final[task].down.numpy(), down, atol=2e-5)
        np.testing.assert_allclose(fitted.final[task].up.numpy(), up, atol=2e-5)


def test_takes_the_bias_out() -> None:
    sets = pairs(1, {"a": 200, "b": 150})
    fitted = fit_surgery(sets, Schedule(rank=4, learning_rate=1e-2), seed=0)
    for task, (merged, expert) in sets.items():
        assert representation_bias(fitted(task, merged), expert).l1 < 0.2 * representation_bias(merged, expert).l1


def test_a_seed_fixes_everything_and_no_global_state_is_touched() -> None:
    sets, schedule = pairs(2, {"a": 50, "b": 60}), Schedule(rank=2, iterations=10)
    torch.manual_seed(7)
    state, threads = torch.get_rng_state(), torch.get_num_threads()
    first = fit_surgery(sets, schedule, seed=1)
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.get_num_threads() == threads
    torch.manual_seed(8)
    again, other = fit_surgery(sets, schedule, seed=1), fit_surgery(sets, schedule, seed=2)
    for task in sets:
        assert torch.equal(first.final[task].up, again.final[task].up)
        assert torch.equal(first.final[task].down, again.final[task].down)
        assert not torch.equal(first.final[task].up, other.final[task].up)


def test_other_tasks_and_their_order_change_nothing() -> None:
    sets, schedule = pairs(6, {"a": 40, "b": 30, "c": 50}), Schedule(rank=2, iterations=20)
    together = fit_surgery(sets, schedule, seed=3)
    for tasks in (("c", "a", "b"), ("b",), ("a", "c")):
        other = fit_surgery({task: sets[task] for task in tasks}, schedule, seed=3)
        assert other.tasks == tasks
        for task in tasks:
            torch.testing.assert_close(other(task, sets[task][0]), together(task, sets[task][0]), rtol=1e-4, atol=1e-5)


def test_merged_equal_to_expert_is_left_alone() -> None:
    z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    fitted = fit_surgery({"a": (z, z)}, Schedule(rank=4, iterations=20), seed=0)
    assert torch.equal(fitted("a", z), z)


def test_every_epoch_sees_every_sample_once() -> None:
    batches = _batches([5, 7], 3, [torch.Generator().manual_seed(seed) for seed in (0, 1)])
    drawn = torch.stack([next(batches) for _ in range(35)])
    first, second = drawn[:, 0].flatten(), drawn[:, 1].flatten()
    assert all(sorted(epoch.tolist()) == list(range(5)) for epoch in first.split(5))
    assert all(sorted(epoch.tolist()) == list(range(5, 12)) for epoch in second.split(7))


def test_fewer_samples_than_a_batch() -> None:
    assert fit_surgery(pairs(3, {"a": 3}), Schedule(rank=2, iterations=3), seed=0).tasks == ("a",)


def test_progress_counts_steps() -> None:
    seen: list[int] = []
    fit_surgery(pairs(4, {"a": 20}), Schedule(rank=2, iterations=7), 0, seen.append)
    assert sum(seen) == 14


@pytest.mark.parametrize(
    ("sets", "message"),
    [
        ({}, "found none"),
        ({"a": (torch.ones(2, 3), torch.ones(2, 4))}, r"\[3, 4\]"),
        ({"a": (torch.ones(2, 3), torch.ones(3, 3))}, "2 merged and 3 expert"),
        ({"a": (torch.ones(0, 3), torch.ones(0, 3))}, "at least one"),
        ({"a": (torch.full((2, 3), torch.nan), torch.ones(2, 3))}, "NaN or Inf"),
    ],
)
def test_sets_that_cannot_be_fitted(sets: dict[str, tuple[Tensor, Tensor]], message: str) -> None:
    with pytest.raises(DataError, match=message):
        fit_surgery(sets, Schedule(), seed=0)


@pytest.mark.parametrize(
    "settings", [{"rank": 0}, {"iterations": 0}, {"batch_size": 0}, {"learning_rate": 0.0}, {"learning_rate": float("inf")}]
)
def test_schedules_that_make_no_sense(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidHyperparameter, match=next(iter(settings))):
        Schedule(**settings)  # type: ignore[arg-type]


def test_threads_are_given_back_after_an_error() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == threads
