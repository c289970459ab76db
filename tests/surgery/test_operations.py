"""Operations of every kind: what they make of inputs, and what a file gives back."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from suture.backbones import TextBackbone
from suture.checkpoints import AlignedExpert, open_checkpoint
from suture.errors import IncompatibleExperts
from suture.representation import encode
from suture.surgery import (
    ClosedForm,
    Origin,
    Residuals,
    ResidualSurgery,
    Surgery,
    fit_closed_form,
    fit_deep_closed_form,
    fit_residual_surgery,
    load_operation,
    low_rank_residuals,
    read_origin,
    represent,
    save_operation,
)
from suture.surgery.operations import Operation, network_after, parts_of
from suture.surgery.residual import tensors_of_blocks

TEXTS = [f"{colour} is {'very ' * (place % 3)}not {word}" for place, colour in enumerate(["red", "blue"] * 6) for word in ("so", "it")]


def surgery(merged: TextBackbone, expert: TextBackbone) -> Surgery:
    return fit_closed_form({"pets": (encode(merged, TEXTS), encode(expert, TEXTS))}, ClosedForm(2, [0.1]))


def deep(merged: TextBackbone, expert: TextBackbone) -> Surgery:
    return fit_deep_closed_form({"pets": TEXTS}, merged, lambda _: expert, ClosedForm(2, [0.1]))


def residuals(merged: TextBackbone, expert: TextBackbone) -> Residuals:
    return low_rank_residuals(merged.weights, {"pets": expert.weights}, tensors_of_blocks(merged), 2)


def both(merged: TextBackbone, expert: TextBackbone) -> ResidualSurgery:
    return fit_residual_surgery({"pets": TEXTS}, merged, lambda _: expert, 1, ClosedForm(2, [0.1]))


@pytest.mark.parametrize("make", [surgery, deep, residuals, both])
def test_it_makes_what_its_parts_make_and_a_file_gives_the_same(
    bert: Path, experts: dict[str, Path], tmp_path: Path, make: Callable[[TextBackbone, TextBackbone], Operation]
) -> None:
    merged, seen = TextBackbone.open(bert), list[int]()
    operation = make(merged, TextBackbone.open(experts["pets"]))
    changed, corrected = parts_of(operation)
    network = merged if changed is None else TextBackbone(bert, changed.weights("pets", open_checkpoint(bert)))
    expected: Tensor = encode(network, TEXTS, corrections=() if corrected is None else corrected.blocks_of("pets"))
    expected = expected if corrected is None else corrected("pets", expected)
    found = represent(operation, merged, "pets", TEXTS, seen.append)
    assert torch.equal(found, expected)
    assert not torch.allclose(found, encode(merged, TEXTS), atol=1e-3)
    assert sum(seen) == len(TEXTS)
    assert (network_after(operation, merged, "pets") is merged) == (changed is None)
    file, origin = tmp_path / "operation.safetensors", Origin("held-out", len(TEXTS), 0, merged.digest, make.__name__, 2)
    save_operation(file, operation, origin)
    again = load_operation(file)
    assert type(again) is type(operation)
    assert read_origin(file) == origin
    assert torch.equal(represent(again, merged, "pets", TEXTS), expected)


def test_changes_of_full_weights_do_not_go_on_others(bert: Path, experts: dict[str, Path]) -> None:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["pets"])
    other = replace(merged, weights=AlignedExpert(open_checkpoint(bert), open_checkpoint(experts["pets"]), {}))
    with pytest.raises(IncompatibleExperts, match="changes of full weights, not of an adapter"):
        network_after(residuals(merged, expert), other, "pets")
