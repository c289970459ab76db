"""Whose texts are learnt from."""

from pathlib import Path

import pytest

from suture.errors import DataError
from suture.experiment.calibration import CalibrationRecipe
from suture.experiment.sources import sourced
from suture.tasks import Split, Task


def task(name: str, calibration: list[str], test: list[str]) -> Task:
    return Task(name, ("yes", "no"), {"calibration": Split(calibration), "test": Split(test)})


TASKS = [task("a", ["a1", "a2", "a3"], ["x"]), task("b", ["b1"], ["a1"]), task("c", ["c1", "c2"], ["y"])]


def learnt(calibration: CalibrationRecipe) -> dict[str, list[str]]:
    return {task.name: list(task.split("calibration").inputs) for task in sourced(TASKS, calibration)}


def test_own_texts_are_left_as_they_are() -> None:
    assert sourced(TASKS, CalibrationRecipe()) == TASKS


def test_other_tasks_come_in_turn_without_what_is_tested() -> None:
    assert learnt(CalibrationRecipe(source="others")) == {
        "a": ["b1", "c1", "c2"],
        "b": ["c1", "a2", "c2", "a3"],
        "c": ["a1", "b1", "a2", "a3"],
    }


def test_wild_texts_are_the_same_for_all(tmp_path: Path) -> None:
    file = tmp_path / "wild.csv"
    file.write_text("line\nw1\na1\nw2\n")
    found = learnt(CalibrationRecipe(source=file, text="line"))
    assert found == {"a": ["w1", "a1", "w2"], "b": ["w1", "w2"], "c": ["w1", "a1", "w2"]}
    assert CalibrationRecipe(source=file).label == "held-out, wild.csv"


def test_other_splits_and_labels_stay(tmp_path: Path) -> None:
    assert [each.split("test") for each in sourced(TASKS, CalibrationRecipe(source="others"))] == [each.split("test") for each in TASKS]


def test_a_task_without_any_text_is_named(tmp_path: Path) -> None:
    file = tmp_path / "wild.jsonl"
    file.write_text('{"text": "a1"}\n')
    with pytest.raises(DataError, match="task 'b' is left without calibration inputs"):
        sourced(TASKS, CalibrationRecipe(source=file))
    with pytest.raises(DataError, match="task 'a' is left without"):
        sourced(TASKS[:1], CalibrationRecipe(source="others"))
