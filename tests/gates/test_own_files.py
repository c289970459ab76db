"""Mutated files of the kinds that Suture writes and reads again: read, or refused by an error of ours."""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch

from gates.figures import Figure, check_message, survey
from gates.mutating import Pairs, mutate_bytes, mutate_tree, put, text_of, tree_of
from gates.test_headers import CHANGES, PARTS, TOKENS
from suture.backbones import Head, load_heads, save_heads
from suture.checkpoints.writing import SHA256
from suture.errors import SutureError
from suture.multitask.router import fit_router
from suture.multitask.router_files import load_router, save_router
from suture.surgery import (
    Correction,
    Features,
    Origin,
    Residuals,
    ResidualSurgery,
    Surgery,
    load_features,
    load_operation,
    read_origin,
    save_features,
    save_operation,
)
from suture.surgery.residual import LowRank, Whole
from suture.surgery.resuming import State, read_state, write_state

OWN = Figure("mutated headers of files of our own kinds", suite=10_000, soak=500_000)


def own_files(folder: Path) -> dict[str, bytes]:
    """Return a file of every kind that Suture writes and reads again, by the kind."""
    random = torch.Generator().manual_seed(0)

    def draw(*shape: int) -> torch.Tensor:
        return torch.randn(shape, generator=random)

    def both() -> tuple[Surgery, Residuals]:
        surgery = Surgery({task: Correction(draw(2, 4), draw(4, 2)) for task in ("a", "b")})
        changes = {task: {"w": LowRank(draw(3, 1), draw(1, 4)), "c": Whole(draw(3))} for task in ("a", "b")}
        return surgery, Residuals(changes)

    surgery, residuals = both()
    deep = Surgery(surgery.final, {task: [Correction(draw(1, 4), draw(4, 1), draw(4))] for task in ("a", "b")})
    origin = Origin("held-out", 8, 0, "0" * 64)
    save_operation(folder / "surgery", surgery, origin)
    save_operation(folder / "deep", deep, origin)
    save_operation(folder / "residuals", residuals, origin)
    save_operation(folder / "both", ResidualSurgery(residuals, surgery), origin)
    save_heads(folder / "heads", {"a": Head(draw(2, 4), draw(2), classes=("x", "y")), "b": Head(draw(3, 4), scale=20.0)})
    save_router(folder / "router", fit_router({"a": draw(8, 4), "b": draw(8, 4) + 1}))
    save_features(folder / "features", Features("a", draw(4, 3), draw(4, 3), "0" * 64, "held-out"))
    write_state(folder / "state", State.of([surgery.final["a"]]), 100, "f" * 64)
    files = {kind: (folder / kind).read_bytes() for kind in READERS}
    return files | {f"{kind} without a seal": unsealed(raw) for kind, raw in files.items()}


def unsealed(raw: bytes) -> bytes:
    """Take its own digest out of a file, which then has no other defence than what its reader checks."""
    length = int.from_bytes(raw[:8], "little")
    header = tree_of(raw[8 : 8 + length])
    told = dict(header)["__metadata__"]
    told[:] = [(key, value) for key, value in told if key != SHA256]
    text = text_of(header).encode()
    return len(text).to_bytes(8, "little") + text + raw[8 + length :]


def _operation(file: Path) -> None:
    load_operation(file)
    read_origin(file)


READERS: dict[str, Callable[[Path], object]] = {
    "surgery": _operation,
    "deep": _operation,
    "residuals": _operation,
    "both": _operation,
    "heads": load_heads,
    "router": load_router,
    "features": load_features,
    "state": lambda file: read_state(file, "f" * 64),
}


def mutated_own(files: dict[str, bytes], number: int) -> tuple[str, bytes]:
    """Return a kind, and a file that a number makes of a valid one; what stands in the metadata is often JSON itself."""
    random = Random(number)
    kind = random.choice(list(files))
    raw = files[kind]
    if random.random() < 0.2:
        return kind, mutate_bytes(raw, random, TOKENS)
    length = int.from_bytes(raw[:8], "little")
    header = tree_of(raw[8 : 8 + length])
    if random.random() < 0.5:
        _retell(dict(header)["__metadata__"], random)
    else:
        header = random.choice(CHANGES)(header, random)
    text = text_of(header).encode(errors="surrogatepass")
    return kind, len(text).to_bytes(8, "little") + text + raw[8 + length :]


def _retell(told: Pairs, random: Random) -> None:
    """Change a text of the metadata: within, if it is JSON, or altogether."""
    place = random.randrange(len(told))
    key, value = told[place]
    try:
        within = tree_of(value)
    except ValueError:
        within = None
    if isinstance(within, list) and random.random() < 0.6:
        value = text_of(mutate_tree(within, random))
    else:
        value = random.choice(
            ("", "-1", "1e9", "nan", "inf", "x", "9" * 5000, "[" * 100_000, '{"a":' * 5000, "null", "[1]", "\x1b[31m", '["a","a"]')
        )
    told[place] = (key, value)


def reopened(folder: Path, given: tuple[str, bytes]) -> str:
    kind, raw = given
    file = folder / kind
    put(file, raw)
    try:
        READERS[kind.partition(" ")[0]](file)
    except SutureError as error:
        check_message(error, file, len(raw))
        return type(error).__name__
    return "opened"


@pytest.mark.fault(1, 2)
@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_files_of_our_own_are_read_or_refused(room: Path, tmp_path: Path, part: int) -> None:
    files = own_files(tmp_path)
    assert {reopened(room, item) for item in files.items()} == {"opened"}
    tally = survey(OWN, OWN.share(part, PARTS), partial(mutated_own, files), partial(reopened, room))
    tally.check()
    assert tally["opened"] > tally.total() / 50, tally.counts
    assert tally["CorruptCheckpoint"] > tally.total() / 5, tally.counts
