"""Links to files lead somewhere; those within the site, and their anchors, are checked when it is built."""

import re
from pathlib import Path

import pytest

from docs.pages import DOCS, ROOT

SOURCES = [*sorted(ROOT.glob("*.md")), *sorted(DOCS.rglob("*.md")), DOCS / "tutorial.ipynb"]


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_targets_are_there(page: Path) -> None:
    for target in re.findall(r"\]\(([^)\s#:]+)(?:#[^)\s]*)?\)", page.read_text(encoding="utf-8")):
        assert (page.parent / target).exists(), target


@pytest.mark.parametrize("page", [*DOCS.glob("*/*.md"), *DOCS.glob("*.md")], ids=lambda page: page.relative_to(DOCS).as_posix())
def test_numbers_are_those_of_the_results_they_link_to(page: Path) -> None:
    for text, target in re.findall(r"\[([^\[\]]+)\]\(([^)\s#:]*results/[^)\s#]+\.md)\)", page.read_text(encoding="utf-8")):
        results = (page.parent / target).read_text(encoding="utf-8")
        for number in re.findall(r"\d+(?:\.\d+)?", text):
            assert re.search(rf"(?<![\d.]){re.escape(number)}(?![\d.])", results), f"{number} is not in {target}"
