"""Where calibration texts come from: the task's own, those of the other tasks, or a file of "wild" ones that belong to none."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from suture.errors import DataError
from suture.experiment.calibration import CalibrationRecipe
from suture.tasks import Split, Task, read_split


def sourced(tasks: Sequence[Task], calibration: CalibrationRecipe) -> list[Task]:
    """Return the tasks, each with the calibration split that it is to learn from.

    Texts of other tasks come in turn, one of each, so that the first few are of all of them; none of the task's own is among them. Nor
    is one of its test split, whatever the source. Raises :class:`DataError` when none is left.
    """
    if calibration.source == "own":
        return list(tasks)
    if isinstance(calibration.source, Path):
        wild, _ = read_split(calibration.source, None, text=calibration.text, label=None)
        return [_with_calibration(task, wild.texts) for task in tasks]
    return [_with_calibration(task, _in_turn(tasks, task)) for task in tasks]


def _in_turn(tasks: Sequence[Task], own: Task) -> list[str]:
    known = set(own.splits["calibration"].texts) if "calibration" in own.splits else set()
    others = [task.split("calibration").texts for task in tasks if task.name != own.name]
    return [text for text in chain.from_iterable(zip_longest(*others)) if text is not None and text not in known]


def _with_calibration(task: Task, texts: Sequence[str]) -> Task:
    tested = set(task.split("test").texts)
    if not (left := [text for text in texts if text not in tested]):
        raise DataError(f"task {task.name!r} is left without calibration texts: there are none, or all of them are in its test split")
    return replace(task, splits={**task.splits, "calibration": Split(left)})
