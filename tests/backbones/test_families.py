"""Every family that is listed: merged, reloaded with its own library, encoded, taken apart block by block; no tensor is lost."""

import re
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import Tensor

from backbones import zoo
from suture.backbones import FAMILIES, POOLINGS, HuggingFaceBackbone, ImageBackbone, TextBackbone, open_backbone
from suture.checkpoints import open_checkpoint
from suture.merging import WeightAveraging, merge_to_folder
from suture.representation import encode, representation_bias
from suture.surgery import ClosedForm, fit_deep_closed_form

DOCUMENT = Path(__file__).parents[2] / "docs" / "families.md"


def inputs_of(backbone: HuggingFaceBackbone) -> list[Any]:
    return zoo.images() if backbone.kind == "image" else zoo.TEXTS


def reloaded(name: str, folder: Path) -> torch.nn.Module:
    """Load a folder with the class of the library that a user would take."""
    import transformers

    return getattr(transformers, zoo.MODELS[name][0]).from_pretrained(folder).eval()  # type: ignore[no-any-return]


@torch.no_grad()
def by_library(name: str, folder: Path, inputs: list[Any]) -> Tensor:
    """Encode input by input with the library's own code, nothing padded."""
    model, represent = reloaded(name, folder), zoo.library_representation(name)
    rows = []
    for each in inputs:
        if isinstance(each, str):
            from transformers import AutoTokenizer

            rows.append(represent(model(**AutoTokenizer.from_pretrained(folder)(each, return_tensors="pt", return_token_type_ids=False))))
        else:
            from transformers import AutoImageProcessor

            pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(each, return_tensors="pt")["pixel_values"]
            rows.append(model.get_image_features(pixels).pooler_output if name == "clip" else represent(model(pixels)))
    return torch.cat(rows)


@pytest.mark.parametrize("name", list(FAMILIES))
def test_a_family_is_merged_reloaded_encoded_and_operated_on(name: str, tmp_path: Path) -> None:
    base = zoo.make(name, tmp_path / "base")
    experts = [zoo.make_expert(base, tmp_path / f"expert-{seed}", seed) for seed in range(3)]
    merge_to_folder(WeightAveraging(), open_checkpoint(base), [open_checkpoint(expert) for expert in experts], tmp_path / "merged")

    before, after = (load_file(folder / "model.safetensors") for folder in (base, tmp_path / "merged"))
    assert {key: tensor.shape for key, tensor in after.items()} == {key: tensor.shape for key, tensor in before.items()}
    states = [reloaded(name, folder).state_dict() for folder in (tmp_path / "merged", *experts)]
    for key, tensor in states[0].items():
        if tensor.is_floating_point():
            torch.testing.assert_close(tensor, torch.stack([state[key] for state in states[1:]]).mean(dim=0), rtol=1e-5, atol=1e-6)

    merged = open_backbone(tmp_path / "merged", open_checkpoint(tmp_path / "merged"))
    assert isinstance(merged, ImageBackbone if FAMILIES[name].kind == "image" else TextBackbone)
    inputs = inputs_of(merged)
    z = encode(merged, inputs)
    torch.testing.assert_close(z, by_library(name, tmp_path / "merged", inputs), rtol=1e-4, atol=1e-5)
    assert set(merged.names.values()) <= before.keys()

    expert = open_backbone(base, open_checkpoint(experts[0]))
    assert merged.blocks.depth >= 3
    assert len(merged.widths) == merged.blocks.depth + 1
    surgery = fit_deep_closed_form({"a": inputs}, merged, lambda _: expert, ClosedForm(rank=16, shrinkages=(1e-3,)))
    operated = surgery("a", encode(merged, inputs, corrections=surgery.blocks_of("a")))
    goal = encode(expert, inputs)
    assert representation_bias(operated, goal).l1 < 0.5 * representation_bias(z, goal).l1


def test_the_page_lists_every_family() -> None:
    rows = re.findall(r"^\| `([^`]+)` \| ([^|]+) \| ([^|]+) \| ([^|]+) \|", DOCUMENT.read_text(encoding="utf-8"), flags=re.MULTILINE)
    told = {name: (title, kind, representation) for name, title, kind, representation in rows}
    assert told == {name: (own.title, own.kind, POOLINGS[own.pooling]) for name, own in FAMILIES.items()}
