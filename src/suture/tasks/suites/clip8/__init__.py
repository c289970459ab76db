"""``clip8``: the papers' own suite, CLIP on eight image tasks; models and data lie on the hub, prompts beside this file."""

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from suture.errors import UnknownName

HERE = Path(__file__).parent
EXPERTS_BY = "tanganke"
"""Who published the experts on the hub."""


@dataclass(frozen=True)
class Fetched:
    """Something that lies on the hub: its size in MB, its licence, where they are known."""

    what: str
    repository: str
    megabytes: int | None
    licence: str | None


@dataclass(frozen=True)
class TaskSource:
    """A task: the repositories of its expert and of its data, and the pattern of the data's files, with a place for the split."""

    name: str
    expert: str
    dataset: str
    files: str


@dataclass(frozen=True)
class Sources:
    """What one architecture needs."""

    base: str
    tasks: list[TaskSource]
    fetched: list[Fetched]


def architectures() -> list[str]:
    """Return the architectures' names.

    >>> architectures()
    ['ViT-B-32', 'ViT-B-16', 'ViT-L-14']
    """
    return list(_content()["architectures"])


def sources(architecture: str) -> Sources:
    """Return what an architecture needs; raises :class:`UnknownName` for one that the papers do not have."""
    content = _content()
    if architecture not in content["architectures"]:
        raise UnknownName("architecture", architecture, content["architectures"])
    own, entries = content["architectures"][architecture], content["tasks"]
    prefix = f"{EXPERTS_BY}/{own['base'].partition('/')[2]}_"
    tasks = [TaskSource(name, f"{prefix}{entry['expert']}", entry["dataset"], entry["files"]) for name, entry in entries.items()]
    fetched = [
        Fetched("base", own["base"], own["base_mb"], None),
        *(Fetched("expert", task.expert, own["expert_mb"], None) for task in tasks),
        *(Fetched("data", entry["dataset"], entry["mb"], entry["licence"]) for entry in entries.values()),
    ]
    return Sources(own["base"], tasks, fetched)


def _content() -> dict[str, Any]:
    content: dict[str, Any] = json.loads((HERE / "sources.json").read_text(encoding="utf-8"))
    return content
