"""A walk through a network, block by block."""

from pathlib import Path

import pytest
import torch
from PIL import Image
from safetensors.torch import save_file
from torch import Tensor, nn

import suture
from suture.backbones.walk import BlockWalk
from suture.errors import UnsupportedFormat


class Choosing(nn.Module):
    """A block that runs its layer for positive inputs alone."""

    def __init__(self) -> None:
        super().__init__()
        self.inner = nn.Linear(2, 2)

    def forward(self, hidden: Tensor) -> Tensor:
        return self.inner(hidden) if bool(hidden.mean() > 0.5) else hidden


class Whole(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList([Choosing()])

    def forward(self, x: Tensor) -> Tensor:
        return self.layers[0](x)


def grey(image: Image.Image) -> Tensor:
    return torch.full((2,), image.getpixel((0, 0))[0] / 255)  # type: ignore[index]


def choosing() -> suture.Network:
    return suture.Network(Whole(), grey)


def test_a_layer_that_runs_for_some_inputs_alone_is_refused(tmp_path: Path) -> None:
    save_file({name: tensor.clone() for name, tensor in Whole().state_dict().items()}, tmp_path / "model.safetensors")
    backbone = suture.open_backbone(tmp_path, suture.open_checkpoint(tmp_path), network=choosing)
    bright, dark = ([Image.new("RGB", (1, 1), colour)] for colour in ("white", "black"))
    walk = BlockWalk(backbone, torch.float32, tmp_path / "walk").enter(dict(backbone.weights), [bright, dark])
    entering = walk.inputs(dict(backbone.weights), "layers.0.inner.weight")
    assert next(entering).tolist() == [[1.0, 1.0]]
    with pytest.raises(UnsupportedFormat, match=r"the layer of 'layers\.0\.inner\.weight' runs for some inputs and not for others"):
        next(entering)
