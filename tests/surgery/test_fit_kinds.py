"""Fits of other modules and losses than the papers': against the same NumPy Adam, and their laws."""

from dataclasses import replace
from itertools import product
from pathlib import Path

import pytest
import torch
from torch import Tensor

from surgery.networks import TinyBackbone, network, sequences
from surgery.test_deep import represent
from surgery.test_fit import Looks, NumpyModule, held_rows, pairs
from suture.errors import InvalidHyperparameter, SutureWarning
from suture.randomness import shuffled_rows
from suture.representation import representation_bias
from suture.surgery import ClosedForm, Schedule, fit_closed_form, fit_deep_surgery, fit_surgery, load_surgery, save_surgery

KINDS = [
    {"activation": activation, "loss": loss, "shift": shift}
    for activation, loss, shift in product(("relu", "none"), ("l1", "l2"), (False, True))
]
LINEAR = Schedule(rank=3, iterations=20, activation="none", shift=True)


def by_hand(task: str, kind: dict[str, object]) -> NumpyModule:
    return NumpyModule(5, task, 3, linear=kind["activation"] == "none", l2=kind["loss"] == "l2", shift=bool(kind["shift"]))


def moved(sets: dict[str, tuple[Tensor, Tensor]]) -> dict[str, tuple[Tensor, Tensor]]:
    """Return sets whose means differ too."""
    return {task: (z, target + 0.5) for task, (z, target) in sets.items()}


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_equal_to_adam_by_hand(kind: dict[str, object]) -> None:
    sets, schedule = moved(pairs(0, {"a": 40, "b": 23})), replace(Schedule(rank=3, iterations=15), **kind)  # type: ignore[arg-type]
    fitted = fit_surgery(sets, schedule, seed=5)
    for task, pair in sets.items():
        module = by_hand(task, kind)
        rows = shuffled_rows(len(pair[0]), 16, module.generator)
        for _ in range(schedule.steps):
            module.step(module.gradients(pair, next(rows)))
        module.compare(fitted.final[task])
        assert fitted.final[task].activation == kind["activation"]


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_a_stream_that_ends_within_a_batch(kind: dict[str, object]) -> None:
    sets = moved(pairs(2, {"a": 21, "b": 9}))
    schedule = replace(Schedule.online(rank=3, batch_size=4), **kind)  # type: ignore[arg-type]
    fitted = fit_surgery(sets, schedule, seed=5)
    for task, pair in sets.items():
        module = by_hand(task, kind)
        for rows in torch.arange(len(pair[0])).split(4):
            module.step(module.gradients(pair, rows))
        module.compare(fitted.final[task])


def test_stale_momentum_moves_shifts_too() -> None:
    kind = {"activation": "relu", "loss": "l1", "shift": True}
    sets, schedule = moved(pairs(0, {"a": 40, "b": 23})), Schedule(rank=3, iterations=6, stale_momentum=True, shift=True)
    modules = {task: by_hand(task, kind) for task in sets}
    rows = {task: shuffled_rows(len(sets[task][0]), 16, module.generator) for task, module in modules.items()}
    for _, (task, pair) in product(range(6), sets.items()):
        for _ in range(2):
            own = modules[task].gradients(pair, next(rows[task]))
            for other, module in modules.items():
                if other == task:
                    module.step(own)
                elif module.steps:
                    module.step([0 * part for part in own])
    fitted = fit_surgery(sets, schedule, seed=5)
    for task, module in modules.items():
        module.compare(fitted.final[task])


def test_without_an_activation_the_correction_is_linear() -> None:
    sets = pairs(1, {"a": 60})
    module = fit_surgery(sets, replace(LINEAR, shift=False, learning_rate=1e-2), seed=0).final["a"]
    x, y = torch.randn(2, 7, 8, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(module(2 * x - 3 * y), 2 * module(x) - 3 * module(y), rtol=1e-4, atol=1e-5)
    assert module.up.any()


def squared(sets: dict[str, tuple[Tensor, Tensor]], correct: object) -> float:
    z, target = sets["a"]
    return float((correct("a", z) - target).square().mean())  # type: ignore[operator]


def test_squared_error_comes_to_that_of_the_closed_form_and_no_lower() -> None:
    generator = torch.Generator().manual_seed(4)
    z, noise = torch.randn(2, 200, 8, generator=generator)
    drift = 0.4 * torch.randn(8, 8, generator=generator)
    sets = {"a": (z, z + z @ drift + 0.3 * noise + 1)}
    schedule = Schedule(rank=2, iterations=2000, batch_size=200, learning_rate=1e-2, decay=True, activation="none", loss="l2", shift=True)
    # With next to no shrinkage it is the least squared error of its rank.
    best = squared(sets, fit_closed_form(sets, ClosedForm(rank=2, shrinkages=(1e-9,))))
    found = squared(sets, fit_surgery(sets, schedule, seed=0))
    assert best * (1 - 1e-4) <= found < 1.01 * best
    assert squared(sets, fit_surgery(sets, replace(schedule, loss="l1"), seed=0)) > best


@pytest.mark.parametrize("rank", [2, 8, 12])
def test_a_fit_starts_from_the_closed_form_of_what_it_trains_on(rank: int) -> None:
    sets, looks = moved(pairs(1, {"a": 64, "b": 40})), Looks()
    schedule = replace(LINEAR, rank=rank, start="closed_form", learning_rate=1e-4)
    fitted = fit_surgery(sets, schedule, 0, watch=looks)
    solved = fit_closed_form(sets, ClosedForm(min(rank, 8)))
    for task, (z, _) in sets.items():
        torch.testing.assert_close(looks.seen[0](task, z), solved(task, z), rtol=1e-5, atol=1e-5)
        assert looks.seen[0].final[task].rank == rank
        assert not torch.equal(fitted.final[task].up, looks.seen[0].final[task].up)


def test_a_start_in_closed_form_sees_no_held_out_sample() -> None:
    sets, looks = moved(pairs(1, {"a": 64})), [Looks(), Looks()]
    schedule = replace(LINEAR, start="closed_form", held_out=0.25)
    merged, expert = (z.clone() for z in sets["a"])
    expert[held_rows("a", 64, schedule, 0)] += 1
    for own, look in zip((sets, {"a": (merged, expert)}), looks, strict=True):
        fit_surgery(own, schedule, 0, watch=look)
    assert torch.equal(looks[0].seen[0].final["a"].up, looks[1].seen[0].final["a"].up)


def test_the_start_draws_nothing_of_the_batches() -> None:
    sets = {"a": (torch.ones(20, 4), torch.ones(20, 4))}
    one, other = (fit_surgery(sets, replace(LINEAR, start=start), 3).final["a"].down for start in ("zero", "closed_form"))  # type: ignore[arg-type]
    assert torch.equal(one, other)


@pytest.mark.parametrize(
    "schedule", [LINEAR, replace(LINEAR, loss="l2", held_out=0.25, patience=10, learning_rate=1e-2)], ids=["plain", "held-out"]
)
def test_other_tasks_change_nothing(schedule: Schedule) -> None:
    sets = moved(pairs(6, {"a": 40, "b": 33}))
    together, alone = (fit_surgery(own, schedule, seed=3) for own in (sets, {"b": sets["b"]}))
    torch.testing.assert_close(together("b", sets["b"][0]), alone("b", sets["b"][0]), rtol=1e-4, atol=1e-5)


def test_what_diverges_is_the_identity_and_can_be_written(tmp_path: Path) -> None:
    sets = pairs(0, {"a": 20})
    with pytest.warns(SutureWarning, match="nothing is done for: a"):
        fitted = fit_surgery(sets, replace(LINEAR, learning_rate=1e30, loss="l2"), seed=0)
    save_surgery(tmp_path / "s.safetensors", fitted)
    assert torch.equal(load_surgery(tmp_path / "s.safetensors")("a", sets["a"][0]), sets["a"][0])


def test_what_is_fitted_is_written_and_read(tmp_path: Path) -> None:
    sets = moved(pairs(0, {"a": 20}))
    fitted = fit_surgery(sets, LINEAR, seed=0)
    save_surgery(tmp_path / "s.safetensors", fitted)
    assert torch.equal(load_surgery(tmp_path / "s.safetensors")("a", sets["a"][0]), fitted("a", sets["a"][0]))


@pytest.mark.parametrize("kind", KINDS, ids=str)
def test_deep_surgery_without_blocks_is_that_of_the_final_representation(kind: dict[str, object]) -> None:
    inputs, schedule = sequences(0, 12), replace(Schedule(rank=2, iterations=4, learning_rate=1e-2, batch_size=5), **kind)  # type: ignore[arg-type]
    merged, expert = (TinyBackbone([], tail=torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    deep = fit_deep_surgery({"a": inputs}, merged, lambda _: expert, schedule, 5)
    last = fit_surgery({"a": (represent(merged, None, inputs), represent(expert, None, inputs))}, schedule, 5)
    for name in ("down", "up", "shift"):
        torch.testing.assert_close(getattr(deep.final["a"], name), getattr(last.final["a"], name))
    assert deep.final["a"].activation == kind["activation"]


def test_deep_surgery_without_activation_comes_close_too() -> None:
    inputs, others = sequences(3, 60), sequences(4, 40)
    schedule = replace(LINEAR, rank=4, iterations=150, learning_rate=1e-2, loss="l2")
    fitted = fit_deep_surgery({"a": inputs}, network(0), lambda _: network(1), schedule, 0)
    assert {(each.activation, each.shift is None) for _, each in fitted.sites("a")} == {("none", False)}
    goal = represent(network(1), None, others)
    before = representation_bias(represent(network(0), None, others), goal).l1
    assert representation_bias(represent(network(0), fitted, others), goal).l1 < 0.5 * before


def test_deep_surgery_is_given_its_closed_form() -> None:
    with pytest.raises(InvalidHyperparameter, match="start=fit_deep_closed_form"):
        fit_deep_surgery({"a": sequences(0, 4)}, network(0), lambda _: network(1), replace(LINEAR, start="closed_form"), 0)
