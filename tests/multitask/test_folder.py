"""Models on disk: the same bits in another process, the backbone for everybody, nothing run."""

import json
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch

from multitask.conftest import KINDS, TASKS, TEXTS
from suture.checkpoints import read_manifest, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, IncompatibleExperts, OutputError, OutputExists, UnsupportedFormat
from suture.multitask import Facts, MultiTaskModel, TaskFacts
from suture.representation import encode

ANSWER = """
import json, sys
from suture import MultiTaskModel
texts, found = json.loads(sys.argv[1]), {}
for folder in sys.argv[2:]:
    model = MultiTaskModel.from_pretrained(folder)
    answers = {task: model.logits(texts, task).double().tolist() for task in model.tasks}
    found[folder] = [answers, [each.told() for each in model.predict(texts)] if model.router else None]
print(json.dumps(found))
"""


def test_a_fresh_process_answers_with_the_same_bits(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    models = {kind: make_model(kind, routed=kind == "closed_form") for kind in KINDS}
    folders = {str(tmp_path / kind): model for kind, model in models.items()}
    for folder, model in folders.items():
        model.save_pretrained(folder)
    command = [sys.executable, "-c", ANSWER, json.dumps(TEXTS), *folders]
    found = json.loads(subprocess.run(command, capture_output=True, text=True, check=True).stdout)
    for folder, model in folders.items():
        answers, routed = found[folder]
        assert answers == {task: model.logits(TEXTS, task).double().tolist() for task in TASKS}
        expected = None if model.router is None else [each.told() for each in model.predict(TEXTS)]
        assert routed == json.loads(json.dumps(expected))


def test_the_backbone_loads_with_plain_transformers(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    model = make_model()
    model.save_pretrained(tmp_path / "model")
    code = """
import sys, json, torch
from transformers import AutoModel, AutoTokenizer
model, tokenizer = AutoModel.from_pretrained(sys.argv[1]), AutoTokenizer.from_pretrained(sys.argv[1])
hidden = model(**tokenizer(sys.argv[2], return_tensors="pt")).last_hidden_state
assert not [name for name in sys.modules if name.startswith("suture")]
print(json.dumps(hidden.mean(dim=1)[0].tolist()))
"""
    done = subprocess.run([sys.executable, "-c", code, str(tmp_path / "model"), TEXTS[0]], capture_output=True, text=True, check=True)
    torch.testing.assert_close(torch.tensor(json.loads(done.stdout)), encode(model.backbone, TEXTS[:1])[0])


def test_every_file_has_its_digest_and_a_card(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    own = {task: TaskFacts(samples=30, individual=0.9, merged=0.5, model=0.8, identified=0.95, routed=0.75) for task in TASKS}
    facts = Facts(merge="ties", surgery="closed_form, rank 2", calibration="Held out.", tasks=own, licences=["CC0 | all"])
    make_model().save_pretrained(tmp_path / "model", facts)
    manifest = read_manifest(tmp_path / "model")
    assert manifest is not None
    assert {"model.safetensors", "surgery.safetensors", "heads.safetensors", "router.safetensors", "suture.json"} <= manifest.files.keys()
    for name, digest in manifest.files.items():
        assert sha256_of(tmp_path / "model" / name) == digest
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| **average** |  | **90.0** | **50.0** | **80.0** | **95.0** | **75.0** |" in card
    assert 'MultiTaskModel.from_pretrained("model")' in card
    told = json.loads((tmp_path / "model" / "suture.json").read_text(encoding="utf-8"))
    assert told["surgery"]["rank"] == 2
    assert told["surgery"]["backbone"] == told["backbone"]["sha256"]
    with pytest.raises(OutputExists):
        make_model().save_pretrained(tmp_path / "model")
    make_model("none").save_pretrained(tmp_path / "model", replace=True)
    assert not (tmp_path / "model" / "surgery.safetensors").exists()


def test_what_does_not_belong_together_is_refused(make_model: Callable[..., MultiTaskModel], tmp_path: Path, bert: Path) -> None:
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    whole = {file.name: file.read_bytes() for file in folder.iterdir() if file.is_file()}

    def restore() -> None:
        for name, content in whole.items():
            (folder / name).write_bytes(content)

    (folder / "model.safetensors").write_bytes((bert / "model.safetensors").read_bytes())
    with pytest.raises(CorruptCheckpoint, match="holds other weights"):
        MultiTaskModel.from_pretrained(folder)
    told = json.loads(whole["suture.json"])
    told["backbone"]["sha256"] = sha256_of(bert / "model.safetensors")
    (folder / "suture.json").write_text(json.dumps(told))
    with pytest.raises(IncompatibleExperts, match="fitted on other weights"):
        MultiTaskModel.from_pretrained(folder)
    restore()
    for name in ("surgery.safetensors", "heads.safetensors"):
        (folder / name).unlink()
        with pytest.raises(CorruptCheckpoint, match=f"no {name}"):
            MultiTaskModel.from_pretrained(folder)
        restore()
    told = json.loads(whole["suture.json"])
    told["tasks"]["pets"] = ["dog", "cat"]
    (folder / "suture.json").write_text(json.dumps(told))
    with pytest.raises(CorruptCheckpoint, match="tasks and classes"):
        MultiTaskModel.from_pretrained(folder)
    (folder / "suture.json").write_text("{}")
    with pytest.raises(CorruptCheckpoint, match="does not describe"):
        MultiTaskModel.from_pretrained(folder)
    with pytest.raises(CheckpointNotFound, match="no multi-task model"):
        MultiTaskModel.from_pretrained(bert)


def test_a_folder_cannot_have_anything_run(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    folder = tmp_path / "model"
    make_model().save_pretrained(folder)
    told = json.loads((folder / "suture.json").read_text())
    told["backbone"]["network"] = "os:getcwd"
    (folder / "suture.json").write_text(json.dumps(told))
    with pytest.raises(UnsupportedFormat, match="os:getcwd as its network, which would be run"):
        MultiTaskModel.from_pretrained(folder)


def test_pushing_uploads_the_whole_folder_without_the_recipe(
    make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    class Hub:
        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            seen["created"] = repository, private, exist_ok

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
            seen["files"] = {file.name for file in folder_path.iterdir()}
            seen["told"] = json.loads((folder_path / "suture.json").read_text())
            return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    facts = Facts(merge="ties", recipe={"base": "/home/somebody"})
    assert make_model().push_to_hub("me/model", facts) == "https://huggingface.co/me/model/commit/1"
    assert seen["created"] == ("me/model", True, True)
    assert {"README.md", "model.safetensors", "surgery.safetensors", "suture.json"} <= seen["files"]
    assert seen["told"]["facts"]["recipe"] is None

    def fails(self: Hub, **_: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(Hub, "upload_folder", fails)
    with pytest.raises(OutputError, match="me/model was not uploaded: no route"):
        make_model().push_to_hub("me/model")
