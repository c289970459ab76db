"""The text encoder against transformers itself."""

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from suture.backbones import TextBackbone
from suture.checkpoints import open_checkpoint
from suture.errors import CheckpointNotFound, CorruptCheckpoint, DataError, IncompatibleExperts, UnsupportedFormat
from suture.representation import encode

TEXTS = ["red", "the cat is very blue", "one two three " * 10]


@pytest.mark.parametrize("pooling", ["mean", "cls"])
def test_representations_are_those_of_transformers(bert: Path, pooling: str) -> None:
    from transformers import AutoModel, AutoTokenizer

    model, tokenizer = AutoModel.from_pretrained(bert).eval(), AutoTokenizer.from_pretrained(bert)
    rows = []
    for text in TEXTS:
        hidden = model(**tokenizer(text, truncation=True, max_length=12, return_tensors="pt")).last_hidden_state[0]
        rows.append(hidden.mean(dim=0) if pooling == "mean" else hidden[0])
    backbone = TextBackbone.open(bert, pooling, 12)  # type: ignore[arg-type]
    torch.testing.assert_close(encode(backbone, TEXTS), torch.stack(rows), rtol=0, atol=1e-5)


def test_weights_of_an_expert_go_into_the_bases_model(bert: Path, make_expert: Callable[..., Path]) -> None:
    expert = make_expert("e", 1)
    inside = encode(TextBackbone(bert, open_checkpoint(expert / "model.safetensors")), TEXTS)
    assert torch.equal(inside, encode(TextBackbone.open(expert), TEXTS))
    assert not torch.allclose(inside, encode(TextBackbone.open(bert), TEXTS))


def test_a_prefix_on_disk_is_understood(bert: Path, tmp_path: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    save_file({f"bert.{name}": tensor for name, tensor in tensors.items()}, tmp_path / "prefixed.safetensors", metadata={"format": "pt"})
    prefixed = TextBackbone(bert, open_checkpoint(tmp_path / "prefixed.safetensors"))
    assert torch.equal(encode(prefixed, TEXTS), encode(TextBackbone.open(bert), TEXTS))


def test_weights_that_do_not_fill_the_model_are_refused(bert: Path, tmp_path: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layer.1" not in name}, tmp_path / "part.safetensors")
    with pytest.raises(IncompatibleExperts, match=r"does not fill the model.*layer\.1"):
        TextBackbone(bert, open_checkpoint(tmp_path / "part.safetensors")).model  # noqa: B018


def test_the_digest_tells_weights_and_settings_apart(bert: Path, make_expert: Callable[..., Path]) -> None:
    backbones = [
        TextBackbone.open(bert),
        TextBackbone.open(bert, "cls"),
        TextBackbone.open(bert, "mean", 12),
        TextBackbone.open(make_expert("e", 1)),
    ]
    assert len({backbone.digest for backbone in backbones}) == 4
    assert TextBackbone.open(bert).digest == backbones[0].digest


def test_whatever_a_tokenizer_reads_is_part_of_the_digest(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    before = TextBackbone.open(tmp_path / "copy").digest
    assert before == TextBackbone.open(bert).digest
    settings = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    (tmp_path / "copy" / "tokenizer_config.json").write_text(json.dumps(settings | {"truncation_side": "left"}))
    assert TextBackbone.open(tmp_path / "copy").digest != before


def test_padding_on_the_left_does_not_move_the_first_token(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    settings = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    (tmp_path / "copy" / "tokenizer_config.json").write_text(json.dumps(settings | {"padding_side": "left"}))
    torch.testing.assert_close(encode(TextBackbone.open(tmp_path / "copy", "cls"), TEXTS), encode(TextBackbone.open(bert, "cls"), TEXTS))


def test_a_text_longer_than_the_models_positions_is_cut(bert: Path) -> None:
    long = ["red " * 200]
    assert torch.equal(encode(TextBackbone.open(bert, "mean", 500), long), encode(TextBackbone.open(bert, "mean", 32), long))


def test_folders_that_are_no_model(bert: Path, tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match=r"config\.json"):
        TextBackbone(tmp_path, open_checkpoint(bert)).model  # noqa: B018
    (tmp_path / "config.json").write_text('{"model_type": "nonsense"}')
    with pytest.raises(CorruptCheckpoint, match="cannot be made"):
        TextBackbone(tmp_path, open_checkpoint(bert)).model  # noqa: B018


def test_a_tokenizer_without_a_padding_pads_by_its_end(bert: Path, tmp_path: Path) -> None:
    shutil.copytree(bert, tmp_path / "copy")
    settings = json.loads((tmp_path / "copy" / "tokenizer_config.json").read_text())
    (tmp_path / "copy" / "tokenizer_config.json").write_text(json.dumps(settings | {"pad_token": None, "eos_token": "[SEP]"}))
    assert TextBackbone.open(tmp_path / "copy").tokenizer.pad_token == "[SEP]"
    torch.testing.assert_close(encode(TextBackbone.open(tmp_path / "copy"), TEXTS), encode(TextBackbone.open(bert), TEXTS))


def test_half_a_character_is_no_text(bert: Path) -> None:
    with pytest.raises(DataError, match=r"half a surrogate pair, which is not text, in 'a\\ud800'"):
        encode(TextBackbone.open(bert), ["a\ud800"])


def test_weights_of_another_shape_do_not_fill_the_model(bert: Path, tmp_path: Path) -> None:
    tensors = load_file(bert / "model.safetensors")
    name = "encoder.layer.0.output.dense.bias"
    save_file(tensors | {name: torch.zeros(7)}, tmp_path / "other.safetensors", metadata={"format": "pt"})
    with pytest.raises(IncompatibleExperts, match=rf"other\.safetensors does not fill .*: {re.escape(name)} is \(7,\), not \(16,\)$"):
        TextBackbone(bert, open_checkpoint(tmp_path / "other.safetensors")).model  # noqa: B018


@pytest.mark.parametrize("shown", [True, False])
def test_bars_of_the_library_are_as_they_were(bert: Path, shown: bool) -> None:
    from transformers.utils import logging

    (logging.enable_progress_bar if shown else logging.disable_progress_bar)()
    try:
        TextBackbone.open(bert).model  # noqa: B018
        assert logging.is_progress_bar_enabled() is shown
    finally:
        logging.enable_progress_bar()


def test_a_tensor_that_the_library_joins_is_told(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, load = TextBackbone.open(bert), TextBackbone._load

    def joining(self: TextBackbone, tensors: dict[str, torch.Tensor]) -> tuple[torch.nn.Module, set[str]]:
        model, missing = load(self, tensors)
        bias = model.get_parameter("encoder.layer.0.output.dense.bias")
        bias.data = bias.data + torch.arange(len(bias))
        return model, missing

    monkeypatch.setattr(TextBackbone, "_load", joining)
    with pytest.raises(UnsupportedFormat, match=r"'encoder\.layer\.0\.output\.dense\.bias' of the model is not one tensor on disk"):
        backbone.names  # noqa: B018


def test_there_are_as_many_corrections_as_blocks(bert: Path) -> None:
    backbone = TextBackbone.open(bert)
    batch = backbone.collate(backbone.prepare(["red"]))
    with pytest.raises(DataError, match="2 blocks take as many corrections, not 1"):
        backbone.corrected(batch, [lambda hidden: hidden])


def test_what_the_library_cannot_load_is_told(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from transformers import BertModel

    def fail(*_: object, **__: object) -> None:
        raise RuntimeError("some\n issues")

    monkeypatch.setattr(BertModel, "from_pretrained", fail)
    with pytest.raises(IncompatibleExperts, match=r"base does not fill the model that .*base describes: some issues$"):
        TextBackbone.open(bert).model  # noqa: B018
