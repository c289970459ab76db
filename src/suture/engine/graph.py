"""A graph of steps, run as far as their results are not there yet."""

from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from suture.engine.step import Step
from suture.errors import OutputError
from suture.types import Renaming, Stage, silent


@runtime_checkable
class Crew(Protocol):
    """Those who run steps."""

    def takes(self, step: Step) -> bool:
        """Say whether there is room for a step now; where nothing runs, there is for any."""
        ...

    def start(self, step: Step) -> None:
        """Start a step."""
        ...

    def wait(self) -> list[tuple[Step, Exception | None]]:
        """Return the steps that have ended, at least one, and what they failed with."""
        ...


@runtime_checkable
class Engine(Protocol):
    """Where steps run: this process, others of this machine, or a cluster."""

    def crew(self, store: Path, total: int, stage: Stage) -> AbstractContextManager[Crew]:
        """Yield a crew for ``total`` steps; when the block ends, whatever still runs is stopped."""
        ...


@dataclass(frozen=True)
class Summary:
    """The keys of the steps that were run, in the order in which they ended, and of those whose results were there."""

    ran: tuple[str, ...]
    skipped: tuple[str, ...]


def run_steps(steps: Sequence[Step], store: Path, engine: Engine, stage: Stage = silent) -> Summary:
    """See to it that the results of ``steps`` are in the store, and run what is missing for that.

    A step whose result is there is skipped, and so is what only such steps need: to run a finished graph again looks at the results of
    ``steps`` and at nothing else. Steps of one key are one step. They start in the order given, each after what it needs, as soon as
    that is done and the engine has room. After the first failure nothing more is started; those that run come to their end, so that
    nothing is lost, and running the graph again goes on from there. ``stage`` is told of the work.

    Raises ``ValueError`` for a cycle, :class:`suture.errors.OutputError` when the store cannot be made, and else what the first failing
    step raised, with its title as a note.
    """
    missing, skipped = plan(steps, store)
    if not missing:
        return Summary((), skipped)
    try:
        store.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise OutputError(f"cannot write {store}: {error.strerror or error}") from error
    with engine.crew(store, len(missing), stage) as crew:
        return Summary(tuple(_carry_out(missing, crew)), skipped)


def plan(steps: Sequence[Step], store: Path) -> tuple[list[Step], tuple[str, ...]]:
    """Return the steps to run, each after what it needs, and the keys of those met whose results are there.

    Raises ``ValueError`` for a cycle.
    """
    missing: dict[str, Step] = {}
    skipped: dict[str, None] = {}
    above: list[str] = []

    def visit(step: Step) -> None:
        if step.key in above:
            raise ValueError(f"the step {step.title!r} needs itself, by way of others")
        if step.key in missing or step.key in skipped:
            return
        if step.done(store):
            skipped[step.key] = None
            return
        above.append(step.key)
        for need in step.needs:
            visit(need)
        above.pop()
        missing[step.key] = step

    for step in steps:
        visit(step)
    return list(missing.values()), tuple(skipped)


def _carry_out(missing: Sequence[Step], crew: Crew) -> Iterator[str]:
    """Run steps, and yield the keys of those that are done."""
    waiting = {step.key: step for step in missing}
    open_needs = {step.key: {need.key for need in step.needs} & waiting.keys() for step in missing}
    running: set[str] = set()
    failure: Exception | None = None
    while running or (waiting and failure is None):
        if failure is None:
            _start(waiting, open_needs, running, crew)
        for step, error in crew.wait():
            running.remove(step.key)
            if error is None:
                for needs in open_needs.values():
                    needs.discard(step.key)
                yield step.key
            elif failure is None:
                error.add_note(f"in the step: {step.title}")
                failure = error
    if failure is not None:
        raise failure


def _start(waiting: dict[str, Step], open_needs: dict[str, set[str]], running: set[str], crew: Crew) -> None:
    """Start the first of the waiting steps that need nothing more, as many as the crew takes."""
    for step in [each for key, each in waiting.items() if not open_needs[key]]:
        if not crew.takes(step):
            return
        running.add(step.key)
        del waiting[step.key]
        crew.start(step)


@contextmanager
def counted(stage: Stage, total: int) -> Iterator[Callable[[int, Sequence[Step]], None]]:
    """Show one bar for all steps; yield what to call with how many have just ended and those that run.

    A bar that can be renamed says which of the steps is at work, the one that has been for longest.
    """
    ended = 0
    with stage(f"{total} steps", total) as progress:

        def show(just_ended: int, running: Sequence[Step]) -> None:
            nonlocal ended
            ended += just_ended
            progress(just_ended)
            if running and isinstance(progress, Renaming):
                progress.rename(f"{ended + 1} of {total}: {running[0].title}")

        yield show
