"""A server under load: 64 clients with mixed tasks, malformed and oversized requests among theirs, and clients that hang.

    python benchmarks/serving.py MODEL --out docs/results/benchmark-serving.md      # MODEL: of `suture build nlp8 -o MODEL`

Every good request must be answered, with what the model itself says; every bad one gets a 4xx and one line. Throughput stands beside
that of one client who asks one text at a time.
"""

import argparse
import json
import random
import socket
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import httpx

from measuring import report, table
from suture.multitask import AUTO, MultiTaskModel
from suture.tasks import load_suite

CLIENTS, HANGING, MEGABYTES = 64, 8, 0.2
BAD: dict[bytes, int] = {
    b"{": 422,
    b'{"inputs": []}': 422,
    b'{"inputs": ["a"], "task": "nonsense"}': 422,
    b'{"inputs": [1, 2]}': 422,
    json.dumps({"inputs": ["x" * 300_000]}).encode(): 413,
    json.dumps({"inputs": ["x"] * 1000}).encode(): 413,
}


@dataclass
class Seen:
    """What clients saw."""

    seconds: list[float] = field(default_factory=list)
    answered: int = 0
    wrong: int = 0
    lost: int = 0
    refused: int = 0
    misjudged: int = 0


@contextmanager
def server(model: Path) -> Iterator[str]:
    """Serve a model, and yield its address once it answers."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port = found.getsockname()[1]
    command = [sys.executable, "-m", "suture", "serve", str(model), "--port", str(port), "--max-megabytes", str(MEGABYTES)]
    process = subprocess.Popen(command)
    try:
        while True:
            try:
                httpx.get(f"http://127.0.0.1:{port}/health", timeout=60)
                break
            except httpx.TransportError:
                time.sleep(0.2)
        yield f"http://127.0.0.1:{port}"
    finally:
        process.terminate()
        process.wait(60)


def client(address: str, questions: list[tuple[str, str, str]], number: int, until: float, seen: Seen, lock: threading.Lock) -> None:
    """Ask until the time is over: one request in five is bad."""
    chance = random.Random(number)
    with httpx.Client(timeout=120) as http:
        while time.monotonic() < until:
            if chance.random() < 0.2:
                body, status = chance.choice(list(BAD.items()))
                answer = http.post(f"{address}/predict", content=body)
                told = answer.json().get("error", "")
                with lock:
                    seen.refused += 1
                    seen.misjudged += answer.status_code != status or not told or "\n" in told
                continue
            asked = chance.choices(questions, k=chance.randint(1, 4))
            task = asked[0][1]
            started = time.monotonic()
            try:
                answer = http.post(f"{address}/predict", json={"inputs": [text for text, own, _ in asked if own == task], "task": task})
                labels = [each["label"] for each in answer.json()["predictions"]]
                good = labels == [label for _, own, label in asked if own == task]
            except (httpx.TransportError, KeyError, ValueError):
                with lock:
                    seen.lost += 1
                continue
            with lock:
                seen.answered += len(labels)
                seen.wrong += not good
                seen.seconds.append(time.monotonic() - started)


def hang(address: str) -> socket.socket:
    """Open a request that is never finished."""
    host, port = address.removeprefix("http://").split(":")
    connection = socket.create_connection((host, int(port)))
    connection.sendall(b"POST /predict HTTP/1.1\r\nhost: x\r\ncontent-length: 100\r\n\r\n{")
    return connection


def alone(address: str, questions: list[tuple[str, str, str]], seconds: float) -> float:
    """Return how many texts a second one client gets answers to, one at a time."""
    until, count = time.monotonic() + seconds, 0
    with httpx.Client(timeout=120) as http:
        while time.monotonic() < until:
            text, task, _ = questions[count % len(questions)]
            http.post(f"{address}/predict", json={"inputs": [text], "task": task}).raise_for_status()
            count += 1
    return count / seconds


def main() -> None:
    """Load the server, count, report; anything lost or wrong is an error."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", type=Path)
    parser.add_argument("--seconds", type=float, default=30)
    parser.add_argument("--out", type=Path)
    chosen = parser.parse_args()
    model = MultiTaskModel.from_pretrained(chosen.model)
    texts = {task.name: task.split("calibration").inputs[:40] for task in load_suite("nlp8").tasks}
    questions = [
        (str(text), task, each.label) for task, own in texts.items() for text, each in zip(own, model.predict(own, task), strict=True)
    ]
    everything = [text for own in texts.values() for text in own]
    questions += [(str(text), AUTO, each.label) for text, each in zip(everything, model.predict(everything), strict=True)]
    seen, lock = Seen(), threading.Lock()
    with server(chosen.model) as address:
        single = alone(address, questions, chosen.seconds / 3)
        hanging = [hang(address) for _ in range(HANGING)]
        until = time.monotonic() + chosen.seconds
        with ThreadPoolExecutor(CLIENTS) as pool:
            list(pool.map(lambda number: client(address, questions, number, until, seen, lock), range(CLIENTS)))
        timed_out = sum(connection.recv(100).startswith(b"HTTP/1.1 408") for connection in hanging)
    rate = seen.answered / chosen.seconds
    ordered = sorted(seen.seconds)
    rows = [
        ["good requests answered", f"{len(seen.seconds)}"],
        ["of these with another answer than the model's own", f"{seen.wrong}"],
        ["good requests lost", f"{seen.lost}"],
        ["bad requests", f"{seen.refused}"],
        ["of these without the 4xx and the one line they should get", f"{seen.misjudged}"],
        [f"hanging clients told 408, of {HANGING}", f"{timed_out}"],
        ["texts a second ÷ those of one client, one at a time", f"{rate / single:.2f}"],
        ["99th percentile of a request's time ÷ the median", f"{ordered[int(0.99 * len(ordered))] / statistics.median(ordered):.2f}"],
    ]
    lines = ["# Serving under load", "", f"{CLIENTS} clients for {chosen.seconds:g} s, mixed tasks, one request in five bad.", ""]
    lines += [*table(["", ""], rows), "Made by `python benchmarks/serving.py MODEL --out docs/results/benchmark-serving.md`."]
    report(lines, chosen.out)
    if seen.wrong or seen.lost or seen.misjudged or timed_out < HANGING:
        raise SystemExit("not every request got what it should")


if __name__ == "__main__":
    main()
