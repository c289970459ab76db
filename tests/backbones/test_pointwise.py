"""A convolution of one place is a linear layer over the places of a map: both are merged to the same weights and get the same residuals."""

from collections.abc import Callable, Mapping
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import suture
from suture.backbones import Head, TaskCalibration
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.merging import FeatCal, IsoC, MergingMethod, RegMean, RegMeanPlusPlus, TsvM, WeightAveraging, merge_tensors
from suture.surgery import calibrated_residuals
from suture.surgery.residual import Change

SIDE = 4
WIDTHS = [(3, 6), (6, 6), (6, 5)]


class OfPlaces(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Conv2d(*width, 1), nn.ReLU()) for width in WIDTHS])

    def forward(self, maps: Tensor) -> Tensor:
        for layer in self.layers:
            maps = layer(maps)
        return maps.mean(dim=(2, 3))


class OfTokens(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([nn.Sequential(nn.Linear(*width), nn.ReLU()) for width in WIDTHS])

    def forward(self, tokens: Tensor) -> Tensor:
        for layer in self.layers:
            tokens = layer(tokens)
        return tokens.mean(dim=1)


def as_map(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).permute(2, 0, 1).float() / 255


def as_tokens(image: Image.Image) -> Tensor:
    return torch.from_numpy(np.array(image)).flatten(0, 1).float() / 255


def of_places() -> suture.Network:
    return suture.Network(OfPlaces(), as_map)


def of_tokens() -> suture.Network:
    return suture.Network(OfTokens(), as_tokens)


def saved(folder: Path, seed: int, trailing: tuple[int, ...]) -> Checkpoint:
    draw = torch.Generator().manual_seed(seed)
    tensors: dict[str, Tensor] = {}
    for number, (entering, leaving) in enumerate(WIDTHS):
        tensors[f"layers.{number}.0.weight"] = torch.randn(leaving, entering, generator=draw).view(leaving, entering, *trailing)
        tensors[f"layers.{number}.0.bias"] = torch.randn(leaving, generator=draw)
    folder.mkdir(parents=True)
    save_file(tensors, folder / "model.safetensors")
    return open_checkpoint(folder)


def pictures() -> list[Image.Image]:
    draw = np.random.default_rng(0)
    return [Image.fromarray(draw.integers(0, 256, (SIDE, SIDE, 3), dtype=np.uint8)) for _ in range(12)]


def merged(
    method: MergingMethod, folder: Path, network: Callable[[], suture.Network], trailing: tuple[int, ...] = ()
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Return what a method, and plain averaging, make of two experts."""
    base, *experts = (saved(folder / name, seed, trailing) for seed, name in enumerate(("base", "one", "two")))
    images = {"one": pictures()[:6], "two": pictures()[6:]}
    backbone = suture.open_backbone(folder / "base", base, network=network)
    calibration = TaskCalibration(backbone, images, {task: Head(torch.eye(5)) for task in images})
    found = dict(merge_tensors(method, base, experts, calibration=calibration))
    return found, dict(merge_tensors(WeightAveraging(), base, experts))


@pytest.mark.parametrize("method", [RegMean(), RegMeanPlusPlus(), FeatCal(), TsvM(), IsoC()], ids=lambda method: method.name)
def test_a_convolution_of_one_place_is_merged_as_a_linear_layer(method: MergingMethod, tmp_path: Path) -> None:
    convolved, averaged = merged(method, tmp_path / "places", of_places, trailing=(1, 1))
    linear, _ = merged(method, tmp_path / "tokens", of_tokens)
    for name, tensor in convolved.items():
        assert tensor.shape == averaged[name].shape
        torch.testing.assert_close(tensor.flatten(1) if tensor.dim() > 1 else tensor, linear[name], rtol=1e-4, atol=1e-5)
    weights = [name for name in convolved if name.endswith("weight")]
    assert not any(torch.allclose(convolved[name], averaged[name], atol=1e-3) for name in weights)


def calibrated(folder: Path, network: Callable[[], suture.Network], trailing: tuple[int, ...] = ()) -> Mapping[str, Change]:
    """Return the residuals of one expert, of rank 2, as its activations want them."""
    backbones = {}
    for seed, name in enumerate(("merged", "expert")):
        checkpoint = saved(folder / name, seed, trailing)
        backbones[name] = suture.open_backbone(folder / name, checkpoint, network=network)
    return calibrated_residuals({"one": pictures()}, backbones["merged"], lambda _: backbones["expert"], 2).of("one")


def test_it_gets_the_residuals_of_a_linear_layer(tmp_path: Path) -> None:
    linear = calibrated(tmp_path / "tokens", of_tokens)
    for name, change in calibrated(tmp_path / "places", of_places, trailing=(1, 1)).items():
        torch.testing.assert_close(change.whole(), linear[name].whole(), rtol=1e-4, atol=1e-5)


def test_pictures_are_opened_once_where_their_maps_are_all_that_goes_on(tmp_path: Path) -> None:
    opened: list[Image.Image] = []

    def counted(image: Image.Image) -> Tensor:
        opened.append(image)
        return as_map(image)

    calibrated(tmp_path, lambda: suture.Network(OfPlaces(), counted), trailing=(1, 1))
    assert len(opened) == len(pictures()) + 1  # one shows which layers there are
