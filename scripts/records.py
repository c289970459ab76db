"""What is on record about the tasks of a suite, and how it is written down."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from registries import Archive, sha256


@dataclass(frozen=True)
class Task:
    """One task; `per_group` limits the examples of one group. The parser is the function of its name in sources."""

    name: str
    archives: tuple[str, ...]
    description: str
    licence: str
    licence_found_in: str
    attribution: str
    citation: str | None = None
    per_group: int = 3


def record(task: Task, archives: Sequence[Archive], labels: list[str], counts: dict[str, int], file: Path) -> dict[str, object]:
    """What is on record about a task."""
    return {
        "name": task.name,
        "description": task.description,
        "labels": labels,
        "counts": counts,
        "sources": [asdict(archive) for archive in archives],
        "licence": task.licence,
        "licence_found_in": task.licence_found_in,
        "attribution": task.attribution,
        "citation": task.citation,
        "sha256": sha256(file.read_bytes()),
    }


def write_provenance(folder: Path, suite: str, seed: int, records: list[dict[str, object]]) -> None:
    """Write `provenance.json`, which says where every task of a suite comes from."""
    text = json.dumps({"suite": suite, "seed": seed, "tasks": records}, indent=2, ensure_ascii=False)
    (folder / "provenance.json").write_text(text + "\n", encoding="utf-8")
