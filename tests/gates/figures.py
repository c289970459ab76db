"""What the gates have in common: how many trials are made, where a trial runs, what is told of one that fails.

``make test`` runs the first column of the figures to hold, ``make soak`` a share of the second: the same code, with ``SUTURE_SOAK`` set
to that share. Trials are numbered, and everything random about a trial follows from its number.
"""

import json
import mmap
import os
import pickle
import signal
import sys
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from select import select
from typing import Any

import torch
from jaxtyping import config

from suture.errors import SutureError

SHARE, REPORT = "SUTURE_SOAK", "SUTURE_SOAK_REPORT"
SHOWN = 5
"""The most faults that are told in full."""
STILL = 60.0
"""Seconds without a trial ended, after which the process is taken for one that stands still."""


@dataclass(frozen=True)
class Figure:
    """A row of the figures to hold."""

    name: str
    suite: int
    soak: int

    @property
    def trials(self) -> int:
        """How many are made now."""
        share = os.environ.get(SHARE)
        return self.suite if share is None else max(1, round(float(share) * self.soak))

    def share(self, part: int, parts: int) -> range:
        """Return the numbers of the trials of one of several parts."""
        return range(part, self.trials, parts)

    @contextmanager
    def told(self) -> Iterator["Tally"]:
        """Yield what to count in; a soak keeps it, with the seconds it took, for its report."""
        tally, start = Tally(), time.perf_counter()
        try:
            yield tally
        finally:
            if REPORT in os.environ:
                trials = tally.total() if tally.trials is None else tally.trials
                line = {"figure": self.name, "whole": self.soak, "trials": trials, "seconds": time.perf_counter() - start}
                with Path(os.environ[REPORT]).open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(line | {"found": dict(tally.counts), "faults": tally.faults}) + "\n")


@dataclass
class Tally:
    """What came of trials: how many ended in which way, and those that broke a promise."""

    counts: Counter[str] = field(default_factory=Counter)
    faults: list[str] = field(default_factory=list)
    trials: int | None = None
    """How many there were, where more than one thing is counted of each."""

    def __getitem__(self, outcome: str) -> int:
        return self.counts[outcome]

    def total(self) -> int:
        """Return how many trials there were."""
        return self.counts.total()

    def __iadd__(self, other: "Tally") -> "Tally":
        self.counts += other.counts
        self.faults += other.faults
        return self

    def check(self) -> None:
        """Raise ``AssertionError`` when a trial has broken a promise."""
        shown = "\n".join(self.faults[:SHOWN])
        assert not self.faults, f"{len(self.faults)} of {self.total()} trials:\n{shown}"


def survey(figure: Figure, numbers: Sequence[int], material: Callable[[int], Any], trial: Callable[[Any], str]) -> Tally:
    """Make trials in a process of their own: what follows from each number is tried, and the way in which that ended is counted.

    ``trial`` returns the way, or raises: that is a fault, and told with the number and the material. So is the death of the process.
    """
    with figure.told() as tally:
        rest = numbers
        while rest:
            done = mmap.mmap(-1, 8)
            found, ended = _in_child(figure, rest, done, lambda rest=rest, done=done: _try_each(rest, material, trial, done))
            if found is not None:
                tally += found
                break
            at = int.from_bytes(done[:8], "little")
            tally.counts["crash"] += at + 1
            tally.faults.append(f"trial {rest[at]}: the process {ended} over {material(rest[at])!r}")
            rest = rest[at + 1 :]
    return tally


def _try_each(numbers: Sequence[int], material: Callable[[int], Any], trial: Callable[[Any], str], done: mmap.mmap) -> Tally:
    tally = Tally()
    for place, number in enumerate(numbers):
        done[:8] = place.to_bytes(8, "little")
        given = material(number)
        try:
            outcome = trial(given)
        except BaseException as error:  # a panic of a library in Rust is no Exception
            outcome = "fault"
            if len(tally.faults) < SHOWN:
                where = traceback.extract_tb(error.__traceback__)[-1]
                tally.faults.append(f"trial {number}: {repr(error)[:500]} ({where.filename}:{where.lineno}) over {given!r}")
            else:
                tally.faults.append(f"trial {number}: {repr(error)[:100]}")
        tally.counts[outcome] += 1
    return tally


def _in_child(figure: Figure, numbers: Sequence[int], done: mmap.mmap, work: Callable[[], Tally]) -> tuple[Tally | None, str]:
    """Run work in a fork of this process, and show how far it is; return its result, or None and how the process ended."""
    ours, theirs = os.pipe()
    child = fork(lambda: _answer(theirs, work))
    os.close(theirs)
    answer, at, since = bytearray(), -1, time.monotonic()
    try:
        while True:
            if select([ours], [], [], 1.0)[0]:
                if not (part := os.read(ours, 1 << 16)):
                    break
                answer += part
            now = int.from_bytes(done[:8], "little")
            at, since = (now, time.monotonic()) if now != at else (at, since)
            show(figure, now, len(numbers))
            if time.monotonic() - since > STILL:
                os.kill(child, signal.SIGKILL)
    finally:
        os.close(ours)
        code = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
    if code == 0:
        return pickle.loads(answer), ""
    return None, f"ended with {code}" if code > 0 else f"was ended by {signal.Signals(-code).name}"


def _answer(line: int, work: Callable[[], Tally]) -> None:
    content = pickle.dumps(work())
    while content:
        content = content[os.write(line, content) :]


def check_message(error: SutureError, file: Path, given: int) -> None:
    """See to it that a message names the file, does nothing to a terminal, and is in proportion to the bytes that were given."""
    message = str(error)
    assert str(file) in message, f"the message does not name the file: {message}"
    assert message.replace("\n", "").isprintable(), f"the message is not printable: {message!r}"
    assert len(message) < 2000 + 6 * given, f"the message has {len(message)} characters"


def show(figure: Figure, done: int, total: int) -> None:
    """Say in a soak how far it is."""
    if SHARE in os.environ:
        sys.stderr.write(f"\r{figure.name}: {done:,} of {total:,}\x1b[K")
        sys.stderr.flush()


def fork(work: Callable[[], None]) -> int:
    """Run work in a fork of this process, all of whose imports it has, and return its number; it leaves nothing of pytest's to do."""
    child = os.fork()
    if child:
        return child
    code = 1
    try:
        torch.set_num_threads(1)  # threads of OpenMP do not survive a fork
        config.update("jaxtyping_disable", True)  # what users run is not checked at every call, and meets what the checks would keep out
        work()
        code = 0
    except BaseException:
        traceback.print_exc()
    finally:
        with suppress(BaseException):
            sys.stderr.flush()
        os._exit(code)
