"""Fits that were killed: they go on to the same bits, and keep their hands off what is not theirs."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from suture.errors import CorruptCheckpoint, OutputError, OutputExists
from suture.surgery import Schedule, Surgery, fit_surgery
from suture.surgery import fit as fitting

SCHEDULE = Schedule(rank=2, iterations=40, learning_rate=1e-2)


class Killed(BaseException):
    """What no one catches."""


class Kill:
    """Progress that dies after so many calls."""

    def __init__(self, calls: int) -> None:
        self.calls = calls

    def __call__(self, _: int) -> None:
        self.calls -= 1
        if self.calls < 0:
            raise Killed


def sets(seed: int = 0) -> dict[str, tuple[Tensor, Tensor]]:
    generator = torch.Generator().manual_seed(seed)
    drawn = {task: torch.randn(2, size, 6, generator=generator) for task, size in {"a": 40, "b": 33}.items()}
    return {task: (z[0], z[0] + 0.3 * z[1]) for task, z in drawn.items()}


def assert_equal(one: Surgery, other: Surgery) -> None:
    assert one.tasks == other.tasks
    for task in one.tasks:
        assert torch.equal(one.final[task].down, other.final[task].down)
        assert torch.equal(one.final[task].up, other.final[task].up)
        shifts = [each.final[task].shift for each in (one, other)]
        assert [shift is None for shift in shifts] in ([True] * 2, [False] * 2)
        assert all(torch.equal(shift, shifts[0]) for shift in shifts if shift is not None)  # type: ignore[arg-type]


@pytest.fixture
def state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return where to keep a state; it is written every 7 iterations."""
    monkeypatch.setattr(fitting, "SAVE_EVERY", 7)
    return tmp_path / "sub" / "state.safetensors"


def kill(state: Path, schedule: Schedule = SCHEDULE, calls: int = 20) -> None:
    with pytest.raises(Killed):
        fit_surgery(sets(), schedule, 1, Kill(calls), resume=state)
    assert [file.name for file in state.parent.iterdir()] == [state.name]


@pytest.mark.fault(25)
@pytest.mark.parametrize(
    "schedule",
    [
        SCHEDULE,
        replace(SCHEDULE, stale_momentum=True),
        replace(SCHEDULE, held_out=0.25, look_every=3, patience=12),
        Schedule.online(rank=2),
        replace(SCHEDULE, activation="none", loss="l2", shift=True),
        replace(SCHEDULE, shift=True, stale_momentum=True),
        replace(SCHEDULE, activation="none", shift=True, start="closed_form", held_out=0.25, look_every=3, patience=12),
    ],
    ids=["plain", "stale momentum", "held-out", "online", "linear", "shift", "from the closed form"],
)
def test_a_fit_that_was_killed_goes_on_to_the_same_bits(state: Path, schedule: Schedule) -> None:
    whole: list[int] = []
    expected = fit_surgery(sets(), schedule, 1, whole.append)
    kill(state, schedule, calls=10)
    kill(state, schedule, calls=9)  # again, later on
    seen: list[int] = []
    looks: list[int] = []
    resumed = fit_surgery(sets(), schedule, 1, seen.append, resume=state, watch=lambda iteration, _: looks.append(iteration))
    assert_equal(resumed, expected)
    assert not state.exists()
    assert seen[0] == 14 * schedule.steps_per_iteration
    assert sum(seen) == sum(whole)
    assert min(looks) >= 14


def test_a_file_changes_nothing(state: Path) -> None:
    assert_equal(fit_surgery(sets(), SCHEDULE, 1, resume=state), fit_surgery(sets(), SCHEDULE, 1))


@pytest.mark.fault(28)
def test_another_fit_is_neither_continued_nor_written_over(state: Path) -> None:
    kill(state)
    before = state.read_bytes()
    swapped = dict(reversed(sets().items()))
    for other, schedule, seed in (
        (sets(1), SCHEDULE, 1),
        (swapped, SCHEDULE, 1),
        (sets(), replace(SCHEDULE, rank=3), 1),
        (sets(), SCHEDULE, 2),
        (sets(), replace(SCHEDULE, loss="l2"), 1),
        (sets(), replace(SCHEDULE, shift=True), 1),
    ):
        with pytest.raises(OutputExists, match="of other samples, schedule, seed or version of Suture"):
            fit_surgery(other, schedule, seed, resume=state)
    assert state.read_bytes() == before


@pytest.mark.fault(28)
def test_a_state_of_another_version_is_not_continued(state: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kill(state)
    monkeypatch.setattr("suture.surgery.resuming.version", lambda _: "another")
    with pytest.raises(OutputExists, match="is not the state of this fit, of other samples, schedule, seed or version of Suture"):
        fit_surgery(sets(), SCHEDULE, 1, resume=state)


def test_a_file_of_something_else_is_not_written_over(tmp_path: Path) -> None:
    save_file({"x": torch.ones(2)}, tmp_path / "x.safetensors")
    with pytest.raises(OutputExists, match="is not the state of this fit, nor of any other"):
        fit_surgery(sets(), SCHEDULE, 1, resume=tmp_path / "x.safetensors")
    assert list(load_file(tmp_path / "x.safetensors")) == ["x"]


def test_a_spoilt_state_is_named(state: Path) -> None:
    kill(state)
    content = state.read_bytes()
    for spoilt in (b"", content[:-1], b"not safetensors at all"):
        state.write_bytes(spoilt)
        with pytest.raises(CorruptCheckpoint, match="remove it to start anew"):
            fit_surgery(sets(), SCHEDULE, 1, resume=state)


def test_a_place_that_cannot_be_written_is_found_before_the_first_step(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    seen: list[int] = []
    with pytest.raises(OutputError):
        fit_surgery(sets(), SCHEDULE, 1, seen.append, resume=tmp_path / "file" / "state.safetensors")
    assert sum(seen) == 0
