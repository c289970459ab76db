"""Every command in README and documentation is one that the command line takes."""

import re
import shlex
from pathlib import Path
from typing import Any

import pytest
import typer

from docs.pages import DOCS, FENCE, ROOT
from suture.cli.looking import app

SOURCES = [ROOT / "README.md", *sorted(DOCS.rglob("*.md"))]
INLINE = re.compile(r"`suture ([a-z-]+)([^`]*)`")


def commands() -> dict[str, Any]:
    return dict(typer.main.get_command(app).commands)


def in_blocks(page: Path) -> list[list[str]]:
    """Return the words of every command in a page's blocks for the shell, those behind a pipe too, and those of indented blocks."""
    text = page.read_text(encoding="utf-8")
    lines = [line for found in FENCE.finditer(text) if found["kind"] in {"sh", "console"} for line in found["text"].splitlines()]
    lines += [line.strip() for line in text.splitlines() if line.startswith("    suture ")]
    told = [re.search(r"(?:^|\| |\$ )suture (.+)$", line) for line in lines]
    return [shlex.split(each[1].replace("…", "").replace("'", '"'), comments=True) for each in told if each]


@pytest.mark.parametrize("page", SOURCES, ids=lambda page: page.relative_to(ROOT).as_posix())
def test_commands_are_taken(page: Path) -> None:
    known = commands()
    for name, *arguments in in_blocks(page):
        if name == "--help":
            continue
        known[name].make_context(name, arguments)
    for name, rest in INLINE.findall(page.read_text(encoding="utf-8")):
        assert name in known, f"suture {name}"
        options = {option for parameter in known[name].params for option in parameter.opts}
        assert set(re.findall(r"(?<!\S)--?[a-z][a-z-]*", rest)) <= options | {"--help"}, f"suture {name}{rest}"


def test_commands_are_found() -> None:
    assert ["serve", "model/"] in in_blocks(ROOT / "README.md")
    assert sum(len(in_blocks(page)) for page in SOURCES) > 55
