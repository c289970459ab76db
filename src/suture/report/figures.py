"""Figures as PNG and SVG: accuracy, representation bias, and a t-SNE of the representations."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from torch import Tensor

from suture.evaluation import AVERAGE, INDIVIDUAL, PRETRAINED, Model, Results

GREY, ORANGE, BLUE, BLACK = "#9aa0a6", "#d55e00", "#0072b2", "#202124"
"""Pretrained, merged, operated, expert: told apart by the colour-blind, and by their lightness in print."""

TASK_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#117733", "#6a3d9a")
STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "suture",
    "svg.fonttype": "none",
}


def accuracy_figure(results: Results, operated: Model) -> Figure:
    """Draw each task's accuracy from pretrained over merged and operated to the expert."""
    models = [
        (Model(PRETRAINED), "pretrained", GREY, "o"),
        (results.plain(operated.merge), f"merged: {_plain(operated.merge)}", ORANGE, "o"),
        (operated, "merged + surgery", BLUE, "D"),
        (Model(INDIVIDUAL), "individual experts", BLACK, "|"),
    ]
    tasks = [*results.tasks, AVERAGE]
    figure, axes = _canvas(7.2, 0.6 + 0.36 * len(tasks))
    places = np.arange(len(tasks))[::-1]
    for model, label, colour, marker in models:
        means, errors = _series(results, model, "accuracy", tasks, 100.0)
        size = 13 if marker == "|" else 6
        axes.errorbar(
            means,
            places,
            xerr=errors,
            fmt=marker,
            color=colour,
            label=label,
            markersize=size,
            markeredgewidth=2,
            linestyle="none",
        )
    before, after = (np.array(_series(results, model, "accuracy", tasks, 100.0)[0]) for model, *_ in models[1:3])
    axes.hlines(places, before, after, color=BLUE, linewidth=2, alpha=0.35, zorder=0)
    axes.set_yticks(places, list(map(_plain, tasks)))
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, fontsize=8, columnspacing=1.2)
    return figure


def bias_figure(results: Results, operated: Model) -> Figure:
    """Draw each task's representation bias with and without surgery, as in Fig. 4 of the paper."""
    tasks = [*results.tasks, AVERAGE]
    figure, axes = _canvas(7.2, 3.0)
    places = np.arange(len(tasks))
    merged, label = results.plain(operated.merge), _plain(operated.merge)
    for offset, model, legend, colour in ((-0.2, merged, label, ORANGE), (0.2, operated, f"{label} + {operated.surgery}", BLUE)):
        means, errors = _series(results, model, "bias_mean_abs", tasks, 1.0)
        axes.bar(places + offset, means, 0.38, yerr=errors, color=colour, label=legend, capsize=2)
    axes.set_xticks(places, list(map(_plain, tasks)), rotation=20, ha="right")
    axes.set_ylabel("representation bias\nmean |Z − Z of the expert|")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def tsne_figure(planes: Mapping[str, Mapping[str, Tensor]], panels: Sequence[str]) -> Figure:
    """Draw the experts' representations (crosses) and a merged model's (dots) in one plane, a panel per model.

    ``planes`` maps ``individual`` and each panel's name to each task's coordinates, shape (n, 2).
    """
    figure = Figure(figsize=(3.7 * len(panels), 3.9), layout="constrained")
    for ax, panel in zip(figure.subplots(1, len(panels), squeeze=False)[0], panels, strict=True):
        for place, task in enumerate(planes["individual"]):
            colour = TASK_COLOURS[place % len(TASK_COLOURS)]
            ax.scatter(*planes["individual"][task].T, marker="x", s=10, linewidths=0.7, color=colour, alpha=0.45)
            ax.scatter(*planes[panel][task].T, marker="o", s=7, linewidths=0, color=colour, alpha=0.9)
        ax.set_title(_plain(panel), fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
    figure.legend(handles=_tsne_legend(list(planes["individual"])), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def save_figure(draw: Callable[[], Figure], stem: Path) -> None:
    """Draw a figure in the project's style and write ``stem.png`` and ``stem.svg``, the same bytes for the same figure."""
    with mpl.rc_context(STYLE):
        figure = draw()
        figure.savefig(stem.with_suffix(".png"), dpi=160, metadata={"Software": None})
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})


def _canvas(width: float, height: float) -> tuple[Figure, Axes]:
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def _plain(name: str) -> str:
    """Keep a name from being read as a formula."""
    return name.replace("$", r"\$")


def _series(results: Results, model: Model, metric: str, tasks: Sequence[str], scale: float) -> tuple[list[float], list[float]]:
    spreads = [results.spread(model, metric, task, scale) for task in tasks]
    return [s.mean if s else float("nan") for s in spreads], [s.deviation if s and s.deviation else float("nan") for s in spreads]


def _tsne_legend(tasks: Sequence[str]) -> list[Line2D]:
    def entry(label: str, colour: str, marker: str) -> Line2D:
        return Line2D([], [], linestyle="none", marker=marker, color=colour, label=label, markersize=5)

    colours = [entry(_plain(task), TASK_COLOURS[place % len(TASK_COLOURS)], "s") for place, task in enumerate(tasks)]
    return [*colours, entry("expert", BLACK, "x"), entry("merged model", BLACK, "o")]
