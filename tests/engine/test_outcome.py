"""Errors and warnings that come from another process, and steps whose results are there by the time."""

from pathlib import Path

import pytest

from engine.steps import Idle, Noted, Odd, Warned, logged, result
from suture.engine.outcome import attempt, fault_of, perform
from suture.errors import OutputExists, SutureError, UnknownName
from suture.types import silent


class Overtaken(Noted):
    """Another run is faster: its result is there when this one is to be written."""

    def work(self, store: Path) -> None:
        if self.seconds == 0:
            (store / self.key).write_text("theirs")
        raise OutputExists("there is one")


def test_a_step_whose_result_is_there_is_not_run(tmp_path: Path) -> None:
    step = Noted("a")
    perform(step, tmp_path, silent)
    perform(step, tmp_path, silent)
    assert logged(tmp_path, "start") == ["a"]


def test_where_another_run_is_faster_its_result_stands(tmp_path: Path) -> None:
    step = Overtaken("a")
    perform(step, tmp_path, silent)
    assert result(tmp_path, step) == "theirs"
    with pytest.raises(OutputExists, match="there is one"):
        perform(Overtaken("b", seconds=1), tmp_path, silent)


def test_a_step_that_ends_without_a_result_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(SutureError, match=r"step 'Writing a' ended, but its result is not in .*: do all processes see the same folder\?"):
        perform(Idle("a"), tmp_path, silent)


class Exclaimed(Exception):
    """Says more each time that it is made of what it says."""

    def __init__(self, text: str) -> None:
        super().__init__(f"{text}!")


@pytest.mark.parametrize("error", [OSError(2, "No such file", "x"), UnknownName("colour", "gren", ["green"]), Exclaimed("no")])
def test_errors_come_back_as_they_were(error: Exception) -> None:
    back = fault_of(error).error()
    assert (type(back), str(back), back.args) == (type(error), str(error), error.args)
    assert "in another process:" in str(back.__cause__)


def test_an_error_that_cannot_travel_comes_as_what_it_was() -> None:
    back = fault_of(Odd(lambda: 1)).error()
    assert type(back) is RuntimeError
    assert str(back).startswith("Odd: <function")


def test_an_attempt_tells_how_it_ended(tmp_path: Path) -> None:
    outcome = attempt(Warned("a"), tmp_path)
    assert [(each.text, each.category.__name__) for each in outcome.warned] == [("the ice is thin", "SutureWarning")]
    assert outcome.error() is None
    failed = attempt(Idle("b"), tmp_path).error()
    assert isinstance(failed, SutureError)
