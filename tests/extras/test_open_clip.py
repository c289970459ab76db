"""CLIP of open_clip, from folders as its own tools write them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

import suture
from suture.errors import CorruptCheckpoint
from suture.merging import TaskArithmetic
from suture.representation import encode, zero_shot_head

open_clip = pytest.importorskip("open_clip")

MODEL = {
    "embed_dim": 16,
    "vision_cfg": {"image_size": 32, "layers": 3, "width": 24, "head_width": 8, "patch_size": 16},
    "text_cfg": {"context_length": 16, "vocab_size": 49408, "width": 8, "heads": 2, "layers": 2},
}
WEIGHTS = "open_clip_model.safetensors"


def pictures(count: int) -> list[np.ndarray[Any, Any]]:
    draw = np.random.default_rng(0)
    return [draw.integers(0, 256, (20, 24, 3), dtype=np.uint8) for _ in range(count)]


@pytest.fixture
def base(tmp_path: Path) -> Path:
    folder = tmp_path / "base"
    folder.mkdir()
    torch.manual_seed(0)
    save_file(open_clip.model.CLIP(**MODEL).state_dict(), folder / WEIGHTS)
    (folder / "open_clip_config.json").write_text(json.dumps({"model_cfg": MODEL, "preprocess_cfg": {"mean": [0.5, 0.5, 0.5]}}))
    return folder


def make_expert(base: Path, folder: Path, seed: int) -> Path:
    folder.mkdir()
    noise = torch.Generator().manual_seed(seed)
    tensors = load_file(base / WEIGHTS)
    visual = {name: torch.randn(tensor.shape, generator=noise) for name, tensor in tensors.items() if name.startswith("visual.")}
    save_file({name: tensor + 0.02 * visual.get(name, torch.zeros(())) for name, tensor in tensors.items()}, folder / WEIGHTS)
    (folder / "open_clip_config.json").write_bytes((base / "open_clip_config.json").read_bytes())
    return folder


def test_a_model_is_merged_reloaded_and_encoded(base: Path, tmp_path: Path) -> None:
    opened = suture.open_checkpoint(base)
    experts = [suture.open_checkpoint(make_expert(base, tmp_path / f"e{seed}", seed)) for seed in range(2)]
    suture.merge_to_folder(TaskArithmetic(scale=0.3), opened, experts, tmp_path / "merged")
    assert suture.open_checkpoint(tmp_path / "merged").keys() == opened.keys()
    library, preprocess = open_clip.create_model_from_pretrained(f"local-dir:{tmp_path / 'merged'}")
    backbone = suture.open_backbone(tmp_path / "merged", suture.open_checkpoint(tmp_path / "merged"))
    from PIL import Image

    with torch.no_grad():
        theirs = library.eval().encode_image(torch.stack([preprocess(Image.fromarray(picture)) for picture in pictures(3)]))
    torch.testing.assert_close(encode(backbone, pictures(3)), theirs)
    assert backbone.widths == [24, 24, 24, 16]
    assert backbone.block_names[0] == ["visual.transformer.resblocks.0"]


def test_a_configuration_that_is_spoilt_is_refused(base: Path) -> None:
    (base / "open_clip_config.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match=r"base: open_clip makes no network of its open_clip_config\.json: .*model_cfg"):
        encode(suture.open_backbone(base, suture.open_checkpoint(base)), pictures(1))
    (base / "open_clip_config.json").write_text("{")
    with pytest.raises(CorruptCheckpoint, match=r"open_clip_config\.json is not JSON"):
        suture.open_backbone(base, suture.open_checkpoint(base))


def test_zero_shot_heads_are_of_its_own_texts(base: Path) -> None:
    texts = [["a photo of a cat.", "a cat."], ["a photo of a dog.", "a dog."]]
    head = zero_shot_head(suture.open_backbone(base, suture.open_checkpoint(base)), texts)
    model, _ = open_clip.create_model_from_pretrained(f"local-dir:{base}")
    tokenizer = open_clip.get_tokenizer(f"local-dir:{base}")
    with torch.no_grad():
        rows = [model.eval().encode_text(tokenizer(own), normalize=True).mean(dim=0) for own in texts]
    torch.testing.assert_close(head.weight, torch.nn.functional.normalize(torch.stack(rows), dim=1), rtol=1e-4, atol=1e-6)
    assert head.scale == pytest.approx(float(model.logit_scale.exp()))
