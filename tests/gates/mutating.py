"""Mutations: what a number makes of a valid file. Of texts and bytes, and of the trees that JSON describes."""

import json
import os
from collections.abc import Callable, Sequence
from contextlib import suppress
from json.encoder import encode_basestring_ascii
from pathlib import Path
from random import Random
from typing import Any

Tree = Any
"""What JSON describes; an object is a list of pairs (:class:`Pairs`), as names may stand twice."""

DEEP = "[" * 200 + "]" * 200
HUGE = (2**31, 2**32, 2**53, 2**62, 2**63 - 1, 2**63, 2**64 - 1, 2**64, 10**30)
TEXTS = ("", " ", "a", "F32", "\0", "\x1b[2J\x1b[31m", "\u202e\u2066", "\ufeff", "é", "😀", "x" * 300, "x" * 5000, "__metadata__")
PATHS = ("../x", "/etc/passwd", "..", ".", "a/../../b", "\\\\host\\share", "C:\\x", "model.safetensors", "~", "-", "a\0b", "CON", "./.")
RAW = ("NaN", "Infinity", "-0", "1e999", "01", "'a'", '"\\ud800"', '"\\u0000"', DEEP, '{"a":' * 150 + "1" + "}" * 150, "", "//", "\x00")


class Pairs(list[tuple[Any, Any]]):
    """An object of JSON."""


class Raw(str):
    """A text that stands in the file as it is."""

    __slots__ = ()


def tree_of(text: str | bytes) -> Tree:
    """Read JSON."""
    return json.loads(text, object_pairs_hook=Pairs)


def text_of(tree: Tree, space: str = "") -> str:
    """Write JSON, or what is nearly that; ``space`` stands behind every comma and colon."""
    kind = type(tree)
    if kind is str:
        return encode_basestring_ascii(tree)
    if kind is Pairs:
        return f"{{{f',{space}'.join([f'{text_of(key)}:{space}{text_of(value, space)}' for key, value in tree])}}}"
    if kind is list or kind is tuple:
        return f"[{f',{space}'.join([text_of(each, space) for each in tree])}]"
    return str(tree) if kind is int or kind is Raw else json.dumps(tree)


def odd_value(random: Random) -> Tree:
    """Return what hardly anybody expects."""
    kind = random.randrange(8)
    if kind == 0:
        return random.choice((None, True, False, -1, 0, 1, 2, 7, 1.5, -0.0, 1e308))
    if kind == 1:
        return random.choice(HUGE)
    if kind == 2:
        return random.choice(TEXTS)
    if kind == 3:
        return random.choice(PATHS)
    if kind == 4:
        return Raw(random.choice(RAW))
    if kind == 5:
        return random.choice(([], [[]], [0], [None], ["a"], [1, 2, 3], [[[]]]))
    if kind == 6:
        return Pairs(random.choice(([], [("a", 1)], [("a", 1), ("a", 2)], [("", Pairs())])))
    return random.randrange(-(2 ** random.randrange(1, 66)), 2 ** random.randrange(1, 66))


def places(tree: Tree) -> list[tuple[list[Any], int]]:
    """Return every place of a tree: what holds it, and where in it; of pairs, the value's."""
    found: list[tuple[list[Any], int]] = []
    waiting = [tree]
    while waiting:
        inside = waiting.pop()
        for place, each in enumerate(inside):
            found.append((inside, place))
            value = each[1] if isinstance(inside, Pairs) else each
            if isinstance(value, list):
                waiting.append(value)
    return found


def mutate_tree(tree: Tree, random: Random) -> Tree:
    """Change one place of a tree, which is changed itself; return it, or what stands in its stead."""
    found = places(tree)
    if not found or random.random() < 0.01:
        return odd_value(random)
    holder, place = random.choice(found)
    change = random.choice(PAIR_CHANGES if isinstance(holder, Pairs) else LIST_CHANGES)
    change(holder, place, random)
    return tree


def _set(holder: list[Any], place: int, random: Random) -> None:
    value = odd_value(random)
    holder[place] = (holder[place][0], value) if isinstance(holder, Pairs) else value


def _nudge(holder: list[Any], place: int, random: Random) -> None:
    """Make a number a little other, or a power of two."""
    value = holder[place][1] if isinstance(holder, Pairs) else holder[place]
    if isinstance(value, bool) or not isinstance(value, int):
        _set(holder, place, random)
        return
    value = random.choice((value + 1, value - 1, -value, value * 2, value // 2, 2 ** random.randrange(70), value + 4, value ^ 8))
    holder[place] = (holder[place][0], value) if isinstance(holder, Pairs) else value


def _drop(holder: list[Any], place: int, random: Random) -> None:
    del holder[place]


def _twice(holder: list[Any], place: int, random: Random) -> None:
    holder.insert(random.randrange(len(holder) + 1), holder[place])


def _swap(holder: list[Any], place: int, random: Random) -> None:
    other = random.randrange(len(holder))
    holder[place], holder[other] = holder[other], holder[place]


def _swap_values(holder: list[Any], place: int, random: Random) -> None:
    other = random.randrange(len(holder))
    (one, first), (two, second) = holder[place], holder[other]
    holder[place], holder[other] = (one, second), (two, first)


def _rename(holder: list[Any], place: int, random: Random) -> None:
    holder[place] = (random.choice(TEXTS + PATHS), holder[place][1])


def _rename_as_another(holder: list[Any], place: int, random: Random) -> None:
    holder[place] = (random.choice(holder)[0], holder[place][1])


def _odd_key(holder: list[Any], place: int, random: Random) -> None:
    holder[place] = (odd_value(random), holder[place][1])


def _add(holder: list[Any], place: int, random: Random) -> None:
    name, value = random.choice(TEXTS + PATHS), odd_value(random)
    holder.insert(place, (name, value) if isinstance(holder, Pairs) else value)


def _shuffle(holder: list[Any], place: int, random: Random) -> None:
    random.shuffle(holder)


Change = Callable[[list[Any], int, Random], None]
LIST_CHANGES: Sequence[Change] = (_set, _nudge, _nudge, _drop, _twice, _swap, _add)
PAIR_CHANGES: Sequence[Change] = (
    _set,
    _nudge,
    _drop,
    _twice,
    _shuffle,
    _swap_values,
    _rename,
    _rename_as_another,
    _odd_key,
    _add,
)


def put(file: Path, content: bytes) -> None:
    """Write a new file in the place of one that may be mapped into memory, and stays what it is."""
    with suppress(FileNotFoundError):
        file.unlink()
    descriptor = os.open(file, os.O_WRONLY | os.O_CREAT)
    os.write(descriptor, content)
    os.close(descriptor)


def mutate_bytes(content: bytes, random: Random, tokens: Sequence[bytes] = (), times: int = 3) -> bytes:
    """Change a few bytes: flipped bits, other values, parts that are gone, doubled or moved, odd numbers, the tokens of a language."""
    raw = bytearray(content)
    for _ in range(random.randint(1, times)):
        start = random.randrange(len(raw) + 1)
        stop = min(len(raw), start + (1 << random.randrange(6)))
        kind = random.randrange(8 if tokens else 7)
        if kind == 0:
            raw[start : start + 1] = bytes(byte ^ (1 << random.randrange(8)) for byte in raw[start : start + 1])
        elif kind == 1:
            raw[start:stop] = random.randbytes(stop - start)
        elif kind == 2:
            del raw[start:stop]
        elif kind == 3:
            raw[start:start] = raw[start:stop]
        elif kind == 4:
            del raw[start:]
        elif kind == 5:
            other = random.randrange(len(raw) + 1)
            raw[other:other] = raw[start:stop]
        elif kind == 6:
            raw[start : start + 8] = random.choice(HUGE[:8]).to_bytes(9, "little")[: random.choice((1, 2, 4, 8))]
        else:
            raw[start : random.choice((start, stop))] = random.choice(tokens)
    return bytes(raw)
