"""What an experiment was made from, for its manifest."""

import hashlib
import json
from collections.abc import Sequence
from importlib.metadata import version
from pathlib import Path
from typing import Any

from suture.checkpoints import sha256_of
from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting
from suture.inputs import Input, identities
from suture.tasks import Split

LIBRARIES = ("torch", "transformers", "safetensors", "numpy", "scikit-learn")


def libraries() -> dict[str, str]:
    """Return the versions of what computes the results."""
    return {name: version(name) for name in LIBRARIES}


def settings_of(setting: Setting, recipe: Recipe) -> dict[str, Any]:
    """Return the recipe, and what it came to: the backbone's and heads' settings, and the samples of each task and split."""
    return {
        "recipe": recipe.model_dump(mode="json"),
        "backbone": setting.network.model_dump(),
        "head_scale": {task: head.scale if head.bias is None else None for task, head in setting.heads.items()},
        "data": {task.name: {name: _identity(split) for name, split in task.splits.items()} for task in setting.tasks},
    }


def inputs_of(setting: Setting, recipe: Recipe) -> dict[str, str]:
    """Return the digest of all weights and files that the recipe names."""
    weights = {str(own.path): own.digest for own in (setting.base, *setting.experts.values())}
    return weights | {str(place): _digest(place) for place in _data_places(recipe)}


def paths_of(recipe: Recipe) -> list[Path]:
    """Return every file and folder that a recipe names: none of them may be the output."""
    weights = [path for path in (recipe.base, *(task.expert for task in recipe.tasks)) if path]
    return [*weights, *_data_places(recipe)]


def _digest(place: Path) -> str:
    """Return the sha256 of a file or, for a folder, of the names and digests of all files in it."""
    if not place.is_dir():
        return sha256_of(place)
    files = sorted(file for file in place.rglob("*") if file.is_file())
    named = [[file.relative_to(place).as_posix(), sha256_of(file)] for file in files]
    return hashlib.sha256(json.dumps(named).encode()).hexdigest()


def _data_places(recipe: Recipe) -> list[Path]:
    wild = [recipe.calibration.source] if isinstance(recipe.calibration.source, Path) else []
    own = [
        place
        for task in recipe.tasks
        for place in (task.test, task.calibration, task.train, task.head.support, task.head.file, task.head.prompts)
        if isinstance(place, Path)
    ]
    return own + wild


def inputs_digest(inputs: Sequence[Input]) -> str:
    """Return the sha256 of inputs, in their order."""
    return hashlib.sha256(json.dumps(identities(inputs)).encode()).hexdigest()


def _identity(split: Split) -> dict[str, Any]:
    content = [identities(split.inputs), None if split.labels is None else split.labels.tolist()]
    return {"size": len(split), "sha256": hashlib.sha256(json.dumps(content).encode()).hexdigest()}
