"""Pictures for a browser, in Vega-Lite: who opens the page looks closer, and chooses what is shown.

Fields have names of ours; titles and labels of an exhibit are only ever values. ``Spec`` is JSON.
"""

import math
from collections import defaultdict
from collections.abc import Sequence
from typing import Any

from suture.errors import UnsupportedFormat
from suture.report.colours import BASELINES, BLACK, GREY, WHITE, series_colours, task_colours
from suture.report.exhibits import Bars, Dots, Lines, Picture, Plane, Series
from suture.report.numbers import measured, places_of, told

Spec = dict[str, Any]
Point = tuple[float, float]

SHAPES = ("circle", "square", "triangle-up", "diamond", "cross", "triangle-down", "triangle-right", "triangle-left")
"""A marker for each line, so that they are told apart without colours."""
GLYPHS = ("●", "■", "▲", "◆", "✚", "▼", "▶", "◀")
"""The same, as text."""
DASHES = "╌"
"""A baseline's dashed line, as text."""
CROSS = "M-.7,-.7L.7,.7M.7,-.7L-.7,.7"
LOOKED_AT = 200
"""Samples of a task that decide where its name stands."""
ROW = 27
"""Height of a row of dots, pixels."""
FEW = 12
"""Places on an axis that all get a tick."""


def spec_of(exhibit: Picture) -> Spec:
    """Return an exhibit's picture in Vega-Lite.

    A plane's samples are not in it: the page puts them into the data set ``samples``, and sets the parameters ``shown``, a list of
    tasks, and ``model``.

    >>> lines = Lines(name="l", title="L", x="rank", y="%", places=[4.0], series=[Series(label="a", mean=[1.0], deviation=[0.5])])
    >>> spec_of(lines)["data"]["values"]
    [{'place': 4.0, 'series': 'a', 'mean': 1.0, 'low': 0.5, 'high': 1.5, 'told': '4 · a: 1 ± 0.5'}]
    """
    if isinstance(exhibit, Plane):
        return _plane(exhibit)
    if isinstance(exhibit, Dots):
        return _dots(exhibit)
    return _bars(exhibit) if isinstance(exhibit, Bars) else _lines(exhibit)


def compiled(spec: Spec) -> Spec:
    """Return a picture in Vega, which the page's script draws.

    Raises :class:`UnsupportedFormat` where vl-convert, which knows both languages, is not installed.
    """
    vega: Spec = converter().vegalite_to_vega(spec)
    for mark in vega["marks"]:
        if mark["type"] == "text":
            mark["interactive"] = False  # a name does not hide from the pointer what is beneath it
    return vega


def converter() -> Any:
    """Return the library that brings Vega along; raises :class:`UnsupportedFormat` where it is not installed."""
    try:
        import vl_convert
    except ImportError as error:
        raise UnsupportedFormat("a report's page needs vl-convert-python, which is not installed: pip install 'suture[report]'") from error
    return vl_convert


def _bars(bars: Bars) -> Spec:
    labels = [series.label for series in bars.series]
    whisker = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    return _frame(290) | {
        "data": {"values": _values(bars, bars.groups)},
        "encoding": {
            "x": {"field": "place", "type": "nominal", "sort": None, "axis": {"title": None, "labelAngle": -35, "ticks": False}},
            "xOffset": {"field": "series", "type": "nominal", "sort": labels},
        },
        "layer": [
            {
                "mark": _mark("bar"),
                "encoding": {"y": {"field": "mean", "type": "quantitative", "title": bars.y}, "color": _colour(bars.series)},
            },
            {"transform": [{"filter": "isValid(datum.low)"}], "mark": _mark("rule", color=BLACK, strokeWidth=1.2), "encoding": whisker},
        ],
    }


def _dots(dots: Dots) -> Spec:
    labels = [series.label for series in dots.series]
    baseline = {"field": "series", "oneOf": [label for label in labels if label in BASELINES]}
    mean = {"field": "mean", "type": "quantitative", "title": dots.x, "scale": {"zero": False, "padding": 10}}
    whisker = {"x": {"field": "low", "type": "quantitative"}, "x2": {"field": "high"}}
    others: Spec = {"transform": [{"filter": {"not": baseline}}]}
    reach = {"x": {"aggregate": "min", "field": "mean", "type": "quantitative"}, "x2": {"aggregate": "max", "field": "mean"}}
    return _frame(0) | {
        "height": {"step": ROW},
        "data": {"values": _values(dots, dots.groups)},
        "encoding": {
            "y": {"field": "place", "type": "nominal", "sort": dots.groups, "axis": {"title": None, "ticks": False, "labelLimit": 240}}
        },
        "layer": [
            others | {"mark": {"type": "rule", "aria": False, "tooltip": None, "color": GREY, "opacity": 0.5}, "encoding": reach},
            {
                "transform": [{"filter": baseline}],
                "mark": _mark("line", strokeWidth=1.5, strokeDash=[6, 4]),
                "encoding": {"x": mean, "color": _colour(dots.series)},
            },
            {
                "transform": [{"filter": {"and": [{"not": baseline}, "isValid(datum.low)"]}}],
                "mark": _mark("rule", strokeWidth=1.2),
                "encoding": whisker | {"color": _colour(dots.series)},
            },
            others
            | {
                "mark": _mark("point", filled=True, size=80, opacity=1),
                "encoding": {"x": mean, "color": _colour(dots.series), "shape": _shape(labels)},
            },
        ],
    }


def _lines(lines: Lines) -> Spec:
    labels = [series.label for series in lines.series]
    dashed = [label for label in labels if label in BASELINES]
    dash = {"condition": {"test": {"field": "series", "oneOf": dashed}, "value": [6, 4]}, "value": [1, 0]}
    scale = _scale(lines) | {"nice": False, "padding": 14}
    axis = {"values": lines.places} if len(lines.places) <= FEW else {}
    mean = {"field": "mean", "type": "quantitative", "title": lines.y, "scale": {"zero": False}}
    band = {"y": {"field": "low", "type": "quantitative"}, "y2": {"field": "high"}}
    return _frame(310) | {
        "data": {"values": _values(lines, lines.places)},
        "encoding": {
            "x": {
                "field": "place",
                "type": "quantitative",
                "title": lines.x,
                "scale": scale,
                "axis": axis | {"format": "~g" if max(lines.places, default=0) >= 1000 else ".3~r", "labelOverlap": True, "grid": False},
            },
            "color": _colour(lines.series),
        },
        "layer": [
            {"transform": [{"filter": "isValid(datum.low)"}], "mark": _mark("area", opacity=0.18), "encoding": band},
            {"mark": _mark("line", strokeWidth=2), "encoding": {"y": mean, "strokeDash": dash}},
            {
                "transform": [{"filter": {"not": {"field": "series", "oneOf": dashed}}}],
                "mark": _mark("point", filled=True, size=70, opacity=1),
                "encoding": {"y": mean, "shape": _shape(labels)},
            },
        ],
    }


def _scale(lines: Lines) -> Spec:
    """Return the x-axis; a logarithmic one is linear below the smallest place above zero, if there are any there."""
    if not lines.logarithmic:
        return {"type": "linear", "zero": False}
    if min(lines.places, default=1.0) > 0:
        return {"type": "log"}
    return {"type": "symlog", "constant": min((place for place in lines.places if place > 0), default=1.0)}


def _plane(plane: Plane) -> Spec:
    shown = "indexof(shown, datum.task) >= 0"
    colour = {"domain": plane.tasks, "range": task_colours(plane.tasks)}
    position = {side: _side(plane, side) for side in ("x", "y")}
    encoding = {"color": {"field": "task", "type": "nominal", "scale": colour, "legend": None}}
    full = {"condition": {"test": "datum.right", "value": 0.75}, "value": 0}
    inked = {"field": "task", "type": "nominal", "scale": colour, "legend": None}
    return _frame(460) | {
        "params": [{"name": "shown", "value": plane.tasks}, {"name": "model", "value": [*plane.models, plane.reference][0]}],
        "data": {"name": "samples", "values": []},
        "encoding": position,
        "layer": [
            {
                "transform": [{"filter": f"{shown} && datum.reference"}],
                "mark": _mark("point", shape=CROSS, size=36, opacity=0.6, strokeWidth=1.1),
                "encoding": encoding,
            },
            {
                "transform": [{"filter": f"{shown} && !datum.reference && datum.model === model"}],
                "mark": _mark("point", shape="circle", size=26, opacity=0.95, strokeWidth=1.2),
                "encoding": encoding | {"fill": inked, "fillOpacity": full},
            },
            *({"data": {"values": _middles(plane)}, "transform": [{"filter": shown}], **text} for text in _names()),
        ],
    }


def _names() -> list[Spec]:
    """Return the layers of the tasks' names: a halo in the colour of the ground, and the text over it."""
    looks = ({"stroke": WHITE, "strokeWidth": 4, "strokeJoin": "round", "opacity": 0.85}, {"fill": BLACK})
    encoding = {"text": {"field": "task", "type": "nominal"}}
    return [{"mark": {"type": "text", "aria": False, "tooltip": None, "fontWeight": 600, **look}, "encoding": encoding} for look in looks]


def _side(plane: Plane, side: str) -> Spec:
    """Return an axis that stays as it is, whatever is shown."""
    values = [value for cloud in plane.clouds for value in getattr(cloud, side)] or [0.0]
    margin = 0.04 * (max(values) - min(values)) or 1.0
    scale = {"domain": [min(values) - margin, max(values) + margin], "nice": False, "zero": False}
    return {"field": side, "type": "quantitative", "axis": None, "scale": scale}


def _middles(plane: Plane) -> list[Spec]:
    """Return where each task's name stands: amid the densest of the reference's samples, or of all where it has none."""
    of_task: dict[str, list[Point]] = defaultdict(list)
    for cloud in sorted(plane.clouds, key=lambda cloud: cloud.model != plane.reference):
        if cloud.model == plane.reference or not of_task[cloud.task]:
            of_task[cloud.task] += zip(cloud.x, cloud.y, strict=True)
    middles = {task: _densest(points[:LOOKED_AT]) for task, points in of_task.items() if points}
    return [{"task": task, "x": x, "y": y} for task, (x, y) in middles.items()]


def _densest(points: Sequence[Point]) -> Point:
    """Return the point that has the nearest third of all others nearest to it."""

    def reach(point: Point) -> float:
        return sorted(math.dist(point, other) for other in points)[len(points) // 3]

    return min(points, key=reach)


def _frame(height: int) -> Spec:
    return {"width": "container", "height": height, "autosize": {"type": "fit-x", "contains": "padding"}, "background": "transparent"}


def _mark(kind: str, **settings: object) -> Spec:
    """Return a mark that tells its values when pointed at, and is left to the table beneath by screen readers."""
    return {"type": kind, "aria": False, "tooltip": {"content": "data"}, **settings}


def _colour(series: Sequence[Series]) -> Spec:
    labels = [each.label for each in series]
    return {"field": "series", "type": "nominal", "legend": None, "scale": {"domain": labels, "range": series_colours(labels)}}


def _shape(labels: Sequence[str]) -> Spec:
    shapes = [SHAPES[place % len(SHAPES)] for place in range(len(labels))]
    return {"field": "series", "type": "nominal", "legend": None, "scale": {"domain": list(labels), "range": shapes}}


def _values(exhibit: Bars | Dots | Lines, places: Sequence[object]) -> list[Spec]:
    """Return a row for every value that was measured, and what is told of it."""
    rows = []
    for series in exhibit.series:
        for place, name, mean, deviation in zip(places, places_of(exhibit), series.mean, series.deviation, strict=True):
            if mean is None or not measured(mean):
                continue
            row = {"place": place, "series": series.label, "mean": mean}
            if deviation is not None and measured(deviation):
                row |= {"low": mean - deviation, "high": mean + deviation}
            rows.append(row | {"told": f"{name} · {series.label}: {told(mean, deviation)}"})
    return rows
