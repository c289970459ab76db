"""The fit of Eq. 2: against a step-by-step NumPy Adam, and its laws."""

import math
from dataclasses import replace

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from suture.errors import DataError, SutureWarning
from suture.randomness import generator_for, shuffled_rows
from suture.representation import representation_bias
from suture.surgery import Correction, Schedule, Surgery, fit_surgery
from suture.surgery.module import operate, start_of_fit
from suture.surgery.schedule import split_held_out
from suture.surgery.threads import one_thread


def pairs(seed: int, sizes: dict[str, int], width: int = 8) -> dict[str, tuple[Tensor, Tensor]]:
    """Make tasks whose drift a rank-two module can take out."""
    generator = torch.Generator().manual_seed(seed)
    made = {}
    for task, size in sizes.items():
        z, drift = torch.randn(size, width, generator=generator), torch.randn(2, 2, width, generator=generator)
        made[task] = z, z - torch.relu(z @ drift[0].T) @ drift[1]
    return made


class NumpyModule:
    """One task's module by hand in float64: gradients of the mean L1 loss (Eq. 2 and 3), and Adam; other kinds are told apart."""

    def __init__(
        self, seed: int, task: str, rank: int, width: int = 8, *, linear: bool = False, l2: bool = False, shift: bool = False
    ) -> None:
        self.linear, self.l2 = linear, l2
        self.generator = generator_for(seed, task)
        start = start_of_fit(width, rank, self.generator)
        self.parts = [start.down.double().numpy(), start.up.double().numpy(), *([np.zeros(width)] if shift else [])]
        self.first, self.second, self.steps = [0.0] * 3, [0.0] * 3, 0

    def gradients(self, pair: tuple[Tensor, Tensor], rows: Tensor) -> list[np.ndarray]:
        (x, target), (down, up, *shift) = (z[rows].double().numpy() for z in pair), self.parts
        hidden = x @ down.T
        on = np.ones_like(hidden) if self.linear else hidden > 0
        error = x - (on * hidden) @ up.T + sum(shift) - target
        slope = (2 * error if self.l2 else np.sign(error)) / target.size
        return [-((slope @ up) * on).T @ x, -slope.T @ (on * hidden), *([slope.sum(axis=0)] if shift else [])]

    def step(self, gradients: list[np.ndarray], rate: float = 1e-3) -> None:
        self.steps += 1
        for place, gradient in enumerate(gradients):
            self.first[place] = 0.9 * self.first[place] + 0.1 * gradient
            self.second[place] = 0.999 * self.second[place] + 0.001 * gradient**2
            corrected = np.sqrt(self.second[place] / (1 - 0.999**self.steps)) + 1e-8
            self.parts[place] = self.parts[place] - rate * self.first[place] / (1 - 0.9**self.steps) / corrected

    def compare(self, fitted: Correction) -> None:
        found = [part for part in (fitted.down, fitted.up, fitted.shift) if part is not None]
        for ours, by_hand in zip(found, self.parts, strict=True):
            np.testing.assert_allclose(ours.numpy(), by_hand, atol=2e-5)


def test_equal_to_adam_by_hand() -> None:
    sets, schedule = pairs(0, {"a": 40, "b": 23}), Schedule(rank=3, iterations=15)
    fitted = fit_surgery(sets, schedule, seed=5)
    for task, pair in sets.items():
        module = NumpyModule(5, task, 3)
        rows = shuffled_rows(len(pair[0]), 16, module.generator)
        for _ in range(schedule.steps):
            module.step(module.gradients(pair, next(rows)))
        module.compare(fitted.final[task])


@pytest.mark.parametrize("decay", [False, True])
def test_equal_to_torch_bit_for_bit(decay: bool) -> None:
    sets, schedule = pairs(0, {"a": 40}, width=24), Schedule(rank=5, iterations=40, learning_rate=1e-2, decay=decay)
    generator = generator_for(5, "a")
    start = start_of_fit(24, 5, generator)
    rows, (merged, expert) = shuffled_rows(40, 16, generator), sets["a"]
    down, up = start.down[None].requires_grad_(), start.up[None].requires_grad_()
    optimizer = torch.optim.Adam([down, up], lr=1e-2)
    rate = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: 0.5 * (1 + math.cos(math.pi * step / 80)) if decay else 1.0)
    for _ in range(schedule.steps):
        batch = next(rows)
        optimizer.zero_grad()
        (operate(merged[batch][None], down, up) - expert[batch]).abs().mean(dim=(1, 2)).sum().backward()
        optimizer.step()
        rate.step()
    fitted = fit_surgery(sets, schedule, seed=5).final["a"]
    assert torch.equal(fitted.down, down[0])
    assert torch.equal(fitted.up, up[0])


def test_stale_momentum_equal_to_the_authors_loop_by_hand() -> None:
    sets, schedule = pairs(0, {"a": 40, "b": 23, "c": 30}), Schedule(rank=3, iterations=6, stale_momentum=True)
    modules = {task: NumpyModule(5, task, 3) for task in sets}
    rows = {task: shuffled_rows(len(sets[task][0]), 16, module.generator) for task, module in modules.items()}
    for _ in range(6):
        for task, pair in sets.items():
            for _ in range(2):
                own = modules[task].gradients(pair, next(rows[task]))
                for other, module in modules.items():
                    if other == task:
                        module.step(own)
                    elif module.steps:  # no gradient yet: None, which Adam skips
                        module.step([np.zeros((3, 8)), np.zeros((8, 3))])
    fitted = fit_surgery(sets, schedule, seed=5)
    assert [module.steps for module in modules.values()] == [36, 34, 32]
    for task, module in modules.items():
        module.compare(fitted.final[task])


def test_one_task_has_no_stale_momentum() -> None:
    sets = pairs(0, {"a": 40})
    plain, stale = (fit_surgery(sets, Schedule(rank=3, iterations=6, stale_momentum=on), seed=1) for on in (False, True))
    torch.testing.assert_close(plain("a", sets["a"][0]), stale("a", sets["a"][0]))


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


@pytest.mark.parametrize(
    "schedule",
    [
        Schedule(rank=2, iterations=20),
        Schedule(rank=2, iterations=60, held_out=0.25, patience=10, learning_rate=1e-2),
        Schedule.online(rank=2, batch_size=4),
    ],
    ids=["plain", "held-out", "online"],
)
def test_other_tasks_and_their_order_change_nothing(schedule: Schedule) -> None:
    sets = pairs(6, {"a": 40, "b": 33, "c": 50})
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


def test_fewer_samples_than_a_batch() -> None:
    assert fit_surgery(pairs(3, {"a": 3}), Schedule(rank=2, iterations=3), seed=0).tasks == ("a",)


@pytest.mark.parametrize(
    ("schedule", "steps"),
    [
        (Schedule(rank=2, iterations=7), 14),
        (Schedule(rank=2, iterations=400, held_out=0.5, patience=10, learning_rate=1e-1), 800),
        (Schedule.online(rank=2, batch_size=8), 5),
    ],
)
def test_progress_counts_steps(schedule: Schedule, steps: int) -> None:
    seen: list[int] = []
    fit_surgery(pairs(4, {"a": 40, "b": 20}), schedule, 0, seen.append)
    assert sum(seen) == steps


class Looks:
    """A watcher that keeps all it is shown."""

    def __init__(self) -> None:
        self.seen: dict[int, Surgery] = {}

    def __call__(self, iteration: int, surgery: Surgery) -> None:
        self.seen[iteration] = surgery

    def losses(self, task: str, pair: tuple[Tensor, Tensor], rows: Tensor) -> dict[int, float]:
        z, target = (side[rows].double() for side in pair)
        found = {}
        for iteration, surgery in self.seen.items():
            own = surgery.final[task]
            found[iteration] = float((operate(z, own.down.double(), own.up.double()) - target).abs().mean())
        return found


def test_a_watcher_sees_the_fit_go_on_and_changes_nothing() -> None:
    sets, schedule = pairs(1, {"a": 60, "b": 30}), Schedule(rank=4, iterations=25, look_every=10, learning_rate=1e-2)
    looks = Looks()
    watched, alone = fit_surgery(sets, schedule, 0, watch=looks), fit_surgery(sets, schedule, 0)
    assert list(looks.seen) == [0, 10, 20, 25]
    for task, pair in sets.items():
        assert torch.equal(looks.seen[0](task, pair[0]), pair[0])
        assert torch.equal(watched.final[task].up, alone.final[task].up)
        assert torch.equal(looks.seen[25].final[task].up, alone.final[task].up)
        losses = list(looks.losses(task, pair, torch.arange(len(pair[0]))).values())
        assert losses == sorted(losses, reverse=True)
    for iterations in (10, 20):
        shorter = fit_surgery(sets, replace(schedule, iterations=iterations), 0)
        assert torch.equal(shorter.final["a"].down, looks.seen[iterations].final["a"].down)


def noisy(sizes: dict[str, int], noise: float) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(9)
    made = {}
    for task, (z, target) in pairs(7, sizes).items():
        made[task] = z, target + noise * torch.randn(target.shape, generator=generator)
    return made


def held_rows(task: str, size: int, schedule: Schedule, seed: int) -> Tensor:
    return split_held_out(size, schedule, generator_for(seed, task, "held-out"))[1]


@pytest.mark.fault(22)
def test_the_module_is_the_best_one_on_the_held_out_samples() -> None:
    sets = noisy({"a": 48, "b": 64}, 2.0)
    schedule = Schedule(rank=8, iterations=150, learning_rate=1e-2, held_out=0.25, look_every=2, patience=150)
    looks = Looks()
    fitted = fit_surgery(sets, schedule, 0, watch=looks)
    for task, pair in sets.items():
        rows = held_rows(task, len(pair[0]), schedule, 0)
        assert len(rows) == len(pair[0]) // 4
        del looks.seen[max(looks.seen)]  # the last look is at the results
        losses = looks.losses(task, pair, rows)
        best = min(losses, key=losses.__getitem__)
        assert 0 < best < 148
        assert torch.equal(fitted.final[task].up, looks.seen[best].final[task].up)


def test_held_out_samples_are_never_trained_on() -> None:
    sets, schedule = noisy({"a": 48}, 1.0), Schedule(rank=3, iterations=30, held_out=0.25)
    merged, expert = (z.clone() for z in sets["a"])
    expert[held_rows("a", 48, schedule, 0)] += 1.0
    before, after = Looks(), Looks()
    fit_surgery(sets, schedule, 0, watch=before)
    fit_surgery({"a": (merged, expert)}, schedule, 0, watch=after)
    for iteration in (0, 10, 20):
        assert torch.equal(before.seen[iteration].final["a"].up, after.seen[iteration].final["a"].up)


@pytest.mark.fault(22)
def test_what_gains_nothing_held_out_is_left_alone_and_stops_by_itself() -> None:
    sets, schedule = pairs(1, {"a": 40, "b": 40}), Schedule(rank=4, iterations=100, held_out=0.5, patience=20, learning_rate=1e-2)
    merged, expert = (z.clone() for z in sets["a"])
    rows = held_rows("a", 40, schedule, 0)
    expert[rows] = merged[rows]
    looks = Looks()
    fitted = fit_surgery(sets | {"a": (merged, expert)}, schedule, 0, watch=looks)
    assert not fitted.final["a"].up.any()
    assert fitted.final["b"].up.any()
    assert bool(looks.seen[10].final["a"].up.any())
    assert not any(surgery.final["a"].up.any() for iteration, surgery in looks.seen.items() if iteration >= 20)
    alone = Looks()
    fit_surgery({"a": (merged, expert)}, schedule, 0, watch=alone)
    assert list(alone.seen) == [0, 10, 20]


def test_with_few_samples_all_are_trained_on_and_looked_at() -> None:
    schedule = Schedule(rank=2, iterations=20, held_out=0.25)
    assert [len(part) for part in split_held_out(31, schedule, torch.Generator())] == [31, 31]
    assert [len(part) for part in split_held_out(32, schedule, torch.Generator())] == [24, 8]
    assert [len(part) for part in split_held_out(10_000, schedule, torch.Generator())] == [10_000 - 512, 512]
    sets, plain = pairs(1, {"a": 12, "b": 1}), replace(schedule, held_out=0)
    few, all_of_it = Looks(), Looks()
    fit_surgery(sets, schedule, 0, watch=few)
    fit_surgery(sets, plain, 0, watch=all_of_it)
    for task in sets:
        assert torch.equal(few.seen[10].final[task].up, all_of_it.seen[10].final[task].up)


def test_ours_does_not_learn_noise() -> None:
    generator = torch.Generator().manual_seed(3)
    z, target = torch.randn(2, 1000, 16, generator=generator) + torch.tensor([1.0, 0.0])[:, None, None]
    left = {}
    for name, schedule in {"reference": Schedule.reference(), "ours": Schedule.default()}.items():
        schedule = replace(schedule, iterations=100, learning_rate=1e-2)
        fitted = fit_surgery({"a": (z[:64], z[:64] + target[:64])}, schedule, 0)
        left[name] = representation_bias(fitted("a", z[64:]), z[64:] + target[64:]).l1
    untouched = representation_bias(z[64:], z[64:] + target[64:]).l1
    assert left["ours"] < 1.02 * untouched < 1.1 * untouched < left["reference"]


@given(samples=st.integers(1, 21), batch=st.sampled_from([1, 2, 8]))
@settings(max_examples=10, deadline=None)
def test_a_stream_is_met_once_in_order_as_by_hand(samples: int, batch: int) -> None:
    pair = pairs(2, {"a": 21})["a"]
    module = NumpyModule(4, "a", 3)
    for rows in torch.arange(samples).split(batch):
        module.step(module.gradients(pair, rows))
    fitted = fit_surgery({"a": (pair[0][:samples], pair[1][:samples])}, Schedule.online(rank=3, batch_size=batch), seed=4)
    module.compare(fitted.final["a"])


def test_what_comes_later_in_a_stream_changes_nothing_before() -> None:
    sets, looks = pairs(2, {"a": 30, "b": 12}), Looks()
    schedule = replace(Schedule.online(rank=3), look_every=1)
    fit_surgery(sets, schedule, seed=4, watch=looks)
    for samples in (1, 7, 12, 20):
        shorter = fit_surgery({task: (z[:samples], target[:samples]) for task, (z, target) in sets.items()}, schedule, seed=4)
        for task in sets:
            torch.testing.assert_close(shorter.final[task].up, looks.seen[samples].final[task].up)


@pytest.mark.fault(23)
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


def test_threads_are_given_back_after_an_error() -> None:
    threads = torch.get_num_threads()
    with pytest.raises(ZeroDivisionError), one_thread():
        raise ZeroDivisionError
    assert torch.get_num_threads() == threads


@pytest.mark.fault(22)
def test_a_module_that_diverges_is_the_identity_and_says_so() -> None:
    sets = pairs(0, {"a": 20, "b": 20})
    with pytest.warns(SutureWarning, match="nothing is done for: a, b"):
        fitted = fit_surgery(sets, Schedule(rank=2, iterations=30, learning_rate=1e30), seed=0)
    for task, (z, _) in sets.items():
        assert torch.equal(fitted(task, z), z)
