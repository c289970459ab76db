"""One pass over a stream that is judged before it learns: nothing is known of what comes later, and the end is the ordinary one."""

from collections.abc import Callable
from dataclasses import replace

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.test_fit import NumpyModule
from suture.errors import DataError, InvalidHyperparameter, SutureWarning
from suture.surgery import (
    ClosedForm,
    OnlineSurgery,
    Prequential,
    Schedule,
    Surgery,
    fit_closed_form,
    fit_surgery,
    prequential_closed_form,
    prequential_surgery,
)
from suture.surgery.module import operate
from suture.surgery.prequential import Marks, _due

FORM = ClosedForm(rank=3, shrinkages=(0.01, 0.1))
Stream = dict[str, tuple[Tensor, Tensor]]


def stream(seed: int = 0, **sizes: int) -> Stream:
    generator, made = torch.Generator().manual_seed(seed), {}
    for task, size in (sizes or {"a": 70, "b": 21}).items():
        z, drift = torch.randn(size, 8, generator=generator), 0.5 * torch.randn(8, 8, generator=generator)
        made[task] = z, z + z @ drift + 1
    return made


def by_gradient(given: Stream, batch: int, marks: Marks = ()) -> Prequential:
    return prequential_surgery(given, replace(Schedule.online(rank=3, batch_size=batch), learning_rate=1e-2), seed=4, marks=marks)


def in_closed_form(given: Stream, batch: int, marks: Marks = ()) -> Prequential:
    return prequential_closed_form(given, FORM, batch, marks=marks)


BOTH = pytest.mark.parametrize("run", [by_gradient, in_closed_form])
Run = Callable[..., Prequential]


@BOTH
@given(place=st.integers(0, 69), batch=st.sampled_from([1, 3, 16]), side=st.integers(0, 1))
@settings(max_examples=12, deadline=None)
def test_what_comes_later_changes_no_bit_before(run: Run, place: int, batch: int, side: int) -> None:
    whole = stream()
    other = {task: (pair[0].clone(), pair[1].clone()) for task, pair in whole.items()}
    other["a"][side][place:] += 5
    one, two = run(whole, batch), run(other, batch)
    assert torch.equal(one.corrected["a"][:place], two.corrected["a"][:place])
    assert torch.equal(one.corrected["b"], two.corrected["b"])
    if side == 1:  # the batch of the sample is corrected before its target is known
        end = (place // batch + 1) * batch
        assert torch.equal(one.corrected["a"][:end], two.corrected["a"][:end])


@BOTH
@pytest.mark.parametrize("batch", [1, 5, 100])
def test_the_first_batch_is_left_as_it_is_and_the_others_are_not(run: Run, batch: int) -> None:
    given_, found = stream(), run(stream(), batch)
    for task, (merged, _) in given_.items():
        assert found.corrected[task].shape == merged.shape
        assert torch.equal(found.corrected[task][:batch], merged[:batch])
        left = (found.corrected[task][batch:] == merged[batch:]).all(dim=1)
        assert left.sum() <= 0.6 * len(left)  # a ReLU lets some through


def assert_same(one: Surgery, other: Surgery) -> None:
    assert one.tasks == other.tasks
    for task in one.tasks:
        assert torch.equal(one.final[task].down, other.final[task].down)
        assert torch.equal(one.final[task].up, other.final[task].up)
        assert (one.final[task].shift is None) == (other.final[task].shift is None)
        if (shift := one.final[task].shift) is not None:
            assert torch.equal(shift, other.final[task].shift)  # type: ignore[arg-type]


@pytest.mark.parametrize("batch", [1, 4])
def test_the_end_is_that_of_the_ordinary_fit(batch: int) -> None:
    given_ = stream()
    schedule = replace(Schedule.online(rank=3, batch_size=batch), learning_rate=1e-2)
    assert_same(by_gradient(given_, batch).surgery, fit_surgery(given_, schedule, 4))
    online, closed = OnlineSurgery(FORM), in_closed_form(given_, batch)
    for task, pair in given_.items():
        for rows in torch.arange(len(pair[0])).split(batch):
            online.see(task, *(z[rows] for z in pair))
    assert_same(closed.surgery, online.surgery())
    for task, (merged, _) in given_.items():
        torch.testing.assert_close(closed.surgery(task, merged), fit_closed_form(given_, FORM)(task, merged), rtol=1e-4, atol=1e-4)


@BOTH
@pytest.mark.parametrize(
    ("batch", "marks"), [(1, [{"a": 70, "b": 1}, {"a": 1, "b": 21}, {"a": 33, "b": 5}, {"a": 33, "b": 10}]), (4, [{"a": 8, "b": 21}])]
)
def test_a_mark_is_the_end_of_a_shorter_stream(run: Run, batch: int, marks: list[dict[str, int]]) -> None:
    whole, plain = run(stream(), batch, marks), run(stream(), batch)
    assert_same(whole.surgery, plain.surgery)
    assert len(whole.marked) == len(marks)
    for task, rows in plain.corrected.items():
        assert torch.equal(whole.corrected[task], rows)
    for mark, surgery in zip(marks, whole.marked, strict=True):
        short = run({task: (merged[: mark[task]], expert[: mark[task]]) for task, (merged, expert) in stream().items()}, batch)
        assert_same(surgery, short.surgery)
        for task, rows in short.corrected.items():
            assert torch.equal(whole.corrected[task][: mark[task]], rows)


def test_marks_after_a_fit_has_diverged_are_the_identity() -> None:
    schedule, marks = replace(Schedule.online(rank=3), learning_rate=1e30), [{"a": samples} for samples in range(1, 22)]
    with pytest.warns(SutureWarning, match="nothing is done for: a") as warned:
        found = prequential_surgery({"a": stream()["b"]}, schedule, 0, marks=marks)
    modules = [surgery.final["a"] for surgery in found.marked]
    assert all(bool(module.up.isfinite().all() and module.down.isfinite().all()) for module in modules)
    moved = [bool(module.up.any()) for module in modules]
    assert moved == sorted(moved, reverse=True)
    assert (moved[0], moved[-1], len(warned)) == (True, False, 1)


def test_by_gradient_equal_to_adam_by_hand() -> None:
    pair = stream()["b"]
    module, found = NumpyModule(4, "b", 3), prequential_surgery({"b": pair}, Schedule.online(rank=3, batch_size=2), seed=4)
    for rows in torch.arange(21).split(2):
        down, up = (torch.from_numpy(part) for part in module.parts)
        torch.testing.assert_close(found.corrected["b"][rows], operate(pair[0][rows].double(), down, up).float(), rtol=0, atol=1e-4)
        module.step(module.gradients(pair, rows))


def test_closed_forms_are_those_of_the_samples_before() -> None:
    pair = stream(a=150)["a"]
    found = prequential_closed_form({"a": pair}, FORM, 3).corrected["a"]
    known = 0
    for start in range(0, 150, 3):
        if known:
            solved = fit_closed_form({"a": (pair[0][:known], pair[1][:known])}, FORM)
            torch.testing.assert_close(found[start : start + 3], solved("a", pair[0][start : start + 3]), rtol=1e-3, atol=1e-3)
        if any(number & (number - 1) == 0 or number % 64 == 0 for number in range(start + 1, start + 4)):
            known = start + 3
    assert known == 129


@given(before=st.integers(0, 300), batch=st.integers(1, 100))
def test_when_it_is_solved(before: int, batch: int) -> None:
    reached = range(before + 1, before + batch + 1)
    assert _due(before, before + batch) == any(number & (number - 1) == 0 or number % 64 == 0 for number in reached)


@BOTH
def test_it_learns_on_the_way_and_the_same_bits_come_again(run: Run) -> None:
    given_ = stream(a=400)
    found, again = run(given_, 1), run(given_, 1)
    assert torch.equal(found.corrected["a"], again.corrected["a"])
    errors = (found.corrected["a"] - given_["a"][1]).abs().mean(dim=1)
    assert errors[-100:].mean() < 0.8 * errors[:20].mean()


def test_progress_counts_samples_or_steps() -> None:
    seen: list[int] = []
    prequential_closed_form(stream(), FORM, 4, seen.append)
    assert sum(seen) == 91
    seen.clear()
    prequential_surgery(stream(), Schedule.online(batch_size=4), 0, seen.append)
    assert sum(seen) == 18


def test_what_is_refused() -> None:
    with pytest.raises(InvalidHyperparameter, match="met once"):
        prequential_surgery(stream(), Schedule(), 0)
    with pytest.raises(InvalidHyperparameter, match="batch_size"):
        prequential_closed_form(stream(), FORM, 0)
    with pytest.raises(DataError, match="at least one"):
        prequential_closed_form({"a": (torch.ones(0, 3), torch.ones(0, 3))})


@BOTH
@pytest.mark.parametrize(
    ("mark", "told"),
    [
        ({"a": 4}, "of a, b, not of a"),
        ({}, "not of none"),
        ({"a": 4, "b": 0}, "'b': .* of all 21 samples, not after 0"),
        ({"a": 72, "b": 4}, "'a': .* of all 70 samples, not after 72"),
        ({"a": 6, "b": 4}, "'a': a mark is at the end of a batch of 4"),
    ],
)
def test_marks_that_are_refused(run: Run, mark: dict[str, int], told: str) -> None:
    with pytest.raises(InvalidHyperparameter, match=told):
        run(stream(), 4, [mark])
