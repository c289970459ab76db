"""Heads saved with checkpoints: their logits are the library's own; and experts that were saved with one."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from backbones import zoo
from suture.backbones import FAMILIES, ImageBackbone, TextBackbone, open_aligned, open_backbone, saved_head
from suture.checkpoints import AlignedExpert, Checkpoint, open_checkpoint, read_manifest
from suture.errors import DataError, IncompatibleExperts, SutureWarning
from suture.merging import WeightAveraging, merge_tensors, merge_to_folder
from suture.representation import encode

CLASSES = {0: "cat", 1: "dog", 2: "bird"}


def save_classifier(name: str, folder: Path, seed: int = 0, **settings: Any) -> Path:
    """Save the tiny model of a family as a classifier of three classes."""
    import transformers

    model_class, config_class, own = zoo.MODELS[name]
    kind = "ForImageClassification" if FAMILIES[name].kind == "image" else "ForSequenceClassification"
    torch.manual_seed(seed)
    config = getattr(transformers, config_class)(**own, **settings, id2label=CLASSES, label2id={v: k for k, v in CLASSES.items()})
    model = getattr(transformers, model_class.removesuffix("Model") + kind)(config)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape))
    model.save_pretrained(folder)
    zoo.prepare_texts(folder) if "vocab_size" in own else zoo.prepare_images(folder, name)
    return folder


@torch.no_grad()
def library_logits(folder: Path, inputs: list[Any]) -> Tensor:
    from transformers import AutoImageProcessor, AutoModelForImageClassification, AutoModelForSequenceClassification, AutoTokenizer

    rows = []
    for each in inputs:
        if isinstance(each, str):
            tokens = AutoTokenizer.from_pretrained(folder)(each, return_tensors="pt", return_token_type_ids=False)
            rows.append(AutoModelForSequenceClassification.from_pretrained(folder).eval()(**tokens).logits)
        else:
            pixels = AutoImageProcessor.from_pretrained(folder, backend="pil")(each, return_tensors="pt")["pixel_values"]
            rows.append(AutoModelForImageClassification.from_pretrained(folder).eval()(pixels).logits)
    return torch.cat(rows)


@pytest.mark.parametrize("name", [name for name, family in FAMILIES.items() if family.classifier])
def test_logits_are_those_of_the_library(name: str, tmp_path: Path) -> None:
    folder = save_classifier(name, tmp_path / name)
    backbone = open_backbone(folder, open_checkpoint(folder), FAMILIES[name].classified_by)
    inputs: list[Any] = zoo.images(2) if backbone.kind == "image" else zoo.TEXTS[:3]
    head = saved_head(backbone)
    assert head.classes == ("cat", "dog", "bird")
    torch.testing.assert_close(head(encode(backbone, inputs)), library_logits(folder, inputs), rtol=1e-4, atol=1e-5)


def test_no_head_where_there_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"'roberta' are no linear layers; those of bert, .* are"):
        saved_head(TextBackbone.open(zoo.make("roberta", tmp_path / "roberta")))
    bare = zoo.make("vit", tmp_path / "bare")
    with pytest.raises(DataError, match=r"bare has no classifier: there is no tensor 'classifier.weight'"):
        saved_head(ImageBackbone.open(bare))
    with pytest.raises(DataError, match=r"takes the representation 'pooler', not 'mean'; set backbone.pooling: pooler"):
        saved_head(TextBackbone.open(save_classifier("bert", tmp_path / "bert")))


@pytest.mark.parametrize("name", ["vit", "bert"])
def test_classifiers_are_merged_into_a_bare_base(name: str, tmp_path: Path) -> None:
    base = open_checkpoint(zoo.make(name, tmp_path / "base"))
    folders = [save_classifier(name, tmp_path / f"expert-{seed}", seed) for seed in (1, 2)]
    experts = []
    for folder in folders:
        with pytest.warns(SutureWarning, match=r"left out, as the base's backbone has no such tensor: .*classifier\.weight"):
            experts.append(open_aligned(base, folder))
    assert all(isinstance(expert, AlignedExpert) for expert in experts)
    tensors = [load_file(folder / "model.safetensors") for folder in folders]
    for key, merged in merge_tensors(WeightAveraging(), base, experts):
        if name == "vit" and "pooler" in key:  # classifiers of ViT are saved without a pooler
            assert torch.equal(merged, base[key])
        else:
            torch.testing.assert_close(merged, torch.stack([own[f"{name}.{key}"] for own in tensors]).mean(dim=0), rtol=1e-5, atol=1e-6)
    alone = open_backbone(folders[0], open_checkpoint(folders[0]))
    inputs: list[Any] = zoo.images(2) if alone.kind == "image" else zoo.TEXTS
    assert torch.equal(encode(open_backbone(base.path, experts[0]), inputs), encode(alone, inputs))
    assert experts[0].digest != experts[1].digest
    assert experts[0].fingerprint != experts[1].fingerprint


def test_heads_of_other_sizes_stay_the_bases(tmp_path: Path) -> None:
    base = open_checkpoint(save_classifier("vit", tmp_path / "base"))
    torch.manual_seed(3)
    import transformers

    _, config_class, own = zoo.MODELS["vit"]
    expert = transformers.ViTForImageClassification(getattr(transformers, config_class)(**own, num_labels=7))
    expert.save_pretrained(tmp_path / "expert")
    zoo.prepare_images(tmp_path / "expert", "vit")
    with pytest.warns(SutureWarning, match=r"left out.*: classifier\.bias, classifier\.weight"):
        aligned = open_aligned(base, tmp_path / "expert")
    assert torch.equal(aligned["classifier.weight"], base["classifier.weight"])
    assert not torch.equal(aligned["vit.layernorm.weight"], base["vit.layernorm.weight"])


def test_experts_that_lack_part_of_the_backbone_are_refused_as_before(tmp_path: Path) -> None:
    base = open_checkpoint(zoo.make("vit", tmp_path / "base"))
    shallow = open_aligned(base, zoo.make("bert", tmp_path / "bert"))
    assert isinstance(shallow, Checkpoint)
    with pytest.raises(IncompatibleExperts, match="missing tensor"):
        list(merge_tensors(WeightAveraging(), base, [shallow]))


def test_clips_experts_may_come_without_the_text_tower(tmp_path: Path) -> None:
    from transformers import CLIPModel

    base = open_checkpoint(zoo.make("clip", tmp_path / "clip"))
    whole = zoo.make_expert(base.path, tmp_path / "whole", 1)
    CLIPModel.from_pretrained(whole).vision_model.save_pretrained(tmp_path / "vision")
    zoo.prepare_images(tmp_path / "vision", "clip")
    with pytest.warns(SutureWarning, match=r"has no visual_projection.weight: the base's are taken"):
        expert = open_aligned(base, tmp_path / "vision")
    for name in base:
        theirs = load_file(whole / "model.safetensors")[name] if name.startswith("vision_model") else base[name]
        assert torch.equal(expert[name], theirs), name


def test_a_pooler_that_is_not_the_experts_is_not_used(tmp_path: Path) -> None:
    from transformers import BertConfig, BertForMaskedLM

    base = open_checkpoint(zoo.make("bert", tmp_path / "base"))
    BertForMaskedLM(BertConfig(**zoo.MODELS["bert"][2])).save_pretrained(tmp_path / "expert")
    zoo.prepare_texts(tmp_path / "expert")
    with pytest.warns(SutureWarning, match=r"left out, .*cls\.predictions"):
        expert = open_aligned(base, tmp_path / "expert")
    encode(open_backbone(base.path, expert), zoo.TEXTS)
    with pytest.raises(IncompatibleExperts, match=r"does not fill the model .*pooler"):
        encode(open_backbone(base.path, expert, "pooler"), zoo.TEXTS)


def test_what_a_base_ties_may_stand_there_twice_and_in_experts_once(tmp_path: Path) -> None:
    from transformers import GPT2Config, GPT2LMHeadModel

    torch.manual_seed(0)
    GPT2LMHeadModel(GPT2Config(**zoo.MODELS["gpt2"][2])).save_pretrained(tmp_path / "expert")
    whole = load_file(tmp_path / "expert" / "model.safetensors")
    folder = tmp_path / "base"
    folder.mkdir()
    embedding = whole["transformer.wte.weight"] + 0.1
    twice = {**whole, "transformer.wte.weight": embedding, "lm_head.weight": embedding.clone()}
    save_file(twice, folder / "model.safetensors", metadata={"format": "pt"})
    (folder / "config.json").write_bytes((tmp_path / "expert" / "config.json").read_bytes())
    base = open_checkpoint(folder)
    expert = open_aligned(base, tmp_path / "expert")
    assert torch.equal(expert["lm_head.weight"], whole["transformer.wte.weight"])
    merged = dict(merge_tensors(WeightAveraging(), base, [expert]))
    torch.testing.assert_close(merged["lm_head.weight"], whole["transformer.wte.weight"])
    assert torch.equal(merged["lm_head.weight"], merged["transformer.wte.weight"])


def test_what_was_left_out_stands_in_the_manifest_of_a_merge(tmp_path: Path) -> None:
    base = open_checkpoint(zoo.make("bert", tmp_path / "base"))
    with pytest.warns(SutureWarning, match="left out"):
        expert = open_aligned(base, save_classifier("bert", tmp_path / "expert"))
    assert isinstance(expert, AlignedExpert)
    assert expert.elements == base.elements
    merge_to_folder(WeightAveraging(), base, [expert], tmp_path / "merged")
    manifest = read_manifest(tmp_path / "merged")
    assert manifest is not None
    assert manifest.settings["left_out"] == {str(expert.path): ["classifier.bias", "classifier.weight"]}


def test_a_classifier_that_takes_another_width_is_no_head(tmp_path: Path) -> None:
    backbone = ImageBackbone.open(save_classifier("vit", tmp_path / "vit"))
    tensors = load_file(tmp_path / "vit" / "model.safetensors")
    save_file(tensors | {"classifier.weight": torch.zeros(3, 5)}, tmp_path / "other.safetensors")
    other = ImageBackbone(backbone.folder, open_checkpoint(tmp_path / "other.safetensors"))
    vars(other)["width"] = backbone.width
    with pytest.raises(DataError, match=r"'classifier' takes 5 numbers, not the 16 that represent an input: the library puts something"):
        saved_head(other)


def renamed(source: Path, folder: Path, **names: str) -> Path:
    """Copy a model folder; tensors whose names end in a key are named anew, or left out where the new name is empty."""
    shutil.copytree(source, folder)
    tensors = {}
    for name, tensor in load_file(source / "model.safetensors").items():
        new = next((new for old, new in names.items() if name.endswith(old)), name)
        if new:
            tensors[new] = tensor
    save_file(tensors, folder / "model.safetensors", metadata={"format": "pt"})
    return folder


def test_what_does_not_hold_the_bases_network_comes_back_as_it_is(tmp_path: Path) -> None:
    base = open_checkpoint(zoo.make("bert", tmp_path / "base"))
    strange = tmp_path / "strange"
    shutil.copytree(base.path, strange)
    save_file({"w": torch.ones(1)}, strange / "model.safetensors")
    lacking = renamed(base.path, tmp_path / "lacking", **{"layer.2.output.dense.bias": ""})
    more = renamed(base.path, tmp_path / "more")
    save_file(load_file(more / "model.safetensors") | {"extra.weight": torch.ones(2)}, more / "model.safetensors")
    for folder in (strange, lacking, more):
        assert isinstance(open_aligned(base, folder), Checkpoint), folder
    unknown = tmp_path / "unknown"
    shutil.copytree(base.path, unknown)
    save_file({"w": torch.ones(1)}, unknown / "model.safetensors")
    (unknown / "config.json").write_text("{}")
    assert isinstance(open_aligned(base, unknown), Checkpoint)


def test_twins_that_no_configuration_ties_are_no_ones_embeddings(tmp_path: Path) -> None:
    folder = zoo.make("bert", tmp_path / "base")
    tensors = load_file(folder / "model.safetensors")
    first, second = (f"encoder.layer.{number}.attention.self.query.weight" for number in (0, 1))
    save_file(tensors | {second: tensors[first].clone()}, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.warns(SutureWarning, match="left out"):
        expert = open_aligned(open_checkpoint(folder), save_classifier("bert", tmp_path / "expert"))
    assert not torch.equal(expert[first], expert[second])
