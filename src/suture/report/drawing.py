"""Exhibits drawn for paper."""

import math
from collections.abc import Sequence

import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgba
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from suture.report.colours import BASELINES, BLACK, GREY, series_colours, task_colours
from suture.report.exhibits import Bars, Cloud, Dots, Lines, Picture, Plane, Series
from suture.report.figures import canvas, plain
from suture.report.numbers import places_of

MARKERS = ("o", "s", "^", "D", "X", "v", "P", "*")
"""A marker for each line, so that they are told apart without colours."""
HATCHES = ("", "", "", "", "////", "\\\\\\\\", "....", "xxxx")
WIDTH = 7.2
"""Of a text page, inches."""
ABREAST = 3
"""Panels side by side in a plane."""


def draw(exhibit: Picture) -> Figure:
    """Return the picture of an exhibit; within :func:`suture.report.figures.save_figure` it is in the project's style.

    >>> series = [Series(label="ties", mean=[0.5, None], deviation=[0.1, None])]
    >>> figure = draw(Bars(name="bias", title="Bias", y="mean |ΔZ|", groups=["spam", "news"], series=series))
    >>> figure.axes[0].get_ylabel()
    'mean |ΔZ|'
    """
    if isinstance(exhibit, Bars):
        return _bars(exhibit)
    if isinstance(exhibit, Dots):
        return _dots(exhibit)
    return _lines(exhibit) if isinstance(exhibit, Lines) else _plane(exhibit)


def _bars(bars: Bars) -> Figure:
    figure, axes = canvas(WIDTH, 3.0)
    places, width = np.arange(len(bars.groups)), 0.8 / max(1, len(bars.series))
    for number, (series, colour) in enumerate(zip(bars.series, _colours(bars.series), strict=True)):
        shift = (number - (len(bars.series) - 1) / 2) * width
        means, errors = _numbers(series.mean), _numbers(series.deviation)
        axes.bar(
            places + shift,
            means,
            0.95 * width,
            yerr=errors,
            color=colour,
            label=plain(series.label),
            hatch=HATCHES[number % len(HATCHES)],
            edgecolor="white",
            linewidth=0,
            capsize=2,
            error_kw={"linewidth": 0.8},
        )
    axes.set_xticks(places, list(map(plain, bars.groups)), rotation=20, ha="right", rotation_mode="anchor")
    axes.set_ylabel(plain(bars.y))
    axes.grid(axis="y", alpha=0.25)
    axes.set_axisbelow(True)
    _legend(figure, axes)
    return figure


def _dots(dots: Dots) -> Figure:
    figure, axes = canvas(WIDTH, 1.2 + 0.25 * len(dots.groups))
    places = np.arange(len(dots.groups))
    for number, (series, colour) in enumerate(zip(dots.series, _colours(dots.series), strict=True)):
        means, errors = _numbers(series.mean), _numbers(series.deviation)
        if series.label in BASELINES:
            axes.plot(means, places, linestyle="--", linewidth=1.4, color=colour, label=plain(series.label), zorder=1)
            continue
        axes.errorbar(means, places, xerr=errors, fmt="none", ecolor=colour, elinewidth=0.8, capsize=2, zorder=3)
        mark = MARKERS[number % len(MARKERS)]
        axes.plot(means, places, linestyle="none", marker=mark, markersize=6, color=colour, label=plain(series.label), zorder=3)
    _reaches(axes, dots)
    axes.set_yticks(places, list(map(plain, dots.groups)))
    axes.invert_yaxis()
    axes.set_xlabel(plain(dots.x))
    axes.grid(axis="x", alpha=0.25)
    _legend(figure, axes)
    return figure


def _reaches(axes: Axes, dots: Dots) -> None:
    """Join the dots of every row."""
    means = [_numbers(series.mean) for series in dots.series if series.label not in BASELINES]
    for place in range(len(dots.groups)):
        if known := [values[place] for values in means if math.isfinite(values[place])]:
            axes.hlines(place, min(known), max(known), color=GREY, linewidth=1, alpha=0.5, zorder=2)


def _lines(lines: Lines) -> Figure:
    figure, axes = canvas(WIDTH, 3.4)
    for number, (series, colour) in enumerate(zip(lines.series, _colours(lines.series), strict=True)):
        means, errors = _numbers(series.mean), _numbers(series.deviation)
        look = {"linestyle": "--"} if series.label in BASELINES else {"marker": MARKERS[number % len(MARKERS)], "markersize": 4.5}
        axes.plot(lines.places, means, linewidth=1.4, color=colour, label=plain(series.label), **look)
        axes.fill_between(lines.places, means - errors, means + errors, color=colour, alpha=0.16, linewidth=0)
    if lines.logarithmic:
        _logarithmic(axes, lines)
    axes.set_xlabel(plain(lines.x))
    axes.set_ylabel(plain(lines.y))
    axes.grid(alpha=0.25)
    _legend(figure, axes)
    return figure


def _logarithmic(axes: Axes, lines: Lines) -> None:
    """Scale the x-axis so, linear below the smallest place above zero; ticks stand at the places."""
    places = lines.places
    least = min((place for place in places if place > 0), default=1.0)
    axes.set_xscale("symlog", linthresh=least) if min(places, default=1.0) <= 0 else axes.set_xscale("log")
    axes.set_xticks(places, places_of(lines))
    axes.set_xticks([], minor=True)


def _plane(plane: Plane) -> Figure:
    panels = plane.models or [plane.reference]
    across = min(ABREAST, len(panels))
    down = math.ceil(len(panels) / across)
    figure = Figure(figsize=(min(3.7 * across, 9.0), 0.5 + 3.3 * down), layout="constrained")
    grid = figure.subplots(down, across, squeeze=False).flat
    colours = dict(zip(plane.tasks, task_colours(plane.tasks), strict=True))
    for panel, ax in zip(panels, grid, strict=False):
        for cloud in plane.clouds:
            if cloud.model == plane.reference:
                ax.scatter(cloud.x, cloud.y, marker="x", s=10, linewidths=0.7, color=colours[cloud.task], alpha=0.45)
            elif cloud.model == panel:
                _samples(ax, cloud, colours[cloud.task])
        ax.set_title(plain(panel), fontsize=9)
        ax.set_xticks([])
        ax.set_yticks([])
        ax.spines[:].set_visible(True)
    for ax in grid:  # what the panels left over
        ax.set_visible(False)
    figure.legend(handles=_plane_legend(plane, colours), loc="outside lower center", ncols=5, frameon=False, fontsize=8)
    return figure


def _samples(axes: Axes, cloud: Cloud, colour: str) -> None:
    """Draw samples, full where they were classified right."""
    fill = [to_rgba(colour, 0.9 if right else 0.0) for right in cloud.right]
    axes.scatter(cloud.x, cloud.y, marker="o", s=8, linewidths=0.6, facecolors=fill, edgecolors=to_rgba(colour, 0.9))


def _plane_legend(plane: Plane, colours: dict[str, str]) -> list[Line2D]:
    def entry(label: str, colour: str, marker: str, fill: str = "full") -> Line2D:
        style = {"linestyle": "none", "marker": marker, "color": colour, "fillstyle": fill, "markersize": 5}
        return Line2D([], [], label=plain(label), **style)  # type: ignore[arg-type]

    tasks = [entry(task, colour, "s") for task, colour in colours.items()]
    return [*tasks, entry(plane.reference, BLACK, "x"), entry("right", BLACK, "o"), entry("wrong", BLACK, "o", "none")]


def _legend(figure: Figure, axes: Axes) -> None:
    """Put the legend over the axes, in as many columns as the labels leave room for."""
    handles, labels = axes.get_legend_handles_labels()
    if handles:
        columns = max(1, min(len(labels), int(100 / (6 + max(map(len, labels))))))
        figure.legend(handles, labels, loc="outside upper center", ncols=columns, frameon=False, fontsize=8)


def _colours(series: Sequence[Series]) -> list[str]:
    return series_colours([each.label for each in series])


def _numbers(values: Sequence[float | None]) -> np.ndarray:
    return np.array([math.nan if value is None else value for value in values], dtype=float)
