"""The papers' suite on a miniature of the same layout: a tiny CLIP, eight experts, eight data sets in the hub's own cache; no network."""

import csv
import hashlib
import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file, save_file

from backbones import zoo
from suture.errors import UnknownName
from suture.experiment import paper_recipe
from suture.tasks.prompts import read_prompts
from suture.tasks.suites.clip8 import architectures, sources

datasets = pytest.importorskip("datasets")


def place(cache: Path, kind: str, name: str) -> Path:
    """Make room in the cache as the hub's client does."""
    folder = cache / f"{kind}--{name.replace('/', '--')}"
    commit = hashlib.sha1(name.encode()).hexdigest()
    (folder / "refs").mkdir(parents=True)
    (folder / "refs" / "main").write_text(commit)
    (folder / "snapshots").mkdir()
    return folder / "snapshots" / commit


def publish_models(cache: Path, tmp_path: Path, *, pickled: bool) -> None:
    """A whole CLIP, and image towers that were saved without it."""
    from transformers import CLIPModel, CLIPVisionModel

    needed = sources("ViT-B-32")
    base = zoo.make("clip", tmp_path / "clip")
    zoo.prepare_texts(base)
    tower = CLIPVisionModel(CLIPModel.from_pretrained(base).config.vision_config)
    own = {name: tensor for name, tensor in load_file(base / "model.safetensors").items() if name.startswith("vision_model.")}
    for seed, task in enumerate(needed.tasks):
        folder, noise = place(cache, "models", task.expert), torch.Generator().manual_seed(seed)
        tower.save_pretrained(folder)
        save_file({n: t + 0.1 * torch.randn(t.shape, generator=noise) for n, t in own.items()}, folder / "model.safetensors")
    if pickled:
        torch.save(load_file(base / "model.safetensors"), base / "pytorch_model.bin")
        (base / "model.safetensors").unlink()
    shutil.copytree(base, place(cache, "models", needed.base))


def publish_data(cache: Path) -> None:
    """Images of noise, as many classes as each task has; more splits than are needed."""
    for number, task in enumerate(sources("ViT-B-32").tasks):
        names = [f"class {each}" for each in range(len(read_prompts(task.name).classes))]  # type: ignore[arg-type]
        features = datasets.Features({"image": datasets.Image(), "label": datasets.ClassLabel(names=names)})
        folder = place(cache, "datasets", task.dataset)
        for split, count in (("train", 20), ("test", 12)):
            draw = np.random.default_rng([number, count])
            content: dict[str, Any] = {
                "image": [Image.fromarray(draw.integers(0, 256, (9, 9, 3), dtype=np.uint8)) for _ in range(count)],
                "label": draw.integers(0, len(names), count).tolist(),
            }
            file = folder / task.files.format(split=split).replace("*", "00000-of-00001")
            file.parent.mkdir(parents=True, exist_ok=True)
            datasets.Dataset.from_dict(content, features=features).to_parquet(file)


def suture(*arguments: str, cache: Path, folder: Path) -> "subprocess.CompletedProcess[str]":
    own = {"HF_HUB_CACHE": str(cache), "HF_HUB_OFFLINE": "1", "HF_DATASETS_CACHE": str(folder / "datasets"), "COLUMNS": "120"}
    environment = os.environ | own | {"SUTURE_CACHE": str(folder / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, "-m", "suture", "paper", *arguments]
    return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=folder, check=False, input="n\n")


def test_the_whole_of_it_in_miniature(tmp_path: Path) -> None:
    cache = tmp_path / "hub"
    publish_models(cache, tmp_path, pickled=True)
    publish_data(cache)

    asked = suture("--arch", "ViT-B-32", cache=cache, folder=tmp_path)
    assert asked.returncode == 1
    assert "Go on? [y/N]" in asked.stdout
    assert "openai/clip-vit-base-patch32" in asked.stdout
    assert "custom, non-commercial" in asked.stdout
    assert not (tmp_path / "out").exists()

    settings = ("--suite", "clip8", "--arch", "ViT-B-32", "--yes", "--only", "weight_averaging", "--only", "task_arithmetic")
    done = suture(*settings, cache=cache, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    assert "transductive" in done.stdout
    out = tmp_path / "out" / "clip8"
    rows = list(csv.DictReader((out / "results.csv").open()))
    assert {row["task"] for row in rows} >= {task.name for task in sources("ViT-B-32").tasks}
    bias = {(row["merge"], row["surgery"]): float(row["value"]) for row in rows if row["metric"] == "bias_l1" and row["task"] == "eurosat"}
    assert bias["task_arithmetic", "surgery"] < bias["task_arithmetic", "none"]
    merged, base = (load_file(out / "merged" / "weight_averaging" / "model.safetensors"), load_file(next(cache_of(tmp_path))))
    assert merged.keys() == base.keys()
    text, image = "text_projection.weight", "vision_model.encoder.layers.0.mlp.fc1.weight"
    assert torch.equal(merged[text], base[text])
    assert not torch.equal(merged[image], base[image])


def cache_of(folder: Path) -> Any:
    return (folder / "cache" / "converted").glob("*/model.safetensors")


def test_what_is_not_in_the_cache_is_named(tmp_path: Path) -> None:
    found = suture("--yes", "--only", "weight_averaging", cache=tmp_path / "hub", folder=tmp_path)
    assert found.returncode != 0
    assert "hf://openai/clip-vit-base-patch32 is not in the local cache, and the hub cannot be reached" in " ".join(found.stderr.split())
    wrong = suture("--arch", "ViT-B-23", cache=tmp_path / "hub", folder=tmp_path)
    assert "ViT-B-32" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("architecture", architectures())
def test_every_architecture_has_a_recipe_of_the_hubs_names(architecture: str) -> None:
    recipe = paper_recipe(architecture, "base")
    patch = architecture.rpartition("-")[2]
    assert str(recipe.tasks[0].expert) == f"hf:/tanganke/clip-vit-{'large' if architecture[4] == 'L' else 'base'}-patch{patch}_sun397"
    assert [task.name for task in recipe.tasks] == ["sun397", "stanford_cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
    assert {merge.name for merge in recipe.merges} >= {"weight_averaging", "ties", "ada_merging", "concrete_ada_merging"}
    assert recipe.calibration.mode == "transductive"
    assert all(task.calibration is None for task in recipe.tasks)
    held_out = paper_recipe(architecture, "base", ["ties"], held_out=True)
    assert held_out.calibration.mode == "held-out"
    assert [str(task.calibration) for task in held_out.tasks][:2] == ["tanganke/sun397 (train)", "tanganke/stanford_cars (train)"]


def test_a_method_of_nobodys_is_refused() -> None:
    with pytest.raises(UnknownName, match="ties"):
        paper_recipe("ViT-B-32", "base", ["tis"])
