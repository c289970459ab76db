"""Figures as PNG, SVG and PDF: their style, how they are saved, and those of accuracy and representation bias."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from PIL import Image

from suture.evaluation import AVERAGE, INDIVIDUAL, PRETRAINED, Model, Results
from suture.report.colours import BLACK, BLUE, GREY, ORANGE

STYLE: Any = {
    "font.size": 9,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "svg.hashsalt": "suture",
    "svg.fonttype": "none",
    "pdf.fonttype": 42,
}


def accuracy_figure(results: Results, operated: Model) -> Figure:
    """Draw each task's accuracy from pretrained over merged and operated to the expert."""
    models = [
        (Model(PRETRAINED), "pretrained", GREY, "o"),
        (results.plain(operated.merge), f"merged: {plain(operated.merge)}", ORANGE, "o"),
        (operated, "merged + surgery", BLUE, "D"),
        (Model(INDIVIDUAL), "individual experts", BLACK, "|"),
    ]
    tasks = [*results.tasks, AVERAGE]
    figure, axes = canvas(7.2, 0.6 + 0.36 * len(tasks))
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
    axes.set_yticks(places, list(map(plain, tasks)))
    axes.get_yticklabels()[-1].set_fontweight("bold")
    axes.set_xlabel("accuracy, %")
    axes.grid(axis="x", alpha=0.25)
    axes.legend(loc="lower center", bbox_to_anchor=(0.45, 1.0), ncols=4, frameon=False, fontsize=8, columnspacing=1.2)
    return figure


def bias_figure(results: Results, operated: Model) -> Figure:
    """Draw each task's representation bias with and without surgery, as in Fig. 4 of the paper."""
    tasks = [*results.tasks, AVERAGE]
    figure, axes = canvas(7.2, 3.0)
    places = np.arange(len(tasks))
    merged, label = results.plain(operated.merge), plain(operated.merge)
    for offset, model, legend, colour in ((-0.2, merged, label, ORANGE), (0.2, operated, f"{label} + {operated.surgery}", BLUE)):
        means, errors = _series(results, model, "bias_mean_abs", tasks, 1.0)
        axes.bar(places + offset, means, 0.38, yerr=errors, color=colour, label=legend, capsize=2)
    axes.set_xticks(places, list(map(plain, tasks)), rotation=20, ha="right")
    axes.set_ylabel("representation bias\nmean |Z − Z of the expert|")
    axes.legend(frameon=False, loc="lower center", bbox_to_anchor=(0.5, 1.0), ncols=2)
    return figure


def save_figure(draw: Callable[[], Figure], stem: Path) -> None:
    """Draw a figure in the project's style and write ``stem.png``, ``.svg`` and ``.pdf``, the same bytes for the same figure."""
    with mpl.rc_context(STYLE):
        figure = draw()
        _save_png(figure, stem.with_suffix(".png"))
        figure.savefig(stem.with_suffix(".svg"), metadata={"Date": None})
        figure.savefig(stem.with_suffix(".pdf"), metadata={"CreationDate": None, "Creator": None, "Producer": None})


def _save_png(figure: Figure, file: Path) -> None:
    """Write a figure in 256 colours, which are all that it needs, and a third of the bytes."""
    drawn = BytesIO()
    figure.savefig(drawn, format="png", dpi=160, facecolor="white")
    with Image.open(drawn) as picture:
        picture.convert("RGB").quantize(256, dither=Image.Dither.NONE).save(file, optimize=True, dpi=(160, 160))


def canvas(width: float, height: float) -> tuple[Figure, Axes]:
    """Return an empty figure of a size in inches, and its axes."""
    figure = Figure(figsize=(width, height), layout="constrained")
    return figure, figure.subplots()


def plain(name: str) -> str:
    r"""Keep a name from being read as a formula.

    >>> plain("$cash")
    '\\$cash'
    """
    return name.replace("$", r"\$")


def _series(results: Results, model: Model, metric: str, tasks: Sequence[str], scale: float) -> tuple[list[float], list[float]]:
    spreads = [results.spread(model, metric, task, scale) for task in tasks]
    return [s.mean if s else float("nan") for s in spreads], [s.deviation if s and s.deviation else float("nan") for s in spreads]
