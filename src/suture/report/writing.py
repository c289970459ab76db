"""Exhibits as files: tables in markdown, csv and LaTeX, pictures as PNG, SVG and PDF with their numbers beside them."""

from collections.abc import Iterable, Sequence
from pathlib import Path

from suture.checkpoints.writing import write_text
from suture.evaluation import markdown_lines
from suture.report.drawing import draw
from suture.report.exhibits import AnyExhibit, Plane, Table
from suture.report.figures import save_figure
from suture.report.latex import latex_table
from suture.report.numbers import as_rows, as_table
from suture.report.tables import csv_of


def write_exhibit(folder: Path, exhibit: AnyExhibit) -> None:
    """Write an exhibit's files into a folder that exists; the same exhibit gives the same bytes.

    A table becomes ``name.md``, ``.csv`` and ``.tex``. Bars, dots and lines become ``name.png``, ``.svg`` and ``.pdf``, and ``name.csv``
    and ``.md`` with their numbers; a plane becomes a picture and ``name.csv`` with its points.
    """
    stem = folder / exhibit.name
    if isinstance(exhibit, Table):
        write_text(stem.with_suffix(".md"), markdown(exhibit))
        write_text(stem.with_suffix(".csv"), csv_of([exhibit.header, *exhibit.rows]))
        write_text(stem.with_suffix(".tex"), latex_table(exhibit))
        return
    save_figure(lambda: draw(exhibit), stem)
    write_text(stem.with_suffix(".csv"), csv_of(as_rows(exhibit)))
    if not isinstance(exhibit, Plane):
        write_text(stem.with_suffix(".md"), markdown(as_table(exhibit)))


def markdown(table: Table) -> str:
    """Return a table in markdown, between its title and its notes.

    >>> print(markdown(Table(name="t", title="Cost", notes=["a note"], header=["model", "%"], rows=[["ties", "1.0"]])), end="")
    **Cost**
    <BLANKLINE>
    | model | % |
    | --- | ---: |
    | ties | 1.0 |
    <BLANKLINE>
    - a note
    """
    return _with_notes([f"**{table.title}**", "", *markdown_lines(table.header, table.rows)], table.notes)


def overview(title: str, exhibits: Sequence[AnyExhibit]) -> str:
    """Return a page in markdown for the folder of some exhibits: their tables and pictures, and each of their notes once.

    >>> table = Table(name="t", title="Cost", notes=["a note"], header=["model", "%"], rows=[["ties", "1.0"]])
    >>> print(overview("All", [table, Plane(name="p", title="Places", notes=["a note"], reference="individual", clouds=[])]), end="")
    # All
    <BLANKLINE>
    ## Cost
    <BLANKLINE>
    | model | % |
    | --- | ---: |
    | ties | 1.0 |
    <BLANKLINE>
    ## Places
    <BLANKLINE>
    ![Places](p.png)
    <BLANKLINE>
    - a note
    """
    lines = [f"# {title}"]
    for each in exhibits:
        shown = markdown_lines(each.header, each.rows) if isinstance(each, Table) else [f"![{each.title}]({each.name}.png)"]
        lines += ["", f"## {each.title}", "", *shown]
    return _with_notes(lines, dict.fromkeys(note for each in exhibits for note in each.notes))


def _with_notes(lines: Sequence[str], notes: Iterable[str]) -> str:
    told = [f"- {note}" for note in notes]
    return "\n".join([*lines, *([""] if told else []), *told]) + "\n"
