"""Ties beyond the contract."""

import pytest
import torch

from suture.errors import InvalidHyperparameter, UnknownName
from suture.merging import TaskArithmetic, Ties, make_method


@pytest.mark.parametrize(
    "settings", [{"density": 0.0}, {"density": 1.1}, {"scale": float("nan")}, {"scope": "layer"}, {"merge_rule": "max"}]
)
def test_hyperparameters_are_checked_when_made(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidHyperparameter, match=next(iter(settings))):
        Ties(**settings)  # type: ignore[arg-type]


def test_density_one_mean_of_agreeing_values() -> None:
    vectors = torch.tensor([[1.0, -2.0, 0.0], [3.0, 1.0, 0.0]])
    merged = Ties(density=1.0, scale=1.0, scope="tensor", merge_rule="mean").combine(vectors, None)
    assert merged.tolist() == [2.0, -2.0, 0.0]


def test_methods_are_made_from_text() -> None:
    assert make_method("ties", {"density": "0.5", "scope": "tensor"}) == Ties(density=0.5, scope="tensor")
    assert make_method("task_arithmetic", {"scale": 1}) == TaskArithmetic(scale=1.0)
    with pytest.raises(UnknownName, match="did you mean 'density'"):
        make_method("ties", {"desity": 1})
