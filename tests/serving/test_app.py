"""The server, as a real process on a real socket."""

import asyncio
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
from suture.serving import Batcher, Limits, make_app

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
    silent, large = (socket.create_connection((host, int(port))) for _ in range(2))
    silent.sendall(b"POST /pred")
    large.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 6000000\r\n\r\n" + b"x" * 100_000)
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
    silent.settimeout(30)
    assert silent.recv(1000) == b""
    large.settimeout(30)
    assert large.recv(1000).startswith((b"HTTP/1.1 413", b"HTTP/1.1 408"))
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
    with TestClient(make_app(make_model("none"), Limits(queue=4, inputs=4))) as client:
        assert client.post("/predict", json={"inputs": TEXTS, "task": "pets"}).status_code == 413
    with TestClient(make_app(make_model("none"), Limits(queue=4, inputs=4, wait=1.0))) as client, ThreadPoolExecutor(1) as pool:
        first = pool.submit(client.post, "/predict", json={"inputs": TEXTS[:3], "task": "pets"})
        time.sleep(0.3)
        answer = client.post("/predict", json={"inputs": TEXTS[:3], "task": "pets"})
        assert (answer.status_code, answer.headers["retry-after"]) == (503, "1")
        assert first.result().status_code == 200


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
        postscript = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n"
        for wrong in ("?", base64.b64encode(b"no image").decode(), base64.b64encode(postscript).decode()):
            answer = client.post("/predict", json={**good, "inputs": [wrong]})
            assert answer.status_code == 422
            assert answer.json()["error"].startswith("inputs.0: not the base64 of an image")
        for size in ((6000, 6000), (1, 1000)):
            stream = BytesIO()
            Image.new("1", size).save(stream, "PNG")
            answer = client.post("/predict", json={**good, "inputs": [base64.b64encode(stream.getvalue()).decode()]})
            assert (answer.status_code, "an image of" in answer.json()["error"]) == (422, True)
        stream = BytesIO()
        Image.effect_noise((64, 64), 50).save(stream, "PNG")
        cut = base64.b64encode(stream.getvalue()[:2000]).decode()
        assert client.post("/predict", json={**good, "inputs": [cut]}).status_code == 422


def test_one_bad_input_spoils_no_others_answer(make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch) -> None:
    model, answered = make_model("none"), MultiTaskModel.predict
    sizes: list[int] = []

    def fails(self: MultiTaskModel, inputs: list[str], *rest: object) -> object:
        sizes.append(len(inputs))
        if "bad" in inputs:
            raise RuntimeError("out of order")
        return answered(self, inputs, *rest)

    monkeypatch.setattr(MultiTaskModel, "predict", fails)

    async def ask() -> list[object]:
        batcher = Batcher(model, Limits(wait=0.5, batch=8))
        batcher.start()
        texts = [["a"], ["bad"], ["b", "c"], ["d"]]
        found = await asyncio.gather(*(batcher.predict(each, ["pets"] * len(each)) for each in texts), return_exceptions=True)
        failing = batcher.failing
        await batcher.stop()
        assert batcher.waiting == 0
        assert not failing
        return found

    first, second, third, last = asyncio.run(ask())
    assert sizes[0] == 5
    assert isinstance(second, RuntimeError)
    assert [len(each) for each in (first, third, last)] == [1, 2, 1]
    with TestClient(make_app(model)) as client:
        answer = client.post("/predict", json={"inputs": ["bad"], "task": "pets"})
        assert (answer.status_code, list(answer.json())) == (500, ["error"])
        assert "out of order" not in answer.text
        assert client.post("/predict", json={"inputs": ["good"], "task": "pets"}).status_code == 200


def test_batches_keep_their_size_and_the_gone_cost_nothing(
    make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    model, sizes = make_model("none"), list[int]()
    answered = MultiTaskModel.predict

    def slow(self: MultiTaskModel, inputs: list[str], *rest: object) -> object:
        sizes.append(len(inputs))
        time.sleep(0.05)
        return answered(self, inputs, *rest)

    monkeypatch.setattr(MultiTaskModel, "predict", slow)

    async def ask() -> None:
        batcher = Batcher(model, Limits(wait=0.05, batch=4))
        batcher.start()
        jobs = [asyncio.create_task(batcher.predict(["a"] * 3, ["pets"] * 3)) for _ in range(6)]
        await asyncio.sleep(0.01)
        for job in jobs[2:5]:
            job.cancel()
        found = await asyncio.gather(*jobs, return_exceptions=True)
        assert [isinstance(each, asyncio.CancelledError) for each in found] == [False, False, True, True, True, False]
        await batcher.stop()
        assert batcher.waiting == 0

    asyncio.run(ask())
    assert sizes == [3, 3, 3]


def test_health_is_well_under_load(make_model: Callable[..., MultiTaskModel]) -> None:
    limits = Limits(queue=len(TEXTS), inputs=len(TEXTS), wait=1.0)
    with TestClient(make_app(make_model("none"), limits)) as client, ThreadPoolExecutor(1) as pool:
        asked = pool.submit(client.post, "/predict", json={"inputs": TEXTS, "task": "pets"})
        time.sleep(0.3)
        assert client.get("/health").json() == {"status": "ok"}
        assert asked.result().status_code == 200


def test_health_is_well_again_when_the_model_is(make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch) -> None:
    own, broken = MultiTaskModel.predict, [True]

    def predict(self: MultiTaskModel, *asked: object) -> object:
        if broken:
            raise RuntimeError("no memory left")
        return own(self, *asked)

    monkeypatch.setattr(MultiTaskModel, "predict", predict)
    with TestClient(make_app(make_model("none"))) as client:
        assert client.post("/predict", json={"inputs": TEXTS, "task": "pets"}).status_code == 500
        answer = client.get("/health")
        assert (answer.status_code, answer.json()) == (503, {"error": "the model does not answer"})
        broken.clear()
        assert client.get("/health").json() == {"status": "ok"}


def test_limits_make_sense() -> None:
    for wrong in ({"batch": 0}, {"bytes": 0}, {"wait": -1.0}, {"patience": 0.0}, {"queue": 3}):
        with pytest.raises(InvalidHyperparameter):
            Limits(**wrong)
