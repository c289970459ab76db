"""Small multi-task models: of a tiny BERT, with every kind of operation."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from suture.backbones import Head, TextBackbone
from suture.checkpoints import open_checkpoint
from suture.multitask import MultiTaskModel, fit_router
from suture.representation import encode
from suture.surgery import (
    ClosedForm,
    Correction,
    Operation,
    Origin,
    Surgery,
    fit_closed_form,
    fit_deep_closed_form,
    fit_residual_surgery,
    low_rank_residuals,
)
from suture.surgery.residual import tensors_of_blocks

TEXTS = ["the red cat", "a blue dog is very", "one two three", "it", "so red so blue", "not a cat is it", "three dogs", "very very two"]
KINDS = ["none", "relu", "closed_form", "deep_closed_form", "residuals", "residual_surgery"]
TASKS = {"colours": ("red", "blue"), "numbers": ("one", "two", "three"), "pets": ("cat", "dog")}


@pytest.fixture
def backbone(make_expert: Callable[..., Path]) -> TextBackbone:
    folder = make_expert("merged", 9)
    return TextBackbone(folder, open_checkpoint(folder), max_length=16)


@pytest.fixture
def make_model(backbone: TextBackbone, experts: dict[str, Path]) -> Callable[..., MultiTaskModel]:
    """Make a model whose operation is of a kind."""

    def make(kind: str = "closed_form", *, routed: bool = True, linear: bool = False) -> MultiTaskModel:
        generator = torch.Generator().manual_seed(0)
        heads = {
            task: Head(torch.randn(len(classes), 16, generator=generator), torch.zeros(len(classes)) if linear else None, classes=classes)
            for task, classes in TASKS.items()
        }
        own = {task: [f"{text} {classes[0]}" for text in TEXTS] for task, classes in TASKS.items()}
        operation = operations(kind, backbone, experts, own)
        origin = None if operation is None else Origin("held-out", len(TEXTS), 0, backbone.weights.digest, kind, 2)
        router = fit_router({task: encode(backbone, inputs) for task, inputs in own.items()}) if routed else None
        return MultiTaskModel(backbone, heads, operation, origin, router)

    return make


def operations(kind: str, backbone: TextBackbone, experts: dict[str, Path], own: dict[str, list[str]]) -> Operation | None:
    def expert_of(task: str) -> TextBackbone:
        return TextBackbone(backbone.folder, open_checkpoint(experts[task]), max_length=16)

    pairs = {task: (encode(backbone, inputs), encode(expert_of(task), inputs)) for task, inputs in own.items()}
    if kind == "relu":
        generator = torch.Generator().manual_seed(1)
        return Surgery({task: Correction(*(0.1 * torch.randn(shape, generator=generator) for shape in ((3, 16), (16, 3)))) for task in own})
    if kind == "closed_form":
        return fit_closed_form(pairs, ClosedForm(2))
    if kind == "deep_closed_form":
        return fit_deep_closed_form(own, backbone, expert_of, ClosedForm(2))
    if kind == "residuals":
        weights = backbone.weights
        return low_rank_residuals(weights, {task: expert_of(task).weights for task in own}, tensors_of_blocks(backbone), 2)
    if kind == "residual_surgery":
        return fit_residual_surgery(own, backbone, expert_of, 2, ClosedForm(2))
    return None
