"""Deep surgery behind some of the blocks only: what is left out is the identity, in the fit, in the count and on disk."""

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from surgery.networks import network, sequences
from surgery.test_deep import numpy_regression, represent
from suture.errors import InvalidHyperparameter
from suture.randomness import generator_for, shuffled_rows
from suture.surgery import ClosedForm, Correction, Schedule, Surgery, fit_deep_closed_form, fit_deep_surgery, load_surgery, save_surgery
from suture.surgery.deep import chosen_sites
from suture.surgery.module import start_of_fit

DEPTH = 3
MERGED, EXPERT = network(0, depth=DEPTH), network(1, depth=DEPTH)
SOLVED = ClosedForm(rank=2, shrinkages=(0.1,))
SHORT = Schedule(rank=2, iterations=4, learning_rate=1e-2, batch_size=5)


def solved(inputs: list[Tensor], layers: Sequence[int] | None, told: ClosedForm = SOLVED, *, allot: bool = False) -> Surgery:
    return fit_deep_closed_form({"a": inputs}, MERGED, lambda _: EXPERT, told, layers=layers, allot=allot)


def numpy_deep(inputs: list[Tensor], layers: Sequence[int]) -> np.ndarray:
    """The representations after a fit on themselves, input by input; blocks that are not among the layers are left alone."""
    own = [1.5 * each.double().numpy() for each in inputs]
    theirs = [each.copy() for each in own]
    for number, weights in enumerate(zip(MERGED.weights, EXPERT.weights, strict=True)):
        own, theirs = (
            [x + 0.7 * np.tanh(x @ w.double().numpy() + x.mean(axis=0)) for x in side]
            for side, w in zip((own, theirs), weights, strict=True)
        )
        if number in layers:
            mu, nu, matrix = numpy_regression(np.concatenate(own), np.concatenate(theirs), 2, 0.1)
            own = [nu + (x - mu) @ matrix for x in own]
    z, target = (np.stack([x.mean(axis=0) for x in side]) for side in (own, theirs))
    mu, nu, matrix = numpy_regression(z, target, 2, 0.1)
    return nu + (z - mu) @ matrix


def left_out(surgery: Surgery) -> list[int]:
    return [site for site, each in surgery.sites("a") if each.parameters == 0]


@pytest.mark.parametrize("layers", [[], [0], [2, 1], [0, 2]], ids=str)
def test_closed_form_equal_to_numpy(layers: list[int]) -> None:
    inputs = sequences(0, 20)
    surgery = solved(inputs, layers)
    np.testing.assert_allclose(represent(MERGED, surgery, inputs).numpy(), numpy_deep(inputs, layers), rtol=1e-4, atol=1e-4)
    assert left_out(surgery) == [number for number in range(DEPTH) if number not in layers]
    assert surgery.parameters("a") == (len(layers) + 1) * (4 + 2 * 2 * 4)


def test_all_layers_are_what_is_done_without_any_named() -> None:
    inputs = sequences(1, 16)
    for (_, one), (_, other) in zip(solved(inputs, None).sites("a"), solved(inputs, [2, 0, 1]).sites("a"), strict=True):
        assert torch.equal(one.down, other.down)
    by_gradient = [fit_deep_surgery({"a": inputs}, MERGED, lambda _: EXPERT, SHORT, 0, layers=layers) for layers in (None, [0, 1, 2])]
    for (_, one), (_, other) in zip(*(each.sites("a") for each in by_gradient), strict=True):
        assert torch.equal(one.up, other.up)


def test_ranks_are_allotted_among_what_is_chosen() -> None:
    surgery, seen = solved(sequences(2, 60), [1], ClosedForm(rank=2), allot=True), list[int]()
    ranks = [each.rank for _, each in surgery.sites("a")]
    assert ranks[0] == ranks[2] == 0
    assert 0 < sum(ranks) <= 2 * 2
    fit_deep_closed_form({"a": sequences(2, 60)}, MERGED, lambda _: EXPERT, SOLVED, progress=seen.append, layers=[1])
    assert sum(seen) == 60 * (DEPTH + 1)


@pytest.mark.parametrize("layers", [[], [1], [0, 2]], ids=str)
def test_by_gradient_only_what_is_chosen_is_fitted(layers: list[int]) -> None:
    inputs = sequences(3, 40)
    schedule = Schedule(rank=2, iterations=60, learning_rate=1e-2, held_out=0.25)
    surgery = fit_deep_surgery({"a": inputs}, MERGED, lambda _: EXPERT, schedule, 0, layers=layers)
    assert left_out(surgery) == [number for number in range(DEPTH) if number not in layers]
    assert all(bool(each.up.any()) for site, each in surgery.sites("a") if site in {*layers, -1})
    before, after = ((represent(MERGED, own, inputs) - represent(EXPERT, None, inputs)).abs().mean() for own in (None, surgery))
    assert after < before


def test_by_gradient_at_the_end_alone_equal_to_a_plain_loop() -> None:
    """With no layer it is surgery of the final representation, of the start that the last site has among all."""
    inputs = sequences(4, 11)
    alone = fit_deep_surgery({"a": inputs}, network(0), lambda _: network(1), SHORT, 3, layers=[])
    z, target = (represent(network(seed), None, inputs) for seed in (0, 1))
    generator = generator_for(3, "a")
    *_, start = (start_of_fit(4, 2, generator) for _ in range(3))
    parts = [start.down.requires_grad_(), start.up.requires_grad_()]
    optimizer, drawn = torch.optim.Adam(parts, lr=1e-2), shuffled_rows(11, 5, generator)
    for _ in range(SHORT.steps):
        rows = next(drawn)
        optimizer.zero_grad()
        (z[rows] - torch.relu(z[rows] @ parts[0].T) @ parts[1].T - target[rows]).abs().mean().backward()
        optimizer.step()
    torch.testing.assert_close(alone.final["a"].down, parts[0].detach(), rtol=1e-4, atol=1e-5)
    torch.testing.assert_close(alone.final["a"].up, parts[1].detach(), rtol=1e-4, atol=1e-5)


def test_what_is_refined_stays_within_the_layers() -> None:
    inputs = sequences(5, 40)
    start = solved(inputs, None)
    schedule = Schedule(iterations=10, learning_rate=1e-3)
    for layers in ([1], []):
        own = solved(inputs, layers)
        refined = fit_deep_surgery({"a": inputs}, MERGED, lambda _: EXPERT, schedule, 0, start=own, layers=layers)
        assert left_out(refined) == left_out(own)
        kept = fit_deep_surgery({"a": inputs}, MERGED, lambda _: EXPERT, schedule, 0, start=start, layers=layers)
        for (site, one), (_, other) in zip(kept.sites("a"), start.sites("a"), strict=True):
            assert torch.equal(one.up, other.up) == (site not in {*layers, -1})


@pytest.mark.parametrize("activation", ["relu", "none"])
def test_files_hold_identities(tmp_path: Path, activation: str) -> None:
    if activation == "none":
        surgery = solved(sequences(6, 20), [1])
    else:
        surgery = fit_deep_surgery({"a": sequences(6, 20)}, MERGED, lambda _: EXPERT, SHORT, 0, layers=[1])
    save_surgery(tmp_path / "s.safetensors", surgery)
    back, inputs = load_surgery(tmp_path / "s.safetensors"), sequences(7, 9)
    assert left_out(back) == [0, 2]
    assert back.parameters("a") == surgery.parameters("a")
    assert torch.equal(represent(MERGED, back, inputs), represent(MERGED, surgery, inputs))


@given(layers=st.lists(st.integers(-2, 5), max_size=4), depth=st.integers(0, 4))
@settings(max_examples=100)
def test_layers_are_different_numbers_of_blocks(layers: list[int], depth: int) -> None:
    if len(set(layers)) == len(layers) and all(0 <= each < depth for each in layers):
        assert chosen_sites(layers, depth) == [number in layers for number in range(depth)] + [True]
    else:
        with pytest.raises(InvalidHyperparameter, match="layers must be different numbers of blocks"):
            chosen_sites(layers, depth)


def test_the_identity_leaves_every_bit() -> None:
    x = torch.randn(3, 5, 4)
    for own in (x, x.bfloat16()):
        assert torch.equal(Correction.identity(4)(own), own)


def test_layers_that_there_are_not() -> None:
    for fit in (
        lambda: solved(sequences(0, 3), [3]),
        lambda: fit_deep_surgery({"a": sequences(0, 3)}, MERGED, lambda _: EXPERT, SHORT, 0, layers=[3]),
    ):
        with pytest.raises(InvalidHyperparameter, match="0 to 2; not 3"):
            fit()
