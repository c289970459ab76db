"""Ties beyond the contract."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from suture.checkpoints import open_checkpoint
from suture.errors import InvalidHyperparameter, UnknownName
from suture.merging import TaskArithmetic, Ties, make_method, merge_tensors
from suture.merging.method import Block


@pytest.mark.parametrize(
    "settings", [{"density": 0.0}, {"density": 1.1}, {"scale": float("nan")}, {"scope": "layer"}, {"merge_rule": "max"}]
)
def test_hyperparameters_are_checked_when_made(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidHyperparameter, match=next(iter(settings))):
        Ties(**settings)  # type: ignore[arg-type]


def test_density_one_mean_of_agreeing_values() -> None:
    vectors = torch.tensor([[1.0, -2.0, 0.0], [3.0, 1.0, 0.0]])
    merged = Ties(density=1.0, scale=1.0, scope="tensor", merge_rule="mean").combine(Block("w", 0, torch.zeros(3), vectors), None)
    assert merged.tolist() == [2.0, -2.0, 0.0]


def test_methods_are_made_from_text() -> None:
    assert make_method("ties", {"density": "0.5", "scope": "tensor"}) == Ties(density=0.5, scope="tensor")
    assert make_method("task_arithmetic", {"scale": 1}) == TaskArithmetic(scale=1.0)
    for wrong in (True, "much", None):
        with pytest.raises(InvalidHyperparameter, match="scale must be a float"):
            make_method("task_arithmetic", {"scale": wrong})
    with pytest.raises(UnknownName, match=r"\Aunknown hyperparameter of ties 'desity'; did you mean 'density'\? Known: density, "):
        make_method("ties", {"desity": 1})
    with pytest.raises(UnknownName, match=r"\Aunknown merging method 'tie'; did you mean 'ties'\? Known: ada_merging, "):
        make_method("tie", {})


def test_frozen_tensors_and_plateaus_do_not_confuse_the_threshold(tmp_path: Path) -> None:
    generator = torch.Generator().manual_seed(0)
    base = {"frozen": torch.randn(600, generator=generator), "w": torch.randint(-9, 9, (400,), generator=generator) / 8}
    expert = {"frozen": base["frozen"], "w": base["w"] + torch.where(torch.rand(400, generator=generator) < 0.5, 0.5, -0.5)}
    save_file(base, tmp_path / "base.safetensors")
    save_file(expert, tmp_path / "expert.safetensors")
    opened = [open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert")]
    for density in (0.1, 0.4, 0.7):  # above, at and below the edge of the plateau: what is equal to the smallest kept element stays
        merged = dict(merge_tensors(Ties(density=density, scale=1.0), opened[0], [opened[1]]))
        assert torch.equal(merged["frozen"], base["frozen"])
        torch.testing.assert_close(merged["w"], expert["w"])
