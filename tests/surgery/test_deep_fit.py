"""SurgeryV2 by gradient: against the fit of the final module alone, against plain autograd, and its laws."""

from dataclasses import replace

import pytest
import torch
from torch import Tensor

from surgery.networks import TinyBackbone, network, sequences
from surgery.test_deep import represent
from suture.errors import DataError, InvalidHyperparameter, SutureWarning
from suture.randomness import generator_for, shuffled_rows
from suture.representation import representation_bias
from suture.surgery import ClosedForm, Schedule, Surgery, fit_closed_form, fit_deep_closed_form, fit_deep_surgery, fit_surgery
from suture.surgery.deep_fit import _TaskFit
from suture.surgery.module import start_of_fit

SHORT = Schedule(rank=2, iterations=4, learning_rate=1e-2, batch_size=5)


def fit(inputs: list[Tensor], schedule: Schedule = SHORT, seed: int = 0, start: Surgery | None = None) -> Surgery:
    return fit_deep_surgery({"a": inputs}, network(0), lambda _: network(1), schedule, seed, start=start)


def test_without_blocks_it_is_surgery_of_the_final_representation() -> None:
    inputs = sequences(0, 12)
    merged, expert = (TinyBackbone([], tail=torch.randn(4, 4, generator=torch.Generator().manual_seed(seed))) for seed in (0, 1))
    deep = fit_deep_surgery({"a": inputs}, merged, lambda _: expert, SHORT, 5)
    last = fit_surgery({"a": (represent(merged, None, inputs), represent(expert, None, inputs))}, SHORT, 5)
    torch.testing.assert_close(deep.final["a"].down, last.final["a"].down)
    torch.testing.assert_close(deep.final["a"].up, last.final["a"].up)
    assert not deep.blocks["a"]


def plain_loop(inputs: list[Tensor], schedule: Schedule, seed: int) -> list[Tensor]:
    """The same fit, input by input, without batches, padding or Blocks."""
    generator = generator_for(seed, "a")
    starts = [start_of_fit(4, schedule.rank, generator) for _ in range(3)]
    parameters = [each.clone().requires_grad_() for start in starts for each in (start.down, start.up)]
    optimizer = torch.optim.Adam(parameters, lr=schedule.learning_rate, betas=schedule.betas)
    drawn = shuffled_rows(len(inputs), schedule.batch_size, generator)

    def sites(x: Tensor, weights: list[Tensor], modules: list[Tensor] | None) -> list[Tensor]:
        found, x = [], 1.5 * x
        for number, weight in enumerate(weights):
            x = x + 0.7 * torch.tanh(x @ weight + x.mean(dim=0))
            if modules:
                x = x - torch.relu(x @ modules[2 * number].T) @ modules[2 * number + 1].T
            found.append(x.mean(dim=0))
        z = x.mean(dim=0)
        return [*found, z - torch.relu(z @ modules[-2].T) @ modules[-1].T if modules else z]

    for _ in range(schedule.steps):
        optimizer.zero_grad()
        rows = next(drawn).tolist()
        for row in rows:
            x = inputs[row]
            pairs = zip(sites(x, list(network(0).weights), parameters), sites(x, list(network(1).weights), None), strict=True)
            (sum((ours - theirs).abs().mean() for ours, theirs in pairs) / len(rows)).backward()  # type: ignore[union-attr]
        optimizer.step()
    return [each.detach() for each in parameters]


def test_equal_to_a_plain_loop_input_by_input() -> None:
    inputs = sequences(1, 11)
    fitted = fit(inputs, seed=3)
    found = [each for _, module in fitted.sites("a") for each in (module.down, module.up)]
    for ours, theirs in zip(found, plain_loop(inputs, SHORT, 3), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-4, atol=1e-5)


def test_before_a_step_it_is_the_identity() -> None:
    inputs = sequences(2, 6)
    never = Schedule(rank=2, iterations=1, held_out=0.5, learning_rate=1e3, look_every=1)
    assert torch.equal(represent(network(0), fit(inputs, never), inputs), represent(network(0), None, inputs))


def test_it_takes_the_bias_out_of_other_inputs() -> None:
    inputs, others = sequences(3, 60), sequences(4, 40)
    fitted = fit(inputs, Schedule(rank=4, iterations=150, learning_rate=1e-2))
    goal = represent(network(1), None, others)
    before = representation_bias(represent(network(0), None, others), goal).l1
    assert representation_bias(represent(network(0), fitted, others), goal).l1 < 0.5 * before


def test_refining_is_never_worse_on_the_held_out_part(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs = sequences(5, 40)
    start = fit_deep_closed_form({"a": inputs}, network(0), lambda _: network(1), ClosedForm(rank=1, shrinkages=(1.0,)))
    seen: list[float] = []
    original = _TaskFit._held_out_loss

    def looked(self: _TaskFit) -> float:
        seen.append(original(self))
        return seen[-1]

    monkeypatch.setattr(_TaskFit, "_held_out_loss", looked)
    kept = [each.clone() for _, module in start.sites("a") for each in (module.down, module.up)]
    refined = fit(inputs, Schedule(iterations=60, held_out=0.25, learning_rate=1e-3, look_every=5), start=start)
    assert len(seen) == 13
    assert min(seen) < seen[0]
    assert all(torch.equal(one, other) for one, other in zip(kept, [e for _, m in start.sites("a") for e in (m.down, m.up)], strict=True))
    wild = fit(inputs, Schedule(iterations=5, held_out=0.25, learning_rate=1e3, look_every=1), start=start)
    for (_, one), (_, other) in zip(wild.sites("a"), start.sites("a"), strict=True):
        assert torch.equal(one.up, other.up)
    assert not torch.equal(refined.final["a"].up, start.final["a"].up)
    assert refined.final["a"].activation == "none"


def test_it_stops_when_nothing_is_gained(monkeypatch: pytest.MonkeyPatch) -> None:
    steps: list[int] = []
    schedule = Schedule(rank=2, iterations=100, held_out=0.5, learning_rate=1e3, look_every=2, patience=6)
    fit_deep_surgery({"a": sequences(6, 10)}, network(0), lambda _: network(1), schedule, 0, progress=steps.append)
    assert len(steps) == 2 * 6 + 1
    assert sum(steps) == schedule.steps * schedule.batch_size


@pytest.mark.parametrize("iterations", [5, 12])
def test_the_last_steps_count_too(iterations: int) -> None:
    inputs = sequences(10, 40)
    start = fit_deep_closed_form({"a": inputs}, network(0), lambda _: network(1), ClosedForm(rank=1, shrinkages=(1.0,)))
    schedule = Schedule(iterations=iterations, steps_per_iteration=1, held_out=0.25, learning_rate=1e-3)
    refined, fewer = fit(inputs, schedule, start=start), fit(inputs, replace(schedule, iterations=iterations // 10 * 10 or 1), start=start)
    assert not torch.equal(refined.final["a"].up, start.final["a"].up)
    assert not torch.equal(refined.final["a"].up, fewer.final["a"].up)


@pytest.mark.fault(22)
def test_a_fit_that_diverges_says_so_and_keeps_what_was_good() -> None:
    inputs = sequences(11, 40)
    for held_out in (0.0, 0.25):
        with pytest.warns(SutureWarning, match="diverged"):
            fitted = fit(inputs, Schedule(rank=2, iterations=20, learning_rate=1e30, held_out=held_out, look_every=1))
        assert bool(represent(network(0), fitted, inputs).isfinite().all())


def test_a_seed_and_a_name_fix_a_task() -> None:
    tasks, experts = {"a": sequences(7, 9), "b": sequences(8, 7)}, {"a": network(1), "b": network(2)}
    both = fit_deep_surgery(tasks, network(0), experts.__getitem__, SHORT, 1)
    alone = fit_deep_surgery({"b": tasks["b"]}, network(0), experts.__getitem__, SHORT, 1)
    other = fit_deep_surgery({"b": tasks["b"]}, network(0), experts.__getitem__, SHORT, 2)
    assert torch.equal(both.final["b"].up, alone.final["b"].up)
    assert not torch.equal(alone.final["b"].up, other.final["b"].up)


def test_half_precision_comes_close() -> None:
    inputs = sequences(9, 20)
    half = fit_deep_surgery({"a": inputs}, network(0), lambda _: network(1), SHORT, 0, precision=torch.bfloat16)
    assert half.final["a"].up.dtype == torch.float32
    torch.testing.assert_close(represent(network(0), half, inputs), represent(network(0), fit(inputs), inputs), rtol=0, atol=0.05)


def test_what_is_refused() -> None:
    with pytest.raises(InvalidHyperparameter, match="stale_momentum"):
        fit(sequences(0, 3), Schedule(stale_momentum=True))
    tasks = {"a": sequences(0, 3), "b": sequences(1, 3)}
    with pytest.raises(InvalidHyperparameter, match="one task at a time, not for a, b"):
        fit_deep_surgery(tasks, network(0), lambda _: network(1), Schedule(), 0, trained=[torch.ones(1)])
    with pytest.raises(DataError, match="no inputs"):
        fit([])
    z = torch.randn(5, 4, generator=torch.Generator().manual_seed(0))
    with pytest.raises(DataError, match="1 corrections"):
        fit(sequences(0, 3), start=fit_closed_form({"a": (z, z)}))
