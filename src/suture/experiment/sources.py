"""Where calibration inputs come from: the task's own, those of the other tasks, or a file of "wild" ones that belong to none."""

from collections.abc import Sequence
from dataclasses import replace
from itertools import chain, zip_longest
from pathlib import Path

from suture.errors import DataError
from suture.experiment.calibration import CalibrationRecipe
from suture.inputs import Input, identities, identity_of
from suture.tasks import Split, Task, read_split


def sourced(tasks: Sequence[Task], calibration: CalibrationRecipe) -> list[Task]:
    """Return the tasks, each with the calibration split that it is to learn from.

    Inputs of other tasks come in turn, one of each, so that the first few are of all of them; none of the task's own is among them. Nor
    is one of its test split, whatever the source. Raises :class:`DataError` when none is left.
    """
    if calibration.source == "own":
        return list(tasks)
    if isinstance(calibration.source, Path):
        wild, _ = read_split(calibration.source, None, text=calibration.text, image=calibration.image, label=None)
        return [_with_calibration(task, wild.inputs) for task in tasks]
    return [_with_calibration(task, _in_turn(tasks, task)) for task in tasks]


def _in_turn(tasks: Sequence[Task], own: Task) -> list[Input]:
    known = set(identities(own.splits["calibration"].inputs)) if "calibration" in own.splits else set()
    others = [task.split("calibration").inputs for task in tasks if task.name != own.name]
    return [each for each in chain.from_iterable(zip_longest(*others)) if each is not None and identity_of(each) not in known]


def _with_calibration(task: Task, inputs: Sequence[Input]) -> Task:
    tested = set(identities(task.split("test").inputs))
    if not (left := [each for each in inputs if identity_of(each) not in tested]):
        raise DataError(f"task {task.name!r} is left without calibration inputs: there are none, or all of them are in its test split")
    return replace(task, splits={**task.splits, "calibration": Split(left)})
