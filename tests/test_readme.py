"""The README keeps its word."""

import re
import subprocess
import sys
from pathlib import Path

import pytest

README = (Path(__file__).parents[1] / "README.md").read_text(encoding="utf-8")


def test_the_python_example_runs(
    experts: dict[str, Path], bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    (code,) = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len([line for line in code.splitlines() if line and not line.startswith("import")]) == 5
    monkeypatch.chdir(tmp_path)
    (tmp_path / "base").symlink_to(bert)
    exec(code, {"experts": list(experts.values()), "texts": ["the red cat", "one blue dog", "two very red", "not blue"] * 4})
    before, after = re.findall(r"mean_abs=([\d.]+)", capsys.readouterr().out)
    assert float(after) < float(before)


def test_the_numbers_are_those_of_the_committed_table() -> None:
    table = (Path(__file__).parents[1] / "docs" / "results" / "nlp8-demo.md").read_text(encoding="utf-8")
    accuracy = table.split("**accuracy, %**")[1].split("**")[0]
    average = {cells[1].strip(): cells[-2].split()[0] for line in accuracy.splitlines() if len(cells := line.split("|")) > 3}
    merges = ("weight_averaging", "task_arithmetic(scale=0.5)")
    models = [f"{merge}{kind}" for merge in merges for kind in ("", " + surgery")]
    assert re.findall(r"([\d.]+) %", README) == [average[model] for model in (*models, "individual", "pretrained")]


def test_links_and_pictures_are_there() -> None:
    for target in re.findall(r"\]\(([^)]+)\)", README):
        assert target.startswith("http") or (Path(__file__).parents[1] / target).exists(), target


def test_every_fault_has_its_tests_and_the_page_tells_them() -> None:
    root = Path(__file__).parents[1]
    done = subprocess.run([sys.executable, root / "scripts" / "fault_table.py", "--check"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert len(re.findall(r"^\| \d+ \|", (root / "docs" / "faults.md").read_text(encoding="utf-8"), re.MULTILINE)) == 30


def test_the_two_commands_are_in_the_makefile() -> None:
    makefile = (Path(__file__).parents[1] / "Makefile").read_text()
    assert all(re.search(rf"^{target}:", makefile, re.MULTILINE) for target in re.findall(r"^make (\w+)", README, re.MULTILINE))
