"""How a suite's examples are shared out: nearly even classes, and groups that stay together."""

from __future__ import annotations

from collections import Counter
from typing import Protocol, TypeVar

LARGEST_RATIO = 4


class Labelled(Protocol):
    """What is known of an example here: its class."""

    @property
    def label(self) -> str:
        """Name of its class."""


AnyExample = TypeVar("AnyExample", bound=Labelled)


def balance(available: Counter[str], size: int) -> dict[str, int]:
    """Weight of each class: even as far as `size` examples allow it, never past the largest class ratio."""
    smallest = min(available.values())
    room = {label: min(count, LARGEST_RATIO * smallest) for label, count in sorted(available.items())}
    cap = max(room.values())
    while cap > 1 and sum(min(count, cap - 1) for count in room.values()) >= size:
        cap -= 1
    return {label: min(count, cap) for label, count in room.items()}


def quotas(weights: dict[str, int], size: int) -> dict[str, int]:
    """Examples per class in proportion to the weights, summing to `size` (largest remainders)."""
    share = {label: weight * size / sum(weights.values()) for label, weight in weights.items()}
    whole = {label: int(part) for label, part in share.items()}
    for label in sorted(share, key=lambda name: whole[name] - share[name])[: size - sum(whole.values())]:
        whole[label] += 1
    return whole


def take(pool: dict[str, list[AnyExample]], wanted: dict[str, int]) -> list[AnyExample]:
    """Fill the quotas with whole groups; every group touched leaves the pool."""
    left = dict(wanted)
    chosen: list[AnyExample] = []
    for group in list(pool):
        useful = [example for example in pool[group] if left[example.label] > 0]
        if useful:
            del pool[group]
        for example in useful:
            if left[example.label] > 0:
                left[example.label] -= 1
                chosen.append(example)
    return chosen
