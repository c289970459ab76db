"""Models on disk: the same bits in another process, the backbone for everybody, nothing run."""

import json
import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from safetensors.torch import save_file

from backbones import zoo
from multitask.conftest import KINDS, TASKS, TEXTS
from suture.backbones import Head, Network, TextBackbone, load_heads, open_backbone
from suture.checkpoints import open_checkpoint, read_manifest, sha256_of
from suture.errors import (
    CheckpointError,
    CheckpointNotFound,
    CorruptCheckpoint,
    IncompatibleExperts,
    OutputError,
    OutputExists,
    UnsafePath,
    UnsupportedFormat,
)
from suture.multitask import Facts, MultiTaskModel, TaskFacts
from suture.representation import encode
from suture.surgery import read_origin

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
    own = {
        task: TaskFacts(samples=30, individual=0.9, merged=0.5, model=0.8, identified=0.95, routed=0.75, strange=0.04, unseen=0.4)
        for task in TASKS
    }
    facts = Facts(merge="ties", surgery="closed_form, rank 2", calibration="Held out.", tasks=own, licences=["CC0 | all"])
    replace(make_model(), facts=facts).save_pretrained(tmp_path / "model")
    manifest = read_manifest(tmp_path / "model")
    assert manifest is not None
    assert {"model.safetensors", "surgery.safetensors", "heads.safetensors", "router.safetensors", "suture.json"} <= manifest.files.keys()
    for name, digest in manifest.files.items():
        assert sha256_of(tmp_path / "model" / name) == digest
    card = (tmp_path / "model" / "README.md").read_text(encoding="utf-8")
    assert "| **average** |  | **90.0** | **50.0** | **80.0** | **95.0** | **75.0** | **4.0** | **40.0** |" in card
    assert 'MultiTaskModel.from_pretrained("model")' in card
    told = json.loads((tmp_path / "model" / "suture.json").read_text(encoding="utf-8"))
    origin = read_origin(tmp_path / "model" / "surgery.safetensors")
    assert origin is not None
    assert (origin.rank, origin.backbone) == (2, told["backbone"]["sha256"])
    with pytest.raises(OutputExists):
        make_model().save_pretrained(tmp_path / "model")
    make_model("none").save_pretrained(tmp_path / "model", replace=True)
    assert not (tmp_path / "model" / "surgery.safetensors").exists()


def rewrite(folder: Path, name: str, text: str) -> None:
    """Change a file, and its digest with it."""
    (folder / name).write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] = sha256_of(folder / name)
    (folder / "manifest.json").write_text(json.dumps(manifest))


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
    rewrite(folder, "suture.json", json.dumps(told))
    with pytest.raises(IncompatibleExperts, match="fitted on other weights"):
        MultiTaskModel.from_pretrained(folder)
    restore()
    for name in ("surgery.safetensors", "heads.safetensors", "router.safetensors", "tokenizer.json"):
        changed = bytearray(whole[name])
        changed[-2] ^= 1
        (folder / name).write_bytes(changed)
        with pytest.raises(CorruptCheckpoint, match=f"{name} is not as it was written"):
            MultiTaskModel.from_pretrained(folder)
        (folder / name).unlink()
        with pytest.raises(CorruptCheckpoint, match=f"no {name}"):
            MultiTaskModel.from_pretrained(folder)
        restore()
    told = json.loads(whole["suture.json"])
    told["tasks"]["pets"] = ["dog", "cat"]
    rewrite(folder, "suture.json", json.dumps(told))
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
    rewrite(folder, "suture.json", json.dumps(told))
    for named in ("os:getcwd", "suture.cli:main"):
        told["backbone"]["network"] = named
        rewrite(folder, "suture.json", json.dumps(told))
        with pytest.raises(UnsupportedFormat, match=f"{named} as its network, which would be run"):
            MultiTaskModel.from_pretrained(folder)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["../../secret"] = "0" * 64
    (folder / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(UnsafePath, match="outside"):
        MultiTaskModel.from_pretrained(folder)


def test_names_of_classes_that_are_numbers_or_stand_twice(backbone: TextBackbone, tmp_path: Path) -> None:
    heads = {
        "digits": Head(torch.randn(3, 16), classes=("0", "1", "2")),
        "unnamed": Head(torch.randn(2, 16)),
        "twice": Head(torch.randn(2, 16), classes=("crane", "crane")),
    }
    MultiTaskModel(backbone, heads).save_pretrained(tmp_path / "model")
    model = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert [model.classes(task) for task in model.tasks] == [("0", "1", "2"), ("0", "1"), ("crane", "crane (2)")]
    assert sum(model.predict(["a"], "twice")[0].probabilities.values()) == pytest.approx(1)


@pytest.mark.parametrize(
    ("tensors", "told"),
    [
        ({"a.weight": torch.ones(2, 16), "a.scale": torch.ones(2)}, "the head of 'a' has"),
        ({"a.weight": torch.ones(()), "a.scale": torch.ones(())}, "the head of 'a' has"),
        ({"a.weight": torch.ones(2, 16).long(), "a.scale": torch.ones(())}, "the head of 'a' has"),
        ({"a.weight": torch.ones(2, 16), "a.scale": torch.ones(()), "a.bias": torch.ones(3)}, "the head of 'a' has"),
        ({"a.weight": torch.full((2, 16), torch.nan), "a.scale": torch.ones(())}, "NaN"),
    ],
)
def test_heads_that_make_no_sense(tmp_path: Path, tensors: dict[str, torch.Tensor], told: str) -> None:
    save_file(tensors, tmp_path / "heads.safetensors")
    with pytest.raises(CheckpointError, match=told):
        load_heads(tmp_path / "heads.safetensors")


def test_what_was_measured_goes_along(make_model: Callable[..., MultiTaskModel], tmp_path: Path) -> None:
    facts = Facts(merge="ties", surgery="closed_form, rank 2")
    replace(make_model(linear=True), facts=facts).save_pretrained(tmp_path / "model")
    model = MultiTaskModel.from_pretrained(tmp_path / "model")
    assert model.facts == facts
    assert model.folded().facts.surgery == "closed_form, rank 2 (in the heads)"


def test_pushing_uploads_the_whole_folder_without_the_recipe(
    make_model: Callable[..., MultiTaskModel], monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, object] = {}

    class Hub:
        def create_repo(self, repository: str, *, private: bool, exist_ok: bool) -> None:
            seen["created"] = repository, private, exist_ok

        def upload_folder(self, *, repo_id: str, folder_path: Path, commit_message: str) -> SimpleNamespace:
            seen["files"] = {file.name for file in folder_path.iterdir()}
            seen["card"] = (folder_path / "README.md").read_text()
            seen["told"] = json.loads((folder_path / "suture.json").read_text())
            return SimpleNamespace(commit_url=f"https://huggingface.co/{repo_id}/commit/1")

    monkeypatch.setattr("huggingface_hub.HfApi", Hub)
    facts = Facts(merge="ties", recipe={"base": "somewhere/base"})
    assert replace(make_model(), facts=facts).push_to_hub("me/model") == "https://huggingface.co/me/model/commit/1"
    assert seen["created"] == ("me/model", True, True)
    assert {"README.md", "model.safetensors", "surgery.safetensors", "suture.json"} <= seen["files"]
    assert seen["told"]["facts"]["recipe"] is None
    assert seen["told"]["facts"]["merge"] == "ties"
    assert 'from_pretrained("hf://me/model")' in seen["card"]

    def fails(self: Hub, **_: object) -> None:
        raise OSError("no route")

    monkeypatch.setattr(Hub, "upload_folder", fails)
    with pytest.raises(OutputError, match="me/model was not uploaded: no route"):
        make_model().push_to_hub("me/model")


def test_images_and_networks_of_ones_own_load_again(tmp_path: Path) -> None:
    pictures = [np.random.default_rng(seed).integers(0, 256, (20, 24, 3), dtype=np.uint8) for seed in range(3)]
    vit = zoo.make("vit", tmp_path / "vit")
    save_file(dict(own_network().model.state_dict()), tmp_path / "own.safetensors")
    own = open_checkpoint(tmp_path / "own.safetensors")
    for network, backbone in (
        ("", open_backbone(vit, open_checkpoint(vit))),
        ("multitask.test_folder:own_network", open_backbone(tmp_path, own, network="multitask.test_folder:own_network")),
    ):
        model = MultiTaskModel(backbone, {"one": Head(torch.randn(3, backbone.width))})
        folder = tmp_path / f"model{len(network)}"
        model.save_pretrained(folder)
        if network:
            with pytest.raises(UnsupportedFormat, match="would be run"):
                MultiTaskModel.from_pretrained(folder)
        again = MultiTaskModel.from_pretrained(folder, network)
        assert torch.equal(model.logits(pictures, "one"), again.logits(pictures, "one"))
        assert "Path(" in (folder / "README.md").read_text(encoding="utf-8")


def own_network() -> Network:
    model = torch.nn.Sequential(torch.nn.Flatten(), torch.nn.Linear(12, 4))
    return Network(model, lambda image: torch.from_numpy(np.array(image.resize((2, 2)))).permute(2, 0, 1).float())
