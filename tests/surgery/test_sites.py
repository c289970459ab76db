"""The mean tokens behind blocks: against a plain loop, and the bias between two networks."""

import pytest
import torch

from surgery.networks import TinyBackbone, network, sequences
from surgery.test_deep import represent
from suture.errors import DataError
from suture.representation import representation_bias
from suture.surgery import ClosedForm, fit_deep_closed_form
from suture.surgery.sites import bias_by_block, sites_of


def test_equal_to_one_input_at_a_time() -> None:
    inputs, weights = sequences(0, 7), network(0).weights
    found = sites_of(TinyBackbone(weights, batch_size=4), inputs)
    assert len(found) == 3
    for row, x in enumerate(inputs):
        x = 1.5 * x
        for number, weight in enumerate(weights):
            x = x + 0.7 * torch.tanh(x @ weight + x.mean(dim=0))
            torch.testing.assert_close(found[number][row], x.mean(dim=0))
        torch.testing.assert_close(found[-1][row], x.mean(dim=0))


def test_the_last_bias_is_that_of_the_representation() -> None:
    inputs, merged, expert = sequences(1, 9), network(0), network(1)
    biases = bias_by_block(merged, expert, inputs)
    z, target = represent(merged, None, inputs), represent(expert, None, inputs)
    assert biases[-1] == pytest.approx(representation_bias(z, target).mean_abs, rel=1e-5)
    assert bias_by_block(merged, merged, inputs) == [0, 0, 0]


def test_deep_surgery_lowers_it_behind_every_block() -> None:
    inputs, merged, expert = sequences(2, 60), network(0), network(1)
    surgery = fit_deep_closed_form({"a": inputs}, merged, lambda _: expert, ClosedForm(rank=4))
    after = bias_by_block(merged, expert, inputs, [correction for _, correction in surgery.sites("a")])
    assert all(low < high for low, high in zip(after, bias_by_block(merged, expert, inputs), strict=True))


def test_another_number_of_corrections_is_refused() -> None:
    surgery = fit_deep_closed_form({"a": sequences(3, 9)}, network(0), lambda _: network(1), ClosedForm(rank=1))
    with pytest.raises(DataError, match="2 blocks and a representation"):
        sites_of(network(0), sequences(3, 9), list(surgery.blocks["a"]))


def test_no_inputs() -> None:
    with pytest.raises(DataError, match="no inputs"):
        sites_of(network(0), [])
