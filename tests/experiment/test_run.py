"""A whole experiment in one process: what it measures is what the parts measure."""

import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import suture
from suture.backbones import TextBackbone
from suture.checkpoints import open_checkpoint
from suture.errors import DataError
from suture.evaluation import Record, Results
from suture.experiment import measure_only, read_recipe, run
from suture.representation import encode, representation_bias
from suture.types import Progress


def edit(recipe_file: Path, **changes: object) -> Path:
    recipe_file.write_text(yaml.safe_dump(yaml.safe_load(recipe_file.read_text()) | changes))
    return recipe_file


@pytest.fixture
def outcome(recipe_file: Path, tmp_path: Path) -> tuple[Path, Results]:
    return tmp_path / "out", run(read_recipe(recipe_file), tmp_path / "out").results


def only(results: Results, **wanted: object) -> Record:
    (found,) = [record for record in results.records if all(getattr(record, key) == value for key, value in wanted.items())]
    return found


def test_values_are_those_of_the_parts(outcome: tuple[Path, Results], experts: dict[str, Path], data: Path) -> None:
    out, results = outcome
    texts, labels = zip(*(json.loads(line).values() for line in (data / "pets-test.jsonl").read_text().splitlines()), strict=True)
    merged = TextBackbone.open(out / "merged" / "weight_averaging", "mean", 16)
    z, expert = encode(merged, texts), encode(TextBackbone.open(experts["pets"], "mean", 16), texts)
    head, surgery = (
        suture.load_heads(out / "heads.safetensors")["pets"],
        suture.load_surgery(out / "surgery" / "weight_averaging-seed1.safetensors"),
    )
    truth = torch.tensor([["cat", "dog"].index(label) for label in labels])
    about = {"task": "pets", "merge": "weight_averaging()"}
    plain, operated = about | {"surgery": "none"}, about | {"surgery": "surgery", "seed": 1}
    assert only(results, **plain, metric="accuracy").value == suture.accuracy(head(z), truth)
    assert only(results, **operated, metric="accuracy").value == suture.accuracy(head(surgery("pets", z)), truth)
    assert only(results, **plain, metric="bias_l1").value == pytest.approx(representation_bias(z, expert).l1, rel=1e-4)
    assert only(results, **operated, metric="bias_l1").value == pytest.approx(representation_bias(surgery("pets", z), expert).l1, rel=1e-4)


def test_the_merged_folder_gives_transformers_the_same_representations(outcome: tuple[Path, Results], data: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    folder = outcome[0] / "merged" / "task_arithmetic"
    model, tokenizer = AutoModel.from_pretrained(folder).eval(), AutoTokenizer.from_pretrained(folder)
    texts = ["the red cat", "one"]
    batch = tokenizer(texts, padding=True, return_tensors="pt")
    mask = batch["attention_mask"].unsqueeze(-1)
    theirs = (model(**batch).last_hidden_state * mask).sum(dim=1) / mask.sum(dim=1)
    assert float((encode(TextBackbone.open(folder), texts) - theirs).abs().max()) <= 1e-5


def test_surgery_lowers_the_bias_and_both_averages_are_told(outcome: tuple[Path, Results]) -> None:
    out, results = outcome
    for merge in results.merges:
        before, after = (results.spread((merge, kind), "bias_mean_abs") for kind in ("none", "surgery"))
        assert before is not None
        assert after is not None
        assert after.mean < before.mean
    summary = json.loads((out / "results.json").read_text())
    assert len(summary["records"]) == len(results.records)
    assert any("weight_averaging()" in note and "% with it" in note for note in summary["notes"])
    assert "held-out, 24 unlabelled samples a task" in (out / "table.md").read_text()


def test_figures_are_pictures(outcome: tuple[Path, Results]) -> None:
    for name in ("accuracy", "bias", "tsne"):
        with Image.open(outcome[0] / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(set(picture.convert("L").tobytes())) > 20
        assert "<svg" in (outcome[0] / "figures" / f"{name}.svg").read_text()[:1000]


def test_transductive_is_labelled_so(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(edit(recipe_file, calibration={"mode": "transductive"}, merges=["weight_averaging"], seeds=[0]))
    results = run(recipe, tmp_path / "out").results
    operated = [record for record in results.records if record.surgery != "none"]
    assert {(record.calibration, record.samples) for record in operated} == {("transductive", 30)}
    assert "transductive" in (tmp_path / "out" / "table.md").read_text()


def test_calibration_that_stands_in_the_test_set_is_refused(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    (data / "pets-calibration.jsonl").write_text((data / "pets-test.jsonl").read_text())
    with pytest.raises(DataError, match=r"'pets': 30 texts of .* set calibration.mode to transductive"):
        run(read_recipe(recipe_file), tmp_path / "out")


def test_an_adapter_and_full_experts_in_one_recipe(recipe_file: Path, bert: Path, tmp_path: Path) -> None:
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModel

    model = get_peft_model(AutoModel.from_pretrained(bert), LoraConfig(r=2, target_modules=["query"]))
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_B" in name:
                parameter.fill_(0.1)
    model.save_pretrained(tmp_path / "adapter")
    content = yaml.safe_load(recipe_file.read_text())
    content["tasks"][0]["expert"] = "adapter"
    results = measure_only(read_recipe(edit(recipe_file, **content)), baselines_too=True)
    assert only(results, merge="pretrained", task="colours", metric="bias_mean_abs").value > 0


def test_stages_are_announced_with_their_units(recipe_file: Path, tmp_path: Path) -> None:
    from collections.abc import Iterator
    from contextlib import contextmanager

    told: dict[str, list[int]] = {}

    @contextmanager
    def stage(name: str, units: int) -> Iterator[Progress]:
        told[name] = [units, 0]

        def advance(count: int) -> None:
            told[name][1] += count

        yield advance

    run(read_recipe(recipe_file), tmp_path / "out", stage=stage)
    assert all(units == done for name, (units, done) in told.items() if name != "Preparing experts")
    assert {"Merging: weight_averaging", "Encoding test: individual", "Operating on weight_averaging"} <= set(told)


def test_an_expert_in_a_single_file(recipe_file: Path, experts: dict[str, Path]) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    whole = measure_only(read_recipe(recipe_file), baselines_too=True).rows()
    content["tasks"][0]["expert"] = str(experts["colours"] / "model.safetensors")
    assert measure_only(read_recipe(edit(recipe_file, **content)), baselines_too=True).rows() == whole
    assert open_checkpoint(experts["colours"] / "model.safetensors").elements > 0
