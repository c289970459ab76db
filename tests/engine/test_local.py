import os
import signal
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from engine.steps import Dying, Missing, Noted, OddlyFailing, Threads, Warned, logged
from suture.engine import LocalEngine, run_steps
from suture.engine.local import cores
from suture.errors import SutureError, SutureWarning, UsageError
from suture.types import Progress


class Announced:
    """A stage that keeps what it is told, whose progress can be renamed."""

    def __init__(self) -> None:
        self.names: list[str] = []
        self.units = 0

    @contextmanager
    def __call__(self, name: str, units: int) -> Iterator[Progress]:
        self.names.append(name)
        yield Count(self)


class Count:
    def __init__(self, stage: Announced) -> None:
        self.stage = stage

    def __call__(self, count: int) -> None:
        self.stage.units += count

    def rename(self, name: str) -> None:
        self.stage.names.append(name)


def test_one_job_shows_what_the_steps_show(tmp_path: Path) -> None:
    stage = Announced()
    run_steps([Noted("a"), Noted("b")], tmp_path, LocalEngine(), stage)
    assert stage.names == ["Writing a", "Writing b"]


def test_more_jobs_show_one_bar(tmp_path: Path) -> None:
    stage = Announced()
    a = Noted("a")
    run_steps([Noted("b", [a]), Noted("c", [a])], tmp_path, LocalEngine(jobs=2), stage)
    assert stage.names[:3] == ["3 steps", "1 of 3: Writing a", "2 of 3: Writing b"]
    assert stage.names[-1] in {"3 of 3: Writing b", "3 of 3: Writing c"}
    assert stage.units == 3


def test_jobs_work_at_the_same_time(tmp_path: Path) -> None:
    run_steps([Noted("a", seconds=2), Noted("b", seconds=2)], tmp_path, LocalEngine(jobs=2))
    assert [line.split()[0] for line in (tmp_path / "log").read_text().splitlines()] == ["start", "start", "end", "end"]


def test_a_killed_worker_is_an_error_that_names_the_step(tmp_path: Path) -> None:
    with pytest.raises(SutureError, match=r"process that ran the step 'Writing bad' was ended by SIGKILL: .* out of memory"):
        run_steps([Dying("bad"), Noted("slow", seconds=1)], tmp_path, LocalEngine(jobs=2))
    assert logged(tmp_path) == ["slow"]  # what ran beside it came to its end


def test_errors_come_as_they_are(tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="/nonexistent/file") as caught:
        run_steps([Missing("a"), Noted("b")], tmp_path, LocalEngine(jobs=2))
    assert "read_text" in str(caught.value.__cause__)


def test_an_error_that_cannot_travel_is_told_of(tmp_path: Path) -> None:
    with pytest.raises(RuntimeError, match="Odd: <function"):
        run_steps([OddlyFailing("a"), Noted("b")], tmp_path, LocalEngine(jobs=2))


@pytest.mark.parametrize("jobs", [1, 2])
def test_warnings_are_raised_here(tmp_path: Path, jobs: int) -> None:
    with pytest.warns(SutureWarning, match="the ice is thin"):
        run_steps([Warned("a"), Warned("b")], tmp_path, LocalEngine(jobs))


def test_every_job_has_its_share_of_the_cores(tmp_path: Path) -> None:
    before = os.environ.get("OMP_NUM_THREADS")
    run_steps([Threads(str(max(1, cores() // 2))), Noted("b")], tmp_path, LocalEngine(jobs=2))
    assert os.environ.get("OMP_NUM_THREADS") == before


@pytest.fixture
def _interruptible() -> Iterator[None]:
    """A shell's background jobs ignore Ctrl-C; tests may be one."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.fault(29)
@pytest.mark.usefixtures("_interruptible")
@pytest.mark.parametrize("jobs", [1, 2])
def test_ctrl_c_stops_what_runs(tmp_path: Path, jobs: int) -> None:
    def interrupt() -> None:
        while not logged(tmp_path, "start"):
            time.sleep(0.02)
        os.kill(os.getpid(), signal.SIGINT)

    threading.Thread(target=interrupt).start()
    with pytest.raises(KeyboardInterrupt):
        run_steps([Noted("a", seconds=30), Noted("b", seconds=30)], tmp_path, LocalEngine(jobs))
    assert logged(tmp_path) == []


def test_there_is_at_least_one_job() -> None:
    with pytest.raises(UsageError, match="at least 1"):
        LocalEngine(jobs=0)
