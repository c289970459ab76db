"""The papers' own experiment, as a recipe: CLIP on eight image tasks, from the hub."""

from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from typing import Any

from suture.checkpoints import cache_folder, convert, local_copy, open_checkpoint
from suture.errors import CheckpointNotFound, OutputExists, UnknownName, UnsupportedFormat
from suture.experiment.recipe import Recipe
from suture.tasks.suites.clip8 import sources
from suture.types import Stage, silent

MERGES: list[dict[str, Any]] = [
    {"method": "weight_averaging"},
    {"method": "fisher"},
    {"method": "regmean", "alpha": 0.95},
    {"method": "task_arithmetic", "scale": 0.3},
    {"method": "ties", "scale": 0.3},
    {"method": "concrete_task_arithmetic"},
    {"method": "ada_merging", "scope": "task"},
    {"method": "ada_merging", "scope": "layer"},
    {"method": "concrete_ada_merging"},
]
"""The rows of Table 1 of arXiv 2402.02705, in its order, with the papers' settings; joint training, which takes labels, apart."""


def paper_recipe(
    architecture: str, base: str | Path, only: Sequence[str] = (), *, held_out: bool = False, seeds: Sequence[int] = (0,)
) -> Recipe:
    """Return the recipe of the papers' suite for an architecture; ``only`` names methods, without it all of :data:`MERGES`.

    Surgery is fitted on the test inputs, as the papers do it, or with ``held_out`` on 1,000 training inputs a task.

    Raises :class:`UnknownName` for an architecture or a method that is none of the papers'.
    """
    known = {str(merge["method"]) for merge in MERGES}
    if wrong := [name for name in only if name not in known]:
        raise UnknownName("method", wrong[0], known)
    tasks = []
    for task in sources(architecture).tasks:
        given = {"dataset": task.dataset, "split": "test", "files": task.files.format(split="test")}
        learnt = {"dataset": task.dataset, "split": "train", "files": task.files.format(split="train"), "shuffle": 0}
        tasks.append(
            {
                "name": task.name,
                "expert": f"hf://{task.expert}",
                "test": given,
                "calibration": learnt if held_out else None,
                "head": {"prompts": task.name},
                "image": "image",
            }
        )
    calibration = {"mode": "held-out", "samples": "100%", "pool": 1000} if held_out else {"mode": "transductive"}
    content = {
        "name": f"clip8, {architecture}",
        "base": str(base),
        "tasks": tasks,
        "merges": [merge for merge in MERGES if not only or merge["method"] in only],
        "calibration": calibration,
        "surgery": {"rank": 16, "iterations": 500},
        "seeds": list(seeds),
    }
    return Recipe.model_validate(content)


def paper_base(architecture: str, stage: Stage = silent) -> Path:
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
