"""What a study takes of a recipe, what its keys depend on, and what it refuses."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml

from suture.backbones import Head, save_heads
from suture.errors import InvalidRecipe, OutputError
from suture.experiment import read_recipe
from suture.experiment.setting import prepare
from suture.paper import Study, chosen, settings_for, study_of, write_paper
from suture.paper import study as study_module
from suture.paper.items.item import baseline, operated, plain
from suture.paper.items.online import SWEEP
from suture.paper.merges import ADA_MERGING, TASK_ARITHMETIC

SURGERY = {"procedure": "surgery", "rank": 4}


@pytest.fixture
def studied(recipe_file: Path) -> Callable[..., Study]:
    """Make a study of the recipe with some keys changed."""

    def make(**changes: Any) -> Study:
        content = yaml.safe_load(recipe_file.read_text())
        file = recipe_file.with_name("changed.yaml")
        file.write_text(yaml.safe_dump(content | changes))
        return study_of(read_recipe(file))

    return make


def keys(study: Study) -> list[str]:
    return [
        baseline(study)[0].key,
        plain(study, TASK_ARITHMETIC)[0].key,
        plain(study, ADA_MERGING)[0].key,
        operated(study, TASK_ARITHMETIC, SURGERY)[0].key,
        SWEEP.at(study, ADA_MERGING, {"procedure": "surgery"}, "held-out", 1)[0].key,
    ]


@pytest.mark.fault(28)
def test_keys_depend_on_the_heads(studied: Callable[..., Study], recipe_file: Path, tmp_path: Path) -> None:
    heads, tasks = prepare(read_recipe(recipe_file)).heads, yaml.safe_load(recipe_file.read_text())["tasks"]
    found = []
    for number in (1, 2):
        file = tmp_path / f"heads{number}.safetensors"
        save_heads(file, {task: type(head)(number * head.weight, head.bias, head.scale, head.classes) for task, head in heads.items()})
        found.append(keys(studied(tasks=[task | {"head": {"file": str(file)}} for task in tasks])))
    assert not set(found[0]) & set(found[1])


def test_heads_of_support_samples_are_known_by_these_and_not_by_their_last_bits(recipe_file: Path) -> None:
    recipe = read_recipe(recipe_file)
    setting = prepare(recipe)

    def key(change: Callable[[Head], Head]) -> str:
        return study_module._data_key(replace(setting, heads={task: change(head) for task, head in setting.heads.items()}), recipe)

    assert key(lambda head: replace(head, weight=head.weight * (1 + 1e-6))) == key(lambda head: head)
    assert key(lambda head: replace(head, scale=head.scale + 1)) != key(lambda head: head)


@pytest.mark.fault(28)
def test_keys_depend_on_what_a_merge_has_learnt_from(studied: Callable[..., Study]) -> None:
    few, many = (keys(studied(calibration={"samples": samples, "pool": 32})) for samples in (8, 16))
    assert few[:2] == many[:2]
    assert not set(few[2:]) & set(many[2:])


def test_one_thing_has_one_key(studied: Callable[..., Study]) -> None:
    study = studied(calibration={"samples": 16, "pool": 16})
    assert len({operated(study, TASK_ARITHMETIC, SURGERY, samples=samples)[0].key for samples in (None, 16, "100%")}) == 1
    assert len({operated(study, TASK_ARITHMETIC, SURGERY, "transductive", samples=samples)[0].key for samples in (None, "100%")}) == 1


def test_the_order_of_the_tasks_does_not_hide_whose_expert_is_whose(studied: Callable[..., Study], recipe_file: Path) -> None:
    tasks = yaml.safe_load(recipe_file.read_text())["tasks"]
    experts = [task["expert"] for task in tasks]
    swapped = [task | {"expert": expert} for task, expert in zip(reversed(tasks), experts, strict=True)]
    assert studied().weights != studied(tasks=swapped).weights


def test_what_cannot_be_compared_is_refused(studied: Callable[..., Study], recipe_file: Path) -> None:
    tasks = yaml.safe_load(recipe_file.read_text())["tasks"]
    bare = [{key: value for key, value in task.items() if key != "calibration"} for task in tasks]
    with pytest.raises(InvalidRecipe, match="give a 'calibration' file to colours, numbers, pets"):
        studied(tasks=bare, calibration={"mode": "transductive"})
    with pytest.raises(InvalidRecipe, match="two tasks or more"):
        studied(only=["pets"])


def test_no_output_takes_an_input_with_it(studied: Callable[..., Study], recipe_file: Path, tmp_path: Path) -> None:
    expert = Path(yaml.safe_load(recipe_file.read_text())["tasks"][0]["expert"])
    with pytest.raises(OutputError, match="would be lost"):
        write_paper(studied(), chosen(["cost"]), expert, replace=True)
    with pytest.raises(OutputError, match="would be lost"):
        write_paper(studied(), chosen(["cost"]), tmp_path / "out", store=tmp_path / "out" / "store")


def test_a_budget_gives_the_rank_it_was_worked_out_from(studied: Callable[..., Study]) -> None:
    study = studied()
    for rank in (1, 4):
        budget = study.widths * (2 * rank + 1) / study.parameters
        assert int(budget * study.parameters + 1e-6) == study.widths * (2 * rank + 1)


def test_quick_is_told(recipe_file: Path) -> None:
    study = study_of(read_recipe(recipe_file), quick=True, settings=settings_for("", quick=True))
    assert study.seeds == (0,)
    assert any("Quick: shorter schedules" in note for note in study.told)
    assert any("One seed" in note for note in study.told)


def test_what_learns_by_gradient_does_so_in_the_precision_that_is_quickest(
    studied: Callable[..., Study], monkeypatch: pytest.MonkeyPatch
) -> None:
    transformer, asked = studied(), studied(calibration={"precision": "float32"})
    monkeypatch.setattr(study_module, "_shape", lambda _: {"depth": 2, "linear": False})
    convolutional = studied()
    assert [each.precision for each in (transformer, asked, convolutional)] == ["bfloat16", "float32", "float32"]
    assert any("in bfloat16 (autocast)." in note for note in transformer.told)
    assert any("in float32." in note for note in convolutional.told)
