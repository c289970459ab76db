"""The how-to pages: their commands in ``sh`` blocks and their Python run, in a folder with all that they name.

Commands in ``console`` blocks (what serves, fetches, or takes long and is tested elsewhere) are only read: see test_commands.py.
"""

import json
import re
import shlex
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest
import torch

import suture
from docs.pages import DOCS, blocks
from suture.cli import main

HOW = DOCS / "how"


def run(line: str, patch: pytest.MonkeyPatch) -> None:
    patch.setattr(sys, "argv", shlex.split(line, comments=True))
    with pytest.raises(SystemExit) as stopped:
        main()
    assert not stopped.value.code, line


def run_page(name: str, patch: pytest.MonkeyPatch) -> Mapping[str, Any]:
    """Run a page's commands, then its Python, and return the names that this made."""
    for _, text in blocks(HOW / f"{name}.md", "sh"):
        for line in text.splitlines():
            run(line, patch)
    made: dict[str, Any] = {}
    for _, text in blocks(HOW / f"{name}.md", "python"):
        exec(text, made)
    return made


def test_your_own_checkpoints(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("checkpoints", monkeypatch)
    by_ties = suture.open_checkpoint("merged-by-ties")
    assert list(by_ties) == list(suture.open_checkpoint("base"))
    assert not torch.equal(by_ties["pooler.dense.weight"], suture.open_checkpoint("merged")["pooler.dense.weight"])
    assert (world / "with-mail" / "manifest.json").is_file()


def test_your_own_data(world: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run_page("data", monkeypatch)
    fitted, from_features = (suture.load_surgery(world / f"surgery{kind}.safetensors") for kind in ("", "-of-features"))
    assert fitted.tasks == from_features.tasks == ("films", "books")


def test_adapters(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = run_page("lora", monkeypatch)
    query = "encoder.layer.0.attention.self.query.weight"
    assert not torch.equal(made["expert"][query], made["base"][query])
    assert "torch.Size([16, 16])" in capsys.readouterr().out


def test_no_task_id_then_serve(world: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    made = run_page("router", monkeypatch)
    lines = [json.loads(line) for line in capsys.readouterr().out.splitlines() if line.startswith('{"input"')]
    assert len(lines) == 30 + 1 + 2
    assert {"task", "none_of_these", "label", "probability"} <= lines[0].keys()
    assert made["answer"].task in {"films", "books"}
    # The page on serving asks the same model.
    from starlette.testclient import TestClient

    ((_, python),) = blocks(HOW / "serve.md", "python")
    exec(python, serving := {})
    body = re.search(r"-d '([^']+)'", (HOW / "serve.md").read_text(encoding="utf-8"))
    assert body is not None
    with TestClient(serving["app"]) as client:
        answers = client.post("/predict", content=body[1], headers={"content-type": "application/json"})
        assert answers.status_code == 200, answers.text
        assert len(answers.json()["predictions"]) == len(json.loads(body[1])["inputs"])
        assert client.get("/tasks").status_code == client.get("/health").status_code == client.get("/metrics").status_code == 200


def test_concepts_run(capsys: pytest.CaptureFixture[str]) -> None:
    printed = {}
    for name in ("bias", "closed-forms"):
        for _, text in blocks(DOCS / "concepts" / f"{name}.md", "python"):
            exec(text, {})
            printed[name] = capsys.readouterr().out
    assert printed["bias"].strip() in (DOCS / "concepts" / "bias.md").read_text(encoding="utf-8")
    bias = re.search(r"mean_abs=([\d.e-]+)", printed["closed-forms"])
    assert bias is not None
    assert float(bias[1]) < 0.01
