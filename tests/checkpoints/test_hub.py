"""Repositories of the hub, from a local cache in the hub's own layout; the network is never asked."""

import hashlib
import shutil
from pathlib import Path

import pytest
import yaml

from suture.checkpoints import open_checkpoint, open_expert
from suture.errors import CheckpointNotFound
from suture.experiment import read_recipe
from suture.experiment.setting import prepare


def publish(cache: Path, name: str, folder: Path, revision: str = "main") -> None:
    """Put a model folder into the cache as the hub's client does."""
    place = cache / f"models--{name.replace('/', '--')}"
    commit = hashlib.sha1(revision.encode()).hexdigest()
    shutil.copytree(folder, place / "snapshots" / commit)
    (place / "refs").mkdir(exist_ok=True)
    (place / "refs" / revision).write_text(commit)


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    from huggingface_hub import constants

    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return tmp_path / "hub"


def test_a_repository_is_opened_as_its_folder(cache: Path, bert: Path, experts: dict[str, Path]) -> None:
    publish(cache, "some/bert", bert)
    publish(cache, "some/bert", experts["pets"], "tuned")
    base = open_checkpoint("hf://some/bert")
    assert base.digest == open_checkpoint(bert).digest
    assert base.path.is_relative_to(cache)
    assert open_expert(base, Path("hf://some/bert@tuned")).digest == open_checkpoint(experts["pets"]).digest


def test_shards_of_a_snapshot_are_links_to_blobs(cache: Path, bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(bert).save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    publish(cache, "some/bert", tmp_path / "sharded")
    (snapshot,) = (cache / "models--some--bert" / "snapshots").iterdir()
    blobs = cache / "models--some--bert" / "blobs"
    blobs.mkdir()
    for number, file in enumerate(sorted(snapshot.glob("*.safetensors"))):
        file.rename(blobs / str(number))
        file.symlink_to(Path("..") / ".." / "blobs" / str(number))
    assert len(open_checkpoint("hf://some/bert").files) > 2


def test_a_recipe_may_name_repositories(cache: Path, bert: Path, experts: dict[str, Path], recipe_file: Path) -> None:
    publish(cache, "some/bert", bert)
    publish(cache, "some/pets", experts["pets"])
    content = yaml.safe_load(recipe_file.read_text())
    content["base"], content["tasks"][2]["expert"] = "hf://some/bert", "hf://some/pets"
    recipe_file.write_text(yaml.safe_dump(content))
    setting = prepare(read_recipe(recipe_file))
    assert setting.folder.is_relative_to(cache)
    assert setting.experts["pets"].digest == open_checkpoint(experts["pets"]).digest


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("hf://some/other", "hf://some/other is not in the local cache, and the hub cannot be reached"),
        ("hf://some/bert@old", "hf://some/bert@old is not in the local cache"),
        ("hf://some/bert/much/deeper", "names no repository; expected hf://owner/name"),
    ],
)
def test_what_is_not_there(cache: Path, bert: Path, name: str, message: str) -> None:
    publish(cache, "some/bert", bert)
    with pytest.raises(CheckpointNotFound, match=message):
        open_checkpoint(name)
