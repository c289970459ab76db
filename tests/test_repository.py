"""What stands in the repository beside the code says what the code is."""

import ast
import json
import re
from importlib.resources import files
from pathlib import Path
from typing import Any

import pytest
import yaml
from jsonschema.validators import validator_for

from test_floors import FLOORS, SRC

ROOT = Path(__file__).parents[1]


def steps_of_check() -> set[str]:
    """Return the names of the steps that scripts/check.py takes, without running it."""
    tree = ast.parse((ROOT / "scripts" / "check.py").read_text(encoding="utf-8"))
    (steps,) = (node.value for node in tree.body if isinstance(node, ast.Assign) and getattr(node.targets[0], "id", "") == "STEPS")
    assert isinstance(steps, ast.Dict)
    return {ast.literal_eval(key) for key in steps.keys if key is not None}


def test_contributing_shows_the_floors_as_they_are() -> None:
    text = (ROOT / "CONTRIBUTING.md").read_text(encoding="utf-8")
    found, floor = {}, -1
    for line in re.findall(r"^    (?=\d  |   \w)(.*)$", text.partition("## The house")[2].partition("##")[0], re.MULTILINE):
        floor = int(line[0]) if line[0].isdigit() else floor
        names = line[3:].split(" · ") if floor == 0 else re.findall(r"(?:^|\s{3,})(\w+)\s{2,}\w", line[3:])
        found |= dict.fromkeys(names, floor)
    assert found == FLOORS


def test_packages_say_which_floor_they_are() -> None:
    for name, floor in FLOORS.items():
        package = SRC / name / "__init__.py"
        if package.is_file() and floor:
            assert f'"""Floor {floor}' in package.read_text(encoding="utf-8"), name


def test_hooks_run_steps_of_the_check_and_fetch_nothing() -> None:
    content = yaml.safe_load((ROOT / ".pre-commit-config.yaml").read_text(encoding="utf-8"))
    (repository,) = content["repos"]
    assert repository["repo"] == "local"
    for hook in repository["hooks"]:
        program, script, step = hook["entry"].split()
        assert (program, script) == (".venv/bin/python", "scripts/check.py")
        assert step in steps_of_check()
        assert hook["language"] == "system"


def test_the_workflow_runs_what_ci_runs() -> None:
    content = yaml.safe_load((ROOT / ".github" / "workflows" / "ci.yml").read_text(encoding="utf-8"))
    commands = [step["run"] for step in content["jobs"]["check"]["steps"] if "run" in step]
    assert commands == [".ci/run"]
    assert (ROOT / ".ci" / "run").stat().st_mode & 0o100


@pytest.mark.parametrize(
    ("file", "schema"),
    [
        ("CITATION.cff", "citation-file-format"),
        (".github/workflows/ci.yml", "github-workflows"),
        (".github/ISSUE_TEMPLATE/config.yml", "github-issue-config"),
        *((f".github/ISSUE_TEMPLATE/{name}.yml", "github-issue-forms") for name in ("bug", "feature", "question")),
    ],
)
def test_what_other_programs_read_is_in_their_format(file: str, schema: str) -> None:
    content: dict[Any, Any] = yaml.safe_load((ROOT / file).read_text(encoding="utf-8"))
    if True in content:  # in YAML 1.1 that is what "on" says
        content["on"] = content.pop(True)
    form = json.loads((files("check_jsonschema.builtin_schemas.vendor") / f"{schema}.json").read_text(encoding="utf-8"))
    kind = validator_for(form)
    assert [error.message for error in kind(form).iter_errors(content)] == []
    assert list(kind(form).iter_errors({"nonsense": 1}))
