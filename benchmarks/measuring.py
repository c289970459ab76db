"""What the benchmarks share: times taken in turns, memory, processes of their own, and reports."""

import os
import shutil
import statistics
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import TypeVar

from suture.checkpoints import open_checkpoint
from suture.merging import make_method, merge_to_folder

Work = Callable[[], object]
Result = TypeVar("Result")

QUIET, TRIES, PATIENCE = 0.2, 3, 30
"""What others may take of a processor; how often to measure again; half-seconds to wait for a quiet machine."""

WORKER = """
import sys, time
from suture.checkpoints import open_checkpoint
from suture.merging import make_method, merge_to_folder
method, out, base, *experts = sys.argv[1:]
before = next(line for line in open('/proc/self/status') if line.startswith('RssAnon'))
started = time.perf_counter()
origin = open_checkpoint(base)
merge_to_folder(make_method(method), origin, [open_checkpoint(e) for e in experts], out)
print(time.perf_counter() - started, before.split()[1])
"""


disturbed: list[float] = []
"""The processors that others took while a time was measured that had to be kept nevertheless."""


def undisturbed(work: Callable[[], Result]) -> tuple[float, Result]:
    """Return how long a piece of work takes on a machine that does nothing else, and its result.

    Whatever else runs would slow work on all processors and leave work on one alone; so what was disturbed is measured again.
    """
    for _ in range(TRIES):
        # What the work before left to be written would be written at the expense of this one.
        os.sync()
        _wait_for_quiet()
        before, started = _others(), time.perf_counter()
        result = work()
        spent = time.perf_counter() - started
        taken = (_others() - before) / spent
        if taken <= QUIET:
            return spent, result
    disturbed.append(taken)
    return spent, result


def seconds(work: Work) -> float:
    """Return how long a piece of work takes, undisturbed."""
    return undisturbed(work)[0]


def _others() -> float:
    """Return the processor time, in seconds, that has been spent so far on anything but this process and its children."""
    user, nice, system = map(int, Path("/proc/stat").read_text().split(maxsplit=4)[1:4])
    own = os.times()
    return (user + nice + system) / os.sysconf("SC_CLK_TCK") - sum(own[:4])


def _wait_for_quiet() -> None:
    """Wait until others take little of the machine, or for as long as one is ready to wait."""
    for _ in range(PATIENCE):
        before = _others()
        time.sleep(0.5)
        if (_others() - before) / 0.5 <= QUIET:
            return


def quietness() -> str:
    """Return a sentence on how quiet the machine was."""
    if not disturbed:
        return f"No time was kept during which other processes took more than {QUIET:g} of a processor."
    return f"Not a quiet machine: {len(disturbed)} times were kept although others took up to {max(disturbed):.2f} processors meanwhile."


def in_turns(works: dict[str, Work], repeats: int) -> dict[str, float]:
    """Return each piece of work's median time; the pieces take turns, so that a busy machine is busy for all."""
    times: dict[str, list[float]] = {name: [] for name in works}
    for _ in range(repeats):
        for name, work in works.items():
            times[name].append(seconds(work))
    return {name: statistics.median(found) for name, found in times.items()}


def merge(method: str, base: Path, experts: Sequence[Path], out: Path) -> None:
    """Merge with Suture into a folder that is written anew."""
    shutil.rmtree(out, ignore_errors=True)
    merge_to_folder(make_method(method), open_checkpoint(base), [open_checkpoint(expert) for expert in experts], out)


def merge_apart(method: str, base: Path, experts: Sequence[Path], out: Path) -> tuple[float, int]:
    """Merge in a process of its own; return the seconds, without imports, and the growth, in MB, of its anonymous memory meanwhile."""
    command = [sys.executable, "-c", WORKER, method, *map(str, (out, base, *experts))]

    def watched() -> tuple[float, int]:
        shutil.rmtree(out, ignore_errors=True)
        return _watch(command)

    return undisturbed(watched)[1]


def _watch(command: Sequence[str]) -> tuple[float, int]:
    """Run the worker, and return the seconds that it tells and how far its anonymous memory rose, in MB."""
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
    spent, before = said.split()
    return float(spent), (peak - int(before)) // 1024


def memory_limit(base: Path, experts: int) -> float:
    """Return how many MB a merge may take: 300 and three times the largest tensor of the base and of every expert."""
    held = open_checkpoint(base)
    largest = max(held[name].nbytes for name in held) / 2**20
    return 300 + 3 * largest * (experts + 1)


def verdict(value: float, limit: float) -> str:
    """Return whether a limit is kept."""
    return "met" if value <= limit else "missed"


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """Return the lines of a Markdown table, numbers to the right."""
    return [f"| {' | '.join(head)} |", "|---" + "|---:" * (len(head) - 1) + "|", *(f"| {' | '.join(row)} |" for row in rows), ""]


def report(lines: Sequence[str], out: Path | None) -> None:
    """Print a report, and write it where asked to."""
    text = "\n".join(lines)
    print(text)
    if out:
        out.write_text(text + "\n", encoding="utf-8")


def anonymous() -> int:
    """Return the process's anonymous memory, in bytes."""
    status = Path("/proc/self/status").read_text()
    return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("RssAnon"))


@contextmanager
def peak_memory() -> Iterator[list[int]]:
    """Watch the anonymous memory of this process; the list's one element is the most that it grew by."""
    before, most, done = anonymous(), [0], threading.Event()

    def watch() -> None:
        while not done.wait(0.01):
            most[0] = max(most[0], anonymous() - before)

    watcher = threading.Thread(target=watch)
    watcher.start()
    try:
        yield most
    finally:
        done.set()
        watcher.join()


def printed_apart(script: str, *arguments: str, **environment: str) -> float:
    """Run a script in a process of its own, with these variables beside ours, and return the number that it prints last."""
    command = [sys.executable, script, *arguments]
    done = subprocess.run(command, env=os.environ | environment, check=True, stdout=subprocess.PIPE, text=True)
    return float(done.stdout.split()[-1])
