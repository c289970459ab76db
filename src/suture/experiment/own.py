"""A task of the user's own, from the files that its recipe names."""

from dataclasses import replace
from pathlib import Path

from suture.backbones import Backbone, Head, load_heads, saved_head
from suture.checkpoints import is_adapter, local_copy, open_checkpoint
from suture.errors import DataError
from suture.experiment.task_recipe import BackboneRecipe, DataSetRecipe, TaskRecipe
from suture.inputs import identities
from suture.representation import zero_shot_head
from suture.tasks import Split, Task, read_dataset, read_split
from suture.tasks.prompts import read_prompts

SUPPORT = "support"


def given_head(entry: TaskRecipe, backbone: BackboneRecipe, base: Backbone) -> Head | None:
    """Return the head that a task's heads file holds, its expert, or that prompts make, with its classes; None if it is none of these.

    The classes are the head's own, else the recipe's.

    Raises :class:`DataError` when the file has no head for the task, or the order of its rows' classes is unknown or disputed, and what
    :func:`suture.backbones.saved_head` and :func:`suture.representation.zero_shot_head` raise.
    """
    about = f"task {entry.name!r}"
    if entry.head.saved and is_adapter(local_copy(entry.expert)):
        raise DataError(f"{about}: {entry.expert} is an adapter, and has no classifier of its own: give another 'head'")
    if entry.head.saved:
        file, weights = entry.expert, open_checkpoint(entry.expert)
        head = saved_head(backbone.open(weights.folder, weights))
    elif entry.head.file is not None:
        file = entry.head.file
        heads = load_heads(file)
        if entry.name not in heads:
            raise DataError(f"{file} has no head for {about}; it has {', '.join(heads)}")
        head = heads[entry.name]
    elif entry.head.prompts is not None:
        file, prompts = Path(entry.head.prompts), read_prompts(entry.head.prompts)
        head = replace(zero_shot_head(base, prompts.texts), classes=tuple(prompts.classes))
    else:
        return None
    named = tuple(entry.classes or ())
    if not (head.classes or named):
        raise DataError(
            f"{about}: {file} does not name the classes of its {len(head.weight)} rows; give 'classes' in the recipe, in their order"
        )
    if head.classes and named and head.classes != named:
        raise DataError(f"{about}: the rows of {file} are {', '.join(head.classes)}, but the recipe's 'classes' are {', '.join(named)}")
    try:
        return replace(head, classes=head.classes or named)
    except DataError as error:
        raise DataError(f"{about}, {file}: {error}") from error


def read_task(entry: TaskRecipe, head: Head | None, held_out: bool) -> Task:
    """Read a task's files; its classes are those of a given head, else the recipe's, else those found in the support file.

    Raises :class:`DataError` when labels are missing, or a sample of the test file stands where the model may learn from it.
    """
    named = list(head.classes) if head is not None else entry.classes
    splits: dict[str, Split] = {}
    if entry.head.support is not None:
        splits[SUPPORT], named = _labelled(entry, entry.head.support, named)
    splits["test"], classes = _labelled(entry, entry.test, named) if entry.labelled else _read(entry, entry.test, named, None)
    if entry.calibration is not None:
        splits["calibration"], _ = _read(entry, entry.calibration, classes, None)
    if entry.train is not None:
        splits["train"], _ = _labelled(entry, entry.train, classes)
        _check_disjoint(entry, splits["train"], entry.train, splits["test"], "take them out")
    if entry.head.support is not None:
        _check_disjoint(entry, splits[SUPPORT], entry.head.support, splits["test"], "take them out")
    if entry.calibration is not None and held_out:
        hint = "take them out, or set calibration.mode to transductive"
        _check_disjoint(entry, splits["calibration"], entry.calibration, splits["test"], hint)
    return Task(entry.name, tuple(classes), splits)


def _read(entry: TaskRecipe, source: Path | DataSetRecipe, classes: list[str] | None, label: str | None) -> tuple[Split, list[str]]:
    if isinstance(source, DataSetRecipe):
        return read_dataset(source.source(), classes, text=entry.text, image=entry.image, label=label)
    return read_split(source, classes, text=entry.text, image=entry.image, label=label)


def _labelled(entry: TaskRecipe, source: Path | DataSetRecipe, classes: list[str] | None) -> tuple[Split, list[str]]:
    split, names = _read(entry, source, classes, entry.label)
    if split.labels is None:
        hint = "; if there are none, say `labelled: false`" if source == entry.test else ""
        raise DataError(f"task {entry.name!r}: {source} has no column {entry.label!r}, and its labels are needed{hint}")
    return split, names


def _check_disjoint(entry: TaskRecipe, seen: Split, source: Path | DataSetRecipe, test: Split, hint: str) -> None:
    if shared := len(set(identities(seen.inputs)) & set(identities(test.inputs))):
        raise DataError(f"task {entry.name!r}: {shared} samples of {source} stand in {entry.test} too; {hint}")
