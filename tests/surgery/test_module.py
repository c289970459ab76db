"""The module of Eq. 3: its oracle and its laws."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file

from suture.errors import CorruptCheckpoint, DataError, UnknownName
from suture.surgery import Surgery, load_surgery, save_surgery
from suture.surgery.module import Origin, operate, read_origin, untrained

TASKS = ("a", "b.down", "c")


def trained(seed: int, tasks: tuple[str, ...] = TASKS, width: int = 6, rank: int = 3) -> Surgery:
    generator = torch.Generator().manual_seed(seed)
    return Surgery(
        tasks, torch.randn(len(tasks), rank, width, generator=generator), torch.randn(len(tasks), width, rank, generator=generator)
    )


def test_equal_to_the_formula(generator: torch.Generator) -> None:
    surgery, z = trained(0), torch.randn(5, 6, generator=generator)
    for place, task in enumerate(TASKS):
        down, up, rows = (tensor.double().numpy() for tensor in (surgery.down[place], surgery.up[place], z))
        expected = np.stack([row - up @ np.maximum(down @ row, 0) for row in rows])
        np.testing.assert_allclose(surgery(task, z).numpy(), expected, rtol=1e-5, atol=1e-5)


@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_positively_homogeneous(seed: int, scale: float) -> None:
    surgery, z = trained(seed), torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(surgery("c", scale * z), scale * surgery("c", z), rtol=1e-4, atol=1e-4 * scale)


def test_untrained_is_the_identity_and_bounded(generator: torch.Generator) -> None:
    surgery, z = untrained(TASKS, 16, 4, generator), torch.randn(5, 16)
    assert all(torch.equal(surgery(task, z), z) for task in TASKS)
    assert 0.2 < float(surgery.down.abs().max()) <= 1 / np.sqrt(16)
    assert surgery.rank == 4


def test_a_stack_is_its_tasks_one_by_one(generator: torch.Generator) -> None:
    surgery, z = trained(1), torch.randn(3, 5, 6, generator=generator)
    stacked = operate(z, surgery.down, surgery.up)
    for place, task in enumerate(TASKS):
        torch.testing.assert_close(stacked[place], surgery(task, z[place]))


def test_permuting_tasks_permutes_modules(generator: torch.Generator) -> None:
    surgery, z = trained(2), torch.randn(5, 6, generator=generator)
    turned = Surgery(TASKS[::-1], surgery.down.flip(0), surgery.up.flip(0))
    assert all(torch.equal(turned(task, z), surgery(task, z)) for task in TASKS)


def test_round_trip(tmp_path: Path, generator: torch.Generator) -> None:
    surgery, z = trained(3), torch.randn(5, 6, generator=generator)
    save_surgery(tmp_path / "s.safetensors", surgery)
    back = load_surgery(tmp_path / "s.safetensors")
    assert back.tasks == TASKS
    assert all(torch.equal(back(task, z), surgery(task, z)) for task in TASKS)


def test_what_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="unknown task 'd'"):
        trained(0)("d", torch.ones(1, 6))
    with pytest.raises(DataError, match="width 6, not 7"):
        trained(0)("a", torch.ones(1, 7))
    save_surgery(tmp_path / "s.safetensors", trained(0))
    tensors = load_file(tmp_path / "s.safetensors")
    for spoilt in ({name: t for name, t in tensors.items() if name != "c.up"}, {"x": torch.ones(1)}):
        save_file(spoilt, tmp_path / "spoilt.safetensors")
        with pytest.raises(CorruptCheckpoint, match="not a whole surgery file"):
            load_surgery(tmp_path / "spoilt.safetensors")


@pytest.mark.parametrize("name", ["c.up", "c.down", "a.up"])
def test_matrices_of_other_shapes_are_refused(tmp_path: Path, name: str) -> None:
    save_surgery(tmp_path / "s.safetensors", trained(0))
    tensors = load_file(tmp_path / "s.safetensors")
    for wrong in (
        torch.ones(5, 5),
        torch.ones(3),
        tensors[name].double(),
        torch.ones(2, 6),
        torch.ones(tensors[name].shape, dtype=torch.int64),
    ):
        save_file(tensors | {name: wrong}, tmp_path / "spoilt.safetensors")
        with pytest.raises(CorruptCheckpoint, match="not a whole surgery file"):
            load_surgery(tmp_path / "spoilt.safetensors")


def test_a_file_tells_how_its_surgery_came_about(tmp_path: Path) -> None:
    origin, file = Origin("held-out", 64, 3, "abc"), tmp_path / "s.safetensors"
    save_surgery(file, trained(0), origin)
    assert read_origin(file) == origin
    save_surgery(file, trained(0))
    assert read_origin(file) is None
    save_file(load_file(file), tmp_path / "spoilt.safetensors", metadata={"samples": "many", "seed": "1"})
    with pytest.raises(CorruptCheckpoint, match="does not say how it was fitted"):
        read_origin(tmp_path / "spoilt.safetensors")
