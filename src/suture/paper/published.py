"""What the papers' tables say, to stand beside ours where the suite is theirs."""

import csv
from collections.abc import Sequence
from functools import cache
from pathlib import Path
from typing import NamedTuple

from suture.paper.study import Study
from suture.report.exhibits import Table

SOURCE = "Yang et al., 2024, arXiv 2402.02705; transductive; accuracy, %."


class Published(NamedTuple):
    """A cell of one of the papers' tables."""

    table: str
    arch: str
    method: str
    rank: str
    available_test_data: str
    task: str
    accuracy: str


@cache
def published() -> Sequence[Published]:
    """Return every cell of Tables 1 to 6 of arXiv 2402.02705."""
    with (Path(__file__).parent / "published.csv").open(encoding="utf-8", newline="") as file:
        return [Published(**row) for row in csv.DictReader(file)]


def published_accuracy(study: Study, method: str, rank: int | None = None) -> str:
    """Return the papers' average of a method, or nothing where the suite is another or they have no such row.

    >>> from dataclasses import replace
    >>> some = Study("clip8", "CLIP", {}, [], "", "", (0,), 1, 1, {}, papers="ViT-B-32")
    >>> published_accuracy(some, "Task Arithmetic"), published_accuracy(some, "Task Arithmetic+Surgery", 16)
    ('69.1', '80.9')
    >>> published_accuracy(replace(some, papers=""), "Task Arithmetic")
    ''
    """
    own = _architecture(study)
    wanted = "" if rank is None else str(rank)
    found = [
        cell.accuracy
        for cell in published()
        if (cell.arch, cell.method, cell.rank, cell.task.lower().startswith("av")) == (own, method, wanted, True) and cell.table in "123"
    ]
    return found[0] if found else ""


def published_rows(study: Study, table: str, name: str) -> list[Table]:
    """Return one of the papers' tables as it stands, where the suite is theirs; else nothing."""
    cells = [cell for cell in published() if cell.table == table and cell.arch == _architecture(study)]
    if not cells:
        return []
    keys = list(dict.fromkeys((cell.method, cell.rank, cell.available_test_data) for cell in cells))
    tasks = list(dict.fromkeys(cell.task for cell in cells))
    value = {(cell.method, cell.rank, cell.available_test_data, cell.task): cell.accuracy for cell in cells}
    rows = [[*key, *(value.get((*key, task), "") for task in tasks)] for key in keys]
    return [Table(name=name, title=f"As published: Table {table}", header=["method", "rank", "data", *tasks], rows=rows, notes=[SOURCE])]


def _architecture(study: Study) -> str:
    return study.papers.replace("-B-", "-B/").replace("-L-", "-L/")
