"""A report's parts in HTML; every text in it is escaped."""

from collections.abc import Iterable, Mapping, Sequence
from html import escape

from suture.report.charts import DASHES, GLYPHS, ROW
from suture.report.colours import BASELINES, BLACK, ON_DARK, series_colours, task_colours
from suture.report.exhibits import AnyExhibit, Bars, Dots, Lines, Picture, Plane, Report, Table
from suture.report.numbers import as_table, drawable

RESULTS = "Results"
"""The heading of exhibits without a section."""
MANY = 6
"""Columns from which a table's deviations stand under the values where there is little room."""
HEIGHTS = {"bars": 330, "dots": 45, "lines": 350, "plane": 462}
"""Room kept for pictures that are yet to be drawn, pixels; a row of dots takes :data:`suture.report.charts.ROW` more."""


def sections_of(report: Report) -> dict[str, list[AnyExhibit]]:
    """Return the exhibits under each heading, in the order of the first of each.

    >>> tables = [Table(name=n, title=n, header=["a"], rows=[], section=s) for n, s in (("x", "B"), ("y", ""), ("z", "B"))]
    >>> report = Report(title="", summary="", notes=[], exhibits=tables, recipe="", provenance={})
    >>> {heading: [table.name for table in held] for heading, held in sections_of(report).items()}
    {'B': ['x', 'z'], 'Results': ['y']}
    """
    sections: dict[str, list[AnyExhibit]] = {}
    for exhibit in report.exhibits:
        sections.setdefault(exhibit.section or RESULTS, []).append(exhibit)
    return sections


def id_of(exhibit: AnyExhibit) -> str:
    """Return what an exhibit is called within the page."""
    return f"exhibit-{exhibit.name}"


def contents_of(report: Report) -> str:
    """Return the table of contents."""
    parts = [_link("notes", "How to read it")] if report.notes else []
    for place, (heading, exhibits) in enumerate(sections_of(report).items()):
        inner = "".join(f"<li>{_link(id_of(exhibit), exhibit.title)}</li>" for exhibit in exhibits)
        parts.append(f"{_link(f'section-{place}', heading)}<ol>{inner}</ol>")
    parts += [_link("recipe", "Recipe"), _link("provenance", "Provenance")]
    return f"<ol>{''.join(f'<li>{part}</li>' for part in parts)}</ol>"


def body_of(report: Report) -> str:
    """Return everything under the title."""
    parts = [_section("notes", "How to read it", _remarks(report.notes))] if report.notes else []
    for place, (heading, exhibits) in enumerate(sections_of(report).items()):
        parts.append(_section(f"section-{place}", heading, "\n".join(map(_exhibit, exhibits))))
    recipe = f'<details><summary>The recipe in YAML</summary><pre tabindex="0">{escape(report.recipe)}</pre></details>'
    parts += [_section("recipe", "Recipe", recipe), _section("provenance", "Provenance", _provenance(report.provenance))]
    return "\n".join(parts)


def _link(target: str, text: str) -> str:
    return f'<a href="#{target}">{escape(text)}</a>'


def _section(name: str, heading: str, content: str) -> str:
    return f'<section id="{name}" aria-labelledby="{name}-heading"><h2 id="{name}-heading">{escape(heading)}</h2>\n{content}\n</section>'


def _remarks(notes: Sequence[str]) -> str:
    if len(notes) <= 1:
        return "".join(f'<p class="remark">{escape(note)}</p>' for note in notes)
    return f'<ul class="remarks">{"".join(f"<li>{escape(note)}</li>" for note in notes)}</ul>'


def _exhibit(exhibit: AnyExhibit) -> str:
    name, data = id_of(exhibit), " data-chart" if drawable(exhibit) else ""
    start = f'<article class="exhibit {exhibit.kind}" id="{name}" aria-labelledby="{name}-title"{data}>'
    title = f'<h3 id="{name}-title">{escape(exhibit.title)}</h3>'
    content = _table(exhibit) if isinstance(exhibit, Table) else _chart(exhibit)
    return f"{start}{title}{_remarks(exhibit.notes)}\n{content}\n</article>"


def _table(table: Table) -> str:
    head = "".join(f'<th scope="col" aria-sort="none"><button type="button">{escape(cell)}</button></th>' for cell in table.header)
    rows = "".join(f"<tr>{_row(row)}</tr>\n" for row in table.rows)
    wide = "wide many" if len(table.header) > MANY else "wide"
    start = f'<div class="{wide}" role="region" tabindex="0" aria-label="{escape(table.title)}">'
    return f"{start}<table><thead><tr>{head}</tr></thead>\n<tbody>{rows}</tbody></table></div>"


def _row(row: Sequence[str]) -> str:
    return f'<th scope="row">{_breakable(row[0])}</th>' + "".join(f"<td>{_number(cell)}</td>" for cell in row[1:])


def _breakable(label: str) -> str:
    """Return a name that may go on in the next line where its parts meet."""
    return escape(label).replace("_", "_<wbr>").replace("(", "<wbr>(")


def _number(cell: str) -> str:
    """Return a value, its deviation more quietly."""
    value, sign, deviation = escape(cell).partition(" ± ")
    return f'{value}<span class="spread"> ± {deviation}</span>' if sign else value


def _chart(exhibit: Picture) -> str:
    if not drawable(exhibit):
        return '<p class="remark">Nothing was measured.</p>'
    legend = _controls(exhibit) if isinstance(exhibit, Plane) else _key(exhibit)
    label = escape(f"{exhibit.title}; the numbers are in the table below")
    height = HEIGHTS[exhibit.kind] + (ROW * len(exhibit.groups) if isinstance(exhibit, Dots) else 0)
    canvas = f'<div class="canvas" style="--height:{height}px" role="img" aria-label="{label}"></div>'
    return f"{legend}\n{canvas}\n<details><summary>Numbers</summary>{_table(as_table(exhibit))}</details>"


def _key(exhibit: Bars | Dots | Lines) -> str:
    labels = [series.label for series in exhibit.series]
    marks = ["■"] * len(labels) if isinstance(exhibit, Bars) else [GLYPHS[place % len(GLYPHS)] for place in range(len(labels))]
    glyphs = [DASHES if not isinstance(exhibit, Bars) and label in BASELINES else mark for mark, label in zip(marks, labels, strict=True)]
    entries = zip(glyphs, series_colours(labels), labels, strict=True)
    return f'<ul class="key">{"".join(f"<li>{_swatch(glyph, colour)}{escape(label)}</li>" for glyph, colour, label in entries)}</ul>'


def _controls(plane: Plane) -> str:
    """Return what a reader chooses in a plane: one model, and tasks."""
    name = id_of(plane)
    models = "".join(
        f'<label><input type="radio" name="{name}-model" value="{escape(model)}"{"" if place else " checked"}>{escape(model)}</label>'
        for place, model in enumerate(plane.models)
    )
    tasks = "".join(
        f'<label><input type="checkbox" value="{escape(task)}" checked>{_swatch("●", colour)}{escape(task)}</label>'
        for task, colour in zip(plane.tasks, task_colours(plane.tasks), strict=True)
    )
    buttons = '<button type="button" data-all="yes">All</button><button type="button" data-all="no">None</button>'
    signs = ((plane.reference, "✕"), ("classified right", "●"), ("classified wrong", "○"))
    key = "".join(f"<li>{_swatch(glyph, BLACK)}{escape(text)}</li>" for text, glyph in signs)
    chosen = f"<fieldset><legend>Model</legend>{models}</fieldset>" if models else ""
    return f'{chosen}<fieldset><legend>Tasks</legend>{tasks}{buttons}</fieldset><ul class="key">{key}</ul>'


def _swatch(glyph: str, colour: str) -> str:
    return f'<span class="swatch" aria-hidden="true" style="--on-light:{colour};--on-dark:{ON_DARK.get(colour, colour)}">{glyph}</span>'


def _provenance(provenance: Mapping[str, str]) -> str:
    rows: Iterable[str] = (f'<tr><th scope="row">{escape(key)}</th><td>{escape(value)}</td></tr>' for key, value in provenance.items())
    table = f"<table><tbody>{''.join(rows)}</tbody></table>"
    inner = f'<div class="wide provenance" role="region" tabindex="0" aria-label="Provenance">{table}</div>'
    return f"<details><summary>Libraries, weights and data, with versions or digests</summary>{inner}</details>"
