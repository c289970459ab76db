"""Scaling: the cost model of docs/scaling.md, its constants measured here, its predictions checked on sizes that they were not fitted to.

    python benchmarks/scaling.py FOLDER                                  # makes checkpoints there (0.7 GB) and prints the tables
    python benchmarks/scaling.py FOLDER --out docs/results/benchmark-scaling.md

Every time is the least of several, taken in turns: what else runs on a machine only ever adds to it.
"""

import argparse
import os
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import torch

from checkpoints import make, shapes
from measuring import Work, merge, report, table, verdict
from suture.backbones import open_backbone
from suture.checkpoints import open_checkpoint
from suture.representation import encode
from suture.surgery import ClosedForm, Schedule, fit_closed_form, fit_surgery

TOLERANCE = 0.25
"""How far a prediction may be off, as a share of what is measured."""

WIDTH, EXPERTS, RANK, STEPS = 768, 4, 16, 60
DISK, ACCELERATOR, SHARD, NODES = 1e9, 1e14, 5e9, 8
"""What the extrapolations also take: bytes a second of a node's storage, operations a second of a GPU, bytes of a shard, and nodes."""

ABOUT = """The model and its letters are those of [scaling](../scaling.md). Its constants are fitted to the first rows of each stage; the
rows that say *met* or *missed* were predicted with them, and may be off by 25 %. Files lie in the page cache. Other work went on beside
it, as the load shows: times are the least of several, and the constants are those of a machine that is shared."""

ASSUMED = f"""Nothing below was measured. It takes 256 samples of 128 tokens a task, {DISK / 1e9:g} GB/s of storage a node where that is
slower than the arithmetic, {ACCELERATOR:.0e} operations a second of a GPU, and shards of {SHARD / 1e9:g} GB: a model of one file is
merged by one node, however many there are, and so is the first pass of Ties. All else is shared out by tasks."""


class Size(NamedTuple):
    """What a stage is run on: experts or tasks T, samples N of S tokens, layers and their width k."""

    T: int = 1
    N: int = 0
    S: int = 0
    layers: int = 0
    k: int = WIDTH

    @property
    def parameters(self) -> int:
        """The elements P of a BERT of that size."""
        return sum(torch.Size(shape).numel() for _, shape in shapes(self.k, self.layers))

    def __str__(self) -> str:
        named = [f"{name}={value}" for name, value in self._asdict().items() if value and (name, value) != ("T", 1)]
        return ", ".join(named)


Terms = Callable[[Size], tuple[float, ...]]
"""The quantities that a stage's time is a sum of, each times a constant."""


@dataclass(frozen=True)
class Stage:
    """A stage, what its time depends on, and the sizes to fit and to check the constants on."""

    name: str
    units: tuple[str, ...]
    terms: Terms
    fitted: tuple[Size, ...]
    checked: tuple[Size, ...]
    work: Callable[[Size], Work]


def merge_terms(size: Size) -> tuple[float, ...]:
    """Every expert's elements, the base's and the output's, and what a merge costs whatever its size."""
    return size.T * size.parameters, size.parameters, 1.0


def encode_terms(size: Size) -> tuple[float, ...]:
    """Matrix products of the layers and of attention, and what passes over activations element by element."""
    tokens = size.N * size.S
    return tokens * size.layers * (24 * size.k**2 + 4 * size.S * size.k), tokens * size.layers * size.k


def gradient_terms(size: Size) -> tuple[float, ...]:
    """The modules' elements at every step, and what a step costs whatever they are."""
    return STEPS * size.T * size.k * RANK, STEPS


def closed_terms(size: Size) -> tuple[float, ...]:
    """Moments of the samples; decompositions, and the part of them that waits for memory and not for arithmetic."""
    return size.T * size.N * size.k**2, size.T * size.k**3, size.T * size.k**2


def stages(folder: Path) -> list[Stage]:
    """Return all stages, on files of a folder."""
    merged = (Size(1, layers=1), Size(4, layers=1), Size(1, layers=4), Size(4, layers=4)), (Size(3, layers=6), Size(4, layers=6))
    merging = ("s per expert's element", "s per element", "s")
    encoded = (
        tuple(Size(N=32, S=64, layers=4, k=k) for k in (256, 768)),
        (Size(N=64, S=64, layers=6, k=512), Size(N=16, S=128, layers=8, k=640)),
    )
    stepped = tuple(Size(T=T, N=256, k=k) for T, k in ((2, 256), (16, 768))), tuple(Size(T=T, N=256, k=k) for T, k in ((8, 512), (32, 768)))
    solved = (
        (Size(N=1024, k=256), Size(N=1024, k=512), Size(N=8192, k=512), Size(N=2048, k=768)),
        (Size(N=4096, k=640), Size(2, 2048, k=384)),
    )
    return [
        *(Stage(method, merging, merge_terms, *merged, partial(merge_work, folder, method)) for method in ("weight_averaging", "ties")),
        Stage("encoding", ("s per operation", "s per activation"), encode_terms, *encoded, partial(encode_work, folder)),
        Stage("V1 by gradient", ("s per element and step", "s per step"), gradient_terms, *stepped, partial(fit_work, by_gradient)),
        Stage("V1 in closed form", ("s per N·k²", "s per k³", "s per k²"), closed_terms, *solved, partial(fit_work, fit_closed_form_of)),
    ]


def merge_work(folder: Path, method: str, size: Size) -> Work:
    """Merge in bfloat16, the precision of large models."""
    base, experts = make(folder / f"bert-{size.layers}", EXPERTS, layers=size.layers, dtype=torch.bfloat16)
    return partial(merge, method, base, experts[: size.T], folder / "merged")


def encode_work(folder: Path, size: Size) -> Work:
    """Encode texts of one length with a BERT of random weights."""
    from transformers import BertConfig, BertModel, BertTokenizerFast

    model = folder / f"encoder-{size.layers}-{size.k}"
    words = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "word"]
    heads = size.k // 64
    config = BertConfig(
        vocab_size=len(words), hidden_size=size.k, num_hidden_layers=size.layers, num_attention_heads=heads, intermediate_size=4 * size.k
    )
    BertModel(config).save_pretrained(model)
    BertTokenizerFast(vocab={word: place for place, word in enumerate(words)}).save_pretrained(model)
    backbone = open_backbone(model, open_checkpoint(model), max_length=size.S)
    return partial(encode, backbone, ["word " * (size.S - 2)] * size.N)


def fit_work(fit: Callable[[dict[str, tuple[torch.Tensor, torch.Tensor]]], object], size: Size) -> Work:
    """Fit to random representations of every task."""
    noise = torch.Generator().manual_seed(0)
    pairs = {f"task {place}": tuple(torch.randn(2, size.N, size.k, generator=noise)) for place in range(size.T)}
    return partial(fit, pairs)


def by_gradient(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> object:
    """Fit modules step by step."""
    return fit_surgery(pairs, Schedule(rank=RANK, iterations=STEPS, steps_per_iteration=1), 0)


def fit_closed_form_of(pairs: dict[str, tuple[torch.Tensor, torch.Tensor]]) -> object:
    """Fit modules without steps."""
    return fit_closed_form(pairs, ClosedForm(rank=RANK))


def least(works: Sequence[Work], repeats: int) -> list[float]:
    """Return the least time of each piece of work; they take turns."""
    times = [float("inf")] * len(works)
    for _ in range(repeats):
        for place, work in enumerate(works):
            started = time.perf_counter()
            work()
            times[place] = min(times[place], time.perf_counter() - started)
    return times


def constants(stage: Stage, times: Sequence[float]) -> list[float]:
    """Return what the terms are multiplied by, not negative: least squares of the errors as shares of the times."""
    rows = np.array([stage.terms(size) for size in stage.fitted]) / np.array(times)[:, None]
    kept = list(range(rows.shape[1]))
    while True:
        found = np.linalg.lstsq(rows[:, kept], np.ones(len(rows)), rcond=None)[0]
        if (found >= 0).all() or len(kept) == 1:
            return [float(found[kept.index(place)]) if place in kept else 0.0 for place in range(rows.shape[1])]
        kept.pop(int(found.argmin()))


def predicted(stage: Stage, factors: Sequence[float], size: Size) -> float:
    """Return the seconds that the model gives."""
    return _sum(factors, stage.terms(size))


def measure(stage: Stage, repeats: int) -> tuple[list[float], list[str]]:
    """Return a stage's constants, and the lines of its table."""
    sizes = [*stage.fitted, *stage.checked]
    times = least([stage.work(size) for size in sizes], repeats)
    factors = constants(stage, times[: len(stage.fitted)])
    rows = []
    for place, (size, spent) in enumerate(zip(sizes, times, strict=True)):
        guess = predicted(stage, factors, size)
        error = guess / spent - 1
        judged = "fitted" if place < len(stage.fitted) else verdict(abs(error), TOLERANCE)
        rows.append((str(size), f"{guess:.3f}", f"{spent:.3f}", f"{error:+.0%}", judged))
    told = ", ".join(f"{factor:.3g} {unit}" for factor, unit in zip(factors, stage.units, strict=True))
    return factors, [f"## {stage.name}", "", f"Constants: {told}.", "", *table(("size", "predicted s", "measured s", "error", ""), rows)]


class Model(NamedTuple):
    """A model to extrapolate to: its experts T, parameters P, width k and layers, and N samples of S tokens a task."""

    name: str
    T: int
    P: float
    k: int
    layers: int
    N: int = 256
    S: int = 128


LARGE = (Model("8 experts of 70 B", 8, 70e9, 8192, 80), Model("1,000 tasks on 0.1 B", 1000, 109e6, 768, 12))


def extrapolated(factors: dict[str, list[float]]) -> list[str]:
    """Return a table of what large merges and their surgery cost, by the constants found."""
    rows = []
    for model in LARGE:
        size = Size(model.T, model.N, model.S, model.layers, model.k)
        operations = 2 * model.T * model.N * model.S * 2 * model.P  # every sample, by the merged model and by its expert
        by_task = {
            "encoding, on this machine": operations * factors["encoding"][0],
            "encoding, one GPU a node": operations / ACCELERATOR,
            "V1 by gradient, 1,000 steps": _sum(factors["V1 by gradient"], (1000 * size.T * size.k * RANK, 1000)),
            "V1 in closed form": _sum(factors["V1 in closed form"], closed_terms(size)),
        }
        found = _merges(factors, model) | {stage: (spent, spent / min(NODES, model.T)) for stage, spent in by_task.items()}
        rows += [(model.name, stage, *map(_duration, spent)) for stage, spent in found.items()]
    return table(("", "stage", "1 node", f"{NODES} nodes"), rows)


def _merges(factors: dict[str, list[float]], model: Model) -> dict[str, tuple[float, float]]:
    """Return what merges in 16 bits take on one node and on several: to compute, or to read and write what no page cache holds."""
    moved = (model.T + 2) * model.P * 2
    terms = (model.T * model.P, model.P, 1)
    average = max(_sum(factors["weight_averaging"], terms), moved / DISK)
    ties = max(_sum(factors["ties"], terms), (2 * moved - 2 * model.P) / DISK)
    shared = min(NODES, max(1, int(2 * model.P / SHARD)))
    # Ties' first pass is one step. Its second takes no less than an average does, so that the first takes no more than the rest.
    return {
        "merging: weight_averaging": (average, average / shared),
        "merging: ties": (ties, ties - average + average / shared),
    }


def _sum(factors: Sequence[float], terms: Sequence[float]) -> float:
    return sum(factor * term for factor, term in zip(factors, terms, strict=True))


def _duration(seconds: float) -> str:
    for unit, length in (("d", 86400), ("h", 3600), ("min", 60)):
        if seconds >= length:
            return f"{seconds / length:.1f} {unit}"
    return f"{seconds:.1f} s"


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--only", help="one stage, by its name")
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    options.folder.mkdir(parents=True, exist_ok=True)
    factors, lines = {}, list[str]()
    for stage in stages(options.folder):
        if options.only in {None, stage.name}:
            factors[stage.name], found = measure(stage, options.repeats)
            lines += found
    if options.only is None:
        lines += ["## Extrapolated", "", ASSUMED, "", *extrapolated(factors)]
    load = f"load {os.getloadavg()[1]:.1f} on {os.cpu_count()} processors"
    shape = f"{torch.get_num_threads()} threads, {load}, least of {options.repeats} times; merging of models of BERT's shape in bfloat16."
    made = "Made by `python benchmarks/scaling.py FOLDER --out docs/results/benchmark-scaling.md`."
    report(["# Scaling", "", shape, ABOUT, "", *lines, made], options.out)


if __name__ == "__main__":
    main()
