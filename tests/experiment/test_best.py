"""The best procedure for a budget: chosen as by hand, on samples that no candidate was fitted to."""

from pathlib import Path
from typing import Any

import pytest
import torch
import yaml
from torch import Tensor

from suture.backbones import TextBackbone
from suture.errors import DataError, InvalidRecipe, UnsupportedFormat
from suture.experiment import Recipe, operate_only, read_recipe, run, within_budget
from suture.experiment.best import BestProcedure
from suture.experiment.procedure import Patient
from suture.experiment.surgery_procedures import ClosedFormSurgery, DeepClosedFormSurgery
from suture.representation import encode
from suture.surgery import ClosedForm, Correction, Surgery, fit_closed_form, fit_deep_closed_form, load_operation, read_origin

TEXTS = [f"{colour} is {'very ' * (place % 3)}not {word}" for place, colour in enumerate(["red", "blue"] * 8) for word in ("so", "it")]


def patient(bert: Path, experts: dict[str, Path], texts: list[str] = TEXTS) -> Patient:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["pets"])
    pairs = {"pets": (encode(merged, texts), encode(expert, texts))}
    return Patient({"pets": texts}, lambda: merged, lambda _: expert, lambda: pairs, torch.float32)


def best(**settings: Any) -> BestProcedure:
    return BestProcedure.model_validate({"procedure": "best", "budget": 0.5, **settings})


def test_what_comes_nearest_on_the_last_quarter_is_chosen(bert: Path, experts: dict[str, Path]) -> None:
    subject = patient(bert, experts)
    fitted, judged = TEXTS[:24], TEXTS[24:]
    merged, expert = subject.merged, subject.expert_of("pets")
    target = encode(expert, judged)

    def left(z: Tensor) -> float:
        return float((z - target).abs().mean())

    ranks = {cls: cls(procedure=name, budget=0.5).within(subject).rank for cls, name in KINDS.items()}
    flat = fit_closed_form({"pets": (encode(merged, fitted), encode(expert, fitted))}, ClosedForm(ranks[ClosedFormSurgery]))
    deep = fit_deep_closed_form({"pets": fitted}, merged, lambda _: expert, ClosedForm(ranks[DeepClosedFormSurgery]))
    after = {
        "closed_form": left(flat("pets", encode(merged, judged))),
        "deep_closed_form": left(deep("pets", encode(merged, judged, corrections=deep.blocks_of("pets")))),
    }
    nearest = min(after, key=after.__getitem__)
    for among in (list(after), list(reversed(after))):
        chosen = best(among=among).within(subject)
        assert (chosen.procedure, chosen.label) == (nearest, f"best: {nearest}")
        assert chosen.rank == ranks[type(chosen)]


KINDS: dict[Any, str] = {ClosedFormSurgery: "closed_form", DeepClosedFormSurgery: "deep_closed_form"}


def test_what_the_budget_does_not_buy_is_left_out(bert: Path, experts: dict[str, Path]) -> None:
    subject = patient(bert, experts)
    assert best(budget=0.02).within(subject).procedure == "closed_form"
    with pytest.raises(InvalidRecipe, match=r"none of .* can be fitted: .*closed_form of rank 1 takes .*deep_closed_form of rank 1 takes"):
        best(budget=0.0001).within(subject)


def test_what_is_not_for_such_networks_or_diverges_is_left_out(
    bert: Path, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    subject = patient(bert, experts)

    def refuse(*_: object) -> None:
        raise UnsupportedFormat("the network does not run its blocks once each, in order")

    monkeypatch.setattr(DeepClosedFormSurgery, "fit", refuse)
    assert best(among=["deep_closed_form", "closed_form"]).within(subject).procedure == "closed_form"
    with pytest.raises(InvalidRecipe, match="deep_closed_form: the network does not run its blocks"):
        best(among=["deep_closed_form"]).within(subject)
    wild = Correction(torch.full((1, 16), torch.nan), torch.ones(16, 1), activation="none")
    monkeypatch.setattr(DeepClosedFormSurgery, "fit", lambda *_: Surgery({"pets": wild}))
    assert best(among=["deep_closed_form", "closed_form"]).within(subject).procedure == "closed_form"


def test_too_few_samples_to_judge_by(bert: Path, experts: dict[str, Path]) -> None:
    with pytest.raises(DataError, match="at least 4 calibration samples a task; fewer: pets"):
        best().within(patient(bert, experts, TEXTS[:3]))


def test_a_recipe_says_it_with_a_budget(recipe_file: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    recipe_file.write_text(yaml.safe_dump(content | {"surgery": {"procedure": "best", "budget": "50%", "among": ["closed_form"]}}))
    recipe = read_recipe(recipe_file)
    assert recipe.surgery == [best(among=["closed_form"])]
    assert Recipe.model_validate(recipe.model_dump(mode="json")).surgery == recipe.surgery
    for wrong, message in (({}, "takes a 'budget'"), ({"budget": 0.5, "rank": 3}, "rank"), ({"budget": 0.5, "among": ["luck"]}, "among")):
        recipe_file.write_text(yaml.safe_dump(content | {"surgery": {"procedure": "best", **wrong}}))
        with pytest.raises(InvalidRecipe, match=message):
            read_recipe(recipe_file)


def test_one_row_for_all_seeds_and_a_file_that_tells_what_was_chosen(recipe_file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    surgery = {"procedure": "best", "budget": "60%", "among": ["closed_form", "deep_closed_form"], "name": "mine"}
    recipe_file.write_text(yaml.safe_dump(content | {"surgery": surgery, "merges": ["weight_averaging", "dare"], "seeds": [0, 1]}))
    results = run(read_recipe(recipe_file), tmp_path / "out").results
    for merge in ("weight_averaging", "dare"):
        (operated,) = results.operated(merge)
        assert operated.surgery in {"mine: closed_form", "mine: deep_closed_form"}
        for seed in (0, 1):
            origin = read_origin(tmp_path / "out" / "surgery" / f"{merge}-seed{seed}.safetensors")
            assert origin is not None
            assert (origin.kind, origin.rank) == (operated.surgery, operated.rank)
    assert "the best of closed_form, deep_closed_form for 60.00% of the parameters" in (tmp_path / "out" / "table.md").read_text()


def test_a_budget_alone_asks_for_the_best(recipe_file: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    content.pop("surgery", None)
    recipe_file.write_text(yaml.safe_dump(content))
    recipe = within_budget(read_recipe(recipe_file), "3%")
    assert isinstance(recipe.surgery[0], BestProcedure)
    operate_only(recipe, None, tmp_path / "s.safetensors")
    origin = read_origin(tmp_path / "s.safetensors")
    assert origin is not None
    assert origin.kind.startswith("best: ")
    assert load_operation(tmp_path / "s.safetensors").tasks == tuple(task.name for task in recipe.tasks)
