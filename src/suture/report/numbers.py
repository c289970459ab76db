"""The numbers behind a picture: as a table to read, and as rows to compute with."""

import math
from collections.abc import Sequence
from typing import TypeGuard

from suture.report.exhibits import AnyExhibit, Bars, Cloud, Dots, Lines, Picture, Plane, Series, Table

Row = list[object]


def measured(value: float | None) -> bool:
    """Say whether there is a number to draw.

    >>> measured(0.0), measured(None), measured(float("nan"))
    (True, False, False)
    """
    return value is not None and math.isfinite(value)


def drawable(exhibit: AnyExhibit) -> TypeGuard[Picture]:
    """Say whether an exhibit is a picture that has something in it.

    >>> drawable(Plane(name="tsne", title="", reference="individual", clouds=[]))
    False
    """
    if isinstance(exhibit, Table):
        return False
    if isinstance(exhibit, Plane):
        return any(cloud.x for cloud in exhibit.clouds)
    return any(measured(mean) for series in exhibit.series for mean in series.mean)


def told(mean: float | None, deviation: float | None) -> str:
    """Return a value as text, to four digits; nothing where nothing was measured.

    >>> told(63.614, 0.52), told(0.1, None), told(None, None)
    ('63.61 ± 0.52', '0.1', '')
    """
    if mean is None or not math.isfinite(mean):
        return ""
    spread = f" ± {deviation:.2g}" if deviation is not None and math.isfinite(deviation) else ""
    return f"{mean:.4g}{spread}"


def places_of(exhibit: Bars | Dots | Lines) -> list[str]:
    """Return what the values of every series stand for: groups, or places on the x-axis, as text.

    >>> places_of(Lines(name="l", title="", x="rank", y="%", places=[4.0, 0.106511, 4096.0], series=[]))
    ['4', '0.107', '4096']
    """
    if isinstance(exhibit, Lines):
        return [f"{place:.3g}" if place < 1000 else f"{place:g}" for place in exhibit.places]
    return exhibit.groups


def as_table(exhibit: Picture) -> Table:
    """Return what a picture shows as a table: values with deviations or, of a plane, how many samples each model has right.

    >>> series = [Series(label="ties", mean=[0.5], deviation=[0.25])]
    >>> as_table(Bars(name="bias", title="Bias", y="mean |ΔZ|", groups=["spam"], series=series)).rows
    [['spam', '0.5 ± 0.25']]
    """
    header, rows = _shares(exhibit) if isinstance(exhibit, Plane) else _values(exhibit)
    return Table(name=exhibit.name, title=exhibit.title, notes=exhibit.notes, section=exhibit.section, header=header, rows=rows)


def as_rows(exhibit: Picture) -> list[Row]:
    """Return a picture's numbers, not rounded, under a header; None is nothing measured.

    >>> cloud = Cloud(model="ties", task="spam", x=[0.1], y=[2.0], samples=["hello"], right=[True])
    >>> as_rows(Plane(name="tsne", title="", reference="individual", clouds=[cloud]))
    [['model', 'task', 'x', 'y', 'right', 'sample'], ['ties', 'spam', 0.1, 2.0, True, 'hello']]
    """
    if isinstance(exhibit, Plane):
        return [["model", "task", "x", "y", "right", "sample"], *(row for cloud in exhibit.clouds for row in _points(cloud))]
    header = [exhibit.x] if isinstance(exhibit, Lines) else ["group"]
    header += [name for series in exhibit.series for name in (series.label, f"{series.label}, deviation")]
    columns = [values for series in exhibit.series for values in (series.mean, series.deviation)]
    places: Sequence[object] = exhibit.places if isinstance(exhibit, Lines) else exhibit.groups
    return [[*header], *([place, *(column[row] for column in columns)] for row, place in enumerate(places))]


def _points(cloud: Cloud) -> list[Row]:
    points = zip(cloud.x, cloud.y, cloud.right, cloud.samples, strict=True)
    return [[cloud.model, cloud.task, *point] for point in points]


def _values(exhibit: Bars | Dots | Lines) -> tuple[list[str], list[list[str]]]:
    first = exhibit.y if isinstance(exhibit, Bars) else exhibit.x
    rows = [[place, *(_cell(series, row) for series in exhibit.series)] for row, place in enumerate(places_of(exhibit))]
    return [first, *(series.label for series in exhibit.series)], rows


def _cell(series: Series, row: int) -> str:
    return told(series.mean[row], series.deviation[row])


def _shares(plane: Plane) -> tuple[list[str], list[list[str]]]:
    known = {(cloud.model, cloud.task): f"{sum(cloud.right)} of {len(cloud.right)}" for cloud in plane.clouds}
    models = list(dict.fromkeys([*plane.models, plane.reference]))
    return ["right", *models], [[task, *(known.get((model, task), "") for model in models)] for task in plane.tasks]
