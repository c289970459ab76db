"""The model as a plain module."""

from collections.abc import Callable

import pytest
import torch

from multitask.conftest import TASKS, TEXTS
from suture.multitask import MultiTaskModel
from suture.multitask.graph import NO_CLASS, Graph
from suture.surgery import Surgery


@pytest.mark.parametrize("linear", [False, True])
@pytest.mark.parametrize("kind", ["none", "relu", "closed_form", "deep_closed_form"])
def test_each_row_gets_its_own_task(make_model: Callable[..., MultiTaskModel], kind: str, linear: bool) -> None:
    model = make_model(kind, linear=linear, routed=False)
    assert model.operation is None or isinstance(model.operation, Surgery)
    graph = Graph(model.backbone, list(model.heads.values()), model.operation, model.tasks, ["input_ids", "attention_mask"]).eval()
    batch = model.backbone.collate(model.backbone.prepare(TEXTS))
    tasks = torch.arange(len(TEXTS)) % 3
    with torch.no_grad():
        logits = graph(batch["input_ids"], batch["attention_mask"], tasks)
    for place, text in enumerate(TEXTS):
        own = list(TASKS)[place % 3]
        expected = model.logits([text], own)[0]
        torch.testing.assert_close(logits[place, : len(expected)], expected, rtol=1e-4, atol=1e-4)
        assert (logits[place, len(expected) :] == NO_CLASS).all()
    assert not any(module._forward_hooks for module in model.backbone.model.modules())
