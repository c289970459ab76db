"""Numbers in the README and in the documentation are those of the files in docs/results."""

import re
from pathlib import Path

import pytest

from docs.pages import script

ROOT = Path(__file__).parents[1]
RESULTS = re.compile(r"\]\(([^)\s]*results/[^)\s]+)\)")
NOT_PROSE = re.compile(r"<!-- table:.*?<!-- end of table -->|<!--.*?-->|```.*?```", re.DOTALL)
NOT_SAID = re.compile(r"`[^`\n]*`|(?<=\])\([^)]*\)|arXiv:? ?\d{4}\.\d{5}|Python ≥ [\d.]+")
BLOCKS = re.compile(r"\n\s*\n|\n(?=\||- |\d\. )")
MEASURED = re.compile(r"(?<![\w.,/])\d+\.\d+(?![\w.]*\d)")
"""Whole numbers are mostly settings; what is measured has a fraction."""


SHOWING = script("show_results")
PAGES = SHOWING.pages()


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_tables_are_those_of_the_results(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    assert SHOWING.filled(text) == text, "run: python scripts/show_results.py"


@pytest.mark.parametrize("page", PAGES, ids=[str(page.relative_to(ROOT)) for page in PAGES])
def test_numbers_in_the_text_are_in_a_result_that_the_page_names(page: Path) -> None:
    text = page.read_text(encoding="utf-8")
    named = linked(page, text)
    strange = {}
    for block in BLOCKS.split(NOT_PROSE.sub("", text)):
        said = MEASURED.findall(NOT_SAID.sub("", block))
        sources = linked(page, block) or named
        known = [float(number.replace(",", "")) for source in sources for number in re.findall(r"\d[\d,]*(?:\.\d+)?", source)]
        if lost := [number for number in said if not any(rounds_to(value, number) for value in known)]:
            strange[block.strip()[:100]] = lost
    assert not strange


def linked(page: Path, text: str) -> list[str]:
    """The contents of the results that a text links to, a folder's by its csv files."""
    places = [page.parent / target for target in RESULTS.findall(text)]
    files = [file for place in places for file in (sorted(place.parent.glob("*.csv")) if place.name == "README.md" else [place])]
    return [file.read_text(encoding="utf-8") for file in files if file.suffix in {".md", ".csv"}]


def rounds_to(value: float, number: str) -> bool:
    places = len(number.partition(".")[2])
    return abs(round(value, places) - float(number)) < 10 ** -(places + 3)


def test_a_number_of_no_result_is_found() -> None:
    assert MEASURED.findall(NOT_SAID.sub("", "from 63.6 % to `0.3`, [0.8](docs/results/a-1.5.md), 2 of 8")) == ["63.6", "0.8"]
    assert rounds_to(0.8449, "0.84")
    assert not rounds_to(0.8449, "0.85")


def test_a_table_shows_the_rows_and_columns_that_are_named(tmp_path: Path) -> None:
    file = tmp_path / "rank.csv"
    file.write_text("merge,surgery,rank 4,rank 8\nTies,none,1.0,1.0\nTies,closed form,2.0,3.0\n")
    told = f"{file}; rows: Ties / closed form; columns: merge | rank 8"
    assert SHOWING.filled(f"a\n<!-- table: {told} -->\nold\n<!-- end of table -->\nb") == (
        f"a\n<!-- table: {told} -->\n| merge | rank 8 |\n| --- | ---: |\n| Ties | 3.0 |\n<!-- end of table -->\nb"
    )


@pytest.mark.parametrize(
    ("choice", "message"), [("rows: Ties", "has 2 rows 'Ties'"), ("columns: merge | rank 9", "has no column 'rank 9', but merge, rank 4")]
)
def test_a_row_or_column_that_is_not_there_is_told(tmp_path: Path, choice: str, message: str) -> None:
    file = tmp_path / "rank.csv"
    file.write_text("merge,rank 4\nTies,1.0\nTies,2.0\n")
    with pytest.raises(SystemExit, match=message):
        SHOWING.table(f"{file}; {choice}")


def test_a_page_has_its_tables_by_their_titles(tmp_path: Path) -> None:
    file = tmp_path / "page.md"
    file.write_text(
        "# Page\n\n**bias**\n\n| m | z |\n| --- | ---: |\n| a | 1 |\n\n**accuracy, %**\n\n| m | x |\n| --- | ---: |\n| a | 2 |\n"
    )
    assert SHOWING.table(f"{file}#accuracy, %") == "| m | x |\n| --- | ---: |\n| a | 2 |"
    with pytest.raises(SystemExit, match=r"page.md has no table \*\*speed\*\*"):
        SHOWING.table(f"{file}#speed")
