"""Single flipped bits in what Suture has written: ``verify`` finds every one, and names the file."""

from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch

from gates.figures import Figure, survey
from gates.interposing import look
from gates.mutating import put
from gates.operations import calibration, merging, shipping
from suture.backbones import Head, save_heads
from suture.checkpoints import verify
from suture.surgery import ClosedForm, Features, fit_closed_form, save_features, save_operation

FIGURE = Figure("bit flips in our outputs", suite=1_000, soak=100_000)
Flip = tuple[Path, Path, int]
"""An output, one of its files, and which of that file's bits."""


def flips_of(outputs: list[Path], number: int) -> Flip:
    """Return what a number flips; the files of an output are as likely as one another, however small they are."""
    random = Random(number)
    output = random.choice(outputs)
    file = random.choice([output / name for name, content in look(output).items() if content])
    return output, file, random.randrange(8 * file.stat().st_size)


def found(flip: Flip) -> str:
    output, file, bit = flip
    whole = file.read_bytes()
    flipped = bytearray(whole)
    flipped[bit // 8] ^= 1 << bit % 8
    put(file, bytes(flipped))
    try:
        verdict = verify(output)
    finally:
        put(file, whole)
    assert verdict.faults, "not found"
    assert any(str(file) in fault for fault in verdict.faults), verdict.faults
    return "found"


@pytest.mark.fault(10)
def test_every_flipped_bit_is_found(room: Path, bert: Path) -> None:
    pairs = calibration()
    outputs = [merging(room / "a").out, merging(room, shards=2).out, shipping(room, bert).out]
    single = room / "single"
    single.mkdir()
    outputs += [single / f"{name}.safetensors" for name in ("surgery", "heads", "features")]
    save_operation(outputs[-3], fit_closed_form(pairs, ClosedForm(rank=2)))
    save_heads(outputs[-2], {"a": Head(torch.ones(2, 8), classes=("x", "y"))})
    save_features(outputs[-1], Features("a", *pairs["a"], "0" * 64, "held-out"))
    for output in outputs:
        verdict = verify(output)
        assert not verdict.faults
        assert not verdict.unverified
    tally = survey(FIGURE, range(FIGURE.trials), partial(flips_of, outputs), found)
    tally.check()
    assert all(not verify(output).faults for output in outputs), "the files are not as they were before"
    assert tally["found"] == FIGURE.trials
