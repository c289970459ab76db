"""Operations of more tasks, and of fewer."""

import pytest
import torch

from suture.errors import DataError
from suture.surgery import Correction, Residuals, ResidualSurgery, Surgery, joined, restricted
from suture.surgery.residual import LowRank


def surgery(task: str, *, deep: bool = False) -> Surgery:
    correction = Correction(torch.full((1, 2), float(ord(task))), torch.ones(2, 1))
    return Surgery({task: correction}, {task: [correction]} if deep else {})


def residuals(task: str) -> Residuals:
    return Residuals({task: {"w": LowRank(torch.full((2, 1), float(ord(task))), torch.ones(1, 2))}})


@pytest.mark.parametrize(
    "make", [surgery, lambda task: surgery(task, deep=True), residuals, lambda task: ResidualSurgery(residuals(task), surgery(task))]
)
def test_joined_and_restricted_again(make) -> None:
    both = joined(make("a"), make("b"))
    assert both.tasks == ("a", "b")
    assert both.parameters("b") == make("b").parameters("b")
    turned = restricted(both, ["b", "a"])
    assert turned.tasks == ("b", "a")
    alone = restricted(both, ["b"])
    assert alone.tasks == ("b",)
    z = torch.ones(1, 2)
    if isinstance(alone, Surgery):
        assert torch.equal(alone("b", z), make("b")("b", z))
        assert alone.deep == both.deep


def test_kinds_do_not_mix() -> None:
    with pytest.raises(DataError, match="both operations are of a"):
        joined(surgery("a"), surgery("a"))
    for other in (surgery("b", deep=True), residuals("b")):
        with pytest.raises(DataError, match="b: surgery of another kind than that of a"):
            joined(surgery("a"), other)
