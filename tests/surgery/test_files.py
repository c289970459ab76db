"""Surgery on disk: round trips, and files that are not whole."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from surgery.modules import TASKS, trained
from suture.errors import CorruptCheckpoint, DataError
from suture.surgery import Correction, Origin, Surgery, load_surgery, read_origin, save_surgery
from suture.surgery.module import Activation


@pytest.mark.parametrize("depth", [0, 3])
@pytest.mark.parametrize("activation", ["relu", "none"])
def test_round_trip(tmp_path: Path, depth: int, activation: Activation) -> None:
    surgery = trained(3, depth=depth, activation=activation)
    save_surgery(tmp_path / "s.safetensors", surgery)
    back = load_surgery(tmp_path / "s.safetensors")
    assert back.tasks == TASKS
    x = torch.randn(5, 6, generator=torch.Generator().manual_seed(0))
    for task in TASKS:
        for (site, here), (also, there) in zip(surgery.sites(task), back.sites(task), strict=True):
            assert site == also
            assert torch.equal(here(x), there(x))


def test_a_file_may_be_written_over_what_was_read_from_it(tmp_path: Path) -> None:
    save_surgery(tmp_path / "s.safetensors", trained(0))
    read = load_surgery(tmp_path / "s.safetensors")
    save_surgery(tmp_path / "s.safetensors", trained(1, depth=4))
    assert torch.equal(read.final["a"].up, trained(0).final["a"].up)


@pytest.mark.fault(4, 21)
@pytest.mark.parametrize("depth", [0, 2])
def test_any_name_of_a_task_will_do(tmp_path: Path, depth: int) -> None:
    names = ("a\nb", "", "x", "x.down", "ü/blocks.1") + (("x.blocks.0",) if depth == 0 else ())
    surgery = trained(0, names, depth=depth)
    save_surgery(tmp_path / "s.safetensors", surgery)
    back = load_surgery(tmp_path / "s.safetensors")
    assert back.tasks == names
    for task in names:
        assert [site for site, _ in back.sites(task)] == [site for site, _ in surgery.sites(task)]
        for (_, one), (_, other) in zip(back.sites(task), surgery.sites(task), strict=True):
            assert torch.equal(one.down, other.down)


@pytest.mark.fault(4, 21)
def test_names_that_only_some_normalisation_would_take_for_one_stay_two(tmp_path: Path) -> None:
    names = ["é", "e\u0301", "E\u0301", "ﬁ", "fi", " fi", "a/b", "a\\b"]
    corrections = {name: Correction(torch.full((1, 2), float(place)), torch.ones(2, 1)) for place, name in enumerate(names)}
    save_surgery(tmp_path / "surgery.safetensors", Surgery(corrections))
    loaded = load_surgery(tmp_path / "surgery.safetensors")
    assert list(loaded.tasks) == names
    assert [loaded.final[name].down[0, 0].item() for name in names] == list(map(float, range(len(names))))


@pytest.mark.fault(21)
def test_names_that_would_be_mistaken_are_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="as a block of another"):
        save_surgery(tmp_path / "s.safetensors", trained(0, ("x", "x.blocks.0"), depth=1))


def spoilt(tmp_path: Path, *, without: str = "", **other: torch.Tensor) -> Path:
    """Write a deep surgery with some tensors left out or replaced."""
    save_surgery(tmp_path / "s.safetensors", trained(0, depth=2))
    tensors = {name: tensor for name, tensor in load_file(tmp_path / "s.safetensors").items() if not without or without not in name}
    save_file(tensors | {name.replace("__", "."): tensor for name, tensor in other.items()}, tmp_path / "spoilt.safetensors")
    return tmp_path / "spoilt.safetensors"


@pytest.mark.parametrize("without", ["c.up", "c.down", "a.blocks.0", "a.blocks.1.up", "c.blocks", "down"])
def test_what_is_lost_is_missed(tmp_path: Path, without: str) -> None:
    with pytest.raises(CorruptCheckpoint, match="not a whole surgery file"):
        load_surgery(spoilt(tmp_path, without=without))


@pytest.mark.parametrize("name", ["c__up", "c__down", "a__blocks__1__up"])
@pytest.mark.parametrize(
    "wrong", [torch.ones(5, 5), torch.ones(3), torch.ones(6, 3).double(), torch.ones(2, 6), torch.ones(6, 3, dtype=torch.int64)]
)
def test_matrices_of_other_shapes_are_refused(tmp_path: Path, name: str, wrong: torch.Tensor) -> None:
    with pytest.raises(CorruptCheckpoint, match="not a whole surgery file"):
        load_surgery(spoilt(tmp_path, **{name: wrong}))


def test_all_shapes_of_a_correction_that_is_amiss_are_told(tmp_path: Path) -> None:
    told = r"'c' has \[3, 6\] and \[5, 5\] and \[6\]; expected \(r, k\) and \(k, r\), of one precision"
    with pytest.raises(CorruptCheckpoint, match=told):
        load_surgery(spoilt(tmp_path, c__up=torch.ones(5, 5), c__shift=torch.ones(6)))


def test_a_shift_of_another_width_is_refused(tmp_path: Path) -> None:
    with pytest.raises(CorruptCheckpoint, match="not a whole surgery file"):
        load_surgery(spoilt(tmp_path, a__shift=torch.ones(5)))


def test_files_of_something_else_are_refused(tmp_path: Path) -> None:
    save_file({"x": torch.ones(1)}, tmp_path / "x.safetensors")
    with pytest.raises(CorruptCheckpoint, match="a pair of matrices per task"):
        load_surgery(tmp_path / "x.safetensors")
    save_file(load_file(spoilt(tmp_path)), tmp_path / "y.safetensors", metadata={"activation": "tanh"})
    with pytest.raises(CorruptCheckpoint, match="tanh"):
        load_surgery(tmp_path / "y.safetensors")


@pytest.mark.parametrize("told", ["no JSON", "[1]", '"ac"', '{"a": 1}', "3", "null"])
def test_a_file_that_does_not_say_which_tasks_it_is_of_is_refused(tmp_path: Path, told: str) -> None:
    save_file(load_file(spoilt(tmp_path)), tmp_path / "t.safetensors", metadata={"tasks": told})
    with pytest.raises(CorruptCheckpoint, match=r"t\.safetensors is not a whole surgery file: it does not say which tasks it is of\Z"):
        load_surgery(tmp_path / "t.safetensors")


def test_one_file_one_activation(tmp_path: Path) -> None:
    mixed = Surgery({"a": trained(0).final["a"], "c": trained(0, activation="none").final["c"]})
    with pytest.raises(DataError, match="one activation, not of none and relu"):
        save_surgery(tmp_path / "s.safetensors", mixed)


def test_a_file_tells_how_its_surgery_came_about(tmp_path: Path) -> None:
    origin, file = Origin("held-out", 64, 3, "abc", "closed_form"), tmp_path / "s.safetensors"
    save_surgery(file, trained(0), origin)
    assert read_origin(file) == origin
    save_surgery(file, trained(0))
    assert read_origin(file) is None
    save_file(load_file(file), tmp_path / "old.safetensors", {"calibration": "held-out", "samples": "64", "seed": "3", "backbone": "abc"})
    assert read_origin(tmp_path / "old.safetensors") == Origin("held-out", 64, 3, "abc", "surgery", 0)
    save_file(load_file(file), tmp_path / "spoilt.safetensors", metadata={"samples": "many", "seed": "1"})
    with pytest.raises(CorruptCheckpoint, match="does not say how it was fitted"):
        read_origin(tmp_path / "spoilt.safetensors")
