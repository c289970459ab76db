"""Adapters against PEFT's own merge."""

import json
import math
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from transformers import AutoModel

from suture.checkpoints import open_checkpoint, open_expert
from suture.errors import CorruptCheckpoint, IncompatibleExperts, SutureWarning, UnsupportedFormat


def make_adapter(bert: Path, folder: Path, **settings: object) -> dict[str, torch.Tensor]:
    """Save a random adapter, and return the weights that PEFT makes of it."""
    config = LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": ["query", "dense"]} | settings))
    model = get_peft_model(AutoModel.from_pretrained(bert), config)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name:
                parameter.copy_(torch.randn(parameter.shape, generator=noise))
    model.save_pretrained(folder)
    return dict(model.merge_and_unload().state_dict())


@pytest.mark.parametrize(
    "settings",
    [
        {},
        {"use_rslora": True},
        {"rank_pattern": {"query": 2}, "alpha_pattern": {"layer.1.output.dense": 3}},
        {"target_modules": ["word_embeddings", "key"]},
    ],
)
def test_an_adapter_reads_as_the_expert_that_peft_makes(bert: Path, tmp_path: Path, settings: dict[str, object]) -> None:
    merged = make_adapter(bert, tmp_path / "adapter", **settings)
    expert = open_expert(open_checkpoint(bert), tmp_path / "adapter")
    assert set(expert) == set(open_checkpoint(bert))
    changed = 0
    for name, tensor in expert.items():
        torch.testing.assert_close(tensor, merged[name], rtol=1e-5, atol=1e-5)
        changed += not torch.equal(tensor, open_checkpoint(bert)[name])
    assert changed >= 2


def test_other_adapters_are_refused_by_name(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "dora", use_dora=True)
    with pytest.raises(UnsupportedFormat, match="DoRA"):
        open_expert(open_checkpoint(bert), tmp_path / "dora")
    config = json.loads((tmp_path / "dora" / "adapter_config.json").read_text())
    (tmp_path / "dora" / "adapter_config.json").write_text(json.dumps(config | {"peft_type": "IA3"}))
    with pytest.raises(UnsupportedFormat, match="IA3"):
        open_expert(open_checkpoint(bert), tmp_path / "dora")


@pytest.mark.parametrize("text", ["{", "{}", '{"peft_type": "LORA", "r": 0, "lora_alpha": 1}', '{"peft_type": "LORA", "r": 4}', "[]"])
def test_a_spoilt_configuration_is_refused(bert: Path, tmp_path: Path, text: str) -> None:
    make_adapter(bert, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    with pytest.raises(CorruptCheckpoint, match="adapter_config"):
        open_expert(open_checkpoint(bert), tmp_path / "adapter")


def test_an_adapter_of_another_base_is_refused(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "adapter")
    smaller = tmp_path / "base"
    smaller.mkdir()
    from safetensors.torch import load_file, save_file

    tensors = load_file(bert / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layer.1" not in name}, smaller / "model.safetensors")
    with pytest.raises(IncompatibleExperts, match=r"layer\.1"):
        open_expert(open_checkpoint(smaller), tmp_path / "adapter")


def test_modules_saved_whole_replace_or_are_left_out_with_a_warning(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "adapter", target_modules=["query"], modules_to_save=["pooler"])
    from safetensors.torch import load_file, save_file

    file = tmp_path / "adapter" / "adapter_model.safetensors"
    tensors = load_file(file)
    key = next(name for name in tensors if name.endswith("pooler.dense.bias"))
    tensors[key] = torch.full_like(tensors[key], math.pi)
    save_file(tensors, file)
    expert = open_expert(open_checkpoint(bert), tmp_path / "adapter")
    assert torch.equal(expert["pooler.dense.bias"], tensors[key])
    save_file(tensors | {"base_model.model.classifier.weight": torch.ones(2, 16)}, file)
    with pytest.warns(SutureWarning, match=r"left out.*classifier\.weight"):
        open_expert(open_checkpoint(bert), tmp_path / "adapter")
