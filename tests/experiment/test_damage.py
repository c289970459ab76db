"""Calibration inputs that are spoilt: by how much, the same every time, and never taken for what they were."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import yaml
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from suture.errors import InvalidRecipe
from suture.experiment import read_recipe
from suture.experiment.calibration import CalibrationRecipe
from suture.experiment.damage import DamagedPicture, damaged, damaged_text
from suture.experiment.pipeline import calibration_inputs
from suture.experiment.setting import prepare
from suture.inputs import Input, identities, identity_of, opened_image


@given(text=st.text(max_size=80), share=st.floats(0.001, 1), seed=st.integers(0, 2**32 - 1))
@settings(max_examples=200, deadline=None)
def test_a_text_is_spoilt_in_so_many_places(text: str, share: float, seed: int) -> None:
    found = damaged_text(text, share, seed)
    assert found == damaged_text(text, share, seed)
    assert bool(found) == bool(text)
    if not text:
        return
    assert found != text
    most = max(1, round(share * len(text)))
    lost = len(text) - len(found)
    assert 0 <= lost <= most
    if lost == 0:
        assert sum(one != other for one, other in zip(text, found, strict=True)) <= 2 * most


def test_all_kinds_of_slips_happen() -> None:
    text = "the quick brown fox jumps over the lazy dog"
    found = [damaged_text(text, 0.02, seed) for seed in range(60)]
    assert len(set(found)) > 30
    assert {len(each) for each in found} == {len(text), len(text) - 1}
    sorted_like = [sorted(each) == sorted(text) for each in found if len(each) == len(text)]
    assert any(sorted_like)
    assert not all(sorted_like)


@pytest.fixture
def picture() -> np.ndarray:
    return np.random.default_rng(0).integers(0, 256, (20, 30, 3), dtype=np.uint8)


@pytest.mark.parametrize("share", [0.001, 0.1, 1.0])
def test_a_share_of_the_pixels_is_noise(picture: np.ndarray, share: float) -> None:
    found = np.asarray(opened_image(DamagedPicture(picture, share, 0)))
    changed = (found != picture).any(axis=2)
    assert changed.sum() == max(1, round(share * 600))
    assert (found != picture).all(axis=2).sum() == changed.sum()
    assert np.array_equal(found, np.asarray(opened_image(DamagedPicture(picture, share, 0))))
    assert not np.array_equal(found, np.asarray(opened_image(DamagedPicture(picture, share, 1))))


def test_any_kind_of_image_is_spoilt_alike_and_left_as_it_is(picture: np.ndarray, tmp_path: Path) -> None:
    Image.fromarray(picture).save(tmp_path / "p.png")
    before = picture.copy()
    kinds: list[Input] = [picture, Image.fromarray(picture), tmp_path / "p.png"]
    found = damaged(kinds, 0.2, 3)
    assert len(set(identities(found))) == 1
    assert identities(found)[0] not in identities(kinds)
    assert np.array_equal(picture, before)
    assert str(found[2]) == f"{tmp_path / 'p.png'}, damaged"
    assert str(found[0]) == "an image, damaged"
    grey = damaged([picture[..., 0]], 0.2, 3)
    assert identity_of(grey[0]) != identity_of(picture[..., 0])


def test_inputs_are_spoilt_by_themselves_and_nothing_global_is_drawn(picture: np.ndarray) -> None:
    state = torch.get_rng_state()
    texts: list[Input] = ["a cat", "it is a dog", picture]
    whole = damaged(texts, 0.3, 1)
    assert identities(damaged(texts[::-1], 0.3, 1)) == identities(whole)[::-1]
    assert set(identities(whole)).isdisjoint(identities(texts))
    assert set(identities(damaged(texts, 0.3, 2))) != set(identities(whole))
    assert torch.equal(torch.get_rng_state(), state)


def edited(recipe_file: Path, **calibration: Any) -> Path:
    recipe_file.write_text(yaml.safe_dump(yaml.safe_load(recipe_file.read_text()) | {"calibration": calibration}))
    return recipe_file


def test_a_recipe_says_so_and_the_tests_stay_clean(recipe_file: Path) -> None:
    clean, spoilt = (read_recipe(edited(recipe_file, samples=8, pool=10, **more)) for more in ({}, {"damage": "10%"}))
    assert spoilt.calibration.label == "held-out, 10 % damaged"
    assert CalibrationRecipe(damage=0.005).label == "held-out, 0.5 % damaged"
    one, other = prepare(clean), prepare(spoilt)
    for before, after in zip(one.tasks, other.tasks, strict=True):
        for name in before.splits:
            same = list(before.split(name).inputs) == list(after.split(name).inputs)
            assert same == (name != "calibration")
        assert list(after.split("calibration").inputs) == damaged(before.split("calibration").inputs, 0.1, 0)
    drawn, learnt = calibration_inputs(one, clean, 1), calibration_inputs(other, spoilt, 1)
    assert {task: damaged(own, 0.1, 0) for task, own in drawn.items()} == learnt
    assert type(spoilt).model_validate(spoilt.model_dump(mode="json")) == spoilt


@pytest.mark.parametrize(
    ("calibration", "message"),
    [
        ({"damage": 0}, "'calibration.damage': expected a share"),
        ({"damage": "120%"}, "'calibration.damage': expected a share"),
        ({"mode": "transductive", "damage": 0.1}, "take out 'damage'"),
    ],
)
def test_what_is_refused(recipe_file: Path, calibration: dict[str, Any], message: str) -> None:
    with pytest.raises(InvalidRecipe, match=message):
        read_recipe(edited(recipe_file, **calibration))
