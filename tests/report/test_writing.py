"""Exhibits as files: what is in them, and that they are the same bytes every time."""

import csv
import io
import re
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from report.reports import EACH, HOSTILE, bars, dots, hardly_anything, lines, plane, report, table
from suture.report.drawing import draw
from suture.report.exhibits import Plane, Table
from suture.report.latex import SPECIAL, latex, latex_table
from suture.report.numbers import as_rows
from suture.report.writing import write_exhibit

PRINTED = st.text(st.characters(min_codepoint=32, max_codepoint=126))
WORDS = st.text(st.characters(exclude_categories=("C", "Z"), exclude_characters="\\"))


def read_csv(file: Path) -> list[list[str]]:
    return list(csv.reader(io.StringIO(file.read_text(encoding="utf-8"), newline="")))


def test_a_table_is_three_texts(tmp_path: Path) -> None:
    write_exhibit(tmp_path, table())
    assert sorted(file.name for file in tmp_path.iterdir()) == ["cost.csv", "cost.md", "cost.tex"]
    assert read_csv(tmp_path / "cost.csv") == [table().header, *table().rows]
    assert "| dare 10% |  | 101.25 |" in (tmp_path / "cost.md").read_text(encoding="utf-8")
    rows = [line for line in (tmp_path / "cost.tex").read_text(encoding="utf-8").splitlines() if line.endswith(r"\\")]
    assert rows[:2] == [r"model & parameters & accuracy, \% \\", r"ties\_2 & 131,072 & 9.5 $\pm$ 0.5 \\"]


@pytest.mark.parametrize("exhibit", [bars(), dots(), lines(), lines(logarithmic=False), plane()], ids=lambda exhibit: exhibit.kind)
def test_a_picture_is_small_and_has_its_numbers_beside_it(exhibit: Plane, tmp_path: Path) -> None:
    for name in ("first", "second"):
        (tmp_path / name).mkdir()
        write_exhibit(tmp_path / name, exhibit)
    files = {file.name: file.read_bytes() for file in (tmp_path / "first").iterdir()}
    assert files == {file.name: file.read_bytes() for file in (tmp_path / "second").iterdir()}
    suffixes = {"csv", "pdf", "png", "svg"} | (set() if exhibit.kind == "plane" else {"md"})
    assert set(files) == {f"{exhibit.name}.{suffix}" for suffix in suffixes}
    assert len(files[f"{exhibit.name}.png"]) < 150_000
    assert files[f"{exhibit.name}.pdf"].startswith(b"%PDF")
    assert b"<script" not in files[f"{exhibit.name}.svg"]
    with Image.open(tmp_path / "first" / f"{exhibit.name}.png") as picture:
        assert min(picture.size) > 300
    assert read_csv(tmp_path / "first" / f"{exhibit.name}.csv") == [
        ["" if cell is None else str(cell) for cell in row] for row in as_rows(exhibit)
    ]


def test_hardly_anything_is_written_too(tmp_path: Path) -> None:
    for exhibit in hardly_anything():
        write_exhibit(tmp_path, exhibit)
    assert {file.stem for file in tmp_path.iterdir()} == {exhibit.name for exhibit in hardly_anything()}


def test_a_plane_has_a_panel_per_model_and_full_dots_where_it_is_right() -> None:
    figure = draw(plane())
    assert [axes.get_title() for axes in figure.axes] == ["ties", "ties + surgery"]
    drawn = figure.axes[0].collections
    assert [len(cloud.get_offsets()) for cloud in drawn] == [EACH] * 2 * 3
    dots = drawn[3]
    assert [alpha > 0 for *_, alpha in dots.get_facecolors()] == plane().clouds[3].right  # type: ignore[attr-defined]


def test_lines_differ_in_marker_and_show_their_deviations() -> None:
    (axes,) = draw(lines()).axes
    assert len({line.get_marker() for line in axes.lines}) == 3
    assert len(axes.collections) == 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["4", "8", "16", "64"]
    assert axes.get_xscale() == "log"
    assert draw(lines().model_copy(update={"places": [0.0, 1.0, 2.0, 4.0]})).axes[0].get_xscale() == "symlog"


def test_bars_have_a_bar_for_every_value() -> None:
    (axes,) = draw(bars()).axes
    assert len(axes.patches) == 3 * 3
    assert [label.get_text() for label in axes.get_xticklabels()] == ["spam", r"\$cash & co", HOSTILE]


def test_a_row_of_dots_is_a_group_and_a_baseline_is_a_line() -> None:
    (axes,) = draw(dots()).axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["spam", r"\$cash & co", HOSTILE]
    assert axes.yaxis_inverted()
    drawn = {line.get_label(): line for line in axes.lines if line.get_marker() != "|"}
    assert (drawn["pretrained"].get_linestyle(), drawn["ties_2"].get_linestyle()) == ("--", "None")
    np.testing.assert_array_equal(drawn["ties_2"].get_xdata(), [55.0, 58.0, 60.0])
    np.testing.assert_array_equal(drawn["ties_2"].get_ydata(), [0, 1, 2])


def test_a_report_survives_its_file() -> None:
    assert type(report()).model_validate_json(report().model_dump_json()) == report()


@given(PRINTED)
def test_latex_has_no_character_that_means_something(text: str) -> None:
    left = latex(text)
    for command in sorted(SPECIAL.values(), key=len, reverse=True):
        left = left.replace(command, "\0")
    left = left.replace("{}", "")
    assert not set(left) & set('\\{}$%&#_~^<>|[]*"`')
    assert not re.search(r"--|''|,,", latex(text))


@given(WORDS)
def test_a_latex_row_keeps_its_columns(text: str) -> None:
    row = latex_table(Table(name="t", title=text, header=["a", "b"], rows=[[text, "1"]])).splitlines()[5]
    assert row.endswith(r" & 1 \\")
    assert len(re.findall(r"(?<!\\)&", row)) == 1


@given(st.lists(st.lists(WORDS, min_size=3, max_size=3), max_size=4))
def test_csv_gives_every_cell_back(rows: list[list[str]]) -> None:
    from suture.report.tables import csv_of

    assert list(csv.reader(io.StringIO(csv_of([["a", "b", "c"], *rows]), newline=""))) == [["a", "b", "c"], *rows]
