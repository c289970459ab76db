"""Test samples without labels: agreement with the expert stands for accuracy, and is called that."""

import json
import sys
from pathlib import Path

import pytest
import torch
import yaml

from suture.cli import main
from suture.errors import DataError
from suture.evaluation import INDIVIDUAL, PRETRAINED, Results
from suture.experiment import build, measure_only, read_recipe, run, told_of_answers
from suture.experiment.answers import answered
from suture.experiment.setting import prepare
from suture.paper.study import study_of
from suture.representation import encode


@pytest.fixture
def unlabelled(recipe_file: Path, data: Path) -> Path:
    """A recipe whose task pets has no labels for its test samples."""
    rows = [json.loads(line) for line in (data / "pets-test.jsonl").read_text().splitlines()]
    (data / "pets-test.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    content = yaml.safe_load(recipe_file.read_text()) | {"seeds": [0], "merges": ["weight_averaging"]}
    content["tasks"][2]["labelled"] = False
    recipe_file.write_text(yaml.safe_dump(content))
    return recipe_file


def accuracy_of(results: Results, merge: str, task: str) -> float:
    return next(record.value for record in results.records if (record.merge, record.task, record.metric) == (merge, task, "accuracy"))


def test_labels_that_are_missing_are_the_experts_answers(unlabelled: Path) -> None:
    setting = prepare(read_recipe(unlabelled))
    known, pets = answered(setting), setting.tasks[2]
    assert pets.split("test").labels is None
    backbone = setting.backbone(setting.experts["pets"])
    expected = setting.heads["pets"](encode(backbone, pets.split("test").inputs)).argmax(dim=1)
    assert torch.equal(known.tasks[2].split("test").known_labels(), expected)
    assert known.tasks[:2] == setting.tasks[:2]
    assert answered(known) is known


def test_a_run_measures_agreement_and_says_so(unlabelled: Path, tmp_path: Path) -> None:
    recipe = read_recipe(unlabelled)
    outcome = run(recipe, tmp_path / "out")
    (note,) = told_of_answers(recipe)
    assert "pets" in note
    assert "agreement" in note
    assert note in outcome.notes
    assert note in (tmp_path / "out" / "table.md").read_text()
    assert accuracy_of(outcome.results, INDIVIDUAL, "pets") == 1.0
    assert accuracy_of(outcome.results, INDIVIDUAL, "colours") < 1.0
    setting = prepare(recipe)
    inputs, head = setting.tasks[2].split("test").inputs, setting.heads["pets"]
    base, expert = (head(encode(setting.backbone(weights), inputs)).argmax(dim=1) for weights in (setting.base, setting.experts["pets"]))
    shares = [accuracy_of(found, PRETRAINED, "pets") for found in (outcome.results, measure_only(recipe, baselines_too=True))]
    assert shares == [float((base == expert).double().mean())] * 2


def test_a_models_card_says_so(unlabelled: Path, tmp_path: Path) -> None:
    facts = build(read_recipe(unlabelled), tmp_path / "model")
    assert facts.tasks["pets"].individual == 1.0
    assert told_of_answers(read_recipe(unlabelled))[0] in (tmp_path / "model" / "README.md").read_text()


def test_the_terminal_says_so(unlabelled: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["suture", "evaluate", str(unlabelled)])
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code
    assert told_of_answers(read_recipe(unlabelled))[0] in " ".join(capsys.readouterr().out.split())


def test_a_study_says_so(unlabelled: Path) -> None:
    recipe = read_recipe(unlabelled)
    assert told_of_answers(recipe)[0] in study_of(recipe).told


def test_a_task_that_is_left_out_is_not_told_of(unlabelled: Path) -> None:
    recipe = read_recipe(unlabelled).model_copy(update={"only": ["colours", "numbers"]})
    assert told_of_answers(recipe) == []


def test_labels_that_are_there_are_not_read_if_the_recipe_says_so(recipe_file: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    content["tasks"][0]["labelled"] = False
    recipe_file.write_text(yaml.safe_dump(content))
    assert prepare(read_recipe(recipe_file)).tasks[0].split("test").labels is None


def test_the_error_for_missing_labels_says_how_to_do_without(unlabelled: Path) -> None:
    content = yaml.safe_load(unlabelled.read_text())
    del content["tasks"][2]["labelled"]
    unlabelled.write_text(yaml.safe_dump(content))
    with pytest.raises(DataError, match=r"has no column 'label', and its labels are needed; if there are none, say `labelled: false`"):
        prepare(read_recipe(unlabelled))
