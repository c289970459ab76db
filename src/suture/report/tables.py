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


def cells(results: Results, metric: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row per model, a column per task, the average last; ± is the standard deviation over seeds."""
    _, scale, spec = METRICS[metric]
    rows = []
    for key in results.keys:
        spreads = [results.spread(key, metric, task, scale) for task in (*results.tasks, AVERAGE)]
        if any(spread is None for spread in spreads):
            continue
        rows.append([label_of(key), *(f"{spread:{spec}}" for spread in spreads if spread is not None)])
    return ["model", *results.tasks, AVERAGE], rows


def markdown_table(results: Results, metric: str) -> str:
    """Return one metric's table in markdown, a row per model."""
    header, rows = cells(results, metric)
    lines = [header, ["---", *["---:"] * (len(header) - 1)], *rows]
    return f"**{METRICS[metric][0]}**\n\n" + "".join(f"| {' | '.join(line)} |\n" for line in lines)


def markdown_report(results: Results, notes: Sequence[str]) -> str:
    """Return all tables and what a reader must know to read them."""
    tables = "\n".join(markdown_table(results, metric) for metric in METRICS)
    return f"# Results\n\n{tables}\n" + "".join(f"- {note}\n" for note in notes)


def csv_table(results: Results, metric: str) -> str:
    """Return one metric's table as csv."""
    header, rows = cells(results, metric)
    return _csv([header, *rows])


def tidy_csv(results: Results) -> str:
    """Return ``results.csv``: one value per row."""
    return _csv([COLUMNS, *results.rows()])


def terminal_table(results: Results, title: str, columns: Sequence[tuple[str, Key, str]]) -> "Table":
    """Return a table for a terminal of 80 columns: a row per task, the average last; a column is a header, a model and a metric.

    Columns that were not measured are left out; those of surgery stand out.
    """
    from rich.table import Table

    table = Table(title=title, title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("task", no_wrap=True)
    shown = [column for column in columns if results.spread(column[1], column[2]) is not None]
    for header, (_, surgery), _ in shown:
        table.add_column(header, justify="right", no_wrap=True, style="green" if surgery != "none" else None)
    for task in (*results.tasks, AVERAGE):
        spreads = [(results.spread(key, metric, task, METRICS[metric][1]), METRICS[metric][2]) for _, key, metric in shown]
        table.add_row(task, *(f"{spread:{spec}}" for spread, spec in spreads), style="bold" if task == AVERAGE else None)
    return table


def comparison_tables(results: Results) -> list["Table"]:
    """Return a table per merged model: accuracy from pretrained to individual, and the bias before and after surgery."""
    return [terminal_table(results, _title(merge), _comparison(merge, results.surgeries)) for merge in results.merges]


def bias_tables(results: Results) -> list["Table"]:
    """Return a table per merged model: its bias in both normalisations."""
    metrics = [(METRICS[metric][0].partition(", ")[2], metric) for metric in ("bias_l1", "bias_mean_abs")]
    return [
        terminal_table(results, f"{merge}: representation bias", [(header, (merge, "none"), metric) for header, metric in metrics])
        for merge in results.merges
    ]


def _title(merge: str) -> str:
    return f"{merge}: accuracy, %, and representation bias, mean |ΔZ|"


def _comparison(merge: str, surgeries: Sequence[str]) -> list[tuple[str, Key, str]]:
    kinds = ["none", *surgeries]
    names = {kind: "merged" if kind == "none" else f"+ {kind}" for kind in kinds}
    accuracy = [(names[kind], (merge, kind), "accuracy") for kind in kinds]
    bias = [("bias" if kind == "none" else f"bias {names[kind]}", (merge, kind), "bias_mean_abs") for kind in kinds]
    ends = [(name, (name, "none"), "accuracy") for name in ("pretrained", "individual")]
    return [ends[0], *accuracy, ends[1], *bias]


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
