"""Tables: markdown, csv, and a terminal of 80 columns."""

import csv
import io

import pytest
from rich.console import Console
from rich.table import Table

from suture.evaluation import Model, Record, Results
from suture.merging import METHODS
from suture.report.tables import (
    METRICS,
    bias_tables,
    cells,
    comparison_tables,
    csv_table,
    labels_of,
    markdown_report,
    markdown_table,
    methods_table,
    tidy_csv,
)

FIT = ("surgery", 16, "held-out", 64)
NOTHING = ("none", 0, "none", 0)


def measured(merge: str, fit: tuple[str, int, str, int], tasks: tuple[str, ...], accuracy: float, seeds: int = 1) -> list[Record]:
    return [
        Record("s", merge, *fit, seed, task, metric, value)
        for seed in range(seeds)
        for task in tasks
        for metric, value in (("accuracy", accuracy + seed / 100), ("bias_l1", 3.21), ("bias_mean_abs", 0.1234))
    ]


def results(*tasks: str, merge: str = "ties") -> Results:
    return Results(
        [
            *measured("pretrained", NOTHING, tasks, 0.401),
            *measured("individual", NOTHING, tasks, 0.912),
            *measured(merge, NOTHING, tasks, 0.523),
            *measured(merge, FIT, tasks, 0.804, seeds=2),
        ]
    )


def shown(tables: list[Table]) -> str:
    console = Console(file=io.StringIO(), width=80, color_system=None, force_terminal=False)
    for table in tables:
        console.print(table)
    return console.file.getvalue()  # type: ignore[attr-defined, no-any-return]


def test_a_row_per_model_and_the_average_last() -> None:
    header, rows = cells(results("a", "b"), "accuracy")
    assert header == ["model", "a", "b", "average"]
    assert [row[0] for row in rows] == ["pretrained", "individual", "ties", "ties + surgery"]
    assert rows[0][1:] == ["40.1"] * 3
    assert rows[3][1:] == ["80.9 ± 0.7"] * 3


def test_markdown() -> None:
    lines = markdown_table(results("a|b", "c"), "bias_mean_abs").splitlines()
    assert lines[:4] == ["**representation bias, mean |ΔZ|**", "", "| model | a\\|b | c | average |", "| --- | ---: | ---: | ---: |"]
    assert lines[-1] == "| ties + surgery | 0.1234 ± 0.0000 | 0.1234 ± 0.0000 | 0.1234 ± 0.0000 |"
    report = markdown_report(results("a"), ["a note"])
    assert report.endswith("\n- a note\n")
    assert all(caption in report for caption, *_ in METRICS.values())


def test_csv() -> None:
    table = list(csv.reader(io.StringIO(csv_table(results('a,"b"', "c"), "accuracy"))))
    assert table[0] == ["model", 'a,"b"', "c", "average"]
    assert table[2] == ["individual", "91.2", "91.2", "91.2"]
    tidy = list(csv.DictReader(io.StringIO(tidy_csv(results("a")))))
    assert len(tidy) == 3 * 5
    assert list(tidy[-1].values())[:-1] == ["s", "ties", "surgery", "16", "held-out", "64", "1", "a", "bias_mean_abs"]


def test_models_that_differ_in_rank_only_are_told_apart() -> None:
    models = [Model("ties"), *(Model("ties", "surgery", rank, "held-out", 64) for rank in (4, 64))]
    assert list(labels_of(models).values()) == [
        "ties",
        "ties + surgery (rank 4, held-out, 64 samples)",
        "ties + surgery (rank 64, held-out, 64 samples)",
    ]
    records = measured("ties", NOTHING, ("a",), 0.5) + [
        record for model in models[1:] for record in measured("ties", model[1:], ("a",), model.rank / 100)
    ]
    tables = comparison_tables(Results(records))
    assert [str(table.title).partition(":")[0] for table in tables] == [
        "ties (rank 4, held-out, 64 samples)",
        "ties (rank 64, held-out, 64 samples)",
    ]
    assert "64.0" in shown(tables[1:])
    assert "64.0" not in shown(tables[:1])


@pytest.mark.parametrize("task", ["sst2", "a" * 200, "many words in a task name that is far too long for a terminal"])
def test_a_terminal_of_80_columns_keeps_every_digit(task: str) -> None:
    text = shown(comparison_tables(results(task, "b")))
    assert max(map(len, text.splitlines())) <= 80
    rows = [line.split() for line in text.splitlines() if "0.1234" in line]
    assert len(rows) == 3
    for row in rows:
        assert row[-10:] == ["40.1", "52.3", "80.9", "±", "0.7", "91.2", "0.1234", "0.1234", "±", "0.0000"]
    assert ("…" in text) == (len(task) > 10)
    header = next(line for line in text.splitlines() if line.startswith("task"))
    assert header.split() == ["task", "pretrained", "merged", "+", "surgery", "individual", "bias", "bias", "+", "surgery"]


def test_names_are_shown_as_they_are() -> None:
    text = shown(comparison_tables(results("[/x]", "\x1b[31m", merge="[bold]")) + bias_tables(results("[/x]")))
    assert text.count("[/x]") == 2
    assert "\\x1b[31m" in text
    assert text.startswith("[bold]: accuracy")


def test_bias_in_both_normalisations() -> None:
    text = shown(bias_tables(results("a")))
    assert "(1/N) ‖ΔZ‖₁" in text
    assert "3.21" in text
    assert "80.9" not in text


def test_methods() -> None:
    text = " ".join(shown([methods_table(METHODS)]).split())
    assert "density=0.2" in text
    assert "arXiv" in text
