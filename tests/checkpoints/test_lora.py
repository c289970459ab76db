"""Adapters against PEFT's own merge."""

import json
import math
import pickle
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from peft import LoraConfig, get_peft_model
from safetensors.torch import load_file, save_file
from transformers import AutoModel

from suture.checkpoints import open_checkpoint, open_expert, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, IncompatibleExperts, SutureWarning, UnsupportedFormat


def make_adapter(bert: Path, folder: Path, **settings: object) -> dict[str, torch.Tensor]:
    """Save a random adapter, and return the weights that PEFT makes of it."""
    config = LoraConfig(**({"r": 4, "lora_alpha": 6, "target_modules": ["query", "dense"]} | settings))
    model = get_peft_model(AutoModel.from_pretrained(bert), config)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if "lora_" in name or "modules_to_save" in name or (name.endswith("bias") and parameter.requires_grad):
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
        {"bias": "all"},
        {"bias": "lora_only"},
        {"init_lora_weights": "orthogonal"},
        {"target_modules": ["query"], "modules_to_save": ["pooler"]},
        {"use_dora": True},
        {"use_dora": True, "use_rslora": True, "target_modules": ["word_embeddings", "key"]},
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


def test_an_adapter_travels_by_its_path(bert: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    make_adapter(bert, tmp_path / "adapter")
    monkeypatch.chdir(tmp_path)
    expert = open_expert(open_checkpoint(bert), Path("adapter"))
    pickled, fingerprint = pickle.dumps(expert), expert.fingerprint
    monkeypatch.chdir("/")
    again = pickle.loads(pickled)
    assert again.fingerprint == fingerprint
    assert all(torch.equal(again[name], expert[name]) for name in expert)


def test_other_adapters_are_refused_by_name(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "adapter")
    config = json.loads((tmp_path / "adapter" / "adapter_config.json").read_text())
    for changes, message in (({"peft_type": "IA3"}, "IA3"), ({"use_qalora": True}, "QALoRA")):
        (tmp_path / "adapter" / "adapter_config.json").write_text(json.dumps(config | changes))
        with pytest.raises(UnsupportedFormat, match=message):
            open_expert(open_checkpoint(bert), tmp_path / "adapter")


def test_doras_lengths_belong_to_it_and_fit(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "dora", use_dora=True)
    file, config = tmp_path / "dora" / "adapter_model.safetensors", tmp_path / "dora" / "adapter_config.json"
    tensors, settings = load_file(file), json.loads(config.read_text())
    key = next(name for name in tensors if "magnitude" in name)
    config.write_text(json.dumps(settings | {"use_dora": False}))
    with pytest.raises(IncompatibleExperts, match="expected none, as use_dora is off"):
        open_expert(open_checkpoint(bert), tmp_path / "dora")
    config.write_text(json.dumps(settings))
    for changed, message in (
        ({name: tensor for name, tensor in tensors.items() if name != key}, "are absent; expected"),
        (tensors | {key: tensors[key][:-1].clone()}, "expected"),
        (tensors | {"base_model.model.other.lora_magnitude_vector": torch.ones(3)}, "of modules that have no A and B"),
    ):
        save_file(changed, file)
        with pytest.raises(IncompatibleExperts, match=message):
            open_expert(open_checkpoint(bert), tmp_path / "dora")


@pytest.mark.parametrize(
    "text", ["{", "{}", '{"peft_type": "LORA", "r": 0, "lora_alpha": 1}', '{"peft_type": "LORA", "r": 4}', "[]", "[" * 99999]
)
def test_a_spoilt_configuration_is_refused(bert: Path, tmp_path: Path, text: str) -> None:
    make_adapter(bert, tmp_path / "adapter")
    (tmp_path / "adapter" / "adapter_config.json").write_text(text)
    with pytest.raises(CorruptCheckpoint, match="adapter_config"):
        open_expert(open_checkpoint(bert), tmp_path / "adapter")


@pytest.mark.fault(19)
def test_an_adapter_of_another_base_is_refused(bert: Path, tmp_path: Path) -> None:
    make_adapter(bert, tmp_path / "adapter")
    smaller = tmp_path / "base"
    smaller.mkdir()
    tensors = load_file(bert / "model.safetensors")
    save_file({name: tensor for name, tensor in tensors.items() if "layer.1" not in name}, smaller / "model.safetensors")
    with pytest.raises(IncompatibleExperts, match=r"layer\.1"):
        open_expert(open_checkpoint(smaller), tmp_path / "adapter")


KEY = "base_model.model.encoder.layer.0.attention.self.query"


def spoil_config(adapter: Path, **changes: object) -> None:
    file = adapter / "adapter_config.json"
    file.write_text(json.dumps(json.loads(file.read_text()) | changes))


def spoil_tensors(adapter: Path, change: Callable[[dict[str, torch.Tensor]], object]) -> None:
    file = adapter / "adapter_model.safetensors"
    tensors = load_file(file)
    change(tensors)
    save_file({key: tensor.contiguous() for key, tensor in tensors.items()}, file)


@pytest.fixture
def adapter(bert: Path, tmp_path: Path) -> Path:
    make_adapter(bert, tmp_path / "adapter", target_modules=["query"], modules_to_save=["pooler"])
    return tmp_path / "adapter"


def test_modules_saved_whole_replace(bert: Path, adapter: Path) -> None:
    key = "base_model.model.pooler.dense.bias"
    spoil_tensors(adapter, lambda tensors: tensors.update({key: torch.full((16,), math.pi, dtype=torch.float64)}))
    tensor = open_expert(open_checkpoint(bert), adapter)["pooler.dense.bias"]
    assert torch.equal(tensor, torch.full((16,), math.pi))  # in the dtype of the base, as specs says


def test_modules_saved_whole_that_the_base_lacks_are_left_out_with_a_warning(bert: Path, adapter: Path) -> None:
    spoil_tensors(adapter, lambda tensors: tensors.update({"base_model.model.classifier.weight": torch.ones(2, 16)}))
    with pytest.raises(IncompatibleExperts, match=r"no place for: classifier\.weight; is it an adapter of this base"):
        open_expert(open_checkpoint(bert), adapter)
    spoil_config(adapter, modules_to_save=["pooler", "classifier"])
    with pytest.warns(SutureWarning, match=r"left out.*classifier\.weight"):
        open_expert(open_checkpoint(bert), adapter)


def test_a_tensor_both_replaced_and_updated_is_both(bert: Path, adapter: Path) -> None:
    plain = open_expert(open_checkpoint(bert), adapter)["encoder.layer.0.attention.self.query.weight"]
    spoil_tensors(adapter, lambda tensors: tensors.update({f"{KEY}.base_layer.weight": torch.zeros(16, 16)}))
    both = open_expert(open_checkpoint(bert), adapter)["encoder.layer.0.attention.self.query.weight"]
    base = open_checkpoint(bert)["encoder.layer.0.attention.self.query.weight"]
    torch.testing.assert_close(both, plain - base, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"lora_bias": True}, r"LoRA-with-bias adapters \(lora_bias\) are not supported; merge it"),
        ({"trainable_token_indices": [1, 2]}, r"trainable-token adapters \(trainable_token_indices\)"),
        ({"target_parameters": ["experts.up"]}, r"LoRA-on-parameters adapters \(target_parameters\)"),
        ({"layer_replication": [[0, 2], [1, 2]]}, r"layer-replicating adapters \(layer_replication\)"),
        ({"use_bdlora": {"nblocks": 2}}, "block-diagonal"),
        ({"kasa_config": {"beta": 1}}, "KaSA"),
        ({"init_lora_weights": "pissa"}, r"init_lora_weights='pissa' go with a changed base.*merge it into its base first"),
        ({"init_lora_weights": "pissa_niter_16"}, "pissa_niter_16"),
        ({"init_lora_weights": "OLoRA"}, "OLoRA"),
        ({"init_lora_weights": "corda"}, "corda"),
        ({"init_lora_weights": "loftq"}, "loftq"),
        ({"init_lora_weights": "lora_ga"}, "lora_ga"),
        (
            {"bias": "lora_only"},
            r"trained biases \(bias='lora_only'\), but does not hold encoder\.layer\.0\.attention\.self\.query\.bias, enc",
        ),
        ({"bias": "all"}, r"does not hold embeddings\.LayerNorm\.bias"),
        ({"bias": "some"}, r"bias='some'"),
    ],
)
def test_what_would_give_wrong_weights_is_refused_by_name(bert: Path, adapter: Path, changes: dict[str, object], message: str) -> None:
    spoil_config(adapter, **changes)
    with pytest.raises(UnsupportedFormat, match=message):
        open_expert(open_checkpoint(bert), adapter)


@pytest.mark.parametrize("init", [True, False, "gaussian", "eva", "orthogonal", "mica"])
def test_schemes_that_leave_the_base_alone_are_read(bert: Path, adapter: Path, init: object) -> None:
    spoil_config(adapter, init_lora_weights=init)
    assert len(open_expert(open_checkpoint(bert), adapter)) == len(open_checkpoint(bert))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"rank_pattern": {"query(": 2}}, r"rank_pattern: 'query\(' is not a regular expression"),
        ({"alpha_pattern": {"[": 2}}, r"alpha_pattern: '\[' is not a regular expression"),
        ({"rank_pattern": {"query": 0}}, "rank_pattern: 'query' is given 0"),
        ({"alpha_pattern": {"query": "much"}}, "adapter_config"),
        ({"rank_pattern": ["query"]}, "adapter_config"),
        ({"modules_to_save": "pooler"}, "modules_to_save: 'pooler' is not a list of names"),
    ],
)
def test_spoilt_patterns_are_refused(bert: Path, adapter: Path, changes: dict[str, object], message: str) -> None:
    spoil_config(adapter, **changes)
    with pytest.raises(CorruptCheckpoint, match=message):
        open_expert(open_checkpoint(bert), adapter)


A, B = f"{KEY}.lora_A.weight", f"{KEY}.lora_B.weight"


@pytest.mark.parametrize(
    ("tensors", "message"),
    [
        ({A: torch.ones(3, 16)}, r"A \(3, 16\) and B \(16, 4\); expected A \(r, in\) and B \(out, r\) of rank 4"),
        ({A: torch.ones(2, 16), B: torch.ones(16, 2)}, "of rank 4"),
        ({A: torch.ones(1)}, r"A \(1,\) and B"),
        ({A: torch.ones(4, 8)}, r"self\.query\.weight' has shape \(16, 8\), the base \(16, 16\)"),
        ({A: torch.ones(4, 16).int()}, "torch.int32.*expected floating point"),
        ({"base_model.model.pooler.dense.bias": torch.ones(1)}, r"replaces 'pooler\.dense\.bias', but is \(1,\) .* the base is \(16,\)"),
        ({"base_model.model.pooler.dense.bias": torch.ones(16).int()}, r"torch\.int32 where"),
        ({"base_model.model.x.pooler.dense.bias": torch.ones(16)}, r"both .* replace 'pooler\.dense\.bias'"),
        ({f"{KEY}.lora_A": torch.ones(4, 16)}, "are the same factor"),
        (
            {A.replace("model.enc", "model.x.enc"): torch.ones(4, 16), B.replace("model.enc", "model.x.enc"): torch.ones(16, 4)},
            "both .* change",
        ),
        ({f"{KEY}.lora_B.bias": torch.ones(16)}, r"no place for: .*lora_B\.bias"),
        ({f"{KEY}.lora_A.default.weight": torch.ones(4, 16)}, r"no place for: .*lora_A\.default"),
        ({f"{KEY}.lora_magnitude_vector": torch.ones(16)}, "use_dora is off"),
        ({"base_model.model.embeddings.word_embeddings.token_adapter.trainable_tokens_delta": torch.ones(2, 16)}, "trainable_tokens_delta"),
    ],
)
def test_tensors_that_do_not_fit_are_refused_when_opened(bert: Path, adapter: Path, tensors: dict[str, torch.Tensor], message: str) -> None:
    spoil_tensors(adapter, lambda held: held.update(tensors))
    with pytest.raises(IncompatibleExperts, match=message):
        open_expert(open_checkpoint(bert), adapter)


def test_a_factor_without_its_other_half_and_a_convolution_are_refused(bert: Path, adapter: Path) -> None:
    spoil_tensors(adapter, lambda tensors: tensors.update({A: torch.ones(4, 16, 3, 3)}))
    with pytest.raises(UnsupportedFormat, match="LoRA of a convolution"):
        open_expert(open_checkpoint(bert), adapter)
    spoil_tensors(adapter, lambda tensors: tensors.pop(A))
    with pytest.raises(IncompatibleExperts, match="A or B is missing"):
        open_expert(open_checkpoint(bert), adapter)


@pytest.mark.fault(7)
def test_a_pickled_adapter_is_refused(bert: Path, adapter: Path) -> None:
    (adapter / "adapter_model.safetensors").rename(adapter / "adapter_model.bin")
    with pytest.raises(UnsupportedFormat, match=r"holds only pickles \(adapter_model\.bin\); loading one runs code"):
        open_expert(open_checkpoint(bert), adapter)
    (adapter / "adapter_model.bin").unlink()
    with pytest.raises(CheckpointNotFound, match=r"adapter_model\.safetensors cannot be read"):
        open_expert(open_checkpoint(bert), adapter)


def test_an_adapter_is_told_by_base_tensors_and_configuration(bert: Path, adapter: Path, make_expert: Callable[..., Path]) -> None:
    base = open_checkpoint(bert)
    expert = open_expert(base, adapter)
    assert expert.elements == base.elements
    assert expert.digest == sha256_of(*expert.files)
    fingerprint = expert.fingerprint
    assert fingerprint == open_expert(base, adapter).fingerprint != base.fingerprint
    assert open_expert(open_checkpoint(make_expert("other", 1)), adapter).fingerprint != fingerprint
    spoil_config(adapter, lora_alpha=7)
    assert open_expert(base, adapter).fingerprint != fingerprint
    digest = expert.digest
    spoil_tensors(adapter, lambda tensors: tensors[A].add_(1))
    assert expert.digest == digest, "computed once"
    assert open_expert(base, adapter).digest != digest
