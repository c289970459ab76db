"""The benchmarks in one picture, drawn from the tables that they wrote.

python benchmarks/picture.py docs/results docs/images/benchmark-merging.png
"""

import argparse
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter

from growth import Line

Table = list[list[str]]
OURS, LIGHT, BOUND, LIMIT = "#2a6f97", "#89c2d9", "#adb5bd", "#c1121f"
PLATE = {"facecolor": "white", "edgecolor": "none", "pad": 0.8}
"""Under a number, so that no target's line runs through it."""

MARKS = {"task_arithmetic": ("o", OURS), "ties": ("s", "#bc6c25")}


def tables(file: Path) -> list[Table]:
    """Return a Markdown file's tables, cell by cell, without the rule under the head."""
    found: list[Table] = [[]]
    for line in file.read_text(encoding="utf-8").splitlines():
        if not line.startswith("|"):
            found.append([])
        elif not line.startswith("|---"):
            found[-1].append([cell.strip() for cell in line.strip("|").split("|")])
    return [table for table in found if table]


def named(all_tables: Sequence[Table], head: str, column: str = "") -> Table:
    """Return the rows, without the head, of the first table whose head starts so and has the column."""
    return next(table[1:] for table in all_tables if table[0][0] == head and (not column or column in table[0]))


def ratios(axes: Axes, found: Sequence[Table]) -> None:
    """Draw times over the NumPy average's, with their targets."""
    for offset, colour, dtype in ((-0.2, OURS, "float32"), (0.2, LIGHT, "bfloat16")):
        rows = named(found, dtype, "÷ NumPy average")
        places = np.arange(len(rows)) + offset
        values = [float(row[2]) for row in rows]
        axes.bar(places, values, 0.38, color=colour, label=dtype)
        for place, value in zip(places, values, strict=True):
            axes.text(place, value + 0.08, f"{value:.2f}", ha="center", va="bottom", fontsize=7.5, zorder=4, bbox=PLATE)
        for number, row in enumerate(rows):
            if row[3]:
                label = "target: at most" if offset < 0 and number == len(rows) - 1 else None
                axes.plot([number - 0.42, number + 0.42], [float(row[3])] * 2, color=LIMIT, lw=2, label=label)
    axes.set_xticks(range(len(rows)), [row[0].replace("_", "_\n").replace(" ", "\n", 1) for row in rows], fontsize=8)
    axes.set_ylim(0, 9)
    axes.set_ylabel("time ÷ NumPy streaming average")
    axes.set_title("Merging eight experts of 109 M, and the bounds")
    axes.legend(loc="upper left", frameon=False)


def commands(axes: Axes, found: Sequence[Table]) -> None:
    """Draw whole commands' times over mergekit's."""
    rows = named(found, "merge")[::-1]
    values = [float(row[3]) for row in rows]
    axes.barh(range(len(rows)), values, 0.6, color=OURS)
    for place, (row, value) in enumerate(zip(rows, values, strict=True)):
        axes.text(value + 0.01, place, f"{value:.2f}   ({row[1]} s ÷ {row[2]} s)", va="center", fontsize=8)
        if row[4]:
            axes.plot([float(row[4])] * 2, [place - 0.42, place + 0.42], color=LIMIT, lw=2, label=f"target: at most {row[4]}")
    axes.set_yticks(range(len(rows)), [row[0] for row in rows])
    axes.set_xlim(0, max(0.5, *values) * 1.55)
    axes.set_xlabel("whole command: suture ÷ mergekit 0.1.5")
    axes.set_title("Whole commands, eight experts of 109 M, float32")
    axes.legend(loc="lower right", frameon=False)


def growth(axes: Axes, found: Sequence[Table], title: str) -> tuple[list[float], dict[str, list[float]]]:
    """Draw the measured times by size, and return both."""
    (head, *rows) = next(table for table in found if table[0][0] == title)
    sizes = [float(cell) for cell in head[1:]]
    times = {row[0].removesuffix(", s"): [float(cell) for cell in row[1:]] for row in rows}
    for method, spent in times.items():
        marker, colour = MARKS[method]
        axes.plot(sizes, spent, marker, color=colour, label=method)
    axes.set_ylabel("seconds")
    return sizes, times


def over_experts(axes: Axes, found: Sequence[Table]) -> None:
    """Draw time over the number of experts with the fitted lines."""
    sizes, times = growth(axes, found, "experts")
    reach = np.array([0, sizes[-1]])
    for method, spent in times.items():
        line = Line(sizes, spent)
        fit = f"{line.constant:.2f} s + {line.slope:.3f} s · experts, R² = {line.r2:.3f}"
        axes.plot(reach, line.constant + line.slope * reach, color=MARKS[method][1], lw=1, label=fit)
    axes.set_xticks(sizes)
    axes.set_xlim(0, sizes[-1] * 1.04)
    axes.set_ylim(0, 1.35 * max(max(spent) for spent in times.values()))
    axes.set_xlabel("experts (23 M each)")
    axes.set_title("Time grows by a line in the number of experts")
    axes.legend(loc="upper left", frameon=False)


def over_sizes(axes: Axes, found: Sequence[Table]) -> None:
    """Draw time over the model's size with the fitted powers."""
    sizes, times = growth(axes, found, "million elements")
    for method, spent in times.items():
        exponent, start = np.polyfit(np.log(sizes), np.log(spent), 1)
        power = np.exp(start) * np.array(sizes) ** exponent
        axes.plot(sizes, power, color=MARKS[method][1], lw=1, label=f"∝ size to the power {exponent:.2f}")
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xticks(sizes, [f"{size:g}" for size in sizes])
    axes.xaxis.minorticks_off()
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
    axes.set_xlabel("million elements (two experts)")
    axes.set_title("Time grows with the model's size")
    axes.legend(loc="upper left", frameon=False)


def main() -> None:
    """Draw the picture."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("results", type=Path)
    parser.add_argument("picture", type=Path)
    options = parser.parse_args()
    merging, mergekit, grown = (tables(options.results / f"benchmark-{name}.md") for name in ("merging", "mergekit", "growth"))
    figure = Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    ratios(panels[0, 0], merging)
    commands(panels[0, 1], mergekit)
    over_experts(panels[1, 0], grown)
    over_sizes(panels[1, 1], grown)
    for axes in panels.flat:
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(options.picture, dpi=110)


if __name__ == "__main__":
    main()
