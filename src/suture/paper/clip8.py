"""The papers' own suite: CLIP on eight image tasks, from the hub."""

from contextlib import suppress
from pathlib import Path

from suture.checkpoints import cache_folder, convert, local_copy, open_checkpoint
from suture.errors import CheckpointNotFound, OutputExists, UnsupportedFormat
from suture.experiment import Recipe
from suture.tasks.suites.clip8 import sources
from suture.types import Stage, silent

CALIBRATION = 1000
"""Training images of a task that held-out methods learn from."""


def clip8_recipe(architecture: str, base: str | Path) -> Recipe:
    """Return the tasks, experts and data of an architecture as a recipe: zero-shot heads, test images, training images to learn from.

    Raises :class:`suture.errors.UnknownName` for an architecture that is none of the papers'.
    """
    tasks = []
    for task in sources(architecture).tasks:
        test = {"dataset": task.dataset, "split": "test", "files": task.files.format(split="test")}
        train = {"dataset": task.dataset, "split": "train", "files": task.files.format(split="train"), "shuffle": 0}
        own = {"name": task.name, "expert": f"hf://{task.expert}", "head": {"prompts": task.name}, "image": "image"}
        tasks.append({**own, "test": test, "calibration": train, "train": train})
    content = {
        "name": f"clip8, {architecture}",
        "base": str(base),
        "tasks": tasks,
        "merges": ["weight_averaging"],
        "calibration": {"samples": "100%", "pool": CALIBRATION},
    }
    return Recipe.model_validate(content)


def clip8_base(architecture: str, stage: Stage = silent) -> Path:
    """Return where an architecture's base lies: on the hub or, where that has only a pickle, converted in the cache.

    Raises :class:`CheckpointNotFound` when it can neither be fetched nor is in the local cache, and what :func:`convert` raises.
    """
    place = Path(f"hf://{sources(architecture).base}")
    try:
        return open_checkpoint(place).folder
    except (CheckpointNotFound, UnsupportedFormat):
        folder = local_copy(place, pickles=True)
    converted = cache_folder() / "converted" / f"{folder.parent.parent.name}-{folder.name[:12]}"
    if not converted.is_dir():
        with stage("Converting the base", 1) as progress, suppress(OutputExists):  # another process was faster
            convert(folder, converted, progress=progress)
    return converted
