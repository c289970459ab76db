"""Result tables as markdown, csv and, for the terminal, rich."""

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import fields
from statistics import fmean
from typing import TYPE_CHECKING

from suture.evaluation import AVERAGE, COLUMNS, INDIVIDUAL, PRETRAINED, Model, Results, markdown_lines
from suture.merging import DataDrivenMethod, MergingMethod
from suture.multitask import Facts
from suture.tasks.suites.clip8 import Fetched

if TYPE_CHECKING:
    from rich.table import Table
    from rich.text import Text

METRICS = {
    "accuracy": ("accuracy, %", 100.0, ".1f"),
    "bias_l1": ("representation bias, (1/N) ‖ΔZ‖₁", 1.0, ".2f"),
    "bias_mean_abs": ("representation bias, mean |ΔZ|", 1.0, ".4f"),
}
"""What a table may show: its caption, a factor and a number format."""

Column = tuple[str, Model, str]
"""A header, a model and a metric."""


def labels_of(models: Sequence[Model]) -> dict[Model, str]:
    """Return a label per model, which says what it learnt from where that alone tells two models apart.

    >>> list(labels_of([Model("ties"), Model("ties", "surgery", 16, "held-out", 64)]).values())
    ['ties', 'ties + surgery']
    """
    short = {model: f"{model.merge} + {model.surgery}" if model.operated else model.merge for model in models}
    taken = list(short.values())
    return {model: label if taken.count(label) == 1 else f"{label} {_fit(model)}" for model, label in short.items()}


def _fit(model: Model) -> str:
    rank = f"rank {model.rank}, " if model.operated else ""
    return f"({rank}{model.calibration}, {model.samples} samples)"


def cells(results: Results, metric: str) -> tuple[list[str], list[list[str]]]:
    """Return header and rows: a row per model, a column per task, the average last; ± is the standard deviation over seeds."""
    _, scale, spec = METRICS[metric]
    labels, rows = labels_of(results.models), []
    for model in results.models:
        spreads = [results.spread(model, metric, task, scale) for task in (*results.tasks, AVERAGE)]
        if any(spread is None for spread in spreads):
            continue
        rows.append([labels[model], *(f"{spread:{spec}}" for spread in spreads if spread is not None)])
    return ["model", *results.tasks, AVERAGE], rows


def markdown_table(results: Results, metric: str) -> str:
    """Return one metric's table in markdown, a row per model."""
    header, rows = cells(results, metric)
    return f"**{METRICS[metric][0]}**\n\n" + "".join(f"{line}\n" for line in markdown_lines(header, rows))


def markdown_report(results: Results, notes: Sequence[str]) -> str:
    """Return all tables and what a reader must know to read them."""
    tables = "\n".join(markdown_table(results, metric) for metric in METRICS)
    return f"# Results\n\n{tables}\n" + "".join(f"- {note}\n" for note in notes)


def csv_table(results: Results, metric: str) -> str:
    """Return one metric's table as csv."""
    header, rows = cells(results, metric)
    return csv_of([header, *rows])


def tidy_csv(results: Results) -> str:
    """Return ``results.csv``: one value per row."""
    return csv_of([COLUMNS, *results.rows()])


def terminal_table(results: Results, title: str, columns: Sequence[Column]) -> "Table":
    """Return a table for a terminal of 80 columns: a row per task, the average last.

    Columns that were not measured are left out; those of surgery stand out. Where it is too wide the task names are cut, never a number.
    """
    from rich.table import Table

    table = Table(title=_plain(title), title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("task")
    shown = [column for column in columns if results.spread(column[1], column[2]) is not None]
    for header, model, _ in shown:
        table.add_column(_plain(header), justify="right", no_wrap=True, style="green" if model.operated else None)
    for task in (*results.tasks, AVERAGE):
        spreads = [(results.spread(model, metric, task, METRICS[metric][1]), METRICS[metric][2]) for _, model, metric in shown]
        table.add_row(_plain(task), *(f"{spread:{spec}}" for spread, spec in spreads), style="bold" if task == AVERAGE else None)
    return table


def comparison_tables(results: Results) -> list["Table"]:
    """Return a table per merged model and surgery of it: accuracy from pretrained to individual, and the bias before and after surgery."""
    labels = labels_of(results.models)
    tables = []
    for merge in results.merges:
        found: list[Model | None] = [*results.operated(merge)]
        for operated in found or [None]:
            label = merge if operated is None else labels[operated].replace(f"{merge} + {operated.surgery}", merge, 1)
            title = f"{label}: accuracy, %, and representation bias, mean |ΔZ|"
            tables.append(terminal_table(results, title, _comparison(results.plain(merge), operated)))
    return tables


def bias_tables(results: Results) -> list["Table"]:
    """Return a table per merged model: its bias in both normalisations."""
    metrics = [(METRICS[metric][0].partition(", ")[2], metric) for metric in ("bias_l1", "bias_mean_abs")]
    return [
        terminal_table(results, f"{merge}: representation bias", [(header, results.plain(merge), metric) for header, metric in metrics])
        for merge in results.merges
    ]


def _comparison(merged: Model, operated: Model | None) -> list[Column]:
    after: list[Column] = [] if operated is None else [(f"+ {operated.surgery}", operated, "accuracy")]
    bias_after: list[Column] = [] if operated is None else [(f"bias + {operated.surgery}", operated, "bias_mean_abs")]
    before: list[Column] = [(PRETRAINED, Model(PRETRAINED), "accuracy"), ("merged", merged, "accuracy")]
    return [*before, *after, (INDIVIDUAL, Model(INDIVIDUAL), "accuracy"), ("bias", merged, "bias_mean_abs"), *bias_after]


def _plain(text: str) -> "Text":
    """Return text that is shown as it is, in one line: no markup is read from it, and control characters are shown as escapes."""
    from rich.text import Text

    return Text("".join(char if char.isprintable() else repr(char)[1:-1] for char in text), no_wrap=True, overflow="ellipsis")


def methods_table(methods: Mapping[str, type[MergingMethod]]) -> "Table":
    """Return the merging methods with their hyperparameters, defaults and papers, for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("method", no_wrap=True)
    table.add_column("paper; hyperparameters and defaults", overflow="fold")
    for name, kind in methods.items():
        source = "; learns from unlabelled data" if issubclass(kind, DataDrivenMethod) else ""
        paper = f"{kind.paper.short}, {kind.paper.year}, arXiv {kind.paper.arxiv}{source}"
        settings = ", ".join(f"{field.name}={field.default}" for field in fields(kind))
        table.add_row(name, f"{paper}\n[dim]{settings}[/dim]" if settings else paper)
    return table


def items_table(items: Mapping[str, str]) -> "Table":
    """Return names and what is behind them, for a terminal."""
    from rich.table import Table

    table = Table(box=None, pad_edge=False, header_style="bold")
    table.add_column("item", no_wrap=True)
    table.add_column("what it shows", overflow="fold")
    for name, title in items.items():
        table.add_row(name, title)
    return table


def facts_table(facts: Facts, before: Facts | None = None) -> "Table":
    """Return what a saved model's card measures, for a terminal: a row per task; what the model did ``before`` beside it."""
    from rich.table import Table

    routed = any(own.routed is not None for own in facts.tasks.values())
    told = {"individual": "expert", "merged": "merged"} | ({"before": "before"} if before else {}) | {"model": "model"}
    told |= {"identified": "task found", "routed": "not told"} if routed else {}
    table = Table(title="Accuracy on test samples, %", title_justify="left", title_style="bold", box=None, pad_edge=False)
    table.add_column("task")
    for key, header in told.items():
        table.add_column(header, justify="right", no_wrap=True, style="green" if key == "model" else None)
    rows: list[list[float | None]] = []
    for task, own in facts.tasks.items():
        was = before.tasks.get(task) if before else None
        known = {**own.model_dump(), "before": None if was is None else was.model}
        rows.append([known[key] for key in told])
        table.add_row(_plain(task), *map(_share, rows[-1]))
    # Averages beside one another are of the same tasks.
    both = [row for row in rows if None not in row] or rows
    means = [fmean(value for value in column if value is not None) if any(column) else None for column in zip(*both, strict=True)]
    table.add_row(AVERAGE if len(both) == len(rows) else f"average of {len(both)}", *map(_share, means), style="bold")
    return table


def _share(value: float | None) -> str:
    return "" if value is None else f"{100 * value:.1f}"


def fetched_table(fetched: Sequence[Fetched]) -> "Table":
    """Return what lies on the hub, with sizes and licences as far as they are known, for a terminal."""
    from rich.table import Table

    known = sum(each.megabytes or 0 for each in fetched)
    lacking = sum(each.megabytes is None for each in fetched)
    table = Table(box=None, pad_edge=False, header_style="bold", show_footer=True)
    table.add_column("what", no_wrap=True, footer="in all")
    table.add_column("repository", overflow="fold", footer=f"and {lacking} of unknown size" if lacking else "")
    table.add_column("about MB", justify="right", no_wrap=True, footer=f"{known:,}")
    table.add_column("licence stated", overflow="fold")
    for each in fetched:
        size = "unknown" if each.megabytes is None else f"{each.megabytes:,}"
        table.add_row(each.what, each.repository, size, each.licence or "none found")
    return table


def csv_of(rows: Sequence[Sequence[object]]) -> str:
    r"""Return rows as csv; None is an empty cell.

    >>> csv_of([["task", "%"], ["a,b", 1.5]])
    'task,%\n"a,b",1.5\n'
    """
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows(rows)
    return stream.getvalue()
