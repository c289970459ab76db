"""Merging: time and memory beside a NumPy streaming average.

    python benchmarks/merging.py FOLDER                                  # makes the checkpoints there (4 GB) and prints the tables
    python benchmarks/merging.py FOLDER --out docs/results/benchmark-merging.md

Every time is a ratio of medians measured in one run, in turns, without imports. Ours includes flushing the output to the disk and reading
it back for its digest; NumPy's is only written.
"""

import argparse
import os
import shutil
import statistics
import subprocess
import sys
import time
from collections.abc import Callable
from functools import partial
from pathlib import Path

import numpy as np
from safetensors import safe_open
from safetensors.numpy import save_file

from checkpoints import make
from suture.checkpoints import open_checkpoint
from suture.merging import make_method, merge_to_folder

REPEATS = 3
LIMITS = {"weight_averaging": 1.5, "task_arithmetic": 1.5, "ties": 8.0, "dare_ties": 6.0}
"""What each method's time may be, as a multiple of the NumPy streaming average's."""

WORKER = """
import sys
from suture.checkpoints import open_checkpoint
from suture.merging import make_method, merge_to_folder
method, out, base, *experts = sys.argv[1:]
before = next(line for line in open('/proc/self/status') if line.startswith('RssAnon'))
origin = open_checkpoint(base)
merge_to_folder(make_method(method), origin, [open_checkpoint(e) for e in experts], out)
print(before.split()[1])
"""


def numpy_average(base: Path, experts: list[Path], out: Path) -> None:
    """Average tensor by tensor as one would by hand, and write the result."""
    handles = [safe_open(expert, "np") for expert in experts]
    merged = {}
    for name in safe_open(base, "np").keys():  # noqa: SIM118
        total = handles[0].get_tensor(name).copy()
        for handle in handles[1:]:
            total += handle.get_tensor(name)
        merged[name] = np.divide(total, len(experts), out=total)
    save_file(merged, out)


def seconds(work: Callable[[], object]) -> float:
    """Return how long a piece of work takes."""
    started = time.perf_counter()
    work()
    return time.perf_counter() - started


def in_turns(works: dict[str, Callable[[], object]]) -> dict[str, float]:
    """Return each piece of work's median time; the pieces take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(REPEATS):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(found) for name, found in times.items()}


def merge(method: str, base: Path, experts: list[Path], out: Path) -> None:
    """Merge with Suture into a folder that is written anew."""
    shutil.rmtree(out, ignore_errors=True)
    merge_to_folder(make_method(method), open_checkpoint(base), [open_checkpoint(expert) for expert in experts], out)


def time_table(base: Path, experts: list[Path], scratch: Path) -> list[str]:
    """Compare the methods with the NumPy streaming average."""
    works: dict[str, Callable[[], object]] = {"numpy": partial(numpy_average, base, experts, scratch / "numpy.safetensors")}
    for method in LIMITS:
        works[method] = partial(merge, method, base, experts, scratch / "merged")
    times = in_turns(works)
    lines = ["| method | ÷ NumPy streaming average | at most | |", "|---|---:|---:|---|"]
    for method, limit in LIMITS.items():
        ratio = times[method] / times["numpy"]
        lines.append(f"| {method} | {ratio:.2f} | {limit} | {'met' if ratio <= limit else 'missed'} |")
    return [*lines, "", f"NumPy streaming average: {times['numpy']:.2f} s on this machine, this time."]


def anonymous_peak(command: list[str]) -> int:
    """Return the growth, in MB, of a process's anonymous memory over what it held before it opened anything."""
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True)
    peak = 0
    while process.poll() is None:
        try:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max(peak, next((int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon")), 0))
        except OSError:
            break
        time.sleep(0.005)
    said = process.communicate()[0]
    if process.returncode != 0:
        raise SystemExit(f"{command[0]} failed")
    return (peak - int(said.split()[-1])) // 1024


def memory_table(base: Path, experts: list[Path], scratch: Path) -> list[str]:
    """Measure the memory of whole merges."""
    largest = max(spec.dtype.itemsize * int(np.prod(spec.shape)) for spec in open_checkpoint(base).specs.values()) / 2**20
    limit = 300 + 3 * largest * (len(experts) + 1)
    lines = ["| method | experts | peak anonymous MB | at most |", "|---|---:|---:|---:|"]
    for method in LIMITS:
        for count in (2, len(experts)):
            shutil.rmtree(scratch / "merged", ignore_errors=True)
            peak = anonymous_peak([sys.executable, "-c", WORKER, method, *map(str, (scratch / "merged", base, *experts[:count]))])
            lines.append(f"| {method} | {count} | {peak} | {limit:.0f} |")
    return lines


def main() -> None:
    """Print the tables, and write them where asked to."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--out", type=Path)
    options = parser.parse_args()
    base, experts = make(options.folder, options.experts)
    scratch = options.folder / "scratch"
    scratch.mkdir(exist_ok=True)
    lines = [
        "# Merging speed and memory",
        "",
        f"Base and {len(experts)} experts of BERT-base's shape, float32, {os.cpu_count()} cores.",
        "",
    ]
    lines += [*time_table(base, experts, scratch), "", *memory_table(base, experts, scratch), ""]
    lines.append("Made by `python benchmarks/merging.py FOLDER --out docs/results/benchmark-merging.md`.")
    print("\n".join(lines))
    if options.out:
        options.out.write_text("\n".join(lines) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
