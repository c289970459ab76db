"""The diagonal Fisher information, input by input."""

from collections.abc import Mapping

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from merging.network import PARAMETERS, Network
from suture.errors import InvalidHyperparameter
from suture.merging import Fisher
from suture.merging.fisher import diagonal_fisher, fisher_directions
from suture.types import no_progress

SHAPES = {"matrix": (7, 5), "second": (11, 7), "vector": (11,)}


def weights(generator: torch.Generator) -> dict[str, Tensor]:
    return {name: torch.randn(SHAPES[name], generator=generator) for name in PARAMETERS}


def by_class(network: Network, own: Mapping[str, Tensor], task: int, rows: list[int]) -> dict[str, Tensor]:
    """Σ over inputs of Σ_y p(y) (∂ log p(y) / ∂θ)², class after class."""
    leaves = {name: weight.clone().requires_grad_() for name, weight in own.items()}
    total = {name: torch.zeros_like(weight) for name, weight in own.items()}
    for row in rows:
        (batch,) = network.batches([[row] if place == task else [] for place in range(len(network.tasks))])
        ((_, logits),) = batch.logits(leaves)
        log_p = logits[0].log_softmax(dim=0)
        for label in range(len(log_p)):
            gradients = torch.autograd.grad(log_p[label], list(leaves.values()), retain_graph=True)
            for part, gradient in zip(total.values(), gradients, strict=True):
                part += log_p[label].exp().detach() * gradient**2
    return total


def test_equal_to_a_loop_over_inputs_and_classes(generator: torch.Generator) -> None:
    own = weights(generator)
    network, rows, counted = Network(own, ["a", "b", "c"]), [0, 3], []
    for task in range(3):
        found = diagonal_fisher(network, task, rows, own, counted.append)
        for name, total in by_class(network, own, task, rows).items():
            torch.testing.assert_close(found[name], total / len(rows), rtol=1e-4, atol=1e-7)
            assert not found[name].requires_grad
    assert sum(counted) == 3 * len(rows)


def test_the_square_of_a_batchs_gradient_is_another_thing(generator: torch.Generator) -> None:
    own = weights(generator)
    network, rows = Network(own, ["a"]), [0, 1, 2, 3]
    leaves = {name: weight.clone().requires_grad_() for name, weight in own.items()}
    (batch,) = network.batches([rows])
    ((_, logits),) = batch.logits(leaves)
    log_p = logits.log_softmax(dim=1)
    (log_p * log_p.exp().detach().sqrt()).sum().backward()
    found = diagonal_fisher(network, 0, rows, own, no_progress)
    squared = leaves["vector"].grad
    assert squared is not None
    assert not torch.allclose(found["vector"], squared**2 / len(rows), rtol=0.1)


@settings(deadline=None, max_examples=40)
@given(logits=st.lists(st.floats(-60, 60, width=32), min_size=1, max_size=6))
def test_directions_square_to_the_information_of_the_logits(logits: list[float]) -> None:
    p = torch.tensor(logits, dtype=torch.float64).softmax(dim=0)
    scores = torch.eye(len(p), dtype=p.dtype) - p
    expected = torch.einsum("y,yi,yj->ij", p, scores, scores)
    directions = fisher_directions(torch.tensor(logits)).double()
    assert len(directions) < max(2, len(p))
    torch.testing.assert_close(directions.T @ directions, expected, rtol=1e-5, atol=1e-6 * float(expected.diagonal().sum()))


def test_a_tensor_that_is_listed_but_not_used_has_none(generator: torch.Generator) -> None:
    own = weights(generator)
    found = diagonal_fisher(Network(own, ["a"]), 0, [0], own | {"idle": torch.ones(3)}, no_progress)
    assert found["idle"].tolist() == [0, 0, 0]


@pytest.mark.parametrize("settings", [{"samples": 0}, {"floor": 0.0}, {"seed": -1}])
def test_hyperparameters_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidHyperparameter):
        Fisher(**settings)  # type: ignore[arg-type]
