"""One machine: steps in this process, one after the other, or in worker processes, several at a time."""

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from multiprocessing.connection import wait as wait_for
from pathlib import Path
from typing import Any

from suture.engine.graph import Crew, counted
from suture.engine.outcome import perform
from suture.engine.processes import Worker, hire
from suture.engine.step import Step
from suture.errors import SutureError, UsageError
from suture.types import Stage


@dataclass(frozen=True)
class LocalEngine:
    """Run steps on this machine, ``jobs`` at a time.

    One job is this process, and every step shows its own work. More are processes of their own, each with its share of the cores for
    its threads; they work in silence below one bar for all, and their warnings are raised here. A process that is killed fails its step.

    Raises :class:`suture.errors.UsageError` unless there is at least one job.

    >>> LocalEngine(jobs=0)
    Traceback (most recent call last):
    suture.errors.UsageError: jobs must be at least 1, not 0
    """

    jobs: int = 1

    def __post_init__(self) -> None:
        if self.jobs < 1:
            raise UsageError(f"jobs must be at least 1, not {self.jobs}")

    @contextmanager
    def crew(self, store: Path, total: int, stage: Stage) -> Iterator[Crew]:
        """Yield those who run steps."""
        if self.jobs == 1:
            yield Alone(store, stage)
            return
        with counted(stage, total) as show:
            team = Team(store, min(self.jobs, total), max(1, cores() // self.jobs), show)
            try:
                yield team
            finally:
                team.dismiss()


def cores() -> int:
    """Return how many processors this process may use."""
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


@dataclass
class Alone:
    """The process that asks."""

    store: Path
    stage: Stage
    _step: Step | None = None

    def takes(self, step: Step) -> bool:  # noqa: ARG002
        """One step at a time."""
        return self._step is None

    def start(self, step: Step) -> None:
        """Take a step on; it is run when somebody waits for it."""
        self._step = step

    def wait(self) -> list[tuple[Step, Exception | None]]:
        """Run the step."""
        step, self._step = self._step, None
        assert step is not None  # noqa: S101  the caller started it
        try:
            perform(step, self.store, self.stage)
        except Exception as error:
            return [(step, error)]
        return [(step, None)]


@dataclass
class Team:
    """Worker processes, made as they are needed."""

    store: Path
    size: int
    threads: int
    show: Callable[[int, Sequence[Step]], None]
    _busy: list[tuple[Step, Worker]] = field(default_factory=list)
    _idle: list[Worker] = field(default_factory=list)
    _shown: dict[Any, Any] = field(default_factory=dict)

    def takes(self, step: Step) -> bool:  # noqa: ARG002
        """As many steps as there are workers."""
        return len(self._busy) < self.size

    def start(self, step: Step) -> None:
        """Give a step to a worker."""
        self._idle = [worker for worker in self._idle if worker.process.is_alive()]
        worker = self._idle.pop() if self._idle else hire(self.store, self.threads)
        self._busy.append((step, worker))
        worker.give(step)
        self.show(0, self._running())

    def wait(self) -> list[tuple[Step, Exception | None]]:
        """Wait for the first worker that ends its step, or dies."""
        ready = set(wait_for([worker.line for _, worker in self._busy]))
        ended = [(step, worker) for step, worker in self._busy if worker.line in ready]
        self._busy = [pair for pair in self._busy if pair not in ended]
        return [(step, self._ended(step, worker)) for step, worker in ended]

    def dismiss(self) -> None:
        """End all workers."""
        workers = [*self._idle, *(worker for _, worker in self._busy)]
        for worker in workers:
            worker.stop()
        for worker in workers:
            worker.bury()

    def _ended(self, step: Step, worker: Worker) -> Exception | None:
        outcome = worker.outcome(step)
        self.show(1, self._running())
        if isinstance(outcome, SutureError):
            return outcome
        self._idle.append(worker)
        outcome.warn_again(self._shown)
        return outcome.error()

    def _running(self) -> list[Step]:
        return [step for step, _ in self._busy]
