"""Merging shard by shard: the same bytes as merging at once."""

import json
import os
import sys
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import load_file, save_file

from suture.checkpoints import Checkpoint, open_checkpoint
from suture.engine import Engine, LocalEngine, RayEngine, run_steps
from suture.errors import CorruptCheckpoint, NonFiniteTensor, OutputExists, UsageError
from suture.merging import (
    AdaMerging,
    Dare,
    DareTies,
    MergingMethod,
    TaskArithmetic,
    Ties,
    WeightAveraging,
    merge_by_shards,
    merge_to_folder,
)
from suture.merging.sharded import Merge, _clear, shard_steps


@pytest.fixture
def sharded(bert: Path, tmp_path: Path) -> Checkpoint:
    """The tiny BERT in three files."""
    from transformers import AutoModel

    folder = tmp_path / "sharded"
    AutoModel.from_pretrained(bert).save_pretrained(folder, max_shard_size="11KB")
    base = open_checkpoint(folder)
    assert len(base.files) == 3
    return base


def contents(folder: Path) -> dict[str, bytes]:
    return {file.relative_to(folder).as_posix(): file.read_bytes() for file in sorted(folder.rglob("*")) if file.is_file()}


def both(
    method: MergingMethod, base: Checkpoint, experts: list[Checkpoint], folder: Path, engine: Engine, dtype: torch.dtype | None = None
) -> None:
    """See to it that a merge by shards writes what a merge at once does."""
    plain = contents(merge_to_folder(method, base, experts, folder / "plain", dtype=dtype))
    split = contents(merge_by_shards(method, base, experts, folder / "split", engine=engine, dtype=dtype))
    assert split.keys() == plain.keys()
    assert [name for name in plain if split[name] != plain[name]] == []
    assert not (folder / ".split.shards").exists()


@pytest.mark.parametrize("method", [WeightAveraging(), TaskArithmetic(), Ties(), Dare(), DareTies(density=0.5)], ids=str)
def test_shards_are_those_of_a_merge_at_once(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path, method: MergingMethod) -> None:
    sources = [open_checkpoint(path) for path in experts.values()]
    both(method, sharded, sources, tmp_path, engine=LocalEngine())


@pytest.mark.parametrize("method", [Ties(), Dare()], ids=str)
def test_processes_give_the_same(
    sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path, method: MergingMethod, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    sources = [open_checkpoint(path.relative_to(tmp_path)) for path in experts.values()]
    both(method, open_checkpoint("sharded"), sources, tmp_path, engine=LocalEngine(jobs=2))


def tied(folder: Path, seed: int) -> Checkpoint:
    """Two files, and one matrix in both."""
    noise = torch.Generator().manual_seed(seed)
    matrix, other = torch.randn(8, 8, generator=noise), torch.randn(8, 8, generator=noise)
    folder.mkdir()
    save_file({"first": matrix, "other": other}, folder / "model-00001-of-00002.safetensors")
    save_file({"again": matrix.clone()}, folder / "model-00002-of-00002.safetensors")
    places = {"first": 1, "other": 1, "again": 2}
    weights = {name: f"model-0000{place}-of-00002.safetensors" for name, place in places.items()}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weights}))
    return open_checkpoint(folder)


def test_what_is_tied_across_shards_stays_tied(tmp_path: Path) -> None:
    base, *sources = [tied(tmp_path / f"model {seed}", seed) for seed in range(3)]
    both(Dare(drop=0.5), base, sources, tmp_path, engine=LocalEngine())
    out = open_checkpoint(tmp_path / "split")
    assert torch.equal(out["first"], out["again"])


def test_where_files_cannot_have_two_names_they_are_copied(
    sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(source: Path, target: Path) -> None:
        raise OSError(f"{source} and {target} would be one")

    monkeypatch.setattr("suture.merging.sharded.os.link", refuse)
    both(TaskArithmetic(), sharded, [open_checkpoint(path) for path in experts.values()], tmp_path, engine=LocalEngine())


def test_another_precision(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path) -> None:
    sources = [open_checkpoint(path) for path in experts.values()]
    both(TaskArithmetic(), sharded, sources, tmp_path, engine=LocalEngine(), dtype=torch.bfloat16)


@pytest.mark.fault(28)
def test_a_run_that_failed_goes_on_from_its_shards(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path) -> None:
    sources = [open_checkpoint(path) for path in experts.values()]
    store = tmp_path / ".split.shards"
    steps = shard_steps(Merge(Ties(), sharded, tuple(sources)))
    run_steps(steps[:2], store, LocalEngine())
    before = {file: file.stat().st_mtime_ns for file in store.rglob("*.safetensors")}
    assert len(before) == 2
    summary = run_steps(steps, store, LocalEngine())
    assert summary.ran == (steps[2].key,)
    (kept, _) = before
    whole = kept.read_bytes()
    kept.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptCheckpoint, match=r"safetensors is not as it was written: its sha256 is "):
        merge_by_shards(Ties(), sharded, sources, tmp_path / "split", engine=LocalEngine())
    kept.write_bytes(whole)
    os.utime(kept, ns=(before[kept], before[kept]))
    assert before.items() <= {file: file.stat().st_mtime_ns for file in store.rglob("*.safetensors")}.items()
    both(Ties(), sharded, sources, tmp_path, engine=LocalEngine())


@pytest.mark.fault(28)
def test_only_steps_of_the_same_inputs_settings_and_version_are_taken_up(
    sharded: Checkpoint, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    def keys(*names: str, method: MergingMethod | None = None, dtype: torch.dtype | None = None) -> set[str]:
        sources = tuple(open_checkpoint(experts[name]) for name in names)
        steps = shard_steps(Merge(method or Ties(), sharded, sources, dtype))
        return {step.key for step in steps} | {need.key for step in steps for need in step.needs}

    first = keys("pets", "numbers")
    assert first == keys("pets", "numbers")
    others = [keys("pets", "colours"), keys("numbers", "pets"), keys("pets", "numbers", method=Ties(density=0.3))]
    others.append(keys("pets", "numbers", dtype=torch.bfloat16))
    file = experts["pets"] / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(file).items()}
    tensors["pooler.dense.bias"][0] += 1
    file.unlink()  # the mapping holds the old file
    save_file(tensors, file, metadata={"format": "pt"})
    others.append(keys("pets", "numbers"))
    monkeypatch.setattr("suture.merging.sharded.Manifest", lambda: SimpleNamespace(version="another"))
    others.append(keys("pets", "numbers"))
    assert all(not first & other for other in others)


def test_an_output_is_replaced_when_asked_for(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path) -> None:
    sources, out = [open_checkpoint(path) for path in experts.values()], tmp_path / "split"
    merge_by_shards(WeightAveraging(), sharded, sources, out, engine=LocalEngine())
    merge_by_shards(TaskArithmetic(), sharded, sources, out, engine=LocalEngine(), replace=True)
    assert contents(out) == contents(merge_to_folder(TaskArithmetic(), sharded, sources, tmp_path / "plain"))


def test_only_what_a_merge_has_left_is_cleared_and_only_once(sharded: Checkpoint, tmp_path: Path) -> None:
    steps = shard_steps(Merge(Ties(), sharded, (sharded,)))
    for others in ([], ["of another merge"]):
        store = tmp_path / f"store {len(others)}"
        for name in [steps[0].key, steps[1].overview.key, *others]:
            (store / name).mkdir(parents=True)
        _clear(store, steps)  # one step is not there: another process may have been first
        assert [entry.name for entry in tmp_path.glob(f"{store.name}/*")] == others
        assert store.exists() == bool(others)


def test_what_is_refused_leaves_no_output(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path) -> None:
    sources, out = [open_checkpoint(path) for path in experts.values()], tmp_path / "out"
    with pytest.raises(UsageError, match="ada_merging learns from data, and is not split by shards"):
        merge_by_shards(AdaMerging(), sharded, sources, out, engine=LocalEngine())
    with pytest.raises(UsageError, match="recalibrate"):
        merge_by_shards(Ties(), sharded, sources, out, engine=LocalEngine(), batch_norm="recalibrate")
    tensors = load_file(experts["pets"] / "model.safetensors")
    tensors["embeddings.word_embeddings.weight"][0, 0] = float("nan")
    save_file(tensors, experts["pets"] / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(NonFiniteTensor, match=r"embeddings\.word_embeddings\.weight"):
        merge_by_shards(Ties(), sharded, [open_checkpoint(path) for path in experts.values()], out, engine=LocalEngine())
    assert not out.exists()
    out.mkdir()
    with pytest.raises(OutputExists, match="exists already"):
        merge_by_shards(Ties(), sharded, sources, out, engine=LocalEngine())


def test_nodes_give_the_same(sharded: Checkpoint, experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    cluster_utils = pytest.importorskip("ray.cluster_utils")
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    cluster = cluster_utils.Cluster()
    try:
        for _ in range(2):
            cluster.add_node(num_cpus=1, object_store_memory=80 << 20, include_dashboard=False)
        sources = [open_checkpoint(path) for path in experts.values()]
        both(Ties(), sharded, sources, tmp_path, engine=RayEngine(cluster.address))
    finally:
        cluster.shutdown()
