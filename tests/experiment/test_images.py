"""Experiments on images: from folders and files of the user's own to tables, by every kind of merge and surgery."""

import csv
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from backbones import zoo
from suture.errors import DataError
from suture.experiment import Recipe, run

COLOURS = {"red": (200, 40, 40), "green": (40, 200, 40)}


def picture(colour: tuple[int, int, int], seed: int) -> Image.Image:
    noise = np.random.default_rng(seed).integers(-40, 40, (12, 14, 3))
    return Image.fromarray(np.clip(np.array(colour) + noise, 0, 255).astype(np.uint8))


def save(folder: Path, count: int, start: int, *, flat: bool = False) -> Path:
    for number in range(count):
        for place, (name, colour) in enumerate(COLOURS.items()):
            own = folder if flat else folder / name
            own.mkdir(parents=True, exist_ok=True)
            picture(colour, start + 2 * number + place).save(own / f"{name}-{number}.png")
    return folder


def recipe_of(folder: Path, family: str, **settings: Any) -> Recipe:
    base = zoo.make(family, folder / "base")
    tasks = []
    for seed, task in enumerate(["one", "two"]):
        place = folder / task
        expert = zoo.make_expert(base, folder / f"expert-{task}", seed)
        support, test = save(place / "support", 4, 1000 * seed), save(place / "test", 6, 1000 * seed + 100)
        calibration = save(place / "calibration", 12, 1000 * seed + 200, flat=True)
        tasks.append({"name": task, "expert": expert, "test": test, "calibration": calibration, "head": {"support": support}})
    return Recipe.model_validate({"name": "colours", "base": base, "tasks": tasks, "seeds": [0]} | settings)


def values(out: Path, metric: str) -> dict[str, float]:
    """Return a metric of every model, the mean over tasks."""
    found: dict[str, list[float]] = {}
    for row in csv.DictReader((out / "results.csv").open(encoding="utf-8")):
        if row["metric"] == metric:
            found.setdefault(f"{row['merge']} + {row['surgery']}".removesuffix(" + none"), []).append(float(row["value"]))
    return {name: float(np.mean(own)) for name, own in found.items()}


@pytest.mark.parametrize("family", ["vit", "efficientnet"])
def test_from_folders_of_images_to_a_table(tmp_path: Path, family: str) -> None:
    surgery = [
        {"procedure": "closed_form", "rank": 4},
        {"procedure": "deep_closed_form", "rank": 4},
        {"procedure": "low_rank_residual", "rank": 400},
        {"procedure": "residual_surgery", "residual_rank": 2, "rank": 4, "refine": 2},
    ]
    run(recipe_of(tmp_path, family, merges=["weight_averaging"], surgery=surgery), tmp_path / "out")
    bias = values(tmp_path / "out", "bias_mean_abs")
    assert bias["weight_averaging + deep_closed_form"] < 0.6 * bias["weight_averaging"]
    assert bias["weight_averaging + closed_form"] < 0.8 * bias["weight_averaging"]
    assert bias["weight_averaging + low_rank_residual"] < bias["weight_averaging"]  # stem and head stay the merged ones
    assert bias["weight_averaging + residual_surgery"] < 0.6 * bias["weight_averaging"]
    assert len(values(tmp_path / "out", "accuracy")) == 7


def test_merges_that_learn_learn_from_images(tmp_path: Path) -> None:
    merges = [
        "regmean",
        "regmean_pp",
        {"method": "fisher", "samples": 2},
        {"method": "ada_merging", "steps": 2, "batch_size": 2},
        "feat_cal",
    ]
    surgery = [{"procedure": "surgery", "iterations": 5, "rank": 2}, {"procedure": "residual_surgery", "rank": 2, "refine": 2}]
    run(recipe_of(tmp_path, "vit", merges=merges, surgery=surgery), tmp_path / "out")
    accuracies = values(tmp_path / "out", "accuracy")
    assert len(accuracies) == 2 + 3 * len(merges)


def test_images_of_the_test_split_are_not_calibrated_on(tmp_path: Path) -> None:
    recipe = recipe_of(tmp_path, "vit", merges=["weight_averaging"])
    (tmp_path / "one" / "test" / "red" / "red-0.png").rename(tmp_path / "one" / "calibration" / "other-name.png")
    picture(COLOURS["red"], 100).save(tmp_path / "one" / "test" / "red" / "red-9.png")
    with pytest.raises(DataError, match=r"'one': 1 samples of .*calibration stand in .*test too"):
        run(recipe, tmp_path / "out")
