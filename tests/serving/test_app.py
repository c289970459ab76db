"""The server, as a real process on a real socket."""

import base64
import json
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from io import BytesIO
from pathlib import Path

import httpx
import pytest
import torch
from fastapi.testclient import TestClient
from PIL import Image

from backbones import zoo
from multitask.conftest import TASKS, TEXTS, backbone, make_model
from suture.backbones import Head, open_backbone
from suture.checkpoints import open_checkpoint
from suture.errors import InvalidHyperparameter
from suture.multitask import MultiTaskModel
from suture.serving import Limits, make_app

__all__ = ["backbone", "make_model"]  # fixtures


@pytest.fixture
def served(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> Iterator[tuple[str, MultiTaskModel]]:
    """Serve a model in a process of its own; yield its address."""
    model = make_model("closed_form")
    model.save_pretrained(tmp_path / "model")
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "suture", "serve", str(tmp_path / "model"), "--port", str(port), "--max-megabytes", "0.02"]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    address = f"http://127.0.0.1:{port}"
    try:
        for _ in range(600):
            if process.poll() is not None:
                raise AssertionError(process.stderr.read() if process.stderr else "")
            try:
                httpx.get(f"{address}/health", timeout=30)
                break
            except httpx.TransportError:
                time.sleep(0.1)
        yield address, model
    finally:
        process.terminate()
        process.wait(30)


def test_many_clients_good_and_bad(served: tuple[str, MultiTaskModel]) -> None:
    address, model = served
    expected = {task: [each.label for each in model.predict(TEXTS, task)] for task in (*TASKS, "auto")}
    bad: list[tuple[bytes, int]] = [
        (b"{", 422),
        (b"[]", 422),
        (b'{"inputs": []}', 422),
        (b'{"inputs": ["a"], "task": "nonsense"}', 422),
        (b'{"inputs": [1]}', 422),
        (b'{"inputs": ["a"], "more": 1}', 422),
        (json.dumps({"inputs": ["x" * 30_000]}).encode(), 413),
        (json.dumps({"inputs": ["x"] * 300}).encode(), 413),
        (b"\xff\xfe", 422),
    ]
    host, port = address.removeprefix("http://").split(":")
    hanging = socket.create_connection((host, int(port)))
    hanging.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")

    def ask(number: int) -> bool:
        with httpx.Client(timeout=120) as client:
            if number % 3 == 2:
                body, status = bad[number % len(bad)]
                answer = client.post(f"{address}/predict", content=body)
                return answer.status_code == status and list(answer.json()) == ["error"] and "\n" not in answer.json()["error"]
            task = [*TASKS, "auto"][number % 4]
            answer = client.post(f"{address}/predict", json={"inputs": TEXTS, "task": task})
            return answer.status_code == 200 and [each["label"] for each in answer.json()["predictions"]] == expected[task]

    with ThreadPoolExecutor(16) as pool:
        assert all(pool.map(ask, range(96)))
    hanging.settimeout(30)
    assert hanging.recv(1000).startswith(b"HTTP/1.1 408")
    figures = httpx.get(f"{address}/metrics").text
    assert 'suture_requests_total{status="200"}' in figures
    assert "suture_waiting_inputs 0.0" in figures
    told = httpx.get(f"{address}/tasks").json()
    assert told == {"kind": "text", "finds_tasks": True, "tasks": {task: list(classes) for task, classes in TASKS.items()}}
    assert httpx.get(f"{address}/nowhere").status_code == 404
    assert httpx.get(f"{address}/predict").status_code == 405
    assert "predict" in httpx.get(f"{address}/openapi.json").text


def test_answers_say_what_the_model_does(make_model: Callable[..., MultiTaskModel]) -> None:
    model = make_model("closed_form")
    with TestClient(make_app(model)) as client:
        (given,) = client.post("/predict", json={"inputs": TEXTS[:1], "task": "pets"}).json()["predictions"]
        (found,) = client.post("/predict", json={"inputs": TEXTS[:1]}).json()["predictions"]
    assert given == dict(model.predict(TEXTS[:1], "pets")[0].told(routed=False).items())
    assert set(found) == {*given, "confidence", "none_of_these"}


def test_too_much_is_told_to_come_back(make_model: Callable[..., MultiTaskModel]) -> None:
    with TestClient(make_app(make_model("none"), Limits(queue=4))) as client:
        answer = client.post("/predict", json={"inputs": TEXTS, "task": "pets"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert client.post("/predict", json={"inputs": TEXTS[:4], "task": "pets"}).status_code == 200


def test_without_a_router_the_task_is_asked_for(make_model: Callable[..., MultiTaskModel]) -> None:
    with TestClient(make_app(make_model("none", routed=False))) as client:
        answer = client.post("/predict", json={"inputs": TEXTS})
        assert answer.status_code == 422
        assert answer.json()["error"] == "this model does not find tasks: name one of colours, numbers, pets"


def test_images(tmp_path: Path) -> None:
    folder = zoo.make("vit", tmp_path / "base")
    network = open_backbone(folder, open_checkpoint(folder))
    model = MultiTaskModel(network, {"one": Head(torch.randn(2, network.width), classes=("a", "b"))})
    image, stream = Image.new("RGB", (9, 9), "red"), BytesIO()
    image.save(stream, "PNG")
    with TestClient(make_app(model)) as client:
        good = {"inputs": [base64.b64encode(stream.getvalue()).decode()], "task": "one"}
        (found,) = client.post("/predict", json=good).json()["predictions"]
        assert found["label"] == model.predict([image], "one")[0].label
        for wrong in ("?", base64.b64encode(b"no image").decode()):
            answer = client.post("/predict", json={**good, "inputs": [wrong]})
            assert answer.status_code == 422
            assert answer.json()["error"].startswith("inputs.0: not the base64 of an image")


def test_a_fault_of_the_model_is_the_batchs_alone(make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model, answered = make_model("none"), MultiTaskModel.predict

    def fails(self: MultiTaskModel, inputs: list[str], *rest: object) -> object:
        if "bad" in inputs:
            raise RuntimeError("out of order")
        return answered(self, inputs, *rest)

    monkeypatch.setattr(MultiTaskModel, "predict", fails)
    with TestClient(make_app(model), raise_server_exceptions=False) as client:
        assert client.post("/predict", json={"inputs": ["bad"], "task": "pets"}).status_code == 500
        assert client.post("/predict", json={"inputs": ["good"], "task": "pets"}).status_code == 200


def test_limits_make_sense() -> None:
    for wrong in ({"batch": 0}, {"bytes": 0}, {"wait": -1.0}, {"patience": 0.0}):
        with pytest.raises(InvalidHyperparameter):
            Limits(**wrong)
