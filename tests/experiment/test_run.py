"""A whole experiment in one process: what it measures is what the parts measure."""

import dataclasses
import json
from pathlib import Path

import pytest
import torch
import yaml
from PIL import Image

import suture
from suture.backbones import TextBackbone
from suture.checkpoints import open_checkpoint
from suture.errors import CheckpointNotFound, DataError, IncompatibleExperts, InvalidRecipe, OutputError, OutputExists
from suture.evaluation import Model, Record, Results
from suture.experiment import measure_only, operate_only, read_recipe, run
from suture.representation import encode, representation_bias
from suture.surgery import read_origin
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
    about = {"task": "pets", "merge": "weight_averaging"}
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
    assert float((encode(TextBackbone.open(folder), texts) - theirs.detach()).abs().max()) <= 1e-5


def test_surgery_lowers_the_bias_and_both_averages_are_told(outcome: tuple[Path, Results]) -> None:
    out, results = outcome
    for merge in results.merges:
        (operated,) = results.operated(merge)
        before, after = (results.spread(model, "bias_mean_abs") for model in (Model(merge), operated))
        assert before is not None
        assert after is not None
        assert after.mean < before.mean
    summary = json.loads((out / "results.json").read_text())
    assert len(summary["records"]) == len(results.records)
    assert any("weight_averaging" in note and "% with it" in note for note in summary["notes"])
    assert "held-out, 24 unlabelled samples a task" in (out / "table.md").read_text()


def test_figures_are_pictures(outcome: tuple[Path, Results]) -> None:
    for name in ("accuracy", "bias", "tsne"):
        with Image.open(outcome[0] / "figures" / f"{name}.png") as picture:
            assert min(picture.size) > 300
            assert len(set(picture.convert("L").tobytes())) > 20
        assert "<svg" in (outcome[0] / "figures" / f"{name}.svg").read_text()[:1000]


@pytest.mark.fault(24)
def test_transductive_is_labelled_so(recipe_file: Path, tmp_path: Path) -> None:
    recipe = read_recipe(edit(recipe_file, calibration={"mode": "transductive"}, merges=["weight_averaging"], seeds=[0]))
    results = run(recipe, tmp_path / "out").results
    operated = [record for record in results.records if record.surgery != "none"]
    assert {(record.calibration, record.samples) for record in operated} == {("transductive", 30)}
    assert "transductive" in (tmp_path / "out" / "table.md").read_text()


@pytest.mark.fault(24)
def test_calibration_that_stands_in_the_test_set_is_refused(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    (data / "pets-calibration.jsonl").write_text((data / "pets-test.jsonl").read_text())
    with pytest.raises(DataError, match=r"'pets': 30 samples of .* set calibration.mode to transductive"):
        run(read_recipe(recipe_file), tmp_path / "out")


def test_support_that_stands_in_the_test_set_is_refused(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    with (data / "numbers-support.csv").open("a") as stream:
        stream.write((data / "numbers-test.csv").read_text().splitlines()[1] + "\n")
    with pytest.raises(DataError, match=r"'numbers': 1 samples of .*numbers-support.csv stand in .*numbers-test.csv too"):
        run(read_recipe(recipe_file), tmp_path / "out")


def test_labels_are_not_read_from_calibration_files(recipe_file: Path, data: Path) -> None:
    file = data / "pets-calibration.jsonl"
    rows = [
        json.loads(line) | {"label": label} for line, label in zip(file.read_text().splitlines(), ["", None, "bird", 7] * 10, strict=True)
    ]
    file.write_text("".join(json.dumps(row) + "\n" for row in rows))
    assert measure_only(read_recipe(recipe_file)).records


def test_missing_labels_are_told_with_file_and_task(recipe_file: Path, data: Path) -> None:
    rows = [json.loads(line) for line in (data / "pets-test.jsonl").read_text().splitlines()]
    (data / "pets-test.jsonl").write_text("".join(json.dumps({"text": row["text"]}) + "\n" for row in rows))
    with pytest.raises(DataError, match=r"task 'pets': .*pets-test.jsonl has no column 'label'"):
        measure_only(read_recipe(recipe_file))


def test_the_written_recipe_runs_again(outcome: tuple[Path, Results], tmp_path: Path) -> None:
    again = tmp_path / "elsewhere" / "again.yaml"
    again.parent.mkdir()
    again.write_text(yaml.safe_dump(json.loads((outcome[0] / "results.json").read_text())["recipe"]))
    assert run(read_recipe(again), tmp_path / "again").results.records == outcome[1].records


def test_the_manifest_tells_data_and_settings(outcome: tuple[Path, Results], recipe_file: Path, data: Path, tmp_path: Path) -> None:
    told = json.loads((outcome[0] / "manifest.json").read_text())["settings"]
    assert told["backbone"] == {"pooling": "mean", "max_length": 16, "network": ""}
    assert told["head_scale"] == {"colours": 20.0, "numbers": 20.0, "pets": 20.0}
    assert {split: about["size"] for split, about in told["data"]["pets"].items()} == {"support": 8, "test": 30, "calibration": 40}
    file = data / "pets-test.jsonl"
    file.write_text(file.read_text().replace('"dog"', '"cat"', 1))
    run(read_recipe(recipe_file), tmp_path / "other")
    other = json.loads((tmp_path / "other" / "manifest.json").read_text())["settings"]
    changed = [(task, split) for task, splits in told["data"].items() for split in splits if splits[split] != other["data"][task][split]]
    assert changed == [("pets", "test")]


def heads_by_file(recipe_file: Path, file: Path, **entry: object) -> Path:
    content = yaml.safe_load(recipe_file.read_text())
    content["tasks"][2] |= {"head": {"file": str(file)}, **entry}
    return edit(recipe_file, **content)


def test_heads_of_a_file_bring_their_classes(outcome: tuple[Path, Results], recipe_file: Path, data: Path, tmp_path: Path) -> None:
    heads = suture.load_heads(outcome[0] / "heads.safetensors")
    assert heads["numbers"].classes == ("one", "three", "two")
    before = measure_only(read_recipe(recipe_file)).records
    heads_by_file(recipe_file, outcome[0] / "heads.safetensors")
    assert measure_only(read_recipe(recipe_file)).records == before
    # A test file in which one class is missing changes what the labels are, not what the rows of the head are.
    rows = [line for line in (data / "pets-test.jsonl").read_text().splitlines() if json.loads(line)["label"] == "dog"]
    (data / "pets-test.jsonl").write_text("\n".join(rows))
    assert only(measure_only(read_recipe(recipe_file)), task="pets", metric="accuracy")
    with pytest.raises(DataError, match=r"'pets': the rows of .* are cat, dog, but the recipe's 'classes' are dog, cat"):
        measure_only(read_recipe(heads_by_file(recipe_file, outcome[0] / "heads.safetensors", classes=["dog", "cat"])))


def test_heads_of_a_file_without_classes_need_them_in_the_recipe(recipe_file: Path, tmp_path: Path) -> None:
    file = tmp_path / "heads.safetensors"
    suture.save_heads(file, {"pets": suture.Head(torch.ones(2, 16))})
    with pytest.raises(DataError, match="does not name the classes of its 2 rows; give 'classes'"):
        measure_only(read_recipe(heads_by_file(recipe_file, file)))
    with pytest.raises(DataError, match="2 rows cannot have 3 classes"):
        measure_only(read_recipe(heads_by_file(recipe_file, file, classes=["dog", "cat", "bird"])))
    assert measure_only(read_recipe(heads_by_file(recipe_file, file, classes=["dog", "cat"]))).records


@pytest.mark.parametrize("name", ["individual", "pretrained", "weight_averaging"])
def test_a_merged_folder_is_never_taken_for_a_baseline(outcome: tuple[Path, Results], recipe_file: Path, tmp_path: Path, name: str) -> None:
    folder = tmp_path / "models" / name
    folder.parent.mkdir()
    (outcome[0] / "merged" / "task_arithmetic").rename(folder)
    results = measure_only(read_recipe(recipe_file), folder, baselines_too=True)
    assert results.merges == [f"models/{name}"]
    merged = only(results, merge=f"models/{name}", task="pets", metric="bias_l1")
    assert merged.value == only(outcome[1], merge="task_arithmetic", surgery="none", task="pets", metric="bias_l1").value


@pytest.mark.fault(19, 24)
def test_surgery_is_labelled_by_its_own_file(outcome: tuple[Path, Results], recipe_file: Path) -> None:
    other = read_recipe(edit(recipe_file, seeds=[7], calibration={"mode": "transductive"}, surgery={"rank": 2}))
    merged, surgery = outcome[0] / "merged" / "weight_averaging", outcome[0] / "surgery" / "weight_averaging-seed1.safetensors"
    (row,) = {record.model: record for record in measure_only(other, merged, surgery).records if record.model.operated}.values()
    assert (row.model[1:], row.seed) == (("surgery", 4, "held-out", 24), 1)
    with pytest.raises(DataError, match="was fitted on other weights"):
        measure_only(other, outcome[0] / "merged" / "task_arithmetic", surgery)
    learnt = dataclasses.replace(origin, calibration="transductive") if (origin := read_origin(surgery)) else None
    suture.save_surgery(outcome[0] / "learnt.safetensors", suture.load_surgery(surgery), learnt)
    with pytest.raises(DataError, match=r"learnt\.safetensors was fitted on the test inputs \(transductive\), which --strict refuses"):
        measure_only(other, merged, outcome[0] / "learnt.safetensors", strict=True)
    suture.save_surgery(surgery, suture.load_surgery(surgery))
    with pytest.raises(DataError, match="does not say how it was fitted"):
        measure_only(other, merged, surgery)


def forbidden(*_: object) -> None:
    raise AssertionError("encoded or merged too early")


@pytest.mark.fault(20)
def test_what_is_not_there_is_told_before_work_begins(
    recipe_file: Path, bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("suture.experiment.setting.encode_cached", "suture.experiment.pipeline.encode_cached"):
        monkeypatch.setattr(name, forbidden)
    recipe, other = read_recipe(recipe_file), tmp_path / "other.safetensors"
    suture.save_heads(other, {"a": suture.Head(torch.ones(2, 3))})
    for merged, surgery, error in ((tmp_path / "nowhere", None, CheckpointNotFound), (None, tmp_path / "no", CheckpointNotFound)):
        with pytest.raises(error):
            measure_only(recipe, merged, surgery)
    with pytest.raises(IncompatibleExperts):
        measure_only(recipe, other)
    (tmp_path / "there").touch()
    with pytest.raises(OutputExists, match="exists already"):
        operate_only(recipe, None, tmp_path / "there")
    with pytest.raises(OutputExists, match="is not a surgery file"):
        operate_only(recipe, None, tmp_path / "there", replace=True)


def test_an_output_that_holds_an_input_is_refused(recipe_file: Path, experts: dict[str, Path], data: Path, tmp_path: Path) -> None:
    recipe = read_recipe(recipe_file)
    for out in (experts["pets"], data, data / "pets-test.jsonl", tmp_path):
        with pytest.raises(OutputError, match="which would be lost"):
            run(recipe, out, replace=True)


@pytest.mark.fault(23)
def test_too_few_samples_are_told_before_merging(recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("suture.experiment.pipeline.merge_to_folder", forbidden)
    recipe = read_recipe(edit(recipe_file, calibration={"samples": 41}))
    for work in (lambda: run(recipe, tmp_path / "out"), lambda: operate_only(recipe, None, tmp_path / "s.safetensors")):
        with pytest.raises(DataError, match="has 40 samples to calibrate on, but the recipe asks for 41"):
            work()
    assert not (tmp_path / "out").exists()
    assert not (tmp_path / "s.safetensors").exists()


def test_surgery_files_are_replaced_when_asked_to(recipe_file: Path, tmp_path: Path) -> None:
    recipe, out = read_recipe(recipe_file), tmp_path / "new" / "s.safetensors"
    operate_only(recipe, None, out)
    first = out.read_bytes()
    operate_only(recipe.model_copy(update={"seeds": [5]}), None, out, replace=True)
    assert out.read_bytes() != first
    assert [file.name for file in out.parent.iterdir()] == [out.name]


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
    assert {"Merging: weight_averaging", "Encoding test: individual", "Operating on weight_averaging: surgery"} <= set(told)


def test_an_expert_in_a_single_file(recipe_file: Path, experts: dict[str, Path]) -> None:
    content = yaml.safe_load(recipe_file.read_text())
    whole = measure_only(read_recipe(recipe_file), baselines_too=True).rows()
    content["tasks"][0]["expert"] = str(experts["colours"] / "model.safetensors")
    assert measure_only(read_recipe(edit(recipe_file, **content)), baselines_too=True).rows() == whole
    assert open_checkpoint(experts["colours"] / "model.safetensors").elements > 0


def test_a_data_driven_merge_is_made_for_every_seed(recipe_file: Path, tmp_path: Path) -> None:
    merges = [{"method": "ada_merging", "steps": 2, "batch_size": 4}, {"method": "dare", "drop": 0.5}, "weight_averaging"]
    results = run(read_recipe(edit(recipe_file, merges=merges)), tmp_path / "out").results
    assert sorted(folder.name for folder in (tmp_path / "out" / "merged").iterdir()) == [
        "ada_merging-seed0",
        "ada_merging-seed1",
        "dare-seed0",
        "dare-seed1",
        "weight_averaging",
    ]
    learnt, drawn, plain = (results.plain(merge) for merge in ("ada_merging(steps=2, batch_size=4)", "dare(drop=0.5)", "weight_averaging"))
    assert (learnt.calibration, learnt.samples, drawn.calibration, plain.calibration) == ("held-out", 24, "none", "none")
    seeds = {model: {record.seed for record in results.records if record.model == model} for model in (learnt, drawn, plain)}
    assert seeds == {learnt: {0, 1}, drawn: {0, 1}, plain: {0}}
    folder = open_checkpoint(tmp_path / "out" / "merged" / "dare-seed1")
    assert not torch.equal(folder["encoder.layer.0.output.dense.weight"], _other_seed(folder.path))


def _other_seed(folder: Path) -> torch.Tensor:
    return open_checkpoint(folder.with_name("dare-seed0"))["encoder.layer.0.output.dense.weight"]


def test_a_methods_seed_comes_from_the_recipes(recipe_file: Path) -> None:
    with pytest.raises(InvalidRecipe, match="one of the recipe's 'seeds'"):
        read_recipe(edit(recipe_file, merges=[{"method": "dare", "seed": 3}]))


def test_joint_training_is_measured_beside_the_merges(recipe_file: Path, data: Path, tmp_path: Path) -> None:
    content = yaml.safe_load(recipe_file.read_text()) | {"joint": {"epochs": 1}, "merges": ["weight_averaging"]}
    with pytest.raises(InvalidRecipe, match="joint training needs a labelled 'train' file; missing for: colours, numbers, pets"):
        read_recipe(edit(recipe_file, **content))
    for task in content["tasks"]:
        task["train"] = task["head"]["support"]
    results = run(read_recipe(edit(recipe_file, **content)), tmp_path / "out").results
    assert {record.seed for record in results.records if record.merge == "traditional_mtl"} == {0, 1}
    assert results.merges == ["weight_averaging"]
    trained, base = open_checkpoint(tmp_path / "out" / "traditional_mtl" / "seed1"), open_checkpoint(content["base"])
    assert trained.specs == base.specs
    assert not torch.equal(trained["encoder.layer.0.output.dense.weight"], base["encoder.layer.0.output.dense.weight"])
