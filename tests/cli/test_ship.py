"""The commands about the model that one ships."""

import json
from pathlib import Path

import yaml
from safetensors import safe_open

from cli.test_app import change, suture
from suture.surgery import load_surgery, read_origin


def test_build_and_predict(recipe_file: Path, tmp_path: Path) -> None:
    change(recipe_file, surgery={"procedure": "closed_form", "rank": 4}, seeds=[0])
    model = tmp_path / "model"
    shown = suture("build", recipe_file, "-o", model).stdout
    for told in ("expert", "merged", "model", "task found", "not told", "average", "held-out"):
        assert told in shown
    (tmp_path / "texts.txt").write_text("the red cat\n\none two\n")
    (tmp_path / "texts.csv").write_text("review\na blue dog\n")
    given = suture("predict", model, tmp_path / "texts.txt", "--task", "pets", "--text", "so very").stdout
    lines = [json.loads(line) for line in given.splitlines()]
    assert [line["input"] for line in lines] == ["so very", "the red cat", "one two"]
    assert all(line["task"] == "pets" and set(line["probabilities"]) == {"cat", "dog"} and "confidence" not in line for line in lines)
    found = [json.loads(line) for line in suture("predict", model, tmp_path / "texts.csv", "--column", "review").stdout.splitlines()]
    assert found[0]["task"] in ("colours", "numbers", "pets")
    assert {"confidence", "none_of_these"} <= found[0].keys()
    answers = [json.loads(line) for line in suture("predict", model, "--text", "it", "--task", "all").stdout.splitlines()]
    assert [line["task"] for line in answers] == ["colours", "numbers", "pets"]
    awkward = "a :dog: [b]é[/b] b"
    (line,) = suture("predict", model, "--text", awkward, "--task", "pets").stdout.splitlines()
    assert json.loads(line)["input"] == awkward
    (tmp_path / "latin.txt").write_bytes("é".encode("latin-1"))
    assert "not UTF-8" in suture("predict", model, tmp_path / "latin.txt", fails=4).stderr
    assert "did you mean 'pets'" in suture("predict", model, "--text", "it", "--task", "pet", fails=2).stderr
    assert "give files" in suture("predict", model, fails=2).stderr
    assert "no multi-task model" in suture("predict", tmp_path, "--text", "it", fails=3).stderr


def test_features_in_place_of_data(recipe_file: Path, tmp_path: Path) -> None:
    change(recipe_file, surgery={"procedure": "closed_form", "rank": 4}, seeds=[0])
    merged = tmp_path / "merged"
    suture("merge", "weight_averaging", "--recipe", recipe_file, "-o", merged)
    files = []
    for entry in yaml.safe_load(recipe_file.read_text())["tasks"]:
        files.append(tmp_path / f"{entry['name']}.safetensors")
        suture("features", recipe_file, "--task", entry["name"], "--merged", merged, "-o", files[-1])
    with safe_open(files[0], framework="pt") as handle:
        assert set(handle.keys()) == {"merged", "expert"}
    suture("operate-features", *files, "-o", tmp_path / "far.safetensors", "--rank", 4)
    suture("operate", recipe_file, "--merged", merged, "-o", tmp_path / "near.safetensors")
    far, near = (load_surgery(tmp_path / f"{name}.safetensors") for name in ("far", "near"))
    assert far.tasks == near.tasks
    for task in far.tasks:
        assert far.final[task].down.equal(near.final[task].down)
    assert read_origin(tmp_path / "far.safetensors") == read_origin(tmp_path / "near.safetensors")
    assert "not a whole file of features" in suture("operate-features", tmp_path / "far.safetensors", "-o", tmp_path / "x", fails=3).stderr
    assert "not a surgery file" in suture("operate-features", *files, "-o", files[0], "--replace", fails=5).stderr
    assert (
        "not a features file"
        in suture("features", recipe_file, "-t", "pets", "--merged", merged, "-o", recipe_file, "--replace", fails=5).stderr
    )


def test_add_and_remove(recipe_file: Path, tmp_path: Path) -> None:
    change(recipe_file, surgery={"procedure": "closed_form", "rank": 4}, seeds=[0], only=["colours", "numbers"])
    suture("build", recipe_file, "-o", tmp_path / "two", "--no-router")
    entry = tmp_path / "pets.yaml"
    entry.write_text(yaml.safe_dump(yaml.safe_load(recipe_file.read_text())["tasks"][2]))
    recipe = yaml.safe_load(recipe_file.read_text())
    assert [task["name"] for task in recipe["tasks"]] == ["colours", "numbers", "pets"]
    shown = suture("add", tmp_path / "two", entry, "-o", tmp_path / "three", "--keep-backbone").stdout
    assert "before" in shown
    assert "pets" in shown
    shown = suture("remove", tmp_path / "three", "colours", "-o", tmp_path / "left", "--keep-backbone").stdout
    assert "colours" not in shown
    assert "task found" not in shown
