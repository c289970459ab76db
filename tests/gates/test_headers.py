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
from suture.checkpoints import open_checkpoint
from suture.checkpoints.reading import DTYPES
from suture.errors import SutureError

HEADERS = Figure("mutated safetensors headers", suite=190_000, soak=9_500_000)
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
