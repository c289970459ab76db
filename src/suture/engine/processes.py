"""Worker processes: each runs one step at a time, and which one it was is known when it dies."""

import multiprocessing
import os
import pickle
import signal
import sys
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path

from suture.engine.outcome import Outcome, attempt, fault_of
from suture.engine.step import Step
from suture.errors import SutureError

THREADS = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "VECLIB_MAXIMUM_THREADS")
PATIENCE = 10.0
"""Seconds that a process has to clean up after it was told to stop."""


@dataclass
class Worker:
    """A process, and the line to it."""

    process: BaseProcess
    line: Connection

    def give(self, step: Step) -> None:
        """Hand over a step; raises what pickling raises. That the process is dead shows in the outcome."""
        content = pickle.dumps(step)
        with suppress(OSError):
            self.line.send_bytes(content)

    def outcome(self, step: Step) -> Outcome | SutureError:
        """Return how a step ended, once there is something to read or the process is dead."""
        try:
            outcome: Outcome = pickle.loads(self.line.recv_bytes())  # noqa: S301  it comes from a process of ours
        except (EOFError, OSError):
            self.process.join()
            return SutureError(f"the process that ran the step {step.title!r} {_end(self.process.exitcode)}")
        return outcome

    def stop(self) -> None:
        """Ask the process to end, and make it."""
        self.line.close()
        if self.process.is_alive():
            self.process.terminate()

    def bury(self) -> None:
        """Wait for the process to end, not for ever."""
        self.process.join(PATIENCE)
        if self.process.is_alive():
            self.process.kill()
            self.process.join()


def hire(store: Path, threads: int) -> Worker:
    """Start a worker, whose libraries compute on that many threads."""
    # Not forked: a copy of a process that has threads may stand still for ever at the first lock.
    context = multiprocessing.get_context("spawn")
    ours, theirs = context.Pipe()
    process = context.Process(target=_work, args=(theirs, store), name="suture-worker")
    with environment(dict.fromkeys(THREADS, str(threads))):
        process.start()
    theirs.close()
    return Worker(process, ours)


@contextmanager
def environment(values: Mapping[str, str]) -> Iterator[None]:
    """Set variables that a process made in the block inherits: its libraries read them when they are imported, before any code of ours."""
    before = {name: os.environ.get(name) for name in values}
    os.environ.update(values)
    try:
        yield
    finally:
        for name, value in before.items():
            if value is None:
                del os.environ[name]
            else:
                os.environ[name] = value


def _work(line: Connection, store: Path) -> None:
    """Run steps until the line is closed."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # Ctrl-C reaches all processes of a terminal; the parent sees to this one
    signal.signal(signal.SIGTERM, _leave)
    threading.Thread(target=_end_with_parent, daemon=True).start()
    with suppress(EOFError, OSError):
        while True:
            outcome = _received(line.recv_bytes(), store)
            line.send_bytes(pickle.dumps(outcome))

    signal.signal(signal.SIGTERM, signal.SIG_IGN)  # it is leaving


def _leave(*_: object) -> None:
    """End in good order, so that what is staged is cleared away; to be told so again would only break that off."""
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    sys.exit(128 + signal.SIGTERM)


def _received(received: bytes, store: Path) -> Outcome:
    try:
        step: Step = pickle.loads(received)  # noqa: S301  likewise
    except Exception as error:
        return Outcome(fault=fault_of(error))
    return attempt(step, store)


def _end_with_parent() -> None:
    """A worker whose parent was killed would go on to compute for nobody."""
    if (parent := multiprocessing.parent_process()) is not None:
        parent.join()
        os.kill(os.getpid(), signal.SIGTERM)


def _end(code: int | None) -> str:
    if code is not None and code < 0:
        name = signal.Signals(-code).name if -code in set(signal.Signals) else f"signal {-code}"
        hint = ": the machine may be out of memory; fewer jobs take less" if -code == signal.SIGKILL else ""
        return f"was ended by {name}{hint}"
    return f"ended with exit code {code}, without a result"
