import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from engine.steps import Failing, Idle, Noted, log, logged, result
from suture.engine import Engine, LocalEngine, Resources, Step, run_steps
from suture.errors import OutputError, SutureError, UnknownName, UsageError
from suture.types import Stage

ENGINES = [LocalEngine(), LocalEngine(jobs=2)]


@pytest.mark.parametrize("engine", ENGINES)
def test_what_is_shared_runs_once(tmp_path: Path, engine: Engine) -> None:
    base = Noted("base")
    left, right = Noted("left", [base]), Noted("right", [Noted("base")])
    top = Noted("top", [left, right])
    summary = run_steps([top, left], tmp_path, engine)
    assert sorted(logged(tmp_path)) == ["base", "left", "right", "top"]
    assert set(summary.ran) == {step.key for step in (base, left, right, top)}
    assert summary.skipped == ()
    assert result(tmp_path, top) == "top(left(base())right(base()))"


@pytest.mark.parametrize("engine", ENGINES)
def test_a_warm_run_does_nothing(tmp_path: Path, engine: Engine) -> None:
    base = Noted("base")
    top = Noted("top", [base])
    run_steps([top], tmp_path, engine)
    (tmp_path / base.key).unlink()  # what only served what is there is not asked for
    assert run_steps([top], tmp_path, engine).ran == ()
    assert logged(tmp_path) == ["base", "top"]


def test_needs_of_what_is_done_run_when_something_else_needs_them(tmp_path: Path) -> None:
    base = Noted("base")
    first = Noted("first", [base])
    run_steps([first], tmp_path, LocalEngine())
    (tmp_path / base.key).unlink()
    second = Noted("second", [base])
    summary = run_steps([first, second], tmp_path, LocalEngine())
    assert summary.ran == (base.key, second.key)
    assert summary.skipped == (first.key,)


def test_steps_start_in_the_order_given_each_after_its_needs(tmp_path: Path) -> None:
    a, b, c = Noted("a"), Noted("b"), Noted("c")
    run_steps([Noted("x", [b]), Noted("y", [c, a]), Noted("z")], tmp_path, LocalEngine())
    assert logged(tmp_path) == ["b", "x", "c", "a", "y", "z"]


def test_a_cycle_is_refused(tmp_path: Path) -> None:
    class Named(Noted):
        key = property(lambda self: self.name)

    needs: list[Noted] = []
    step = Named("a", [Named("b", needs)])
    needs.append(step)
    with pytest.raises(ValueError, match="'Writing a' needs itself"):
        run_steps([step], tmp_path / "store", LocalEngine())
    assert not (tmp_path / "store").exists()


@pytest.mark.parametrize("engine", ENGINES)
def test_the_first_failure_starts_nothing_more_and_loses_nothing(tmp_path: Path, engine: Engine) -> None:
    failing, slow = Failing("bad", seconds=0.3), Noted("slow", seconds=1.0)
    after = Noted("after", [failing])
    others = [Noted(f"other {i}", [slow]) for i in range(3)]
    with pytest.raises(UnknownName, match="did you mean 'green'") as caught:
        run_steps([slow, after, *others], tmp_path, engine)
    assert caught.value.__notes__ == ["in the step: Writing bad"]
    assert "slow" in logged(tmp_path)
    assert not {"after", "bad"} & set(logged(tmp_path))


def test_a_step_without_a_result_has_failed(tmp_path: Path) -> None:
    with pytest.raises(SutureError, match="'Writing nothing' ended, but its result is not in"):
        run_steps([Idle("nothing")], tmp_path, LocalEngine())


def test_a_store_that_cannot_be_made(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match="cannot write"):
        run_steps([Noted("a")], tmp_path / "file" / "store", LocalEngine())


def test_negative_resources_are_refused() -> None:
    with pytest.raises(UsageError, match="may be negative"):
        Resources(cpus=-1)


PROGRAM = """
import sys
from pathlib import Path
from engine.test_graph import chain
from suture.engine import LocalEngine, run_steps
if __name__ == "__main__":
    run_steps(chain(), Path(sys.argv[1]), LocalEngine(jobs=int(sys.argv[2])))
"""


def chain() -> list[Noted]:
    first = Noted("first")
    return [first, *(Noted(f"step {i}", [first], seconds=0.2) for i in range(6))]


@pytest.mark.fault(25, 28)
@pytest.mark.parametrize("jobs", [1, 2])
def test_a_run_that_was_killed_goes_on_with_what_is_missing(tmp_path: Path, jobs: int) -> None:
    program, store = tmp_path / "program.py", tmp_path / "store"
    program.write_text(PROGRAM)
    environment = {"PYTHONPATH": ":".join([str(Path(__file__).parents[1]), *sys.path])}
    run = subprocess.Popen([sys.executable, str(program), str(store), str(jobs)], env=environment)
    while len(logged(store)) < 3 and run.poll() is None:
        time.sleep(0.02)
    run.kill()
    run.wait()
    time.sleep(1)  # workers notice that their parent is gone
    finished = logged(store)
    assert 3 <= len(finished) < 7
    log(store, "again")
    summary = run_steps(chain(), store, LocalEngine(jobs))
    assert len(summary.ran) == 7 - len(finished)
    assert sorted(logged(store)) == sorted(step.name for step in chain())
    assert [result(store, step) for step in chain()][1] == "step 0(first())"


def test_resources_do_not_show_in_the_key() -> None:
    step = Noted("a")
    assert replace(step, resources=Resources(2, 1)).key == step.key


class Together:
    """A crew that runs all it is given at once, and whose steps all fail."""

    def __init__(self) -> None:
        self.given: list[Step] = []

    @contextmanager
    def crew(self, store: Path, total: int, stage: Stage) -> Iterator["Together"]:
        yield self

    def takes(self, step: Step) -> bool:
        return True

    def start(self, step: Step) -> None:
        self.given.append(step)

    def wait(self) -> list[tuple[Step, Exception | None]]:
        ended, self.given = self.given, []
        return [(step, SutureError(f"{step.title} failed")) for step in ended]


def test_of_several_failures_the_first_is_told(tmp_path: Path) -> None:
    with pytest.raises(SutureError, match="Writing a failed") as caught:
        run_steps([Noted("a"), Noted("b")], tmp_path, Together())
    assert caught.value.__notes__ == ["in the step: Writing a"]
