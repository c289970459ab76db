"""Running statistics are measured, not learnt: the policy decides about them, whatever the method."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from backbones import zoo
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import IncompatibleExperts
from suture.merging import Dare, MergingMethod, TaskArithmetic, Ties, TsvM, merge_tensors


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    base = zoo.make("resnet", tmp_path / "base")
    return [base, *(zoo.make_expert(base, tmp_path / f"expert-{seed}", seed) for seed in range(3))]


def opened(folders: list[Path]) -> tuple[Checkpoint, list[Checkpoint]]:
    base, *experts = map(open_checkpoint, folders)
    return base, experts


@pytest.mark.parametrize("method", [TaskArithmetic(scale=2.0), Ties(), Dare(), TsvM()])
def test_the_policy_decides_and_not_the_method(folders: list[Path], method: MergingMethod) -> None:
    base, experts = opened(folders)
    merged, kept = dict(merge_tensors(method, base, experts)), dict(merge_tensors(method, base, experts, batch_norm="base"))
    names = [name for name in base if name.endswith(("running_mean", "running_var"))]
    assert len(names) == 34
    for name in names:
        torch.testing.assert_close(merged[name], torch.stack([expert[name] for expert in experts]).mean(dim=0))
        assert torch.equal(kept[name], base[name])
    others = [name for name in base if name not in names]
    assert all(torch.equal(merged[name], kept[name]) for name in others)
    assert any(not torch.equal(merged[name], base[name]) for name in others)


def test_how_many_batches_were_seen_is_the_bases(folders: list[Path]) -> None:
    file = folders[1] / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("num_batches_tracked"))
    save_file(tensors | {name: tensors[name] + 7}, file)
    base, experts = opened(folders)
    assert torch.equal(dict(merge_tensors(TaskArithmetic(), base, experts))[name], base[name])


def test_a_negative_variance_is_refused(folders: list[Path]) -> None:
    file = folders[1] / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("running_var"))
    save_file(tensors | {name: tensors[name] - 50}, file)
    base, experts = opened(folders)
    with pytest.raises(IncompatibleExperts, match=f"{name}' is a variance, and that of an expert or of the base is negative"):
        list(merge_tensors(TaskArithmetic(), base, experts))
    list(merge_tensors(TaskArithmetic(), base, experts, batch_norm="base"))
