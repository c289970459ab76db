"""The tutorial runs, and says what is printed in it."""

import os
import re

import nbformat
from nbclient import NotebookClient

from docs.pages import DOCS

NOTEBOOK = DOCS / "tutorial.ipynb"
NUMBER = re.compile(r"\d+(?:\.\d+)?")
CLOSE = 3
"""Points of a percentage, at most, between processors: three test texts. Shares are as close as two digits tell."""


def printed(notebook: nbformat.NotebookNode) -> list[str]:
    """Return what the cells print or answer; of pictures nothing."""
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    texts = [output.get("text") or output.get("data", {}).get("text/plain", "") for output in outputs]
    return [text for text in texts if not text.startswith("<Figure")]


def test_the_tutorial_runs() -> None:
    """With SUTURE_WRITE_DOCS set its outputs are written anew."""
    notebook = nbformat.read(NOTEBOOK, as_version=4)
    told = printed(notebook)
    NotebookClient(notebook, timeout=600, record_timing=False).execute()
    for cell in notebook.cells:  # warnings of libraries about the terminal are none of the reader's business
        cell["outputs"] = [output for output in cell.get("outputs", []) if output.get("name") != "stderr"]
        if cell.cell_type != "code":
            del cell["outputs"]
    if os.environ.get("SUTURE_WRITE_DOCS"):
        nbformat.write(notebook, NOTEBOOK)
        return
    found = printed(notebook)
    assert [NUMBER.sub("#", text) for text in found] == [NUMBER.sub("#", text) for text in told]
    for mine, theirs in zip(NUMBER.findall("".join(found)), NUMBER.findall("".join(told)), strict=True):
        assert abs(float(mine) - float(theirs)) <= (CLOSE if float(theirs) > 1 else 0.01)
