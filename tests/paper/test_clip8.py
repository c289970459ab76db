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
from suture.paper import clip8_recipe
from suture.paper.merges import MERGES
from suture.paper.published import published
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

    asked = suture("--suite", "clip8", "--arch", "ViT-B-32", cache=cache, folder=tmp_path)
    assert asked.returncode == 1
    assert "Go on? [y/N]" in asked.stdout
    assert "openai/clip-vit-base-patch32" in asked.stdout
    assert "custom, non-commercial" in asked.stdout
    assert not (tmp_path / "out").exists()

    # All of it takes minutes; SUTURE_WHOLE=1 asks for it.
    items = ["all"] if os.environ.get("SUTURE_WHOLE") else ["cost"]
    done = suture(*items, "--suite", "clip8", "--arch", "ViT-B-32", "--quick", "--yes", "--jobs", "2", cache=cache, folder=tmp_path)
    assert done.returncode == 0, done.stderr
    out = tmp_path / "out" / "paper"
    assert "one backbone" in (out / "cost" / "cost.csv").read_text(encoding="utf-8")
    if "all" in items:
        rows = list(csv.DictReader((out / "methods" / "methods.csv").open(encoding="utf-8", newline="")))
        published = {row["method"]: row["published"] for row in rows}
        assert (published["Task arithmetic"], published["Task arithmetic + surgery, rank 16"], published["Individual"]) == (
            "69.1",
            "80.9",
            "90.5",
        )
        assert all(row["held-out"] for row in rows)
        table = next(csv.reader((out / "methods" / "methods-transductive.csv").open(encoding="utf-8", newline="")))
        assert table == ["method", *(task.name for task in sources("ViT-B-32").tasks), "average"]
        for table_of in ("data", "online", "rank"):
            assert "AdaMerging" in (out / table_of / f"{table_of}-published.md").read_text()
    assert (out / "report.html").stat().st_size < 5_000_000


def test_what_is_not_in_the_cache_is_named(tmp_path: Path) -> None:
    found = suture("rank", "--suite", "clip8", "--yes", cache=tmp_path / "hub", folder=tmp_path)
    assert found.returncode != 0
    assert "hf://openai/clip-vit-base-patch32 is not in the local cache, and the hub cannot be reached" in " ".join(found.stderr.split())
    wrong = suture("--suite", "clip8", "--arch", "ViT-B-23", cache=tmp_path / "hub", folder=tmp_path)
    assert "ViT-B-32" in wrong.stderr
    assert "Traceback" not in wrong.stderr


@pytest.mark.parametrize("architecture", architectures())
def test_every_architecture_has_a_recipe_of_the_hubs_names(architecture: str) -> None:
    recipe = clip8_recipe(architecture, "base")
    patch = architecture.rpartition("-")[2]
    assert str(recipe.tasks[0].expert) == f"hf:/tanganke/clip-vit-{'large' if architecture[4] == 'L' else 'base'}-patch{patch}_sun397"
    assert [task.name for task in recipe.tasks] == ["sun397", "stanford_cars", "resisc45", "eurosat", "svhn", "gtsrb", "mnist", "dtd"]
    assert [str(task.calibration) for task in recipe.tasks][:2] == ["tanganke/sun397 (train)", "tanganke/stanford_cars (train)"]
    assert [str(task.test) for task in recipe.tasks][:2] == ["tanganke/sun397 (test)", "tanganke/stanford_cars (test)"]
    assert {str(merge.method["method"]) for merge in MERGES} >= {"weight_averaging", "ties", "ada_merging", "concrete_ada_merging"}


def test_every_method_of_table_1_is_there() -> None:
    theirs = {cell.method for cell in published() if cell.table == "1" and "+" not in cell.method}
    assert {merge.published for merge in MERGES if merge.published} == theirs - {"Pretrained", "Individual", "Traditional MTL"}
