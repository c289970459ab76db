"""Result tables as markdown, csv and, for the terminal, rich."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from suture.evaluation import AVERAGE, COLUMNS, Results
from suture.evaluation.records import Key
from suture.merging import MergingMethod

if TYPE_CHECKING:
    from rich.table import Table

METRICS = {
    "accuracy": ("accuracy, %", 100.0, ".1f"),
    "bias_l1": ("representation bias, (1/N) ‖ΔZ‖₁", 1.0, ".2f"),
    "bias_mean_abs": ("representation bias, mean |ΔZ|", 1.0, ".4f"),
}
"""What a table may show: its caption, a factor and a number format."""


def label_of(key: Key) -> str:
    """Return a row's label.

    >>> label_of(("ties(density=0.2)", "surgery"))
    'ties(density=0.2) + surgery'
    """
    merge, surgery = key
    return merge if surgery == "none" else f"{merge} + {surgery}"


def cells(results: Results, metric: str, *, per_task_spread: bool = False) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row per model, a column per task, the average (± standard deviation over seeds) last."""
    _, scale, spec = METRICS[metric]
    rows = []
    for key in results.keys:
        spreads = [results.spread(key, metric, task, scale) for task in (*results.tasks, AVERAGE)]
        if any(spread is None for spread in spreads):
            continue
        *tasks, average = (spread for spread in spreads if spread is not None)
        shown = [f"{spread:{spec}}" if per_task_spread else f"{spread.mean:{spec}}" for spread in tasks]
        rows.append([label_of(key), *shown, f"{average:{spec}}"])
    return ["model", *results.tasks, AVERAGE], rows


def markdown_table(results: Results, metric: str) -> str:
    """Return one metric's table in markdown, with the spread over seeds in every cell."""
    header, rows = cells(results, metric, per_task_spread=True)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return f"**{METRICS[metric][0]}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_report(results: Results, notes: Sequence[str]) -> str:
    """Return all tables and what a reader must know to read them."""
    tables = "\n".join(markdown_table(results, metric) for metric in METRICS)
    return f"# Results\n\n{tables}\n" + "".join(f"- {note}\n" for note in notes)


def csv_table(results: Results, metric: str) -> str:
    """Return one metric's table as csv."""
    header, rows = cells(results, metric, per_task_spread=True)
    return _csv([header, *rows])


def tidy_csv(results: Results) -> str:
    """Return ``results.csv``: one value per row."""
    return _csv([COLUMNS, *results.rows()])


def terminal_table(results: Results, metric: str) -> "Table":
    """Return one metric's table for a terminal; the surgery rows stand out."""
    from rich.table import Table

    header, rows = cells(results, metric)
    table = Table(title=METRICS[metric][0], title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column(header[0], no_wrap=False, overflow="fold")
    for name in header[1:]:
        table.add_column(name, justify="right", no_wrap=True, overflow="ellipsis")
    for row in rows:
        table.add_row(*row, style="bold green" if " + " in row[0] else None)
    return table


def methods_table(methods: Mapping[str, type[MergingMethod]]) -> "Table":
    """Return the merging methods with their hyperparameters, defaults and papers, for a terminal."""
    from rich.table import Table

    table = Table("method", "hyperparameters and defaults", "paper", box=None, pad_edge=False, header_style="bold")
    for name, kind in methods.items():
        settings = ", ".join(f"{field.name}={field.default}" for field in fields(kind))
        table.add_row(name, settings or "–", f"{kind.paper.title}, {kind.paper.year}, arXiv {kind.paper.arxiv}")
    return table


def _csv(rows: Sequence[Sequence[object]]) -> str:
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
