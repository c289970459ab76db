"""From a recipe to a model, and a task more, or less."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from suture.errors import DataError, InvalidRecipe, OutputExists, UnknownName, UnsupportedFormat
from suture.evaluation import INDIVIDUAL
from suture.experiment import add_task, build, read_recipe, recipe_of, remove_task, run
from suture.multitask import MultiTaskModel

PROBES = ["the red cat is very", "one dog so blue"]


def changed(file: Path, **entries: Any) -> Path:
    file.write_text(yaml.safe_dump(yaml.safe_load(file.read_text()) | entries))
    return file


@pytest.mark.parametrize("surgery", [{"procedure": "closed_form", "rank": 4}, {"procedure": "deep_closed_form", "rank": 2}])
def test_a_model_is_what_the_experiment_measures(recipe_file: Path, tmp_path: Path, surgery: dict[str, Any]) -> None:
    recipe = read_recipe(changed(recipe_file, surgery=surgery, seeds=[0], merges=["weight_averaging"]))
    facts = build(recipe, tmp_path / "model")
    results = run(recipe, tmp_path / "out").results
    (operated,) = results.operated("weight_averaging")
    for task, own in facts.tasks.items():
        assert own.samples == 30
        assert own.model == results.spread(operated, "accuracy", task, 1.0).mean
        assert own.merged == results.spread(results.plain("weight_averaging"), "accuracy", task, 1.0).mean
        (individual,) = [model for model in results.models if model.merge == INDIVIDUAL]
        assert own.individual == results.spread(individual, "accuracy", task, 1.0).mean
        assert own.routed <= min(own.model, own.identified)
    model = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert model.tasks == ("colours", "numbers", "pets")
    assert model.predict(PROBES, "pets")[0].label in ("cat", "dog")
    with pytest.raises(OutputExists):
        build(recipe, tmp_path / "model")


def test_adding_and_removing_a_task(recipe_file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    *first, last = content["tasks"]
    small = changed(recipe_file, tasks=first, seeds=[0], surgery={"procedure": "closed_form", "rank": 4})
    build(read_recipe(small), tmp_path / "two")
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump(last))
    grown = add_task(tmp_path / "two", str(tmp_path / "pets.yaml"), tmp_path / "three")
    whole = build(read_recipe(changed(small, tasks=[*first, last])), tmp_path / "whole")
    assert grown.tasks == whole.tasks
    three, anew = (MultiTaskModel.from_pretrained(tmp_path / name) for name in ("three", "whole"))
    assert three.backbone.weights.digest == anew.backbone.weights.digest
    assert torch.equal(three.logits(PROBES, "pets"), anew.logits(PROBES, "pets"))
    shrunk = remove_task(tmp_path / "three", "pets", tmp_path / "again")
    assert list(shrunk.tasks) == ["colours", "numbers"]
    two, again = (MultiTaskModel.from_pretrained(tmp_path / name) for name in ("two", "again"))
    assert torch.equal(two.logits(PROBES, "numbers"), again.logits(PROBES, "numbers"))
    with pytest.raises(DataError, match="has the task 'pets' already"):
        add_task(tmp_path / "three", str(tmp_path / "pets.yaml"), tmp_path / "four")
    with pytest.raises(InvalidRecipe, match="is not a description of a task"):
        add_task(tmp_path / "two", str(recipe_file), tmp_path / "four")
    with pytest.raises(UnknownName, match="did you mean 'pets'"):
        remove_task(tmp_path / "three", "pet", tmp_path / "four")


@pytest.mark.parametrize("procedure", ["closed_form", "deep_closed_form"])
def test_the_backbone_can_stay(recipe_file: Path, tmp_path: Path, procedure: str) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    *first, last = content["tasks"]
    small = changed(recipe_file, tasks=first, seeds=[0], surgery={"procedure": procedure, "rank": 2})
    build(read_recipe(small), tmp_path / "two")
    (tmp_path / "pets.yaml").write_text(yaml.safe_dump(last))
    facts = add_task(tmp_path / "two", str(tmp_path / "pets.yaml"), tmp_path / "three", keep_backbone=True)
    two, three = (MultiTaskModel.from_pretrained(tmp_path / name) for name in ("two", "three"))
    assert three.backbone.weights.digest == two.backbone.weights.digest
    for task in two.tasks:
        assert torch.equal(two.logits(PROBES, task), three.logits(PROBES, task))
    assert facts.tasks["pets"].model >= facts.tasks["pets"].merged
    remove_task(tmp_path / "three", "colours", tmp_path / "left", keep_backbone=True)
    assert facts.tasks["colours"].model == two.facts.tasks["colours"].model
    left = MultiTaskModel.from_pretrained(tmp_path / "left")
    assert left.tasks == ("numbers", "pets")
    assert torch.equal(left.logits(PROBES, "pets"), three.logits(PROBES, "pets"))
    assert left.router is not None
    assert left.router.tasks == left.tasks


def test_leaving_a_task_out_needs_nothing_but_the_model(recipe_file: Path, tmp_path: Path) -> None:
    build(read_recipe(changed(recipe_file, seeds=[0], surgery={"procedure": "closed_form", "rank": 2})), tmp_path / "three")
    (tmp_path / "data").rename(tmp_path / "gone")
    facts = remove_task(tmp_path / "three", "pets", tmp_path / "two", keep_backbone=True)
    assert facts.tasks["numbers"].routed is None
    assert facts.tasks["numbers"].individual > 0
    assert recipe_of(tmp_path / "two").only == ["colours", "numbers"]


def test_a_recipe_of_a_model_cannot_have_anything_run(tmp_path: Path, recipe_file: Path) -> None:
    recipe = read_recipe(changed(recipe_file, seeds=[0], surgery={"procedure": "closed_form", "rank": 2}))
    build(recipe, tmp_path / "model")
    told = json.loads((tmp_path / "model" / "suture.json").read_text())
    told["facts"]["recipe"] |= {"backbone": {"network": "os:getcwd"}}
    (tmp_path / "model" / "suture.json").write_text(json.dumps(told))
    with pytest.raises(UnsupportedFormat, match="os:getcwd as its network, which would be run"):
        recipe_of(tmp_path / "model")


def test_the_last_task_stays(recipe_file: Path, tmp_path: Path) -> None:
    one = changed(recipe_file, only=["pets"], seeds=[0], surgery={"procedure": "closed_form", "rank": 2})
    build(read_recipe(one), tmp_path / "one")
    assert MultiTaskModel.from_pretrained(tmp_path / "one").router is None
    with pytest.raises(DataError, match="only task"):
        remove_task(tmp_path / "one", "pets", tmp_path / "none")
    with pytest.raises(InvalidRecipe, match="'only' names no tasks of this recipe: cats"):
        read_recipe(changed(recipe_file, only=["cats"]))
