"""Residuals with surgery on top: what they make of a real encoder, that nothing of the fit stays behind, and their file."""

import shutil
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from torch.nn.utils.parametrize import is_parametrized

from backbones import zoo
from suture.backbones import TextBackbone, open_backbone
from suture.checkpoints import open_checkpoint
from suture.errors import CorruptCheckpoint, DataError
from suture.representation import encode
from suture.surgery import (
    ClosedForm,
    Origin,
    ResidualSurgery,
    Schedule,
    Surgery,
    fit_deep_closed_form,
    fit_residual_surgery,
    load_operation,
    load_surgery,
    low_rank_residuals,
    read_origin,
    save_operation,
)
from suture.surgery.operations import network_after
from suture.surgery.residual import LowRank, tensors_of_blocks
from suture.surgery.residual_surgery import _changed, factors_of

TEXTS = [f"{colour} is {'very ' * (place % 5)}not {word}" for place, colour in enumerate(["red", "blue"] * 20) for word in ("so", "it")]
SCHEDULE = replace(Schedule.default(), iterations=12, steps_per_iteration=1, look_every=4, patience=12, decay=True)


def fitted(
    merged: Path, expert: Path, residual_rank: int = 2, rank: int = 3, schedule: Schedule | None = None
) -> tuple[ResidualSurgery, TextBackbone]:
    backbone = TextBackbone.open(merged)
    expert_of = lambda _: TextBackbone.open(expert)  # noqa: E731
    return fit_residual_surgery({"pets": TEXTS}, backbone, expert_of, residual_rank, ClosedForm(rank), schedule, seed=1), backbone


def represent(operation: ResidualSurgery, merged: Path) -> Tensor:
    weights = operation.residuals.weights("pets", open_checkpoint(merged))
    z = encode(TextBackbone(merged, weights), TEXTS, corrections=operation.surgery.blocks_of("pets"))
    return operation.surgery("pets", z)


def error(z: Tensor, expert: Path) -> float:
    return float((z - encode(TextBackbone.open(expert), TEXTS)).abs().mean())


def test_it_is_the_deep_closed_form_of_the_network_that_the_residuals_make(bert: Path, experts: dict[str, Path]) -> None:
    found, backbone = fitted(bert, experts["pets"])
    expert = TextBackbone.open(experts["pets"])
    matrices = [name for name in tensors_of_blocks(backbone) if len(backbone.weights[name].shape) == 2]
    residuals = low_rank_residuals(backbone.weights, {"pets": expert.weights}, matrices, 2)
    network = TextBackbone(bert, residuals.weights("pets", open_checkpoint(bert)))
    surgery = fit_deep_closed_form({"pets": TEXTS}, network, lambda _: expert, ClosedForm(3))
    for name, change in residuals.of("pets").items():
        assert torch.equal(found.residuals.of("pets")[name].whole(), change.whole())
    expected = surgery("pets", encode(network, TEXTS, corrections=surgery.blocks_of("pets")))
    torch.testing.assert_close(represent(found, bert), expected, rtol=0, atol=1e-4)
    assert found.parameters("pets") == residuals.parameters("pets") + surgery.parameters("pets")


def test_convolutions_are_changed_as_the_weights_that_are_saved(tmp_path: Path) -> None:
    draw = np.random.default_rng(0)
    images = [draw.integers(0, 256, (32, 32, 3), dtype=np.uint8) for _ in range(24)]
    folder = zoo.make("efficientnet", tmp_path / "merged")
    places = [folder, zoo.make_expert(folder, tmp_path / "expert", 1)]
    merged, expert = (open_backbone(place, open_checkpoint(place)) for place in places)
    kinds = [type(module) for module in merged.model.modules()]
    for schedule in (None, SCHEDULE):
        found = fit_residual_surgery({"pets": images}, merged, lambda _: expert, 1, ClosedForm(2), schedule, seed=1)
        assert all(len(merged.weights.specs[name].shape) == 4 for name in found.residuals.of("pets"))
        assert found.residuals.parameters("pets") == factors_of(merged)
        assert [type(module) for module in merged.model.modules()] == kinds
        network, z_expert = network_after(found, merged, "pets"), encode(expert, images)
        z = found.surgery("pets", encode(network, images, corrections=found.surgery.blocks_of("pets")))
        assert float((z - z_expert).abs().mean()) < 0.6 * float((encode(merged, images) - z_expert).abs().mean())
        if schedule is None:  # what was fitted is the network that a file of it gives
            alone = fit_deep_closed_form({"pets": images}, network, lambda _: expert, ClosedForm(2))
            expected = alone("pets", encode(network, images, corrections=alone.blocks_of("pets")))
            torch.testing.assert_close(z, expected, rtol=0, atol=1e-4)


class Failed(Exception):
    pass


@pytest.mark.parametrize("kind", ["linear", "attention", "convolution", "groups"])
def test_a_changed_layer_is_the_one_with_the_changed_weights(kind: str) -> None:
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        network = {
            "linear": lambda: nn.Linear(8, 8),
            "attention": lambda: nn.MultiheadAttention(8, 2),
            "convolution": lambda: nn.Conv2d(8, 6, 3, padding=1),
            "groups": lambda: nn.Conv2d(8, 8, 3, groups=8),
        }[kind]().requires_grad_(False)
        x = torch.randn(5, 1, 8) if kind == "attention" else torch.randn(2, 8, 8, 8)
        layer = network.out_proj if kind == "attention" else network
        left, right = torch.randn(len(layer.weight), 2), torch.randn(2, layer.weight[0].numel())

    def run() -> Tensor:
        return network(x, x, x)[0] if kind == "attention" else network(x)

    before, changes = run(), {"w": LowRank(left, right)}
    with _changed({"w": layer}, changes) as added:
        within = run()
        within.sum().backward()
        assert all(part.grad is not None and bool(part.grad.any()) for part in added["w"].parameters())
    torch.testing.assert_close(run(), before, rtol=0, atol=0)
    with pytest.raises(Failed), _changed({"w": layer}, changes):
        raise Failed
    assert not is_parametrized(layer)
    layer.weight += (left @ right).view_as(layer.weight)
    torch.testing.assert_close(within, run())


def test_steps_bring_it_nearer_and_move_all_parts(bert: Path, experts: dict[str, Path]) -> None:
    expert = experts["pets"]
    solved, _ = fitted(bert, expert)
    longer = replace(SCHEDULE, iterations=60, look_every=20, patience=60, learning_rate=3e-3)
    refined, _ = fitted(bert, expert, schedule=longer)
    assert error(represent(refined, bert), expert) < error(represent(solved, bert), expert)
    for name, change in solved.residuals.of("pets").items():
        moved = refined.residuals.of("pets")[name]
        assert isinstance(moved, LowRank) == isinstance(change, LowRank)
        assert moved.shape == change.shape
        assert not torch.equal(moved.whole(), change.whole())
        assert not any(part.requires_grad for part in moved.parts())


def test_the_same_bits_come_again_and_nothing_stays_behind(bert: Path, experts: dict[str, Path]) -> None:
    one, _ = fitted(bert, experts["pets"], schedule=SCHEDULE)
    other, backbone = fitted(bert, experts["pets"], schedule=SCHEDULE)
    assert torch.equal(represent(one, bert), represent(other, bert))
    fresh = TextBackbone.open(bert)
    assert torch.equal(encode(backbone, TEXTS), encode(fresh, TEXTS))
    assert {name for name, _ in backbone.model.named_parameters()} == {name for name, _ in fresh.model.named_parameters()}
    assert [type(module) for module in backbone.model.modules()] == [type(module) for module in fresh.model.modules()]


def test_a_fault_on_the_way_leaves_the_network_as_it_was(bert: Path, experts: dict[str, Path]) -> None:
    backbone, expert = TextBackbone.open(bert), TextBackbone.open(experts["pets"])
    before, seen = encode(backbone, TEXTS), list[int]()

    def interrupt(count: int) -> None:
        seen.append(count)
        if sum(seen) > len(TEXTS) * (backbone.blocks.depth + 1):
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fit_residual_surgery({"pets": TEXTS}, backbone, lambda _: expert, 1, ClosedForm(1), SCHEDULE, progress=interrupt)
    assert torch.equal(encode(backbone, TEXTS), before)


def test_what_waits_on_disk_does_so_where_it_is_told_to(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    seen, scratch = set[str](), tmp_path / "scratch"
    scratch.mkdir()

    def look(_: int) -> None:
        seen.update(entry.name.partition("-")[0] for entry in scratch.iterdir())

    expert = TextBackbone.open(experts["pets"])
    fit_residual_surgery({"pets": TEXTS[:8]}, TextBackbone.open(bert), lambda _: expert, 1, ClosedForm(1), scratch=scratch, progress=look)
    assert seen == {"scratch"}
    assert not list(scratch.iterdir())


def test_other_tasks_change_nothing(bert: Path, experts: dict[str, Path]) -> None:
    tasks = {task: TextBackbone.open(folder) for task, folder in experts.items()}
    both = fit_residual_surgery(
        dict.fromkeys(["colours", "pets"], TEXTS), TextBackbone.open(bert), tasks.__getitem__, 2, ClosedForm(3), SCHEDULE, seed=1
    )
    alone, _ = fitted(bert, experts["pets"], schedule=SCHEDULE)
    assert both.tasks == ("colours", "pets")
    assert torch.equal(represent(both, bert), represent(alone, bert))


def test_weights_in_other_precisions(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    for dtype in (torch.float64, torch.bfloat16):
        folders = []
        for place, folder in enumerate((bert, experts["pets"])):
            folders.append(tmp_path / f"{dtype}-{place}")
            shutil.copytree(folder, folders[-1])
            tensors = {name: tensor.to(dtype) for name, tensor in load_file(folder / "model.safetensors").items()}
            save_file(tensors, folders[-1] / "model.safetensors", {"format": "pt"})
        found, backbone = fitted(*folders, schedule=SCHEDULE)
        before = error(encode(backbone, TEXTS), folders[1])
        assert error(represent(found, folders[0]), folders[1]) < 0.5 * before


def test_the_expert_itself_asks_for_nothing(bert: Path) -> None:
    found, backbone = fitted(bert, bert)
    torch.testing.assert_close(represent(found, bert), encode(backbone, TEXTS), rtol=0, atol=1e-5)


def test_both_parts_are_of_the_same_tasks(bert: Path, experts: dict[str, Path]) -> None:
    found, _ = fitted(bert, experts["pets"])
    with pytest.raises(DataError, match=r"residuals \(pets\) are not those of the surgery \(cars\)"):
        ResidualSurgery(found.residuals, Surgery({"cars": found.surgery.final["pets"]}))


def test_a_file_gives_the_same_bits(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    found, _ = fitted(bert, experts["pets"])
    file, origin = tmp_path / "s.safetensors", Origin("held-out", 80, 1, "0" * 64, "residual_surgery", 3)
    save_operation(file, found, origin)
    again = load_operation(file)
    assert isinstance(again, ResidualSurgery)
    assert read_origin(file) == origin
    assert (again.tasks, again.rank, again.parameters("pets")) == (found.tasks, found.rank, found.parameters("pets"))
    assert torch.equal(represent(again, bert), represent(found, bert))


def test_it_is_not_opened_as_surgery_alone(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    save_operation(tmp_path / "s.safetensors", fitted(bert, experts["pets"])[0])
    with pytest.raises(CorruptCheckpoint, match="a file of residual surgery, not of surgery alone; open it with load_operation"):
        load_surgery(tmp_path / "s.safetensors")


@pytest.mark.parametrize("lost", ["pets.blocks.0.up", "pets.down", "/left", ""])
def test_a_file_that_lost_a_part_is_refused(bert: Path, experts: dict[str, Path], tmp_path: Path, lost: str) -> None:
    file = tmp_path / "s.safetensors"
    save_operation(file, fitted(bert, experts["pets"])[0])
    tensors = load_file(file)
    gone = [name for name in tensors if name.endswith(lost)][:1] if lost else [name for name in tensors if "/" in name]
    tensors = {name: tensor for name, tensor in tensors.items() if name not in gone}
    save_file(tensors, file, {"suture": "residual surgery", "activation": "none", "tasks": '["pets"]'})
    with pytest.raises(CorruptCheckpoint):
        load_operation(file)
