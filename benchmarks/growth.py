"""How the time of a merge grows with the number of experts and with the size of the model: the exponents of fitted powers.

python benchmarks/growth.py FOLDER --out docs/results/benchmark-growth.md     # 9 GB of checkpoints
"""

import argparse
import statistics
from functools import partial
from pathlib import Path

import numpy as np

from checkpoints import make
from merging import REPEATS, merge, seconds
from suture.checkpoints import open_checkpoint

EXPERTS = (2, 4, 8, 16, 32)
SHAPES = ((256, 4), (384, 6), (768, 12), (1024, 24))
"""Widths and layers: 11, 23, 109 and 335 million elements."""

METHODS = ("task_arithmetic", "ties")
ABOUT = """float32; writing, flushing and digest included; an exponent of 1 ± 0.1 is linear growth. Over experts it stays below 1,
and so misses, where writing the one output, which costs the same for any number of experts, is a large part of the whole."""

LIMIT = 0.1
"""How far from 1, linear growth, an exponent may be."""


def median_seconds(method: str, base: Path, experts: list[Path], out: Path) -> float:
    """Return the median time of one merge."""
    return statistics.median(seconds(partial(merge, method, base, experts, out)) for _ in range(REPEATS))


def table(title: str, sizes: list[float], times: dict[str, list[float]]) -> list[str]:
    """Return the measured times and the exponent of each method's growth."""
    lines = [f"| {title} | " + " | ".join(f"{size:g}" for size in sizes) + " | exponent | |", "|---" * (len(sizes) + 3) + "|"]
    for method, found in times.items():
        exponent = float(np.polyfit(np.log(sizes), np.log(found), 1)[0])
        verdict = "met" if abs(exponent - 1) <= LIMIT else "missed"
        lines.append(f"| {method}, s | " + " | ".join(f"{value:.2f}" for value in found) + f" | {exponent:.2f} | {verdict} |")
    return lines


def over_experts(folder: Path) -> list[str]:
    """Merge more and more experts of one size."""
    width, layers = SHAPES[1]
    base, experts = make(folder / f"{width}x{layers}", max(EXPERTS), width, layers)
    times = {method: [median_seconds(method, base, experts[:count], folder / "out") for count in EXPERTS] for method in METHODS}
    return table("experts", [float(count) for count in EXPERTS], times)


def over_sizes(folder: Path) -> list[str]:
    """Merge four experts of larger and larger models."""
    times: dict[str, list[float]] = {method: [] for method in METHODS}
    sizes = []
    for width, layers in SHAPES:
        base, experts = make(folder / f"{width}x{layers}", 4, width, layers)
        sizes.append(round(open_checkpoint(base).elements / 1e6))
        for method in METHODS:
            times[method].append(median_seconds(method, base, experts, folder / "out"))
    return table("million elements", [float(size) for size in sizes], times)


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    head = ["# Growth of merging time", "", ABOUT, ""]
    lines = [*head, *over_experts(options.folder), "", *over_sizes(options.folder), ""]
    text = "\n".join([*lines, "Made by `python benchmarks/growth.py FOLDER --out docs/results/benchmark-growth.md`."])
    print(text)
    if options.out:
        options.out.write_text(text + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
