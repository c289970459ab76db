"""Fitting surgery: cost beside the authors' procedure, growth with tasks, samples, width and rank, and memory of the deep closed form.

    python benchmarks/surgery.py --out docs/results/benchmark-surgery.md

The authors' loop runs a batch of every task through the merged model and through the expert at every step, and then takes a step of
Adam. Here it is run so for a few steps, and its time multiplied by the number that it takes. Ours fits on representations that are
computed once; the time of computing them stands beside. The experts are those of the suite nlp8, the merge is weight averaging.
"""

import argparse
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import torch
from torch import Tensor

from measuring import in_turns, peak_memory, printed_apart, quietness, report, seconds, table, verdict
from suture.backbones import Backbone
from suture.checkpoints import open_checkpoint
from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting, prepare
from suture.inputs import Input
from suture.merging import WeightAveraging, merge_to_folder
from suture.representation import encode, representation_bias
from suture.surgery import ClosedForm, Schedule, Surgery, fit_closed_form, fit_deep_closed_form, fit_surgery
from suture.surgery.module import operate, start_of_fit
from suture.surgery.pairs import Pair

SAMPLES, OTHERS, STEPS, REPEATS = 256, 128, 4, 3
FITTED = 512, 2048
"""Numbers of samples whose memory is compared: both fill whole batches."""
COST_LIMIT, ENCODINGS_LIMIT, GROWTH_LIMIT = 1 / 50, 3, 1.25
"""What ours may cost of the reference; encodings of the calibration set per task; memory with four times the samples."""


@dataclass(frozen=True)
class Bench:
    """The suite with a merged model."""

    setting: Setting
    merged: Backbone

    @classmethod
    def at(cls, folder: Path) -> "Bench":
        """Merge the suite's experts into a folder."""
        setting = prepare(Recipe(suite="nlp8", merges=["weight_averaging"]))
        merge_to_folder(WeightAveraging(), setting.base, list(setting.experts.values()), folder / "merged")
        return cls(setting, setting.backbone(open_checkpoint(folder / "merged")))

    @property
    def tasks(self) -> list[str]:
        """The tasks' names."""
        return list(self.setting.experts)

    def texts(self, task: str, start: int, count: int) -> list[Input]:
        """Return texts of a task's calibration split."""
        split = next(each for each in self.setting.tasks if each.name == task).split("calibration")
        return list(split.inputs[start : start + count])

    def expert(self, task: str) -> Backbone:
        """Return a task's expert."""
        return self.setting.backbone(self.setting.experts[task])

    def pairs(self, start: int, count: int) -> dict[str, Pair]:
        """Return the representations of texts of every task."""
        chosen = {task: self.texts(task, start, count) for task in self.tasks}
        return {task: (encode(self.merged, texts), encode(self.expert(task), texts)) for task, texts in chosen.items()}


def reference(bench: Bench, steps: int) -> Callable[[], None]:
    """Return the authors' loop over some steps: both models are run at every one, for every task, on 16 texts."""
    generator, experts = torch.Generator().manual_seed(0), {task: bench.expert(task) for task in bench.tasks}
    texts = {task: bench.texts(task, 0, SAMPLES) for task in bench.tasks}
    modules = [start_of_fit(384, 16, generator) for _ in bench.tasks]
    parameters = [part.requires_grad_() for module in modules for part in (module.down, module.up)]
    optimizer = torch.optim.Adam(parameters, lr=1e-3)

    def run() -> None:
        for _ in range(steps):
            losses = []
            for module, task in zip(modules, bench.tasks, strict=True):
                rows = torch.randint(0, SAMPLES, (16,), generator=generator).tolist()
                batch = [texts[task][row] for row in rows]
                merged, expert = encode(bench.merged, batch), encode(experts[task], batch)
                losses.append((operate(merged, module.down, module.up) - expert).abs().mean())
            optimizer.zero_grad()
            torch.stack(losses).sum().backward()
            optimizer.step()

    return run


def left(surgery: Surgery, pairs: dict[str, Pair]) -> float:
    """Return the share of the bias on other texts that is left after surgery, averaged over tasks."""
    shares = [
        representation_bias(surgery(task, merged), expert).l1 / representation_bias(merged, expert).l1
        for task, (merged, expert) in pairs.items()
    ]
    return sum(shares) / len(shares)


def costs(bench: Bench) -> list[str]:
    """Return the table of costs beside the reference procedure's."""
    pairs, others = bench.pairs(0, SAMPLES), bench.pairs(SAMPLES, OTHERS)
    texts = {task: bench.texts(task, 0, SAMPLES) for task in bench.tasks}
    schedule = Schedule.reference()
    works: dict[str, Callable[[], object]] = {
        "reference": reference(bench, STEPS),
        "encoding": lambda: bench.pairs(0, SAMPLES),
        "V1": lambda: fit_surgery(pairs, schedule, 0),
        "V1, ours": lambda: fit_surgery(pairs, Schedule.default(), 0),
        "closed form": lambda: fit_closed_form(pairs),
        "deep closed form": lambda: fit_deep_closed_form(texts, bench.merged, bench.expert),
    }
    times = in_turns(works, REPEATS)
    whole = times["reference"] * schedule.steps / STEPS
    quality = {
        "V1": left(fit_surgery(pairs, schedule, 0), others),
        "V1, ours": left(fit_surgery(pairs, Schedule.default(), 0), others),
        "closed form": left(fit_closed_form(pairs), others),
    }
    rows = [["reference: both models run at every step", f"{whole:.0f}", "1", "", "as V1", ""]]
    for name, bias in quality.items():
        share = times[name] / whole
        at_most = f"1/{1 / COST_LIMIT:.0f}"
        rows.append([name, f"{times[name]:.2f}", f"1/{1 / share:.0f}", at_most, f"{bias:.3f}", verdict(share, COST_LIMIT)])
    for name, label in (("deep closed form", "deep closed form, from texts"), ("encoding", "computing the representations, once")):
        rows.append([label, f"{times[name]:.1f}", f"1/{whole / times[name]:.0f}", "", "", ""])
    return table(["procedure", "seconds", "of the reference", "at most", "bias left", ""], rows)


def random_pairs(tasks: int, samples: int, width: int) -> dict[str, Pair]:
    """Return representations of no model."""
    generator = torch.Generator().manual_seed(0)

    def one() -> Pair:
        z = torch.randn(samples, width, generator=generator)
        return z, z + 0.1 * torch.randn(samples, width, generator=generator)

    return {f"task{number}": one() for number in range(tasks)}


def exponent(sizes: Sequence[int], times: Sequence[float]) -> float:
    """Return the slope of log time over log size."""
    return float(np.polyfit(np.log(sizes), np.log(times), 1)[0])


def growth() -> list[str]:
    """Return the table of growth of V1 and of the closed form."""
    usual = {"T": 8, "N": 512, "k": 384, "r": 16}
    ranges = {"T": [2, 4, 8, 16, 32], "N": [128, 512, 2048, 8192], "k": [192, 384, 768, 1536], "r": [4, 16, 64]}
    rows = []
    for name, sizes in ranges.items():
        times: dict[str, list[float]] = {"V1": [], "closed form": []}
        for size in sizes:
            at = usual | {name: size}
            pairs, rank = random_pairs(at["T"], at["N"], at["k"]), at["r"]
            times["V1"].append(seconds(partial(fit_surgery, pairs, Schedule(rank=rank, iterations=50), 0)))
            times["closed form"].append(seconds(partial(fit_closed_form, pairs, ClosedForm(rank))))
        cells = [[f"{found[0]:.2f} … {found[-1]:.2f}", f"{exponent(sizes, found):.2f}"] for found in times.values()]
        rows.append([f"{name} = {', '.join(map(str, sizes))}", *cells[0], *cells[1]])
    return table(["", "V1, seconds", "exponent", "closed form, seconds", "exponent"], rows)


def blocks_forwarded(bench: Bench) -> float:
    """Return how many times the deep closed form encodes a task's calibration set, counted in blocks."""
    task, counts = bench.tasks[0], [0]
    texts, expert = bench.texts(task, 0, 64), bench.expert(task)

    def count(_module: torch.nn.Module, inputs: tuple[Tensor, ...], _outputs: object) -> None:
        counts[0] += len(inputs[0])

    members = [*bench.merged.blocks.chain, *expert.blocks.chain]
    # Inside the block, as the block itself is stood in for when it is not to be run.
    hooks = [member.get_submodule("output").register_forward_hook(count) for member in members]
    fit_deep_closed_form({task: texts}, bench.merged, lambda _: expert, ClosedForm(4))
    for hook in hooks:
        hook.remove()
    return counts[0] / len(texts) / bench.merged.blocks.depth


def fit_and_print_memory(samples: int) -> None:
    """Fit the deep closed form of one task on so many texts, of all tasks in turn, and print the memory that it took, in MB."""
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.at(Path(folder))
        task, each = bench.tasks[0], -(-samples // len(bench.tasks))
        expert, rows = bench.expert(task), zip(*(bench.texts(name, 0, each) for name in bench.tasks), strict=True)
        texts = [text for row in rows for text in row]
        fit_deep_closed_form({task: texts[:16]}, bench.merged, lambda _: expert, ClosedForm(4))
        with peak_memory() as most:
            fit_deep_closed_form({task: texts[:samples]}, bench.merged, lambda _: expert)
    print(most[0] / 2**20)


def memory(samples: int, *, returned: bool) -> float:
    """Return what such a process of its own prints; ``returned`` lets the allocator give what is freed back to the system at once."""
    return printed_apart(__file__, "--memory-only", str(samples), **({"MALLOC_MMAP_THRESHOLD_": str(2**16)} if returned else {}))


def told_of_memory() -> str:
    """Return what is said of the deep closed form's memory."""
    (few, many), kept = ([memory(samples, returned=returned) for samples in FITTED] for returned in (True, False))
    return (
        f"Its peak memory is {few:.0f} MB on {FITTED[0]:,} samples and {many:.0f} MB on {FITTED[1]:,} (at most {GROWTH_LIMIT} times "
        f"as much, which we read as not growing: {verdict(many, GROWTH_LIMIT * few)}), measured as anonymous memory in a process that "
        f"gives back what it frees (`MALLOC_MMAP_THRESHOLD_={2**16}`); what grows are the prepared inputs. As glibc keeps freed memory by "
        f"default it is {kept[0]:.0f} and {kept[1]:.0f} MB ({verdict(kept[1], GROWTH_LIMIT * kept[0])})."
    )


def main() -> None:
    """Print the report, and write it where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path)
    parser.add_argument("--memory-only", type=int, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.memory_only:
        fit_and_print_memory(options.memory_only)
        return
    with tempfile.TemporaryDirectory() as folder:
        bench = Bench.at(Path(folder))
        encodings, cost = blocks_forwarded(bench), costs(bench)
    lines = [
        "# The cost of surgery",
        "",
        f"nlp8, weight averaging, eight tasks, {SAMPLES} samples a task, rank 16. *Bias left*: the mean over tasks of the L1 bias after ÷",
        f"before, on {OTHERS} other samples of the calibration split. The reference's time is that of {STEPS} of its",
        f"{Schedule.reference().steps} steps, scaled up. Medians of {REPEATS}.",
        quietness(),
        "",
        *cost,
        f"The deep closed form encodes a task's calibration set {encodings:.2f} times, counted in blocks (at most {ENCODINGS_LIMIT}: "
        f"{verdict(encodings, ENCODINGS_LIMIT)}).",
        told_of_memory(),
        "",
        "## Growth",
        "",
        "Random representations; T = 8 tasks, N = 512 samples, width k = 384, rank r = 16 but for what the row says; V1 with 100 steps.",
        "",
        *growth(),
        "Made by `python benchmarks/surgery.py --out docs/results/benchmark-surgery.md`.",
    ]
    report(lines, options.out)


if __name__ == "__main__":
    main()
