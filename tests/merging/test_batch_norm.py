"""Running statistics are measured, not learnt: the policy decides about them, whatever the method."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from backbones import zoo
from suture.backbones import Head, ImageBackbone, Network, TaskCalibration, batch_norm, open_backbone
from suture.backbones.batch_norm import measured_statistics
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import DataError, IncompatibleExperts, NonFiniteTensor, UnsupportedFormat, UsageError
from suture.merging import (
    AdaMerging,
    ConcreteTaskArithmetic,
    Dare,
    Fisher,
    MergingMethod,
    TaskArithmetic,
    Ties,
    TsvM,
    merge_tensors,
    merge_to_folder,
)


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    base = zoo.make("resnet", tmp_path / "base")
    return [base, *(zoo.make_expert(base, tmp_path / f"expert-{seed}", seed) for seed in range(3))]


def opened(folders: list[Path]) -> tuple[Checkpoint, list[Checkpoint]]:
    base, *experts = map(open_checkpoint, folders)
    return base, experts


@pytest.mark.fault(17)
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


@pytest.mark.fault(16)
def test_how_many_batches_were_seen_is_the_bases(folders: list[Path]) -> None:
    file = folders[1] / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("num_batches_tracked"))
    save_file(tensors | {name: tensors[name] + 7}, file)
    base, experts = opened(folders)
    assert torch.equal(dict(merge_tensors(TaskArithmetic(), base, experts))[name], base[name])


@pytest.mark.fault(17)
def test_a_negative_variance_is_refused(folders: list[Path]) -> None:
    file = folders[1] / "model.safetensors"
    tensors = load_file(file)
    name = next(name for name in tensors if name.endswith("running_var"))
    save_file(tensors | {name: tensors[name] - 50}, file)
    base, experts = opened(folders)
    for policy in ("mean", "base"):
        with pytest.raises(IncompatibleExperts, match=f"expert-0.*: the tensor '{name}' is a variance, and it is negative"):
            list(merge_tensors(TaskArithmetic(), base, experts, batch_norm=policy))
    with pytest.raises(UsageError, match="recalibrate takes a whole merged network"):
        list(merge_tensors(TaskArithmetic(), base, experts, batch_norm="recalibrate"))


@pytest.fixture
def calibration(folders: list[Path]) -> TaskCalibration:
    backbone = ImageBackbone.open(folders[0])
    heads = {task: Head(torch.eye(backbone.width)[:3]) for task in "abc"}
    return TaskCalibration(backbone, {task: zoo.images(6, number) for number, task in enumerate("abc")}, heads)


@pytest.mark.parametrize("method", [AdaMerging(steps=2, batch_size=2), ConcreteTaskArithmetic(steps=2, batch_size=2), Fisher(samples=1)])
def test_statistics_are_not_learnt(folders: list[Path], calibration: TaskCalibration, method: MergingMethod) -> None:
    base, experts = opened(folders)
    merged = dict(merge_tensors(method, base, experts, calibration=calibration))
    for name in calibration.backbone.statistics:
        torch.testing.assert_close(merged[name], torch.stack([expert[name] for expert in experts]).mean(dim=0))


def test_coefficients_are_learnt_under_the_statistics_of_the_merge(folders: list[Path], calibration: TaskCalibration) -> None:
    base, experts = opened(folders)
    found = [
        dict(merge_tensors(AdaMerging(steps=3, batch_size=2), base, experts, calibration=calibration, batch_norm=policy))
        for policy in ("mean", "base")
    ]
    learnt = set(base) - calibration.backbone.statistics
    assert any(not torch.equal(found[0][name], found[1][name]) for name in learnt)


@pytest.mark.fault(17)
def test_recalibrated_norms_send_out_what_they_were_trained_to(folders: list[Path], calibration: TaskCalibration, tmp_path: Path) -> None:
    base, experts = opened(folders)
    merge_to_folder(TaskArithmetic(), base, experts, tmp_path / "out", calibration=calibration, batch_norm="recalibrate")
    merged, plain = open_checkpoint(tmp_path / "out"), dict(merge_tensors(TaskArithmetic(), base, experts))
    statistics = calibration.backbone.statistics
    assert all(torch.equal(merged[name], plain[name]) for name in base if name not in statistics)
    assert list(merged) == list(base)
    # Maps shrink to a place or two per image, so the unbiased variance that is kept is some hundredths larger than that of the batch.
    assert drift_of_norms(ImageBackbone.open(tmp_path / "out"), calibration) < 0.05
    assert drift_of_norms(calibration.backbone, calibration) > 0.2


def drift_of_norms(backbone: ImageBackbone, calibration: TaskCalibration) -> float:
    """How far, in units of its weight, the mean of what any norm sends out is from its bias, over all inputs."""
    found = []
    for module in backbone.model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            look = lambda norm, _, answer: found.append(((answer.mean(dim=(0, 2, 3)) - norm.bias) / norm.weight).abs().max())  # noqa: E731
            module.register_forward_hook(look)
    with torch.no_grad():
        backbone.represent([image for each in zip(*calibration.inputs.values(), strict=True) for image in each])
    assert len(found) == 17
    return float(torch.stack(found).max())


@pytest.mark.fault(17)
def test_recalibrating_needs_inputs(folders: list[Path], tmp_path: Path) -> None:
    base, experts = opened(folders)
    with pytest.raises(UsageError, match="batch_norm: recalibrate measures statistics on unlabelled inputs"):
        merge_to_folder(TaskArithmetic(), base, experts, tmp_path / "out", batch_norm="recalibrate")
    assert not (tmp_path / "out").exists()


def test_recalibrating_leaves_the_network_as_it_was(calibration: TaskCalibration) -> None:
    before = {name: tensor.clone() for name, tensor in calibration.backbone.model.state_dict().items()}
    found = calibration.statistics(calibration.backbone.weights)
    assert found.keys() == calibration.backbone.statistics
    after = calibration.backbone.model.state_dict()
    assert all(torch.equal(after[name], tensor) for name, tensor in before.items())
    assert not any(module.training or module._forward_pre_hooks for module in calibration.backbone.model.modules())


def test_what_is_measured_must_fit_the_output(
    folders: list[Path], calibration: TaskCalibration, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    base, experts = opened(folders)
    monkeypatch.setattr(TaskCalibration, "statistics", lambda self, weights: dict.fromkeys(self.backbone.statistics, torch.tensor([1e6])))
    with pytest.raises(NonFiniteTensor, match=r"measured anew, holds NaN or Inf as torch\.float16"):
        merge_to_folder(
            TaskArithmetic(), base, experts, tmp_path / "out", calibration=calibration, batch_norm="recalibrate", dtype=torch.float16
        )
    assert not (tmp_path / "out").exists()


def test_a_last_batch_of_one_is_no_batch(calibration: TaskCalibration, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(batch_norm, "BATCH", 17)
    found = measured_statistics(calibration.backbone, {}, calibration.prepared)
    assert found.keys() == calibration.backbone.statistics
    with pytest.raises(DataError, match="needs more than one input"):
        measured_statistics(calibration.backbone, {}, [calibration.prepared[0][:1]])


def test_norms_of_others_are_not_measured(tmp_path: Path) -> None:
    class Own(nn.Module):
        """A norm over batches that is not PyTorch's."""

        def __init__(self) -> None:
            super().__init__()
            self.register_buffer("running_mean", torch.zeros(2))
            self.unused = nn.BatchNorm1d(2)

        def forward(self, x: Tensor) -> Tensor:
            return x - self.running_mean

    folder = tmp_path
    save_file({name: tensor.clone() for name, tensor in Own().state_dict().items()}, folder / "model.safetensors")
    network = Network(Own(), lambda image: torch.ones(2))
    backbone = open_backbone(folder, open_checkpoint(folder), network=lambda: network)
    told = r"recalibrate measures PyTorch's own norms over batches, and these are of others: running_mean, unused\.running_mean"
    with pytest.raises(UnsupportedFormat, match=told):
        measured_statistics(backbone, backbone.weights, [zoo.images(3)])
