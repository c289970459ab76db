"""Corrections and the module of Eq. 3: their oracle and their laws."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from surgery.modules import TASKS, trained
from suture.errors import DataError, UnknownName
from suture.surgery import Correction, Surgery
from suture.surgery.module import FINAL, operate, start_of_fit


def test_equal_to_the_formula(generator: torch.Generator) -> None:
    surgery, z = trained(0), torch.randn(5, 6, generator=generator)
    for task in TASKS:
        down, up, rows = (tensor.double().numpy() for tensor in (surgery.final[task].down, surgery.final[task].up, z))
        expected = np.stack([row - up @ np.maximum(down @ row, 0) for row in rows])
        np.testing.assert_allclose(surgery(task, z).numpy(), expected, rtol=1e-5, atol=1e-5)


def test_without_an_activation_it_is_affine(generator: torch.Generator) -> None:
    surgery, z = trained(0, activation="none"), torch.randn(5, 6, generator=generator)
    for task in TASKS:
        own = surgery.final[task]
        assert own.shift is not None
        down, up, shift, rows = (tensor.double().numpy() for tensor in (own.down, own.up, own.shift, z))
        np.testing.assert_allclose(surgery(task, z).numpy(), rows @ (np.eye(6) - up @ down).T + shift, rtol=1e-5, atol=1e-5)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 99), scale=st.floats(0.01, 100))
def test_positively_homogeneous(seed: int, scale: float) -> None:
    surgery, z = trained(seed), torch.randn(4, 6, generator=torch.Generator().manual_seed(seed))
    torch.testing.assert_close(surgery("c", scale * z), scale * surgery("c", z), rtol=1e-4, atol=1e-4 * scale)


def test_untrained_is_the_identity_and_bounded(generator: torch.Generator) -> None:
    start, z = start_of_fit(16, 4, generator), torch.randn(5, 16)
    assert torch.equal(start(z), z)
    assert 0.2 < float(start.down.abs().max()) <= 1 / np.sqrt(16)
    assert (start.rank, start.width, start.parameters) == (4, 16, 128)


def test_a_stack_is_its_tasks_one_by_one(generator: torch.Generator) -> None:
    surgery, z = trained(1), torch.randn(3, 5, 6, generator=generator)
    down, up = (torch.stack([getattr(surgery.final[task], side) for task in TASKS]) for side in ("down", "up"))
    stacked = operate(z, down, up)
    for place, task in enumerate(TASKS):
        torch.testing.assert_close(stacked[place], surgery(task, z[place]))


def test_sites_go_forward_and_are_counted() -> None:
    surgery = trained(0, depth=2)
    assert [site for site, _ in surgery.sites("a")] == [0, 1, FINAL]
    assert surgery.deep
    assert not trained(0).deep
    assert surgery.parameters("a") == 3 * (2 * 3 * 6)
    assert trained(0, activation="none").parameters("a") == 2 * 3 * 6 + 6
    assert surgery.rank == 3


def test_what_is_refused() -> None:
    with pytest.raises(UnknownName, match="unknown task 'd'"):
        trained(0)("d", torch.ones(1, 6))
    with pytest.raises(UnknownName, match="unknown task 'd'"):
        trained(0).parameters("d")
    with pytest.raises(DataError, match="width 6, not 7"):
        trained(0)("a", torch.ones(1, 7))
    final = trained(0).final
    with pytest.raises(DataError, match="are not those"):
        Surgery(final, {"a": [Correction(torch.ones(1, 6), torch.ones(6, 1))]})
    with pytest.raises(DataError, match=r"\Aa surgery has corrections of the same sites and widths for every task, at least one\Z"):
        Surgery({})
    with pytest.raises(DataError, match=r"\Aa surgery has corrections of the same sites and widths"):
        Surgery(final | {"d": Correction.identity(7)})
    told = r"\Amatrices of \[1, 6\] and \[%d, 1\] make no correction; expected \(r, k\) and \(k, r\)\Z"
    for name, wrong, rows in (("up", torch.ones(5, 1), 5), ("shift", torch.ones(5), 6)):
        correction = Correction(torch.ones(1, 6), torch.ones(6, 1))
        object.__setattr__(correction, name, wrong)  # the shape checks of these tests would be the first to refuse it
        with pytest.raises(DataError, match=told % rows):
            correction.__post_init__()
