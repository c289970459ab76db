"""Draw the pictures of the pages on concepts from the tables of results that they speak of.

python scripts/draw_figures.py docs/results docs/images
"""

import argparse
import re
import shutil
import tempfile
from collections.abc import Sequence
from functools import partial
from pathlib import Path

from matplotlib.figure import Figure

from suture.report.drawing import draw
from suture.report.exhibits import Bars, Lines, Series
from suture.report.figures import save_figure

Rows = list[list[str]]

SHOWN = {
    "weight_averaging": "weight averaging",
    "task_arithmetic(scale=0.5)": "task arithmetic",
    "ties(density=0.2, scale=1.0, scope=model, merge_rule=mean)": "Ties",
    "tsv_m(scale=1.0)": "TSV-M",
    "iso_c(scale=1.0)": "Iso-C",
    "regmean(samples=256, alpha=0.9)": "RegMean",
    "feat_cal(start=task_arithmetic(scale=0.3), samples=256, ridge=0.05, anchor=2.0, blend=0.7)": "FeatCal",
    "ada_merging_pp(scope=layer, initial=0.3, steps=500, batch_size=16, learning_rate=0.001, density=0.2)": "AdaMerging++",
}
"""Of the methods in the table, each at the better of its settings there, what the picture calls them."""


def rows_of(file: Path, first: str) -> Rows:
    """Return the rows, without the head, of every table of a file whose head begins with a cell."""
    found: Rows = []
    for table in re.findall(r"(?:^\|.*\n)+", file.read_text(encoding="utf-8"), re.MULTILINE):
        cells = [[cell.strip().strip("`") for cell in line.strip("|").split("|")] for line in table.splitlines()]
        if cells[0][0] == first:
            found += cells[2:]
    return found


def number(cell: str) -> float:
    """Return what stands in a cell, without its deviation."""
    return float(cell.split()[0])


def series_of(label: str, cells: Sequence[str]) -> Series:
    """Return the numbers of cells such as ``73.2 ± 0.2``; one seed has no deviation."""
    deviations = [float(cell.split("±")[1]) if "±" in cell else None for cell in cells]
    return Series(label=label, mean=[number(cell) for cell in cells], deviation=deviations)


def bias_by_block(results: Path) -> Lines:
    """Return the bias behind every block: merged, and after surgery behind the blocks and in them."""
    rows = rows_of(results / "paper/nlp8/layers/layers.md", "merge")
    cells = {surgery: row for merge, surgery, *row in rows if merge == "Weight averaging"}
    shown = ("SurgeryV2", "deep closed form", "residual surgery, 1%")
    series = [
        series_of("weight averaging", cells["without surgery"][:6]),
        *(series_of(f"+ {surgery}", cells[surgery][:6]) for surgery in shown),
    ]
    return Lines(name="bias", title="Bias", x="block", y="mean |Δ| of the mean token", places=[1, 2, 3, 4, 5, 6], series=series)


def calibration(results: Path) -> Bars:
    """Return accuracy before surgery, after it held-out, and after it transductively."""
    rows = {row[0]: row for row in rows_of(results / "nlp8-methods.md", "method")}
    columns = {"merged": 2, "+ surgery, held-out": 3, "+ surgery, transductive": 5}
    series = [series_of(label, [rows[method][column] for method in SHOWN]) for label, column in columns.items()]
    return Bars(name="accuracy", title="Accuracy", y="average accuracy, %", groups=list(SHOWN.values()), series=series)


def with_limits(exhibit: Bars, lowest: float, experts: float) -> Figure:
    """Return the picture of bars from a number on, with a line where the experts are."""
    figure = draw(exhibit)
    (axes,) = figure.axes
    axes.set_ylim(lowest, experts + 1.5)
    axes.axhline(experts, color="black", linewidth=1)
    axes.annotate("individual experts", (0.01, experts), xycoords=("axes fraction", "data"), va="bottom", fontsize=8)
    return figure


def main(arguments: Sequence[str] | None = None) -> None:
    """Draw all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("images", type=Path)
    chosen = parser.parse_args(arguments)
    experts = next(number(row[2]) for row in rows_of(chosen.results / "nlp8-methods.md", "method") if row[0] == "individual")
    pictures = {
        "bias-by-block": partial(draw, bias_by_block(chosen.results)),
        "calibration": partial(with_limits, calibration(chosen.results), 60, experts),
    }
    with tempfile.TemporaryDirectory() as temporary:
        for name, picture in pictures.items():
            save_figure(picture, Path(temporary) / name)
            shutil.copyfile(Path(temporary) / f"{name}.png", chosen.images / f"{name}.png")


if __name__ == "__main__":
    main()
