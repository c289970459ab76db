"""Online surgery: the closed form of all samples so far, whatever portions they came in; its state on disk."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors import safe_open
from safetensors.torch import load_file, save_file
from torch import Tensor

from suture.errors import CorruptCheckpoint, DataError, OutputError
from suture.surgery import ClosedForm, OnlineSurgery, fit_closed_form

WIDTH = 5
FORM = ClosedForm(rank=3, shrinkages=(0.01, 0.1, 1.0))


def samples(seed: int, n: int) -> tuple[Tensor, Tensor]:
    """Make representations that differ by a matrix of rank two, a shift and noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, WIDTH, generator=generator) + 1
    drift = torch.randn(WIDTH, 2, generator=generator) @ torch.randn(2, WIDTH, generator=generator)
    return x, x + 0.3 * x @ drift - 0.5 + 0.1 * torch.randn(n, WIDTH, generator=generator)


def shown(pairs: dict[str, tuple[Tensor, Tensor]], portion: int = 1, form: ClosedForm = FORM) -> OnlineSurgery:
    """Show the samples of all tasks by turns, in portions."""
    online = OnlineSurgery(form)
    for start in range(0, max(len(x) for x, _ in pairs.values()), portion):
        for task, (x, y) in pairs.items():
            if start < len(x):
                online.see(task, x[start : start + portion], y[start : start + portion])
    return online


def assert_like_the_batch(online: OnlineSurgery, pairs: dict[str, tuple[Tensor, Tensor]], form: ClosedForm = FORM) -> None:
    found, expected = online.surgery(), fit_closed_form(pairs, form)
    assert found.tasks == expected.tasks
    for task, (x, _) in pairs.items():
        assert found.final[task].rank == expected.final[task].rank
        torch.testing.assert_close(found(task, x), expected(task, x), rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=40)
@given(seed=st.integers(0, 1000), portions=st.lists(st.tuples(st.booleans(), st.integers(1, 9)), min_size=8, max_size=20))
def test_any_portions_and_turns_of_tasks_give_what_the_batch_gives(seed: int, portions: list[tuple[bool, int]]) -> None:
    pairs = {"a": samples(seed, 200), "b": samples(seed + 1, 200)}
    online, seen = OnlineSurgery(FORM), {"a": 16, "b": 16}
    for task in seen:
        online.see(task, *(z[:16] for z in pairs[task]))
    for other, portion in portions:
        task = "b" if other else "a"
        online.see(task, *(z[seen[task] : seen[task] + portion] for z in pairs[task]))
        seen[task] += portion
    assert online.seen == seen
    assert_like_the_batch(online, {task: (x[: seen[task]], y[: seen[task]]) for task, (x, y) in pairs.items()})


@pytest.mark.parametrize("folds", [2, 3, 7])
def test_at_any_time_it_is_the_closed_form_of_the_samples_so_far(folds: int) -> None:
    x, y = samples(0, 60)
    form, online = ClosedForm(rank=4, folds=folds), OnlineSurgery(ClosedForm(rank=4, folds=folds))
    for end in range(1, 61):
        online.see("a", x[end - 1 : end], y[end - 1 : end])
        if end % 10 == 0:
            assert_like_the_batch(online, {"a": (x[:end], y[:end])}, form)


def test_sums_are_those_of_numpy() -> None:
    x, y = samples(1, 23)
    folds = shown({"a": (x, y)}, portion=3)._sums["a"].moments()
    wide, target = x.double().numpy(), y.double().numpy()
    for number, fold in enumerate(folds):
        own = np.arange(23) % 4 == number
        assert fold.count == own.sum()
        np.testing.assert_allclose(fold.xx, np.einsum("ni,nj->ij", wide[own], wide[own]), rtol=1e-12)
        np.testing.assert_allclose(fold.xy, np.einsum("ni,nj->ij", wide[own], target[own]), rtol=1e-12)
        np.testing.assert_allclose(np.stack(fold.means), [wide[own].mean(axis=0), target[own].mean(axis=0)], rtol=1e-12)


def test_sums_are_changed_in_place_and_samples_forgotten() -> None:
    x, y = samples(2, 40)
    online = shown({"a": (x[:4], y[:4])})
    before = {name: (tensor.data_ptr(), tensor.shape) for name, tensor in online._sums["a"].tensors().items()}
    online.see("a", x[4:], y[4:])
    assert before == {name: (tensor.data_ptr(), tensor.shape) for name, tensor in online._sums["a"].tensors().items()}
    first = online.surgery()("a", x).clone()
    x_before = x.clone()
    online.surgery()
    assert torch.equal(online.surgery()("a", x), first)
    assert torch.equal(x, x_before)


def test_the_order_of_tasks_is_that_of_their_first_samples() -> None:
    pairs = {task: samples(seed, 20) for seed, task in enumerate("cab")}
    assert shown(pairs).surgery().tasks == ("c", "a", "b")


@settings(deadline=None, max_examples=15)
@given(seed=st.integers(0, 1000), stop=st.integers(0, 40))
def test_it_goes_on_from_a_file_to_the_same_bits(seed: int, stop: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    file = tmp_path_factory.mktemp("online") / "state.safetensors"
    x, y = samples(seed, 41)
    through, stopped = OnlineSurgery(FORM), OnlineSurgery(FORM)
    for place in range(41):
        if place == stop:
            stopped.save(file)
            stopped = OnlineSurgery.load(file)
        for online in (through, stopped):
            online.see("a", x[place : place + 1], y[place : place + 1])
    assert (stopped.settings, stopped.seen) == (FORM, {"a": 41})
    for one, other in zip(through._sums["a"].tensors().values(), stopped._sums["a"].tensors().values(), strict=True):
        assert torch.equal(one, other)


def test_what_is_seen_after_loading_does_not_reach_the_file(tmp_path: Path) -> None:
    file, (x, y) = tmp_path / "state.safetensors", samples(3, 30)
    shown({"a": (x[:20], y[:20]), "b.xx": (y[:9], x[:9])}).save(file)
    before = file.read_bytes()
    online = OnlineSurgery.load(file)
    online.see("a", x[20:], y[20:])
    assert file.read_bytes() == before
    assert online.seen == {"a": 30, "b.xx": 9}
    online.save(file)
    assert OnlineSurgery.load(file).seen == online.seen
    assert [each.name for each in tmp_path.iterdir()] == ["state.safetensors"]


def test_samples_that_are_refused_leave_no_trace() -> None:
    x, y = samples(4, 10)
    online = shown({"a": (x, y)})
    before = {name: tensor.clone() for name, tensor in online._sums["a"].tensors().items()}
    for wrong in ((x[:0], y[:0]), (x[:3], y[:2]), (x[:, :3], y[:, :3]), (x, torch.full_like(y, torch.nan))):
        with pytest.raises(DataError):
            online.see("a", *wrong)
        with pytest.raises(DataError):
            online.see("b", *wrong)
    assert online.seen == {"a": 10}
    assert all(torch.equal(tensor, before[name]) for name, tensor in online._sums["a"].tensors().items())


def test_there_is_no_surgery_of_nothing() -> None:
    with pytest.raises(DataError, match="before the first sample"):
        OnlineSurgery().surgery()


def spoilt(folder: Path, told: dict[str, str] | None = None, without: str = "", **other: Tensor) -> Path:
    """Write a state with something else in it."""
    file = folder / "state.safetensors"
    shown({"a": samples(5, 10), "b": samples(6, 9)}).save(file)
    with safe_open(file, framework="pt") as handle:
        metadata = {name: value for name, value in handle.metadata().items() if name != "sha256"} | (told or {})
    tensors = {name: tensor for name, tensor in load_file(file).items() if name != without}
    save_file(tensors | {name.replace("__", "."): tensor for name, tensor in other.items()}, file, metadata=metadata)
    return file


@pytest.mark.parametrize(
    ("told", "message"),
    [
        ({"suture": "surgery"}, "not a file of online surgery"),
        ({"tasks": "no JSON"}, "does not say"),
        ({"tasks": json.dumps(["a"])}, "nothing else"),
        ({"tasks": "3"}, "does not say"),
        ({"settings": "[]"}, "does not say"),
        ({"settings": json.dumps({"rank": -1, "shrinkages": [1.0], "folds": 4})}, "does not say"),
        ({"settings": json.dumps({"rank": 1, "shrinkages": [1.0], "folds": 3})}, "sums of 3 folds"),
    ],
)
def test_a_file_that_tells_something_else_is_refused(tmp_path: Path, told: dict[str, str], message: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=message):
        OnlineSurgery.load(spoilt(tmp_path, told))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a__xx", torch.zeros(4, WIDTH, WIDTH)),
        ("a__xx", torch.zeros(4, WIDTH, 3).double()),
        ("a__x", torch.zeros(()).double()),
        ("a__y", torch.full((4, WIDTH), torch.nan).double()),
        ("a__count", torch.tensor([3, 2, 3, 2])),
        ("a__count", torch.tensor([0, 0, 0, 0])),
        ("c__x", torch.zeros(4, WIDTH).double()),
    ],
)
def test_sums_that_are_not_whole_are_refused(tmp_path: Path, name: str, wrong: Tensor) -> None:
    with pytest.raises(CorruptCheckpoint, match="not whole"):
        OnlineSurgery.load(spoilt(tmp_path, **{name: wrong}))


def test_sums_that_are_lost_are_missed(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match="not whole"):
        OnlineSurgery.load(spoilt(tmp_path, without="b.xy"))


def test_tasks_of_different_widths_are_refused(tmp_path: Path) -> None:
    shapes = {"x": (4, 2), "y": (4, 2), "xx": (4, 2, 2), "xy": (4, 2, 2)}
    with pytest.raises(CorruptCheckpoint, match="different widths"):
        OnlineSurgery.load(spoilt(tmp_path, **{f"b__{name}": torch.zeros(shape).double() for name, shape in shapes.items()}))


def test_a_place_that_cannot_be_written(tmp_path: Path) -> None:
    (tmp_path / "taken").write_text("a file", encoding="utf-8")
    with pytest.raises(OutputError):
        OnlineSurgery().save(tmp_path / "taken" / "state.safetensors")
