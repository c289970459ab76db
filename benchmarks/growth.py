"""How time and memory of a merge grow with the number of experts and with the size of the model.

python benchmarks/growth.py FOLDER --out docs/results/benchmark-growth.md     # makes the checkpoints there (20 GB)
"""

import argparse
import statistics
from pathlib import Path

import numpy as np
from numpy.typing import ArrayLike

from checkpoints import make
from measuring import memory_limit, merge_apart, quietness, report, table, verdict
from suture.checkpoints import open_checkpoint

EXPERTS = (2, 4, 8, 16, 32)
SHAPES = ((256, 4), (384, 6), (768, 12), (1024, 24), (1920, 21))
"""Widths and layers: 11, 23, 109, 335 and 992 million elements."""

MIDDLE = SHAPES[1]
"""The size that the number of experts is varied at."""

ONCE = 900
"""Million elements from which on one run is enough."""

METHODS = ("task_arithmetic", "ties")
LIMIT = 0.1
"""How far from 1, linear growth, an exponent may be."""

ABOUT = f"""float32, BERT's shape, inputs in the page cache as far as they fit; times include writing, flushing and digest. The exponent is
the slope of log time over log size, and 1 ± {LIMIT:g} is its target. The line is a least-squares fit of time = a + b · size."""

CONSTANT = """Over experts the raw exponent cannot come near 1, as one output is written, flushed and digested whatever the
number of experts, and the base is read once: that is the line's a. Whether the rest grows linearly, R² tells."""


class Line:
    """The least-squares line through times: a + b · size, and how well it fits."""

    def __init__(self, sizes: ArrayLike, times: ArrayLike) -> None:
        x, y = np.asarray(sizes, dtype=np.float64), np.asarray(times, dtype=np.float64)
        slope, constant = np.polyfit(x, y, 1)
        left = y - constant - slope * x
        self.slope, self.constant = float(slope), float(constant)
        self.r2 = 1 - float((left**2).sum() / ((y - y.mean()) ** 2).sum())

    def share(self, size: float) -> float:
        """Return the constant's share of the time at a size; a line may start below zero, and then has none."""
        return max(0.0, self.constant) / (max(0.0, self.constant) + self.slope * size)


def measure(base: Path, experts: list[Path], folder: Path, repeats: int) -> list[tuple[float, int]]:
    """Return each method's median time and its peak of memory; the methods take turns."""
    found = [[merge_apart(method, base, experts, folder / "out") for method in METHODS] for _ in range(repeats)]
    return [(statistics.median(spent for spent, _ in runs), max(peak for _, peak in runs)) for runs in zip(*found, strict=True)]


def tables(title: str, sizes: list[float], measured: list[list[tuple[float, int]]], limits: list[float]) -> list[str]:
    """Return times, fits and memory by size."""
    head, times, fits, memory = [f"{size:g}" for size in sizes], [], [], []
    for method, found in zip(METHODS, zip(*measured, strict=True), strict=True):
        spent, peaks = [row[0] for row in found], [row[1] for row in found]
        exponent = float(np.polyfit(np.log(sizes), np.log(spent), 1)[0])
        line = Line(sizes, spent)
        times.append((f"{method}, s", *(f"{value:.2f}" for value in spent)))
        fitted = (
            f"{line.constant:.2f}",
            f"{line.slope:.4f}",
            f"{line.r2:.3f}",
            f"{line.share(sizes[0]):.0%}",
            f"{line.share(sizes[-1]):.0%}",
        )
        fits.append((method, f"{exponent:.2f}", verdict(abs(exponent - 1), LIMIT), *fitted))
        memory.append((f"{method}, peak MB", *map(str, peaks)))
    memory.append(("at most, MB", *(f"{limit:.0f}" for limit in limits)))
    ends = (f"a's share at {sizes[0]:g}", f"at {sizes[-1]:g}")
    return [
        *table((title, *head), times),
        *table(("", "exponent", "1 ± 0.1", "a, s", "b, s", "R²", *ends), fits),
        *table((title, *head), memory),
    ]


def over_experts(folder: Path, repeats: int) -> list[str]:
    """Merge more and more experts of one size."""
    base, experts = make(folder / "x".join(map(str, MIDDLE)), max(EXPERTS), *MIDDLE)
    measured = [measure(base, experts[:count], folder, repeats) for count in EXPERTS]
    return tables("experts", [float(count) for count in EXPERTS], measured, [memory_limit(base, count) for count in EXPERTS])


def over_sizes(folder: Path, repeats: int) -> list[str]:
    """Merge two experts of larger and larger models."""
    sizes, measured, limits = [], [], []
    for width, layers in SHAPES:
        base, experts = make(folder / f"{width}x{layers}", 2, width, layers)
        sizes.append(float(round(open_checkpoint(base).elements / 1e6)))
        measured.append(measure(base, experts, folder, repeats if sizes[-1] < ONCE else 1))
        limits.append(memory_limit(base, 2))
    return tables("million elements", sizes, measured, limits)


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    lines = ["# Growth of merging time and memory", "", f"Medians of {options.repeats}. {ABOUT}", ""]
    lines += ["## Number of experts (23 M elements each)", "", CONSTANT, "", *over_experts(options.folder, options.repeats)]
    lines += ["## Size of the model (two experts)", "", *over_sizes(options.folder, options.repeats)]
    report([*lines, quietness(), "", "Made by `python benchmarks/growth.py FOLDER --out docs/results/benchmark-growth.md`."], options.out)


if __name__ == "__main__":
    main()
