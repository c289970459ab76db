"""What the examples in docstrings stand on: a tiny network, its base and two experts, made where an example names them."""

from pathlib import Path
from typing import Any

import pytest
from _pytest.doctest import DoctestItem

NAMES = ("make", "base", "experts", "backbone", "expert", "folder")
"""``make`` returns the network, ``base`` and ``experts`` are checkpoints, ``backbone`` and ``expert`` are the base's network and the first
expert's, ``folder`` is an empty folder."""


@pytest.fixture(scope="session")
def example_files(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Write a base and two experts of a network of two linear blocks."""
    import torch
    from safetensors.torch import save_file

    folder, noise = tmp_path_factory.mktemp("examples"), torch.Generator().manual_seed(0)
    base = {f"layers.{number}.0.{part}": torch.randn(*shape, generator=noise) / 4 for number in (0, 1) for part, shape in SHAPES.items()}
    save_file(base, folder / "base.safetensors")
    for name in ("pets", "numbers"):
        changed = {key: tensor + torch.randn(*tensor.shape, generator=noise) / 16 for key, tensor in base.items()}
        save_file(changed, folder / f"{name}.safetensors")
    return folder


WIDTH = 4
SHAPES = {"weight": (WIDTH, WIDTH), "bias": (WIDTH,)}


def make() -> Any:
    """Return a network of two linear blocks, which represents a text by its letters."""
    import torch
    from torch import nn

    from suture import Network

    class Letters(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layers = nn.ModuleList([nn.Sequential(nn.Linear(WIDTH, WIDTH)) for _ in range(2)])

        def forward(self, tokens: torch.Tensor) -> torch.Tensor:
            for layer in self.layers:
                tokens = layer(tokens)
            return tokens.mean(dim=1)

    def letters(text: str) -> torch.Tensor:
        return torch.tensor([[ord(letter) % size for size in (2, 3, 5, 7)] for letter in f"{text:3.3}"]).float()

    return Network(Letters(), letters, kind="text")


@pytest.fixture(autouse=True)
def _examples(request: pytest.FixtureRequest, doctest_namespace: dict[str, Any]) -> None:
    """Put names into the examples that use them."""
    if not isinstance(request.node, DoctestItem) or request.node.dtest is None:
        return
    wanted = {word for example in request.node.dtest.examples for word in NAMES if word in example.source}
    if not wanted:
        return
    from suture import open_backbone, open_checkpoint

    place: Path = request.getfixturevalue("example_files")
    weights = open_checkpoint(place / "base.safetensors")
    experts = [open_checkpoint(place / f"{name}.safetensors") for name in ("pets", "numbers")]
    known: dict[str, Any] = {
        "make": make,
        "base": weights,
        "experts": experts,
        "backbone": open_backbone(place, weights, network=make),
        "expert": open_backbone(place, experts[0], network=make),
        "folder": request.getfixturevalue("tmp_path"),
    }
    doctest_namespace.update({name: known[name] for name in wanted})
