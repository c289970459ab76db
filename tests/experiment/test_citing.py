"""What is cited for recipes, folders and names."""

import json
import re
from pathlib import Path

import pytest

from suture.bibliography import CLIP, PROTOTYPES, REDUCED_RANK, REPAIR, REPRESENTATION_SURGERY, SURGERY_V2, TASK_ARITHMETIC, TIES
from suture.checkpoints import Manifest, staged_folder
from suture.errors import DataError, InvalidRecipe, UnknownName
from suture.experiment import Recipe, bibliography
from suture.experiment.citing import cited, papers_of
from suture.multitask import Facts
from suture.multitask.folder import Description, Preprocessing


def keys(text: str) -> list[str]:
    """Return the keys of entries in BibTeX."""
    return re.findall(r"^@\w+\{(\w+),$", text, re.MULTILINE)


def folder(place: Path, **settings: object) -> Path:
    with staged_folder(place, Manifest(settings=settings)):
        pass
    return place


def test_without_names_it_is_suture_and_its_papers() -> None:
    assert keys(bibliography()) == ["suture", REPRESENTATION_SURGERY.key, SURGERY_V2.key]


def test_each_paper_stands_once() -> None:
    assert keys(bibliography(["ties", "dare_ties", "surgery", "ties"])) == [
        "suture",
        TIES.key,
        "yu2024language",
        REPRESENTATION_SURGERY.key,
    ]


def test_a_recipe_is_cited_by_its_merges_surgery_and_heads(tmp_path: Path) -> None:
    task = {"name": "films", "expert": "e", "test": "t.csv", "calibration": "c.csv", "head": {"support": "s.csv"}}
    recipe = tmp_path / "recipe.yaml"
    recipe.write_text(json.dumps({"base": "b", "tasks": [task], "merges": ["ties", {"method": "task_arithmetic", "scale": 0.4}]}))
    assert cited(str(recipe)) == [REPRESENTATION_SURGERY, TIES, TASK_ARITHMETIC, REPRESENTATION_SURGERY, PROTOTYPES]


def test_a_suite_is_cited_by_its_own_recipe() -> None:
    assert {REPRESENTATION_SURGERY, PROTOTYPES} <= set(cited("nlp8"))


def test_what_is_measured_anew_chosen_and_prompted_is_cited() -> None:
    task = {"name": "digits", "expert": "e", "test": "t.csv", "calibration": "c.csv", "head": {"prompts": "mnist"}}
    told = {"base": "b", "tasks": [task], "merges": ["ties"], "batch_norm": "recalibrate"}
    recipe = Recipe.model_validate({**told, "surgery": {"procedure": "best", "budget": "1%", "among": ["closed_form"]}})
    assert papers_of(recipe) == [REPRESENTATION_SURGERY, TIES, REPRESENTATION_SURGERY, REDUCED_RANK, CLIP, REPAIR]


def test_folders_tell_what_made_them(tmp_path: Path) -> None:
    recipe = {"suite": "nlp8", "merges": ["ties"], "surgery": [{"procedure": "surgery_v2"}]}
    ran = folder(tmp_path / "ran", recipe=recipe)
    merged = folder(tmp_path / "merged", method="feat_cal(start=ties(density=0.2), samples=64)", batch_norm="recalibrate")
    measured = folder(tmp_path / "measured", used=["task_arithmetic", "closed_form"])
    assert cited(str(ran)) == [REPRESENTATION_SURGERY, TIES, SURGERY_V2, PROTOTYPES]
    assert [paper.key for paper in cited(str(merged))] == ["gu2026featcal", "ilharco2023editing", TIES.key, REPAIR.key]
    assert cited(str(measured)) == [TASK_ARITHMETIC, REPRESENTATION_SURGERY, REDUCED_RANK]


def test_a_model_is_cited_by_its_recipe(tmp_path: Path) -> None:
    facts = Facts(recipe={"suite": "nlp8", "merges": ["ties"], "surgery": [{"procedure": "closed_form"}]})
    about = Description(tasks={"spam": ["ham", "spam"]}, backbone=Preprocessing(sha256="0"), facts=facts)
    with staged_folder(tmp_path / "model", Manifest()) as model:
        (model / "suture.json").write_text(json.dumps(about.model_dump(mode="json")))
    assert cited(str(tmp_path / "model")) == [REPRESENTATION_SURGERY, TIES, REPRESENTATION_SURGERY, REDUCED_RANK, PROTOTYPES]


def test_what_cannot_be_cited_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'ties'"):
        bibliography(["tie"])
    with pytest.raises(DataError, match="was not written by Suture"):
        bibliography([str(tmp_path)])
    with pytest.raises(DataError, match="does not tell what made it"):
        bibliography([str(folder(tmp_path / "bare"))])
    with pytest.raises(InvalidRecipe, match="cannot be read"):
        bibliography([str(tmp_path / "absent.yaml")])
    with pytest.raises(InvalidRecipe, match=r"the recipe that .*old tells: unknown key 'merge'; did you mean 'merges'"):
        bibliography([str(folder(tmp_path / "old", recipe={"suite": "nlp8", "merges": ["ties"], "merge": "ties"}))])
