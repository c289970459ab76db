"""The gradient of coefficients, against autograd through all task vectors."""

import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from merging.network import PARAMETERS, Network
from suture.merging.calibration import entropy_backward
from suture.merging.merged_copy import MergedCopy, drawn_rows


@settings(deadline=None, max_examples=25)
@given(tasks=st.integers(1, 4), hidden=st.integers(1, 6), rows=st.integers(1, 9), seed=st.integers(0, 1000))
def test_equal_to_autograd_through_the_sum_of_task_vectors(tasks: int, hidden: int, rows: int, seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    shapes = {"matrix": (hidden, 5), "second": (11, hidden), "vector": (11,)}

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=generator, dtype=torch.float64)

    base, vectors = {name: draw(*shapes[name]) for name in PARAMETERS}, {name: draw(tasks, *shapes[name]) for name in PARAMETERS}
    network, chosen = Network(base, [f"task{number}" for number in range(tasks)]), [list(range(rows))] * tasks
    coefficients = torch.rand(len(PARAMETERS), tasks, generator=generator, dtype=torch.float64)

    copy = MergedCopy(
        network, {name: base[name].reshape(-1) for name in base}, {name: vectors[name].reshape(tasks, -1) for name in vectors}
    )
    copy.weights = {name: torch.empty(shapes[name], dtype=torch.float64).requires_grad_() for name in PARAMETERS}
    copy.merge(coefficients)
    loss = copy.backward(chosen)
    found = copy.coefficient_gradient()

    leaf = coefficients.double().requires_grad_()
    merged = {name: base[name] + torch.tensordot(leaf[place], vectors[name], dims=1) for place, name in enumerate(PARAMETERS)}
    for weight in merged.values():
        weight.retain_grad()
    for name in PARAMETERS:
        torch.testing.assert_close(copy.weights[name].detach(), merged[name].detach())
    total = []
    for batch in network.batches(chosen):
        for task, logits in batch.logits(merged):
            p = logits.softmax(dim=1)
            total.append(-(p * p.log()).sum() / len(chosen[task]))
    torch.stack(total).sum().backward()
    assert leaf.grad is not None
    scale = float(leaf.grad.abs().max()) + 1e-3
    torch.testing.assert_close(found, leaf.grad, rtol=1e-9, atol=1e-12 * scale)
    torch.testing.assert_close(loss, torch.stack(total).sum().item(), rtol=1e-9, atol=1e-12)


def test_a_second_backward_starts_anew() -> None:
    base = {"matrix": torch.ones(2, 5), "second": torch.ones(11, 2), "vector": torch.zeros(11)}
    network = Network(base, ["a"])
    copy = MergedCopy(network, {"matrix": base["matrix"].reshape(-1)}, {"matrix": torch.ones(1, 10)})
    copy.weights = {"matrix": torch.empty(2, 5).requires_grad_()}
    copy.merge(torch.tensor([[0.3]]))
    copy.backward([[0, 1]])
    first = copy.coefficient_gradient()
    copy.backward([[0, 1]])
    assert torch.equal(copy.coefficient_gradient(), first)
    entropy_backward(network, copy.weights, [[0, 1]])
    torch.testing.assert_close(copy.coefficient_gradient(), 2 * first)


def test_every_tasks_rows_come_in_an_order_of_its_own() -> None:
    base = {"matrix": torch.ones(2, 5), "second": torch.ones(11, 2), "vector": torch.zeros(11)}
    both, alone = drawn_rows(Network(base, ["a", "b"]), 4, 0), drawn_rows(Network(base, ["b"]), 4, 0)
    for _ in range(6):
        assert next(both)[1] == next(alone)[0]
