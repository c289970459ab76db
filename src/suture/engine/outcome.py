"""What comes of a step in another process: warnings to be raised again at home, and perhaps an error."""

import pickle
import traceback
import warnings
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from suture.engine.step import Step
from suture.errors import OutputExists, SutureError, SutureWarning
from suture.types import Stage, silent


@dataclass(frozen=True)
class Warned:
    """A warning, without the objects that cannot travel."""

    text: str
    category: type[Warning]
    file: str
    line: int


@dataclass(frozen=True)
class Parts:
    """An error taken apart: one whose class asks for more than a message cannot be made again by calling it, which is pickle's way."""

    kind: type[Exception]
    arguments: tuple[Any, ...]
    state: dict[str, Any]

    def error(self) -> Exception:
        """Return the error as it was."""
        error = self.kind.__new__(self.kind, *self.arguments)
        vars(error).update(self.state)
        return error


@dataclass(frozen=True)
class Fault:
    """An error that travels: pickled, as itself or in parts, and the trace of where it was raised."""

    content: bytes
    trace: str

    def error(self) -> Exception:
        """Return the error as it was, caused by its trace."""
        error = _restored(self.content)
        error.__cause__ = RuntimeError(f"in another process:\n{self.trace}")
        return error


@dataclass(frozen=True)
class Outcome:
    """How a step ended."""

    warned: list[Warned] = field(default_factory=list)
    fault: Fault | None = None

    def error(self) -> Exception | None:
        """Return the error that the step ended with."""
        return None if self.fault is None else self.fault.error()

    def warn_again(self, registry: dict[Any, Any]) -> None:
        """Raise the warnings in this process; its filters decide what becomes of them, and ``registry`` knows those shown."""
        for each in self.warned:
            warnings.warn_explicit(each.text, each.category, each.file, each.line, registry=registry)


def perform(step: Step, store: Path, stage: Stage) -> None:
    """Run a step, unless its result is there by now: another run may have made it, or the process that has died after it.

    Where another run is faster, its result stands.

    Raises what the step raises, and :class:`suture.errors.SutureError` when it ends without a result.
    """
    if step.done(store):
        return
    try:
        step.run(store, stage)
    except OutputExists:
        if not step.done(store):
            raise
    if not step.done(store):
        raise SutureError(f"the step {step.title!r} ended, but its result is not in {store}: do all processes see the same folder?")


def attempt(step: Step, store: Path) -> Outcome:
    """Perform a step in silence, and return how it ended."""
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", SutureWarning)
        fault = None
        try:
            perform(step, store, silent)
        except Exception as error:
            fault = fault_of(error)
    return Outcome([Warned(str(each.message), _known(each.category), each.filename, each.lineno) for each in caught], fault)


def fault_of(error: Exception) -> Fault:
    """Make an error ready to travel; one that cannot becomes a ``RuntimeError`` that says what it was."""
    trace = "".join(traceback.format_exception(error))
    for form in (error, Parts(type(error), error.args, vars(error))):
        try:
            content = pickle.dumps(form)
            restored = _restored(content)
        except Exception:  # noqa: S112  pickling runs the error's own code
            continue
        if type(restored) is type(error) and str(restored) == str(error):
            return Fault(content, trace)
    return Fault(pickle.dumps(RuntimeError(f"{type(error).__name__}: {error}")), trace)


def _restored(content: bytes) -> Exception:
    form: Exception | Parts = pickle.loads(content)  # noqa: S301  it comes from a process of ours
    return form.error() if isinstance(form, Parts) else form


def _known(category: type[Warning]) -> type[Warning]:
    """Return the category, or the nearest above it that every process knows."""
    return next(kind for kind in category.__mro__ if kind.__module__ in {"builtins", SutureWarning.__module__})
