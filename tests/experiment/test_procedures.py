"""Procedures of surgery in recipes: what they run, what they are called, and what comes of them in an experiment."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

import suture
from suture.backbones import TextBackbone
from suture.errors import InvalidHyperparameter, InvalidRecipe
from suture.evaluation import Model, Results
from suture.experiment import Recipe, measure_only, read_recipe, run
from suture.experiment.procedure import Patient
from suture.experiment.residual_procedures import ResidualSurgeryProcedure
from suture.experiment.surgery_procedures import DeepClosedFormSurgery, DeepSurgery, PaperSurgery
from suture.representation import encode, representation_bias
from suture.surgery import Schedule, Surgery, read_origin

GOOD = {"suite": "nlp8", "merges": ["weight_averaging"]}
ALL = [
    {"rank": 4, "iterations": 20},
    {"procedure": "closed_form", "rank": 4},
    {"procedure": "deep_closed_form", "rank": 3, "refine": 4},
    {"procedure": "surgery_v2", "rank": 2, "steps": 3},
    {"procedure": "low_rank_residual", "rank": 1},
    {"procedure": "calibrated_residual", "rank": 16},
    {"procedure": "residual_surgery", "rank": 2, "residual_rank": 1, "refine": 3},
]


def edit(recipe_file: Path, **changes: object) -> Path:
    recipe_file.write_text(yaml.safe_dump(yaml.safe_load(recipe_file.read_text()) | changes))
    return recipe_file


def test_one_or_several_named_or_not(recipe_file: Path) -> None:
    for given in ({"rank": 4}, [{"rank": 4}], [{"procedure": "surgery", "rank": 4}]):
        assert read_recipe(edit(recipe_file, surgery=given)).surgery == [PaperSurgery(rank=4)]
    assert [each.label for each in read_recipe(edit(recipe_file, surgery=ALL)).surgery] == [
        "surgery",
        "closed_form",
        "deep_closed_form",
        "surgery_v2",
        "low_rank_residual",
        "calibrated_residual",
        "residual_surgery",
    ]
    assert read_recipe(edit(recipe_file, surgery="deep_closed_form")).surgery == [DeepClosedFormSurgery(procedure="deep_closed_form")]


def test_a_recipe_that_is_written_reads_the_same(recipe_file: Path) -> None:
    others = {"activation": "none", "loss": "l2", "shift": True}
    kinds = [{"name": "linear", "start": "closed_form", **others}, {"procedure": "surgery_v2", "name": "linear v2", **others}]
    recipe = read_recipe(edit(recipe_file, surgery=[*ALL, *kinds, {"procedure": "surgery_v2", "layers": [0, 1]}]))
    written = yaml.safe_dump(recipe.model_dump(mode="json"))
    recipe_file.write_text(written)
    assert read_recipe(recipe_file) == recipe
    ours = read_recipe(edit(recipe_file, surgery={"schedule": "default"}))
    again = Recipe.model_validate(ours.model_dump(mode="json"))
    for one, other in zip(ours.surgery, again.surgery, strict=True):
        assert isinstance(one, PaperSurgery)
        assert isinstance(other, PaperSurgery)
        assert one.fitting() == other.fitting()


def test_schedules_are_those_of_the_fit() -> None:
    assert PaperSurgery().fitting() == Schedule.reference()
    assert PaperSurgery(schedule="default", rank=8).fitting().held_out == Schedule.default().held_out
    assert PaperSurgery(schedule="default").fitting().iterations == Schedule.default().iterations
    assert PaperSurgery(schedule="default", iterations=30).fitting().iterations == 30


def test_other_modules_and_losses_than_the_papers() -> None:
    other = PaperSurgery(activation="none", loss="l2", shift=True, start="closed_form")
    expected = replace(Schedule.reference(), activation="none", loss="l2", shift=True, start="closed_form")
    assert other.fitting() == expected
    assert other.told() == "rank 16, 1000 steps from the closed form on, no activation, squared error, a shift"
    assert PaperSurgery().told() == "rank 16, 1000 steps"
    deep = DeepSurgery(procedure="surgery_v2", activation="none", loss="l2", shift=True)
    assert (deep.fitting().activation, deep.fitting().loss, deep.fitting().shift) == ("none", "l2", True)
    assert deep.told() == "rank 16 after every block, 1000 steps, no activation, squared error, a shift"


def test_some_layers_only(recipe_file: Path, bert: Path, experts: dict[str, Path]) -> None:
    surgery = [{"procedure": name, "layers": [1]} for name in ("deep_closed_form", "surgery_v2")]
    deep, gradient = read_recipe(edit(recipe_file, surgery=surgery)).surgery
    assert isinstance(deep, DeepClosedFormSurgery)
    assert isinstance(gradient, DeepSurgery)
    assert deep.told() == "rank 16, in closed form after block 1"
    assert gradient.told() == "rank 16 after block 1, 1000 steps"
    subject = replace(patient(bert, experts), inputs={"pets": ["a cat is very so", "it is not a dog", "the dog"] * 4})
    for each in (deep.model_copy(update={"rank": 3, "refine": 2}), gradient.model_copy(update={"rank": 3, "steps": 2})):
        operation, (fixed, more) = each.fit(subject, 0, lambda _: None), each.cost(subject)
        assert isinstance(operation, Surgery)
        assert (fixed, more) == (32 if each.procedure == "deep_closed_form" else 0, 64)
        assert next(correction.rank for _, correction in operation.sites("pets")) == 0
        assert 0 < operation.parameters("pets") <= fixed + 3 * more
    for each in (deep, gradient):
        with pytest.raises(InvalidHyperparameter, match="numbers of blocks, 0 to 1; not 2"):
            each.model_copy(update={"layers": [2], "budget": 0.5}).within(subject)


@pytest.mark.parametrize(
    ("surgery", "message"),
    [
        ({"procedure": "open_heart"}, "no such procedure; expected one of surgery, closed_form, deep_closed_form, surgery_v2, low_rank"),
        ([{"procedure": "closed_form", "iterations": 3}], r"unknown key 'surgery.0.iterations'"),
        ([{"procedure": "closed_form", "rank": -1}], r"'surgery.0.rank'"),
        ([{"rank": 4}, {"rank": 4, "iterations": 7}], "must differ from one another: surgery of rank 4, surgery of rank 4"),
        ({"activation": "gelu"}, r"'surgery.0.activation'"),
        ({"shift": "so so"}, r"'surgery.0.shift'"),
        ({"start": "closed_form"}, "'start: closed_form' goes with 'activation: none' and 'shift: true'"),
        ({"procedure": "surgery_v2", "start": "closed_form"}, "unknown key 'surgery.0.start'"),
        ({"procedure": "surgery_v2", "layers": [1, 1]}, r"'surgery.0.layers': expected different numbers of blocks, not 1, 1"),
        ({"procedure": "deep_closed_form", "layers": [-1]}, r"'surgery.0.layers.0'"),
        ({"procedure": "deep_closed_form", "layers": [True]}, r"'surgery.0.layers.0'"),
        ([], "'surgery'"),
        (3, "'surgery.0'"),
    ],
)
def test_what_is_refused(recipe_file: Path, surgery: Any, message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        read_recipe(edit(recipe_file, surgery=surgery))


def test_every_procedure_in_one_experiment(recipe_file: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    recipe = read_recipe(edit(recipe_file, surgery=ALL, merges=["weight_averaging"], seeds=[1]))
    out = tmp_path / "out"
    results = run(recipe, out).results
    found = {model.surgery: model for model in results.operated("weight_averaging")}
    assert {label: model.rank for label, model in found.items()} == {each.get("procedure", "surgery"): each["rank"] for each in ALL}
    before = results.spread(Model("weight_averaging"), "bias_mean_abs")
    assert before is not None
    for label in ("surgery", "closed_form", "deep_closed_form", "calibrated_residual", "residual_surgery"):
        after = results.spread(found[label], "bias_mean_abs")
        assert after is not None
        assert after.mean < before.mean
    check_deep(out, results, experts["pets"])
    for number, label in ((3, "deep_closed_form"), (6, "calibrated_residual"), (7, "residual_surgery")):
        file = out / "surgery" / f"weight_averaging-{number}-{label}-seed1.safetensors"
        again = measure_only(recipe, out / "merged" / "weight_averaging", file)
        (operated,) = [model for model in again.models if model.operated]
        for metric in ("accuracy", "bias_l1", "parameters"):
            one, other = again.spread(operated, metric, "pets"), results.spread(found[label], metric, "pets")
            assert one is not None
            assert other is not None
            assert one.mean == pytest.approx(other.mean, rel=1e-6)
    assert "deep_closed_form, rank 3" in (out / "table.md").read_text()


def check_deep(out: Path, results: Results, expert: Path) -> None:
    """Check what the experiment tells of deep surgery against its file and an encoding of one's own."""
    file = out / "surgery" / "weight_averaging-3-deep_closed_form-seed1.safetensors"
    surgery, origin = suture.load_surgery(file), read_origin(file)
    assert origin is not None
    assert (origin.kind, origin.rank) == ("deep_closed_form", 3)
    merged = TextBackbone.open(out / "merged" / "weight_averaging", "mean", 16)
    task, texts = "pets", ["the cat is so", "a dog it is not"]
    z = surgery(task, encode(merged, texts, corrections=surgery.blocks_of(task)))
    target = encode(TextBackbone.open(expert, "mean", 16), texts)
    assert representation_bias(z, target).l1 < representation_bias(encode(merged, texts), target).l1
    told = {record.value for record in results.records if (record.surgery, record.metric, record.task) == (origin.kind, "parameters", task)}
    assert told == {surgery.parameters(task)}


def patient(bert: Path, experts: dict[str, Path]) -> Patient:
    experts_of = {task: TextBackbone.open(folder) for task, folder in experts.items()}
    return Patient({"pets": ["a cat"]}, lambda: TextBackbone.open(bert), experts_of.__getitem__, dict, torch.float32)


BUDGETED = ["surgery", "closed_form", "deep_closed_form", "surgery_v2", "low_rank_residual", "calibrated_residual", "residual_surgery"]


@pytest.mark.parametrize(
    ("name", "others"), [*((name, {}) for name in BUDGETED), *((name, {"shift": True}) for name in ("surgery", "surgery_v2"))]
)
def test_a_budget_is_kept_and_used_up(bert: Path, experts: dict[str, Path], name: str, others: dict[str, bool]) -> None:
    subject = patient(bert, experts)
    recipe = Recipe.model_validate(GOOD | {"surgery": {"procedure": name, "budget": "25%", **others}})
    chosen = recipe.surgery[0].within(subject)
    fixed, each = chosen.cost(subject)
    assert chosen.rank >= 1
    assert fixed + chosen.rank * each <= 0.25 * subject.size < fixed + (chosen.rank + 1) * each
    named = chosen.model_copy(update={"rank": min(chosen.rank, 4)})
    texts = ["a cat is very so", "it is not a dog", "the dog"] * 4
    seen = {"pets": (encode(subject.merged, texts), encode(subject.expert_of("pets"), texts))}
    ready = replace(subject, inputs={"pets": texts}, pairs_of=lambda: seen)
    operation = named.fit(ready, 0, lambda _: None)
    assert operation.parameters("pets") <= fixed + named.rank * each
    if name in {"surgery", "surgery_v2", "low_rank_residual", "calibrated_residual"}:
        assert operation.parameters("pets") == fixed + named.rank * each


def test_residuals_and_corrections_share_a_budget(bert: Path, experts: dict[str, Path]) -> None:
    subject = patient(bert, experts)

    def ranks(**settings: object) -> tuple[int, int]:
        surgery = {"procedure": "residual_surgery", "budget": 0.5, **settings}
        chosen = Recipe.model_validate(GOOD | {"surgery": surgery}).surgery[0].within(subject)
        assert isinstance(chosen, ResidualSurgeryProcedure)
        return chosen.residual_rank, chosen.rank

    (residual, rank), (none, more) = ranks(), ranks(residual_rank=0)
    assert residual > 0 == none
    assert 0 < rank < more
    assert ranks(budget=1.0)[0] > residual > ranks(budget=0.2)[0]


def test_what_a_budget_decides_is_the_same_once_written(bert: Path, experts: dict[str, Path]) -> None:
    subject = patient(bert, experts)
    recipe = Recipe.model_validate(GOOD | {"surgery": {"procedure": "residual_surgery", "budget": "90%"}})
    again = Recipe.model_validate(recipe.model_dump(mode="json"))
    assert again.surgery[0].within(subject) == recipe.surgery[0].within(subject)


def test_a_budget_that_buys_nothing(bert: Path, experts: dict[str, Path]) -> None:
    recipe = Recipe.model_validate(GOOD | {"surgery": {"procedure": "deep_closed_form", "budget": 0.001}})
    with pytest.raises(InvalidRecipe, match=r"0.100% of the backbone's .* deep_closed_form of rank 1 takes 144"):
        recipe.surgery[0].within(patient(bert, experts))
    with pytest.raises(ValueError, match="either 'rank' or 'budget'"):
        Recipe.model_validate(GOOD | {"surgery": {"rank": 4, "budget": 0.1}})
