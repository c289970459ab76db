"""Put tables of results into the pages that show them, so that no number of theirs is written by hand.

python scripts/show_results.py

A page of the documentation, or the README, says which table it shows, and this script fills it in:

    <!-- table: docs/results/paper/nlp8/methods/methods.csv; rows: Pretrained | Individual; columns: method | held-out -->
    <!-- end of table -->

Without rows or columns it shows all of them; a row is named by its first cells, joined by " / ". Of a page with several tables,
`page.md#title` is the one below the line **title**. tests/test_results.py fails where a page shows anything else.
"""

import csv
import re
from pathlib import Path

from suture.evaluation import markdown_lines

ROOT = Path(__file__).resolve().parents[1]
BLOCK = re.compile(r"(<!-- table: (?P<told>.*?) -->\n).*?(<!-- end of table -->)", re.DOTALL)


def pages() -> list[Path]:
    """Return every page that may show results."""
    return [ROOT / "README.md", *sorted(file for file in (ROOT / "docs").rglob("*.md") if "results" not in file.parts)]


def filled(page: str) -> str:
    """Return a page with its tables as the results have them now."""
    return BLOCK.sub(lambda block: f"{block[1]}{table(block['told'])}\n{block[3]}", page)


def table(told: str) -> str:
    """Return the table that a line tells of; raises ``SystemExit`` for rows and columns that are not there."""
    name, *choices = (part.strip() for part in told.split(";"))
    chosen = {key.strip(): [each.strip() for each in values.split("|")] for key, values in (choice.split(":", 1) for choice in choices)}
    header, *rows = _read(name)
    rows = [_row(name, rows, wanted) for wanted in chosen["rows"]] if "rows" in chosen else rows
    places = [_place(name, header, wanted) for wanted in chosen.get("columns", header)]
    return "\n".join(markdown_lines([header[place] for place in places], [[row[place] for place in places] for row in rows]))


def _read(name: str) -> list[list[str]]:
    """Return the lines of a csv file, or of the table below a title of a page."""
    file, _, title = name.partition("#")
    text = (ROOT / file).read_text(encoding="utf-8")
    if not title:
        return list(csv.reader(text.splitlines()))
    if (found := re.search(rf"^\*\*{re.escape(title)}\*\*\n\n((?:\|.*\n)+)", text, re.MULTILINE)) is None:
        raise SystemExit(f"{file} has no table **{title}**")
    header, _rule, *rows = ([cell.strip() for cell in line.strip("|").split("|")] for line in found[1].splitlines())
    return [header, *rows]


def _row(name: str, rows: list[list[str]], wanted: str) -> list[str]:
    cells = wanted.split(" / ")
    found = [row for row in rows if row[: len(cells)] == cells]
    if len(found) != 1:
        raise SystemExit(f"{name} has {len(found)} rows {wanted!r}")
    return found[0]


def _place(name: str, header: list[str], wanted: str) -> int:
    if wanted not in header:
        raise SystemExit(f"{name} has no column {wanted!r}, but {', '.join(header)}")
    return header.index(wanted)


def main() -> None:
    """Fill in every page."""
    for page in pages():
        before = page.read_text(encoding="utf-8")
        if (after := filled(before)) != before:
            page.write_text(after, encoding="utf-8")
            print(page.relative_to(ROOT))


if __name__ == "__main__":
    main()
