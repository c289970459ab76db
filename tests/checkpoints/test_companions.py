"""Companions: what goes along with the weights, and what does not."""

import json
import shutil
from pathlib import Path

import torch
from safetensors.torch import save_file

from suture.checkpoints import copy_companions, open_checkpoint

ALONG = [
    *("config.json", "config_sentence_transformers.json", "generation_config.json", "tokenizer.json", "tokenizer_config.json"),
    *("tokenizer.model", "spiece.model", "vocab.json", "vocab.txt", "merges.txt", "special_tokens_map.json", "added_tokens.json"),
    *("preprocessor_config.json", "processor_config.json", "chat_template.jinja", "modules.json", "sentence_bert_config.json"),
    *("LICENSE", "LICENSE.md", "1_Pooling/config.json", "2_Normalize/config.json", "12_Dense/config.json"),
]
LEFT = [
    *("README.md", "manifest.json", "secret.env", ".env", ".git/config", "pytorch_model.bin.index.json", "model.safetensors.index.json"),
    *("pytorch_model.bin", "data/train.jsonl", "data/config.json", "experts/a/config.json", "experts/a/model.safetensors", "train.py"),
    *("2_Dense/model.safetensors", "1_Pooling/notes.txt", "x_Pooling/config.json", "trainer_state.json", "my_config.json", "optimizer.pt"),
]


def fill(folder: Path) -> None:
    for name in ALONG + LEFT:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(name)


def names(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_only_what_a_model_needs_goes_along(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    fill(source)
    (source / "model.safetensors.index.json").unlink()
    save_file({"a": torch.ones(1)}, source / "model.safetensors")
    target.mkdir()
    copy_companions(open_checkpoint(source), target)
    assert names(target) == sorted(ALONG)
    assert all((target / name).read_text() == name for name in ALONG)
    assert not (target / "data").exists()


def test_the_index_of_shards_goes_along_with_shards_only(tmp_path: Path) -> None:
    source, target = tmp_path / "source", tmp_path / "target"
    source.mkdir()
    target.mkdir()
    shards = {"a": "model-00001-of-00002.safetensors", "b": "model-00002-of-00002.safetensors"}
    for name, shard in shards.items():
        save_file({name: torch.ones(1)}, source / shard)
    (source / "model.safetensors.index.json").write_text(json.dumps({"weight_map": shards}))
    (source / "config.json").write_text("{}")
    copy_companions(open_checkpoint(source), target)
    assert names(target) == ["config.json", "model.safetensors.index.json"]
    (target / "model.safetensors.index.json").unlink()
    copy_companions(open_checkpoint(source / shards["a"]), target)
    assert names(target) == ["config.json"]


def test_companions_of_a_file_are_those_of_its_folder(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    target = tmp_path / "target"
    target.mkdir()
    base = open_checkpoint(bert / "model.safetensors")
    shutil.copyfile(bert / "model.safetensors", target / "model.safetensors")
    copy_companions(base, target)
    assert len(AutoTokenizer.from_pretrained(target)) == len(AutoTokenizer.from_pretrained(bert))
    assert torch.equal(AutoModel.from_pretrained(target).pooler.dense.weight, base["pooler.dense.weight"])


def test_a_file_in_a_folder_of_no_model_has_none(tmp_path: Path) -> None:
    (tmp_path / "target").mkdir()
    (tmp_path / "tokenizer.json").write_text("{}")
    save_file({"a": torch.ones(1)}, tmp_path / "some.safetensors")
    copy_companions(open_checkpoint(tmp_path / "some.safetensors"), tmp_path / "target")
    assert names(tmp_path / "target") == []
