"""Deep surgery in closed form: against a plain NumPy loop over whole tokens, and its laws."""

from collections.abc import Sequence
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.networks import MixingBlock, TinyBackbone, network, sequences
from suture.backbones import BlockwiseBackbone, TextBackbone
from suture.errors import DataError
from suture.representation import encode, representation_bias
from suture.surgery import ClosedForm, Surgery, fit_closed_form, fit_deep_closed_form
from suture.surgery.deep import allotted

SETTINGS = ClosedForm(rank=2, shrinkages=(0.1,))


def numpy_regression(x: np.ndarray, y: np.ndarray, rank: int, shrinkage: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """μ, ν and I + A of the penalised least squares, by an SVD of the augmented system."""
    mu, nu = x.mean(axis=0), y.mean(axis=0)
    xc, rc = x - mu, (y - x) - (nu - mu)
    penalty = shrinkage * (xc**2).mean(axis=0).mean() * len(x)
    augmented = np.vstack([xc, np.sqrt(penalty) * np.eye(x.shape[1])])
    solution = np.linalg.lstsq(augmented, np.vstack([rc, np.zeros((x.shape[1], x.shape[1]))]), rcond=None)[0]
    _, _, right = np.linalg.svd(augmented @ solution, full_matrices=False)
    return mu, nu, np.eye(x.shape[1]) + solution @ right[:rank].T @ right[:rank]


def numpy_deep(merged: TinyBackbone, expert: TinyBackbone, inputs: list[Tensor], rank: int, shrinkage: float) -> np.ndarray:
    """The representations of the inputs after a deep fit on themselves, input by input, without batches or padding."""

    def block(x: np.ndarray, weight: Tensor) -> np.ndarray:
        return x + 0.7 * np.tanh(x @ weight.double().numpy() + x.mean(axis=0))

    own = [1.5 * each.double().numpy() for each in inputs]
    theirs = [each.copy() for each in own]
    for ours, others in zip(merged.weights, expert.weights, strict=True):
        own, theirs = [block(x, ours) for x in own], [block(y, others) for y in theirs]
        mu, nu, matrix = numpy_regression(np.concatenate(own), np.concatenate(theirs), rank, shrinkage)
        own = [nu + (x - mu) @ matrix for x in own]
    z, target = (np.stack([x.mean(axis=0) for x in side]) for side in (own, theirs))
    mu, nu, matrix = numpy_regression(z, target, rank, shrinkage)
    return nu + (z - mu) @ matrix


def represent(backbone: TinyBackbone, surgery: Surgery | None, inputs: list[Tensor]) -> Tensor:
    rows, order = [], []
    for places, batch in backbone.batches(inputs):
        order += places
        passage = backbone.blocks.enter(batch)
        for number in range(backbone.blocks.depth):
            passage = backbone.blocks.step(number, passage)
            if surgery is not None and surgery.deep:
                passage = passage.moved(surgery.blocks["a"][number](passage.hidden))
        rows.append(backbone.blocks.leave(passage))
    z = torch.cat(rows)[torch.tensor(order).argsort()]
    return z if surgery is None else surgery("a", z)


def fitted(inputs: list[Tensor], told: ClosedForm = SETTINGS, merged: TinyBackbone | None = None, **others: int) -> Surgery:
    return fit_deep_closed_form({"a": inputs}, merged or network(0), lambda _: network(others.get("expert", 1)), told)


def test_equal_to_whole_tokens_in_numpy() -> None:
    inputs = sequences(0, 20)
    assert isinstance(network(0), BlockwiseBackbone)
    surgery = fitted(inputs)
    expected = numpy_deep(network(0), network(1), inputs, 2, 0.1)
    np.testing.assert_allclose(represent(network(0), surgery, inputs).numpy(), expected, rtol=1e-4, atol=1e-4)


def test_batches_change_nothing() -> None:
    inputs = sequences(1, 17)
    told = ClosedForm(rank=3)
    one, other = fitted(inputs, told), fitted(inputs, told, TinyBackbone(network(0).weights, batch_size=7))
    torch.testing.assert_close(represent(network(0), one, inputs), represent(network(0), other, inputs), rtol=1e-4, atol=1e-4)


def test_it_comes_closer_than_surgery_at_the_end_alone() -> None:
    inputs, others = sequences(2, 200), sequences(3, 100)
    weights, noise = network(0, depth=4).weights, network(1, depth=4).weights
    expert = TinyBackbone(weights, batch_size=100)
    merged = TinyBackbone([one + 0.4 * other for one, other in zip(weights, noise, strict=True)], batch_size=100)
    deep = fit_deep_closed_form({"a": inputs}, merged, lambda _: expert, ClosedForm(rank=4))
    z, target = represent(merged, None, inputs), represent(expert, None, inputs)
    last = fit_closed_form({"a": (z, target)}, ClosedForm(rank=4))
    goal = represent(expert, None, others)
    biases = [representation_bias(represent(merged, own, others), goal).l1 for own in (None, last, deep)]
    assert biases[0] > 1.5 * biases[1] > 1.5 * biases[2]


def test_merged_equal_to_expert_is_left_alone() -> None:
    inputs = sequences(4, 12)
    surgery = fitted(inputs, ClosedForm(), expert=0)
    torch.testing.assert_close(represent(network(0), surgery, inputs), represent(network(0), None, inputs), rtol=0, atol=1e-5)


def test_other_tasks_change_nothing_and_the_same_bits_come_again(tmp_path: Path) -> None:
    tasks = {"a": sequences(5, 15), "b": sequences(6, 9)}
    experts = {"a": network(1), "b": network(2)}
    alone = fit_deep_closed_form({"a": tasks["a"]}, network(0), experts.__getitem__, SETTINGS, tmp_path)
    both = fit_deep_closed_form(dict(reversed(tasks.items())), network(0), experts.__getitem__, SETTINGS)
    assert both.tasks == ("b", "a")
    for (_, one), (_, other) in zip(alone.sites("a"), both.sites("a"), strict=True):
        assert torch.equal(one.down, other.down)
        assert torch.equal(one.up, other.up)
    assert not list(tmp_path.iterdir())


def test_every_input_passes_every_block_once(monkeypatch: pytest.MonkeyPatch) -> None:
    inputs, seen, passed = sequences(7, 10), list[int](), list[int]()
    original = MixingBlock.forward

    def counted(self: MixingBlock, x: Tensor, mask: Tensor, *, scale: float) -> Tensor:
        passed.append(len(x))
        return original(self, x, mask, scale=scale)

    monkeypatch.setattr(MixingBlock, "forward", counted)
    fit_deep_closed_form({"a": inputs}, network(0), lambda _: network(1), SETTINGS, progress=seen.append)
    # Two networks of two blocks; and two inputs twice more, as they show what blocks answer, and that no more is needed.
    assert sum(passed) == 2 * 2 * (len(inputs) + 2 * 2)
    assert sum(seen) == 3 * len(inputs)


def test_allotting_looks_at_half_the_inputs_before(monkeypatch: pytest.MonkeyPatch) -> None:
    passed, seen, original = list[int](), list[int](), MixingBlock.forward

    def counted(self: MixingBlock, x: Tensor, mask: Tensor, *, scale: float) -> Tensor:
        passed.append(len(x))
        return original(self, x, mask, scale=scale)

    monkeypatch.setattr(MixingBlock, "forward", counted)
    inputs = sequences(7, 40)
    fit_deep_closed_form({"a": inputs}, network(0), lambda _: network(1), SETTINGS, progress=seen.append, allot=True)
    # At most three encodings: two networks, and half of both before; the first batch of each look says what blocks answer.
    assert sum(passed) <= 3 * 2 * (len(inputs) + 2 * 3)
    assert sum(seen) == 3 * (40 + 20)


def test_ranks_go_where_the_networks_differ() -> None:
    first, second, third = network(0, width=8, depth=3).weights
    expert = TinyBackbone([first, second + 0.3 * network(1, width=8).weights[0], third], batch_size=100)
    merged = TinyBackbone([first, second, third], batch_size=100)
    inputs, others = sequences(2, 200, width=8), sequences(3, 100, width=8)
    even, chosen = (
        fit_deep_closed_form({"a": inputs}, merged, lambda _: expert, ClosedForm(rank=2), allot=allot) for allot in (False, True)
    )
    ranks = [correction.rank for _, correction in chosen.sites("a")]
    assert ranks[0] == 0
    assert ranks[1] > 5
    assert sum(ranks) <= 2 * 4
    goal = represent(expert, None, others)
    biases = [representation_bias(represent(merged, own, others), goal).l1 for own in (None, even, chosen)]
    assert biases[0] > biases[1] > biases[2]


@given(st.lists(st.lists(st.integers(-3, 9), max_size=4), min_size=1, max_size=3), st.integers(0, 8))
@settings(deadline=None, max_examples=200)
def test_no_other_ranks_of_a_sum_are_worth_more(gains: list[list[int]], total: int) -> None:
    """Curves that are concave are allotted as an exhaustive search would; others up to the last step, which may be cut short."""
    falling = [torch.tensor(sorted(own, reverse=True), dtype=torch.float64) for own in gains]
    ranks = allotted(falling, total)
    assert sum(ranks) <= total
    assert all(0 <= rank <= len(own) for rank, own in zip(ranks, falling, strict=True))
    choices = product(*(range(len(own) + 1) for own in falling))
    best = max(worth(falling, choice) for choice in choices if sum(choice) <= total)
    assert worth(falling, ranks) == best
    assert all(float(own[rank - 1]) > 0 for rank, own in zip(ranks, falling, strict=True) if rank)  # nothing is taken for nothing
    assert allotted(falling, 3 * total + 2, [3] * len(falling)) == ranks
    costs = [2 + place for place in range(len(falling))]
    assert sum(rank * cost for rank, cost in zip(allotted(falling, total, costs), costs, strict=True)) <= total
    rising = [torch.tensor(own, dtype=torch.float64) for own in gains]
    assert sum(allotted(rising, total)) <= total
    assert worth(rising, allotted(rising, 99)) == sum(max([0, *own.cumsum(dim=0).tolist()]) for own in rising)


def worth(gains: Sequence[Tensor], ranks: Sequence[int]) -> float:
    return sum(float(own[:rank].sum()) for own, rank in zip(gains, ranks, strict=True))


def test_real_texts(bert: Path, experts: dict[str, Path]) -> None:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["colours"])
    texts = [f"{colour} is {'very ' * (place % 5)}not {word}" for place, colour in enumerate(["red", "blue"] * 20) for word in ("so", "it")]
    surgery = fit_deep_closed_form({"colours": texts[:60]}, merged, lambda _: expert, ClosedForm(rank=8))
    target = encode(expert, texts[60:])
    before = encode(merged, texts[60:])
    after = surgery("colours", encode(merged, texts[60:], corrections=surgery.blocks_of("colours")))
    assert representation_bias(after, target).l1 < 0.5 * representation_bias(before, target).l1
    assert not any(module._forward_hooks or "forward" in vars(module) for module in merged.model.modules())


def test_what_cannot_be_fitted() -> None:
    with pytest.raises(DataError, match="'a' has no inputs"):
        fitted([])
    with pytest.raises(DataError, match="2 blocks, the expert 3"):
        fit_deep_closed_form({"a": sequences(0, 3)}, network(0), lambda _: network(1, depth=3), SETTINGS)
