"""The families of networks: what loads each, what its representation is, and what its blocks are.

A family is found by ``model_type`` of ``config.json``. Text encoders that are not listed work as BERT does: their blocks are the
members of their longest list of modules, their representation the mean token, or the last where they are decoders.
"""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from suture.backbones.tokens import mean_of_real, tokens_of
from suture.errors import UnsupportedFormat

Pooling = Literal["mean", "cls", "last", "cls_mean", "pooler", "projection"]
"""How a representation is made of what a network answers; see :data:`POOLINGS`."""

POOLINGS: Mapping[Pooling, str] = {
    "mean": "mean of the real tokens of the last layer",
    "cls": "first token of the last layer",
    "last": "last real token of the last layer",
    "cls_mean": "first token of the last layer, then the mean of the others",
    "pooler": "what the network's own pooler answers",
    "projection": "the image's embedding after the projection, not normalised",
}
"""What each pooling takes for the representation of an input."""

Kind = Literal["text", "image"]


@dataclass(frozen=True)
class Family:
    """One family: ``blocks`` and ``leads`` are patterns of modules' names, in forward order.

    A lead, such as the downsampling between two stages, runs before the block that follows it and is part of that. Without ``blocks``
    they are the members of the longest list of modules.
    """

    title: str
    kind: Kind
    pooling: Pooling
    loader: str = ""
    """The class of transformers that loads it; ``AutoModel``'s own choice without one."""
    part: str = ""
    """What of the configuration that class is given."""
    blocks: str = ""
    leads: str = ""
    classifier: str = ""
    """The linear layer, on disk, behind which the library's classifiers of this family answer; empty where theirs is not one layer."""
    classified_by: Pooling = "pooler"
    """The representation that it takes."""


IMAGE = "pixel_values"
"""What networks that take images call their input."""

CLIPS = {"clip", "clip_vision_model"}
"""The types of one network, with and without its text tower."""

CLIP = Family("CLIP", "image", "projection", "CLIPVisionModelWithProjection", "vision_config")

FAMILIES: Mapping[str, Family] = {
    "clip": CLIP,
    "clip_vision_model": Family("CLIP, vision alone", "image", "projection", CLIP.loader),
    "vit": Family("ViT", "image", "cls", classifier="classifier", classified_by="cls"),
    "deit": Family("DeiT", "image", "cls", classifier="classifier", classified_by="cls"),
    "dinov2": Family("DINOv2", "image", "cls", classifier="classifier", classified_by="cls_mean"),
    "swin": Family(
        "Swin",
        "image",
        "pooler",
        blocks=r"encoder\.layers\.\d+\.blocks\.\d+",
        leads=r"encoder\.layers\.\d+\.downsample",
        classifier="classifier",
    ),
    "convnext": Family(
        "ConvNeXt",
        "image",
        "pooler",
        blocks=r"encoder\.stages\.\d+\.layers\.\d+",
        leads=r"encoder\.stages\.\d+\.downsampling_layer\.\d+",
        classifier="classifier",
    ),
    "resnet": Family("ResNet", "image", "pooler", blocks=r"encoder\.stages\.\d+\.layers\.\d+", classifier="classifier.1"),
    "efficientnet": Family("EfficientNet", "image", "pooler", classifier="classifier"),
    "bert": Family("BERT", "text", "mean", classifier="classifier"),
    "roberta": Family("RoBERTa", "text", "mean"),
    "deberta-v2": Family("DeBERTa-v2", "text", "mean"),
    "modernbert": Family("ModernBERT", "text", "mean"),
    "distilbert": Family("DistilBERT", "text", "mean"),
    "mpnet": Family("MPNet", "text", "mean"),
    "t5": Family("T5, FLAN-T5", "text", "mean", "T5EncoderModel"),
    "gpt2": Family("GPT-2", "text", "last", classifier="score", classified_by="last"),
    "llama": Family("Llama", "text", "last", classifier="score", classified_by="last"),
    "mistral": Family("Mistral", "text", "last", classifier="score", classified_by="last"),
    "qwen2": Family("Qwen2", "text", "last", classifier="score", classified_by="last"),
    "qwen3": Family("Qwen3", "text", "last", classifier="score", classified_by="last"),
}
"""Every family that Suture knows, by its ``model_type``."""
OTHER = Family("", "text", "mean")
DECODER = Family("", "text", "last")


def family_of(config: Any) -> Family | None:
    """Return the family of a configuration; that of other text encoders where transformers has a model, else None."""
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

    if config.model_type in FAMILIES:
        return FAMILIES[config.model_type]
    plain = not (getattr(config, "is_encoder_decoder", False) or hasattr(config, "vision_config"))
    if not plain or type(config) not in MODEL_MAPPING or MODEL_MAPPING[type(config)].main_input_name != "input_ids":
        return None
    return DECODER if type(config) in MODEL_FOR_CAUSAL_LM_MAPPING and type(config) not in MODEL_FOR_MASKED_LM_MAPPING else OTHER


def unknown_family(folder: Path, config: Any, kind: Kind | None = None) -> UnsupportedFormat:
    """Return the error for a model of a family that is not known, or that does not take what it is given."""
    known = ", ".join(sorted(name for name, own in FAMILIES.items() if kind in {None, own.kind}))
    what = f"take no {kind}s that Suture knows how to represent" if kind else "are not known"
    others = "" if kind == "image" else " and other text encoders"
    return UnsupportedFormat(f"{folder}: models of type {config.model_type!r} {what}; known are {known}{others}")


def block_names(model: nn.Module, blocks: str = "", leads: str = "") -> list[list[str]]:
    """Return the names of the modules of a network's blocks, in forward order: those of patterns, as a family's, else its longest list.

    >>> block_names(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "head": nn.Linear(2, 1)}))
    [['layers.0'], ['layers.1']]
    """
    if not blocks:
        lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
        name, longest = max(lists, key=lambda item: len(item[1]), default=("", nn.ModuleList()))
        return [[f"{name}.{number}"] for number in range(len(longest))]
    found, leading = list[list[str]](), list[str]()
    for name, _ in model.named_modules():
        if re.fullmatch(blocks, name):
            found.append([*leading, name])
            leading.clear()
        elif leads and re.fullmatch(leads, name):
            leading.append(name)
    return found


def pooled(answer: Any, pooling: Pooling, mask: Tensor | None) -> Tensor:
    """Return the representations, shape (n, k), in what a network of transformers answers; ``mask`` says which tokens are real."""
    if pooling == "projection":
        return answer["image_embeds"] if "image_embeds" in answer else answer["text_embeds"]  # type: ignore[no-any-return]
    if pooling == "pooler":
        return answer.pooler_output.flatten(1)  # type: ignore[no-any-return]
    hidden = tokens_of(answer.last_hidden_state)
    if pooling == "mean":
        return mean_of_real(hidden, mask)
    if pooling == "cls":
        return hidden[:, 0]
    if pooling == "cls_mean":
        return torch.cat([hidden[:, 0], mean_of_real(hidden[:, 1:], None if mask is None else mask[:, 1:])], dim=1)
    ends = torch.full((len(hidden),), hidden.shape[1]) if mask is None else mask.sum(dim=1)
    return hidden[torch.arange(len(hidden)), (ends - 1).clamp(min=0)]
