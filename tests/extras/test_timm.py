"""Networks of timm, from folders as its own tools write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import suture
from suture.backbones import NetworkBackbone
from suture.errors import CorruptCheckpoint, SutureWarning
from suture.merging import WeightAveraging
from suture.representation import encode, representation_bias
from suture.surgery import ClosedForm, fit_deep_closed_form

timm = pytest.importorskip("timm")

MODELS: dict[str, tuple[dict[str, Any], int]] = {
    "vit_tiny_patch16_224": ({"img_size": 32, "depth": 3, "embed_dim": 24, "num_heads": 3}, 3),
    "eva02_tiny_patch14_224": ({"depth": 3, "img_size": 28, "embed_dim": 24, "num_heads": 3}, 3),
    "resnet18": ({"channels": (8, 8, 12, 12), "stem_width": 8}, 8),
    "convnext_atto": ({"depths": (1, 1, 2, 1), "dims": (8, 16, 24, 32)}, 5),
    "tf_efficientnet_lite0": ({}, 16),
    "swin_tiny_patch4_window7_224": ({"img_size": 56, "embed_dim": 12, "depths": (1, 1), "num_heads": (1, 2)}, 0),
}
"""Settings of a small one of each kind, and how many blocks it has: none where maps have their channels last."""


def pictures(count: int) -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(count)]


def make(name: str, folder: Path, seed: int, classes: int = 5) -> Any:
    torch.manual_seed(seed)
    settings, _ = MODELS[name]
    model = timm.create_model(name, num_classes=classes, **settings)
    labels = {"label_names": [f"class {number}" for number in range(classes)]}
    timm.models._hub.save_for_hf(model, folder, model_config={**labels}, model_args=settings, safe_serialization=True)
    return model.eval()


def opened(folder: Path) -> NetworkBackbone:
    backbone = suture.open_backbone(folder, suture.open_checkpoint(folder))
    assert isinstance(backbone, NetworkBackbone)
    return backbone


def make_expert(base: Path, folder: Path, seed: int) -> Path:
    folder.mkdir()
    noise = torch.Generator().manual_seed(seed)
    tensors = load_file(base / "model.safetensors")
    changed = {
        name: tensor * (1 + 0.1 * torch.randn(tensor.shape, generator=noise)) if tensor.is_floating_point() else tensor
        for name, tensor in tensors.items()
    }
    save_file(changed, folder / "model.safetensors")
    (folder / "config.json").write_bytes((base / "config.json").read_bytes())
    return folder


@pytest.mark.parametrize("name", MODELS)
def test_a_model_is_merged_reloaded_encoded_and_operated_on(name: str, tmp_path: Path) -> None:
    model = make(name, tmp_path / "base", 0)
    backbone = opened(tmp_path / "base")
    pixels = backbone.collate(pictures(3))["inputs"]
    with torch.no_grad():
        torch.testing.assert_close(encode(backbone, pictures(3)), model.forward_head(model.forward_features(pixels), pre_logits=True))
        torch.testing.assert_close(suture.saved_head(backbone)(encode(backbone, pictures(3))), model(pixels), rtol=1e-4, atol=1e-5)
    assert suture.saved_head(backbone).classes[1] == "class 1"

    base = suture.open_checkpoint(tmp_path / "base")
    experts = [suture.open_checkpoint(make_expert(tmp_path / "base", tmp_path / f"e{seed}", seed)) for seed in range(3)]
    suture.merge_to_folder(WeightAveraging(), base, experts, tmp_path / "merged")
    merged = suture.open_checkpoint(tmp_path / "merged")
    assert {key: tensor.shape for key, tensor in merged.items()} == {key: tensor.shape for key, tensor in base.items()}
    again = timm.create_model(f"local-dir:{tmp_path / 'merged'}", pretrained=True, num_classes=0).eval()
    z = encode(opened(tmp_path / "merged"), pictures(3))
    with torch.no_grad():
        torch.testing.assert_close(z, again(pixels))

    _, depth = MODELS[name]
    assert len(backbone.block_names) == depth
    if depth:
        expert, inputs = opened(tmp_path / "e0"), pictures(24)
        surgery = fit_deep_closed_form({"a": inputs}, opened(tmp_path / "merged"), lambda _: expert, ClosedForm(16, shrinkages=(1e-3,)))
        operated = surgery("a", encode(opened(tmp_path / "merged"), inputs, corrections=surgery.blocks_of("a")))
        goal = encode(expert, inputs)
        before = representation_bias(encode(opened(tmp_path / "merged"), inputs), goal).l1
        assert representation_bias(operated, goal).l1 < 0.5 * before


def test_experts_with_classifiers_of_their_own(tmp_path: Path) -> None:
    make("resnet18", tmp_path / "base", 0)
    make("resnet18", tmp_path / "expert", 1, classes=3)
    with pytest.warns(SutureWarning, match=r"left out, .*: fc\.bias, fc\.weight"):
        expert = suture.open_aligned(suture.open_checkpoint(tmp_path / "base"), tmp_path / "expert")
    assert torch.equal(expert["conv1.weight"], suture.open_checkpoint(tmp_path / "expert")["conv1.weight"])
    assert suture.saved_head(opened(tmp_path / "expert")).weight.shape[0] == 3


def test_an_architecture_that_timm_does_not_know_is_refused(tmp_path: Path) -> None:
    make("resnet18", tmp_path / "base", 0)
    (tmp_path / "base" / "config.json").write_text(json.dumps({"architecture": "nonsense"}))
    with pytest.raises(CorruptCheckpoint, match=r"base: timm makes no network of its config\.json: .*nonsense"):
        encode(opened(tmp_path / "base"), pictures(1))


def test_a_model_to_ship_loads_again(tmp_path: Path) -> None:
    make("resnet18", tmp_path / "base", 0)
    backbone = opened(tmp_path / "base")
    model = suture.MultiTaskModel(backbone, {"one": suture.Head(torch.randn(3, backbone.width))})
    model.save_pretrained(tmp_path / "model")
    again = suture.MultiTaskModel.from_pretrained(tmp_path / "model")
    assert torch.equal(model.logits(pictures(3), "one"), again.logits(pictures(3), "one"))
    assert timm.create_model(f"local-dir:{tmp_path / 'model'}").num_classes == 5
