"""The page "Add a merging method", followed to the letter in a copy of the package."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from docs.pages import DOCS, ROOT, blocks

PAGE = DOCS / "how" / "add-a-method.md"
COPIED = ["src/suture", "tests/conftest.py", "tests/merging", "docs/api/merging.md", "pyproject.toml"]


def call(folder: Path, *arguments: str) -> str:
    environment = os.environ | {"PYTHONPATH": str(folder / "src")}
    done = subprocess.run([sys.executable, "-m", *arguments], cwd=folder, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def change(file: Path, text: str) -> None:
    """Add the lines of a diff that begin with a plus to a file, where its other lines stand."""
    lines = text.splitlines(keepends=True)
    before, after = ("".join(line[1:] for line in lines if line[0] in kinds) for kinds in (" ", " +"))
    content = file.read_text(encoding="utf-8")
    assert content.count(before) == 1, f"{file}:\n{before}"
    file.write_text(content.replace(before, after), encoding="utf-8")


@pytest.fixture
def copy(tmp_path: Path) -> Path:
    """The repository, as far as it matters here, with the page's method in it."""
    for name in COPIED:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        if (ROOT / name).is_dir():
            shutil.copytree(ROOT / name, tmp_path / name, ignore=shutil.ignore_patterns("__pycache__", "*.task_vector", "*.xz", "*.zip"))
        else:
            shutil.copyfile(ROOT / name, tmp_path / name)
    for title, text in blocks(PAGE, "python"):
        assert not (tmp_path / title).exists()
        (tmp_path / title).write_text(text, encoding="utf-8")
    for title, text in blocks(PAGE, "diff"):
        change(tmp_path / title, text)
    return tmp_path


def test_the_new_method_keeps_the_contract(copy: Path) -> None:
    tests = ("tests/merging/test_contract.py", "src/suture/merging/median.py", "-k", "median or has_an_oracle")
    told = call(copy, "pytest", "-q", "-p", "no:cacheprovider", "-p", "no:xdist", *tests)
    # For each of two settings all of the contract; the docstring; and that every method has an oracle.
    assert "22 passed" in told
    call(copy, "ruff", "check", "src/suture/merging", "src/suture/bibliography.py")
    call(copy, "ruff", "format", "--check", "src/suture/merging", "src/suture/bibliography.py")
    assert "::: suture.merging.Median" in (copy / "docs" / "api" / "merging.md").read_text(encoding="utf-8")
