"""Mutated safetensors files, through what opens them: read as the format says, or refused by an error of ours."""

from collections.abc import Callable, Iterator
from copy import deepcopy
from functools import partial
from math import prod
from pathlib import Path
from random import Random

import pytest
import torch
from safetensors import SafetensorError, deserialize
from safetensors.torch import save

from gates.figures import Figure, check_message, survey
from gates.mutating import Pairs, Tree, mutate_bytes, mutate_tree, odd_value, put, text_of, tree_of
from suture.backbones import Head, load_heads, save_heads
from suture.checkpoints import open_checkpoint
from suture.checkpoints.reading import DTYPES
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

HEADERS = Figure("mutated safetensors headers", suite=190_000, soak=9_500_000)
OWN = Figure("mutated headers of files of our own kinds", suite=10_000, soak=500_000)
PARTS = 4
TOKENS = rb'"dtype": "shape": "data_offsets": "__metadata__": [0,4] {} null \u0000 "F64" "I4" , }'.split()
OFFERED = (*DTYPES, "U16", "U32", "U64", "C64", "F8_E4M3", "F8_E5M2", "F8_E8M0", "F4", "F128", "f32")

VALID = [
    save({"b": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(2.0), "ids": torch.arange(3), "half": torch.ones(2).bfloat16()}),
    save({"w": torch.zeros(2, 2, dtype=torch.float64), "e": torch.zeros(0, 3), "m": torch.tensor([True, False])}, {"format": "pt"}),
    save({name: torch.full((2,), number, dtype=dtype) for number, (name, dtype) in enumerate(DTYPES.items()) if name != "BOOL"}),
    save({"only": torch.ones(1, dtype=torch.uint8)}),
]


def mutated_header(number: int) -> bytes:
    """Return a file that a number makes of a valid one; some are as valid as before, or would be to another reader."""
    random = Random(number)
    raw = random.choice(VALID)
    if random.random() < 0.3:
        return mutate_bytes(raw, random, TOKENS)
    length = int.from_bytes(raw[:8], "little")
    header, data = tree_of(raw[8 : 8 + length]), raw[8 + length :]
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        change = random.choice(CHANGES)
        header = change(header, random) if isinstance(header, Pairs) and header else header
    text = text_of(header, random.choice(("", "", " ", "\n\t"))).encode(errors="surrogatepass")
    text += b" " * random.choice((0, -len(text) % 8, -len(text) % 8, 4096))
    said = len(text) + (random.choice((-1, 1, -8, 8, 1 << 20, 1 << 40)) if random.random() < 0.05 else 0)
    if random.random() < 0.1:
        data = random.choice((data[:-1], data + b"\0", b"", data * 2, random.randbytes(len(data))))
    return max(0, said).to_bytes(8, "little") + text + data


def _retype(header: Pairs, random: Random) -> Tree:
    """Give a tensor another dtype, with offsets and all as they are."""
    entry = _entry(header, random)
    entry[:] = [(key, random.choice(OFFERED) if key == "dtype" else value) for key, value in entry]
    return header


def _reshape(header: Pairs, random: Random) -> Tree:
    """Give a tensor another shape: of as many elements, or of none at all in too many dimensions."""
    entry = _entry(header, random)
    length = 1 << random.randrange(66)
    entry[:] = [
        (key, random.choice(([*value, 1], [1, *value], value[::-1], [length, 0], [0, length])) if _is_shape(key, value) else value)
        for key, value in entry
    ]
    return header


def _is_shape(key: str, value: Tree) -> bool:
    return key == "shape" and isinstance(value, list)


def _empty(header: Pairs, random: Random) -> Tree:
    """Add a tensor without elements, perhaps by a name that is there."""
    names = [name for name, _ in header]
    end = 0 if random.random() < 0.5 else random.randrange(64)
    shape = random.choice(([0], [0, 3], [2**40, 0], [0, 2**62], [2**63, 0], [2**64 - 1, 0]))
    entry = Pairs([("dtype", random.choice(OFFERED)), ("shape", shape), ("data_offsets", [end, end])])
    header.insert(random.randrange(len(header) + 1), (random.choice([*names, "x", "\x1b[31m", "\u202ex", "../x", "é\n"]), entry))
    return header


def _annotate(header: Pairs, random: Random) -> Tree:
    """Add or change metadata."""
    value = random.choice((Pairs([("a", "b")]), Pairs([("a", "b"), ("a", "c")]), Pairs([("a", odd_value(random))]), odd_value(random)))
    header.insert(random.randrange(len(header) + 1), ("__metadata__", value))
    return header


def _shuffle(header: Pairs, random: Random) -> Tree:
    """Put names and keys into another order, which changes nothing."""
    random.shuffle(header)
    for _, entry in header:
        if isinstance(entry, Pairs):
            random.shuffle(entry)
    return header


def _double(header: Pairs, random: Random) -> Tree:
    """Have a name stand twice: the last one wins with most readers, the first one with some."""
    name, entry = random.choice(header)
    other = deepcopy(entry)
    header.append((name, _retype(Pairs([(name, other)]), random)[0][1] if isinstance(other, Pairs) and random.random() < 0.5 else other))
    return header


def _entry(header: Pairs, random: Random) -> Pairs:
    entries = [value for _, value in header if isinstance(value, Pairs)]
    return random.choice(entries) if entries else Pairs()


CHANGES: list[Callable[[Pairs, Random], Tree]] = [mutate_tree] * 6 + [_retype, _reshape, _empty, _annotate, _shuffle, _double]


def opened(folder: Path, raw: bytes) -> str:
    """Open, look at and read all of a file, beside safetensors' own reader of bytes; return what became of it."""
    file = folder / "model.safetensors"
    put(file, raw)
    try:
        judged = dict(deserialize(raw))
    except SafetensorError:
        judged = None
    try:
        checkpoint = open_checkpoint(file)
        specs = checkpoint.specs
        tensors = {name: checkpoint[name] for name in checkpoint}
        assert len(checkpoint.fingerprint) == 64
    except SutureError as error:
        check_message(error, file, len(raw))
        if judged is not None and not excused(raw):
            raise AssertionError(f"refused what the format allows: {error}") from error
        return type(error).__name__
    assert judged is not None, "opened what the format does not allow"
    assert specs.keys() == judged.keys()
    for name, tensor in tensors.items():
        assert list(specs[name].shape) == list(tensor.shape) == judged[name]["shape"], name
        assert specs[name].dtype == tensor.dtype == DTYPES[judged[name]["dtype"]], name
        assert tensor.reshape(-1).view(torch.uint8).numpy().tobytes() == bytes(judged[name]["data"]), name
    return "opened"


def excused(raw: bytes) -> bool:
    """Say whether there is a reason to refuse a file that safetensors' own reader takes."""
    header = tree_of(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    twice = any(len({name for name, _ in part}) < len(part) for part in objects_in(header))
    listed = any(not isinstance(entry, Pairs) for _, entry in header)
    entries = [dict(entry) for name, entry in header if name != "__metadata__" and isinstance(entry, Pairs)]
    unread = any(entry["dtype"] not in DTYPES for entry in entries)
    return twice or listed or unread or any(prod(filter(None, entry["shape"])) >= 2**63 for entry in entries)


def objects_in(tree: Tree) -> Iterator[Pairs]:
    """Yield every object of a tree."""
    if isinstance(tree, Pairs):
        yield tree
    for each in tree if isinstance(tree, list) else ():
        yield from objects_in(each[1] if isinstance(tree, Pairs) else each)


@pytest.mark.fault(1, 2, 3)
@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_headers_are_read_as_the_format_says_or_refused(room: Path, part: int) -> None:
    tally = survey(HEADERS, HEADERS.share(part, PARTS), mutated_header, partial(opened, room))
    tally.check()
    assert tally["opened"] > tally.total() / 20, tally.counts
    assert tally["CorruptCheckpoint"] > tally.total() / 5, tally.counts


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
