"""Every family that is listed: merged, reloaded with its own library, encoded, taken apart block by block; no tensor is lost."""

import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image
from safetensors.torch import load_file
from torch import Tensor

from backbones import zoo
from suture.backbones import FAMILIES, POOLINGS, HuggingFaceBackbone, ImageBackbone, TextBackbone, open_backbone
from suture.backbones.families import family_of
from suture.backbones.walk import BlockWalk
from suture.checkpoints import open_checkpoint
from suture.errors import DataError, UnsupportedFormat
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


def page(folder: Path) -> str:
    """Return the page of all families: the head of the one that is there, and the table as the tiny models have it."""
    head = DOCUMENT.read_text(encoding="utf-8").partition("| model")[0]
    rows = ["| model type | family | takes | representation | blocks of deep surgery |", "|---|---|---|---|---|"]
    for name, family in FAMILIES.items():
        base = zoo.make(name, folder / name)
        backbone = open_backbone(base, open_checkpoint(base))
        blocks = [" + ".join(f"`{re.sub('[0-9]+', 'N', part)}`" for part in block) for block in backbone.block_names]
        kinds = ", ".join(sorted(set(blocks), key=len))
        rows.append(f"| `{name}` | {family.title} | {family.kind}s | {POOLINGS[family.pooling]} | {kinds} |")
    return head + "\n".join(rows) + "\n"


def test_the_page_tells_what_is_so(tmp_path: Path) -> None:
    """With SUTURE_WRITE_DOCS set the page is written anew."""
    found = page(tmp_path)
    if os.environ.get("SUTURE_WRITE_DOCS"):
        DOCUMENT.write_text(found, encoding="utf-8")
    assert DOCUMENT.read_text(encoding="utf-8") == found


def test_a_family_that_is_not_known_is_refused(tmp_path: Path) -> None:
    from transformers import BeitConfig, BeitModel

    BeitModel(BeitConfig(hidden_size=8, num_hidden_layers=1, num_attention_heads=1, intermediate_size=8)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedFormat, match=r"models of type 'beit' are not known; known are bert, .* and other text encoders"):
        open_backbone(tmp_path, open_checkpoint(tmp_path))
    with pytest.raises(UnsupportedFormat, match=r"take no images .* known are clip, "):
        ImageBackbone.open(tmp_path).model  # noqa: B018


def test_inputs_of_the_other_kind_are_refused(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="takes texts, not ndarray"):
        encode(TextBackbone.open(bert), zoo.images(1))
    images = ImageBackbone.open(zoo.make("vit", tmp_path / "vit"))
    with pytest.raises(DataError, match="takes images, not texts"):
        encode(images, ["a text"])
    with pytest.raises(DataError, match=r"nowhere.png: not an image that can be read"):
        encode(images, [tmp_path / "nowhere.png"])


def test_a_downsampling_goes_with_the_block_behind_it(tmp_path: Path) -> None:
    names = ImageBackbone.open(zoo.make("swin", tmp_path / "swin")).block_names
    assert names == [
        ["encoder.layers.0.blocks.0"],
        ["encoder.layers.0.blocks.1"],
        ["encoder.layers.0.downsample", "encoder.layers.1.blocks.0"],
        ["encoder.layers.1.blocks.1"],
    ]


def test_positions_that_count_from_behind_the_paddings(tmp_path: Path) -> None:
    backbone = TextBackbone.open(zoo.make("roberta", tmp_path / "roberta"))
    assert backbone.longest == 15  # 16 rows, of which the first is the padding's
    assert encode(backbone, [" ".join(["red"] * 40)]).isfinite().all()


def test_encoders_with_a_decoder_are_no_text_encoders(tmp_path: Path) -> None:
    from transformers import BartConfig, BartModel

    small = {"d_model": 8, "encoder_layers": 1, "decoder_layers": 1, "encoder_attention_heads": 1, "decoder_attention_heads": 1}
    BartModel(BartConfig(vocab_size=13, encoder_ffn_dim=8, decoder_ffn_dim=8, **small)).save_pretrained(tmp_path)
    with pytest.raises(UnsupportedFormat, match="models of type 'bart' are not known"):
        open_backbone(tmp_path, open_checkpoint(tmp_path))


def test_what_the_first_block_hands_on_is_seen_over_one_token_too(tmp_path: Path) -> None:
    backbone = TextBackbone.open(zoo.make("t5", tmp_path / "t5"))
    for length in (1, 8):
        batch = backbone.collate([[4] * length])
        passage = backbone.blocks.enter(batch)
        for number in range(backbone.blocks.depth):
            passage = backbone.blocks.step(number, passage)
        torch.testing.assert_close(backbone.blocks.leave(passage), backbone.pooled(batch), rtol=1e-4, atol=1e-5)
    with pytest.raises(UnsupportedFormat, match="the first block hands on what its own weights make"):
        BlockWalk(backbone, torch.float32, tmp_path / "walk").enter({}, [[[4, 5, 6]]])


def test_wide_and_damaged_images_are_refused(tmp_path: Path) -> None:
    backbone = ImageBackbone.open(zoo.make("vit", tmp_path / "vit"))
    Image.fromarray(np.full((4, 4), 8000, dtype=np.uint16)).save(tmp_path / "wide.png")
    with pytest.raises(DataError, match=r"wide.png: images of mode I;16 are not read"):
        encode(backbone, [tmp_path / "wide.png"])
    Image.fromarray(zoo.images(1)[0]).save(tmp_path / "whole.jpg")
    (tmp_path / "cut.jpg").write_bytes((tmp_path / "whole.jpg").read_bytes()[:-300])
    with pytest.raises(DataError, match=r"cut.jpg: not an image that can be read"):
        encode(backbone, [tmp_path / "cut.jpg"])


def test_other_text_networks_are_read_as_encoders_or_decoders() -> None:
    from transformers import ElectraConfig, GPTNeoXConfig

    encoder, decoder = family_of(ElectraConfig()), family_of(GPTNeoXConfig())
    assert encoder is not None
    assert decoder is not None
    assert (encoder.kind, encoder.pooling, decoder.kind, decoder.pooling) == ("text", "mean", "text", "last")
