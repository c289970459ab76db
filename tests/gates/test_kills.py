"""SIGKILL at any moment: what stands at the output is the old or the new, whole, and the next run clears away what was left.

Half of the moments are drawn over the time that the work takes, the other half lie before or after a call that changes the disk, most of
them at those that put the new in its place.
"""

import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest

from gates.figures import SHARE, Figure, Tally, fork, show
from gates.interposing import Call, Hook, calls_of, interposed, look
from gates.operations import Operation, calibration, exporting, fit, fitting, merging, merging_by_shards, shipping
from suture.surgery import Schedule
from suture.surgery.resuming import identity_of, read_state

MERGE = Figure("SIGKILL during merge", suite=50, soak=1_000)
FIT = Figure("SIGKILL during fit", suite=50, soak=1_000)
EXPORT = Figure("SIGKILL during export", suite=50, soak=1_000)
RESUME = Figure("SIGKILL during fits and merges that are resumed", suite=50, soak=1_000)
COMMITS = {"exchange", "rename", "replace"}
Work = Callable[[], object]


def run_and_kill(work: Work, delay: float) -> bool:
    """Do some work in a process that is killed after a time; say whether it was still at it."""
    child = fork(work)
    time.sleep(delay)
    os.kill(child, signal.SIGKILL)
    return os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == -signal.SIGKILL


def killed_at(place: int, *, after: bool) -> Hook:
    """Return what ends the process before or after one call."""

    def hook(call: Call, done: bool) -> None:
        if call.place == place and done == after:
            os.kill(os.getpid(), signal.SIGKILL)

    return hook


def run_until(work: Work, hook: Hook) -> bool:
    """Do some work in a process whose calls a hook is told of; say whether it was killed."""

    def watched() -> None:
        with interposed(hook):
            work()

    return os.waitstatus_to_exitcode(os.waitpid(fork(watched), 0)[1]) == -signal.SIGKILL


def seconds_of(work: Work) -> float:
    """Return how long some work takes in a process of its own."""
    start = time.perf_counter()
    code = os.waitstatus_to_exitcode(os.waitpid(fork(work), 0)[1])
    assert code == 0
    return time.perf_counter() - start


def interrupt(operation: Operation, trials: range, tally: Tally, figure: Figure) -> None:
    """Kill an operation once for each number, and look at what it leaves."""
    operation.stand(0)
    calls = [call for call in calls_of(lambda: operation.write(1)) if call.writes]
    commits = [call for call in calls if call.name in COMMITS]
    assert commits
    length = seconds_of(lambda: operation.write(1))
    for number in trials:
        random = Random(number)
        before = random.choice((0, 0, None))
        operation.stand(before)
        if number % 2:
            call, after = random.choice(random.choice((commits, calls))), random.random() < 0.5
            moment = f"{'after' if after else 'before'} {call}"
            killed = run_until(lambda: operation.write(1), killed_at(call.place, after=after))
        else:
            delay = random.random() * 1.1 * length
            moment = f"after {delay:.6f} s"
            killed = run_and_kill(lambda: operation.write(1), delay)
        tally.counts[f"{operation.name}: {'killed' if killed else 'ended'}"] += 1
        tally.faults += [f"{operation.name}, trial {number}, killed {moment}: {fault}" for fault in inspect(operation, before)]
        show(figure, tally.total(), figure.trials)


def inspect(operation: Operation, before: int | None) -> list[str]:
    """Return what is wrong with what a killed process has left, and with what the next run makes of that."""
    faults = []
    try:
        if operation.standing() not in {before, 1}:
            faults.append(f"version {operation.standing()} stands there, after {before}")
    except AssertionError as error:
        faults.append(str(error))
    if strange := [name for name in operation.beside() if not name.startswith(f".{operation.out.name}")]:
        faults.append(f"left {strange}")
    try:
        operation.write(1)
        if operation.standing() != 1 or operation.beside():
            faults.append(f"the next run leaves version {operation.standing()} and {operation.beside()}")
    except Exception as error:
        faults.append(f"the next run fails: {error!r}")
    return faults


def between(figure: Figure, first: Operation, second: Operation) -> Tally:
    """Interrupt two operations in turn."""
    with figure.told() as tally:
        for numbers, operation in zip((range(figure.trials // 2), range(figure.trials // 2, figure.trials)), (first, second), strict=True):
            interrupt(operation, numbers, tally, figure)
    return tally


@pytest.mark.fault(25)
def test_a_killed_merge_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    (tmp_path / "one").mkdir()
    between(MERGE, merging(tmp_path / "one"), merging(tmp_path, shards=2)).check()


@pytest.mark.fault(25)
def test_a_killed_fit_leaves_the_old_or_the_new(tmp_path: Path) -> None:
    with FIT.told() as tally:
        interrupt(fitting(tmp_path), range(FIT.trials), tally, FIT)
    tally.check()


@pytest.mark.fault(25)
def test_a_killed_export_leaves_the_old_or_the_new(tmp_path: Path, bert: Path) -> None:
    """Of a model to ship; a soak does it with ONNX graphs too, whose tracing takes longer than all else here."""
    if SHARE in os.environ:
        tally = between(EXPORT, shipping(tmp_path, bert), exporting(tmp_path, bert))
    else:
        with EXPORT.told() as tally:
            interrupt(shipping(tmp_path, bert), range(EXPORT.trials), tally, EXPORT)
    tally.check()


@pytest.mark.fault(25, 28)
def test_what_was_killed_is_resumed_to_the_same_bits(tmp_path: Path) -> None:
    with RESUME.told() as tally:
        resume_fits(tmp_path, range(RESUME.trials // 2), tally)
        resume_merges(tmp_path, range(RESUME.trials // 2, RESUME.trials), tally)
    tally.check()
    assert tally["fit: resumed"] > 3, tally.counts
    assert tally["merge: resumed"] > 3, tally.counts


def resume_fits(folder: Path, trials: range, tally: Tally) -> None:
    """Kill a fit again and again; each goes on from where the last one was, until one comes to the end."""
    pairs, iterations = calibration(), 400
    place = folder / "resumed"
    place.mkdir()
    out, state, expected = place / "surgery.safetensors", place / "state", folder / "expected.safetensors"
    identity = identity_of(pairs, Schedule(rank=2, iterations=iterations), 0)

    def work() -> None:
        fit(pairs, out, iterations, state)

    length = seconds_of(lambda: fit(pairs, expected, iterations, folder / "state"))
    for number in trials:
        run_and_kill(work, Random(number).random() * 0.6 * length)
        try:
            found = read_state(state, identity)
        except Exception as error:
            tally.faults.append(f"fit, trial {number}: {error!r}")
            state.unlink()
            continue
        tally.counts["fit: resumed" if found and found[1] else "fit: anew"] += 1
        if out.exists():
            if out.read_bytes() != expected.read_bytes():
                tally.faults.append(f"fit, trial {number}: other bits than of one that was not killed")
            out.unlink()
            state.unlink(missing_ok=True)
        show(RESUME, tally.total(), RESUME.trials)
    work()
    assert look(out) == look(expected)
    assert [entry.name for entry in place.iterdir()] == [out.name]


def resume_merges(folder: Path, trials: range, tally: Tally) -> None:
    """Kill a merge shard by shard; the next run goes on from the shards that are there."""
    (folder / "shards").mkdir()
    operation = merging_by_shards(folder / "shards")
    calls = [call for call in calls_of(lambda: operation.write(1)) if call.writes]
    commits = [call for call in calls if call.name in COMMITS]
    length = seconds_of(lambda: operation.write(1))
    operation.stand(0)
    for number in trials:
        random = Random(number)
        if number % 2:
            call = random.choice(random.choice((commits, calls)))
            run_until(lambda: operation.write(1), killed_at(call.place, after=random.random() < 0.5))
        else:
            run_and_kill(lambda: operation.write(1), random.random() * length)
        try:
            standing = operation.standing()
        except AssertionError as error:
            tally.faults.append(f"merge, trial {number}: {error}")
            standing = 1
        if standing is None:
            tally.faults.append(f"merge, trial {number}: nothing stands there")
        kept = list((operation.out.parent / f".{operation.out.name}.shards").glob("[0-9a-f]*/manifest.json"))
        tally.counts["merge: resumed" if kept and standing == 0 else "merge: anew"] += 1
        if standing != 0:
            tally.faults += [f"merge, trial {number}: {fault}" for fault in inspect(operation, 1)]
            operation.stand(0)
        show(RESUME, tally.total(), RESUME.trials)
    tally.faults += [f"merge, at the end: {fault}" for fault in inspect(operation, 0)]
