"""ONNX graphs, as onnxruntime runs them."""

import json
from collections.abc import Callable
from pathlib import Path

import numpy as np
import onnxruntime
import pytest
import torch
from PIL import Image

from backbones import zoo
from multitask.conftest import TASKS, TEXTS
from suture.backbones import Head, open_backbone
from suture.checkpoints import open_checkpoint
from suture.errors import OutputError
from suture.multitask import MultiTaskModel, onnx
from suture.multitask.graph import Graph
from suture.multitask.onnx import export_onnx


def run(file: Path, batch: dict[str, np.ndarray]) -> torch.Tensor:
    session = onnxruntime.InferenceSession(file, providers=["CPUExecutionProvider"])
    return torch.from_numpy(session.run(["logits"], batch)[0])


def test_deep_surgery_of_texts(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    model = make_model("deep_closed_form", routed=False)
    export_onnx(model, tmp_path / "graphs")
    told = json.loads((tmp_path / "graphs" / "tasks.json").read_text())
    assert told["inputs"] == ["input_ids", "attention_mask"]
    assert [each["name"] for each in told["tasks"]] == list(TASKS)
    assert (tmp_path / "graphs" / "tokenizer.json").is_file()
    batch = {name: part.numpy() for name, part in model.backbone.collate(model.backbone.prepare(TEXTS)).items()}
    numbers = np.arange(len(TEXTS)) % 3
    logits = run(tmp_path / "graphs" / told["all_tasks"], {**batch, "task": numbers})
    for number, each in enumerate(told["tasks"]):
        expected = model.logits(TEXTS, each["name"])
        torch.testing.assert_close(run(tmp_path / "graphs" / each["graph"], batch), expected, rtol=1e-4, atol=1e-4)
        own = numbers == number
        torch.testing.assert_close(logits[own][:, : expected.shape[1]], expected[own], rtol=1e-4, atol=1e-4)


def test_images(tmp_path: Path) -> None:
    folder = zoo.make("vit", tmp_path / "base")
    backbone = open_backbone(folder, open_checkpoint(folder))
    model = MultiTaskModel(backbone, {"one": Head(torch.randn(2, backbone.width)), "two": Head(torch.randn(3, backbone.width))})
    export_onnx(model, tmp_path / "graphs")
    images = [Image.new("RGB", (9, 9), colour) for colour in ("red", "blue", "green")]
    (name,) = json.loads((tmp_path / "graphs" / "tasks.json").read_text())["inputs"]
    pixels = backbone.collate(backbone.prepare(images))[name].numpy()
    found = run(tmp_path / "graphs" / "model.onnx", {name: pixels, "task": np.array([0, 1, 1])})
    torch.testing.assert_close(found[1:], model.logits(images, "two")[1:], rtol=1e-4, atol=1e-4)


def test_residuals_have_a_graph_of_each_task_alone(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = make_model("residuals", routed=False)
    written: list[str] = []

    def traced(graph: Graph, _model: object, tasks: list[str], file: Path, *, several: bool) -> None:
        file.write_bytes(b"")
        written.append(file.name)
        assert not several
        assert graph.model is model.network_of(tasks[0]).model

    monkeypatch.setattr(onnx, "_export", traced)
    export_onnx(model, tmp_path / "graphs")
    assert written == ["task-0.onnx", "task-1.onnx", "task-2.onnx"]
    assert json.loads((tmp_path / "graphs" / "tasks.json").read_text())["all_tasks"] is None


def test_a_graph_that_answers_otherwise_is_not_handed_over(
    make_model: Callable[..., MultiTaskModel], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(onnx, "CLOSE", -1.0)
    with pytest.raises(OutputError, match="from PyTorch's"):
        export_onnx(make_model("none", routed=False), tmp_path / "graphs")
    assert not (tmp_path / "graphs").exists()
