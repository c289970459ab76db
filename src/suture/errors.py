"""Every error that Suture raises on purpose, and the exit code that the command line gives it.

::

    SutureError                    1
    ├── UsageError                 2   what the user asked for
    │   ├── InvalidRecipe              a recipe that does not validate
    │   ├── InvalidHyperparameter      a value outside its range
    │   └── UnknownName                a misspelt method, suite or task
    ├── CheckpointError            3   weights on disk
    │   ├── CheckpointNotFound         nothing there, or nothing we read
    │   ├── CorruptCheckpoint          bytes that do not parse
    │   ├── UnsafePath                 a path that leaves its folder
    │   ├── UnsupportedFormat          pickles, unsupported adapters
    │   ├── IncompatibleExperts        other tensors, shapes or dtypes than the base
    │   └── NonFiniteTensor            NaN or Inf
    ├── DataError                  4   texts, labels, splits, representations
    └── OutputError                5   the place results go to
        ├── OutputExists               something is there already
        └── OutputBusy                 another process is writing it

    SutureWarning                      carried on, but the user should know
"""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from difflib import get_close_matches


class SutureError(Exception):
    r"""Root of the tree: one clear message that names what is wrong, what was expected, and the next step.

    What a hostile file may have put into it does nothing to a terminal:

    >>> print(SutureError("no tensor \x1b[31m"))
    no tensor \x1b[31m
    """

    exit_code = 1

    def __str__(self) -> str:
        return printable(super().__str__())


class UsageError(SutureError):
    """What the user asked for makes no sense."""

    exit_code = 2


class InvalidRecipe(UsageError):
    """A recipe that does not validate."""


class InvalidHyperparameter(UsageError):
    """A hyperparameter outside its range."""


class UnknownName(UsageError):
    """A method, suite or task that does not exist.

    >>> print(UnknownName("method", "tie", ["ties", "task_arithmetic"]))
    unknown method 'tie'; did you mean 'ties'? Known: task_arithmetic, ties
    """

    def __init__(self, kind: str, name: str, known: Iterable[str]) -> None:
        names = sorted(known)
        near = get_close_matches(name, names, n=1)
        hint = f"; did you mean {near[0]!r}?" if near else "."
        super().__init__(f"unknown {kind} {name!r}{hint} Known: {', '.join(names)}")


class CheckpointError(SutureError):
    """Weights on disk that cannot be used."""

    exit_code = 3


class CheckpointNotFound(CheckpointError):
    """Nothing at the path, or nothing there that we read."""


class CorruptCheckpoint(CheckpointError):
    """Bytes that are not what their format promises."""


class UnsafePath(CheckpointError):
    """A path, written inside a checkpoint, that leaves the checkpoint's folder."""


class UnsupportedFormat(CheckpointError):
    """A format that is known, and refused by name."""


class IncompatibleExperts(CheckpointError):
    """Experts and base do not hold the same tensors."""


class NonFiniteTensor(CheckpointError):
    """NaN or Inf where numbers are needed."""


class DataError(SutureError):
    """Texts, labels, splits or representations that cannot be used."""

    exit_code = 4


class OutputError(SutureError):
    """The output cannot be written."""

    exit_code = 5


class OutputExists(OutputError):
    """There is something at the output path already."""


class OutputBusy(OutputError):
    """Another process is writing the output."""


class SutureWarning(UserWarning):
    """Work goes on, but not quite as the user may expect."""


def printable(text: str) -> str:
    r"""Return a text whose control characters, which a hostile file may smuggle in, are escapes; lines stay lines.

    >>> printable("a\x1b[2J\u202e")
    'a\\x1b[2J\\u202e'
    """
    return text if text.isprintable() else "".join(char if char.isprintable() or char == "\n" else repr(char)[1:-1] for char in text)


LONGEST = 300
"""How many characters of a library's message are told."""


@contextmanager
def reading(
    place: object, expected: str, kind: type[SutureError] = CorruptCheckpoint, absent: type[SutureError] = CheckpointNotFound
) -> Iterator[None]:
    """Map whatever a library raises while it reads ``place``: there is no list of what a reader of hostile bytes may come upon.

    What the system refuses is an ``absent``, all else a ``kind``; ``expected`` says what the place should have been. Errors of ours pass,
    and so do ``MemoryError`` and what is no ``Exception``.

    >>> with reading("a.json", "a list"):
    ...     [][0]
    Traceback (most recent call last):
    suture.errors.CorruptCheckpoint: a.json is not a list: IndexError: list index out of range
    """
    try:
        yield
    except (SutureError, MemoryError):
        raise
    except OSError as error:
        raise absent(f"{place} cannot be read: {error.strerror or error}") from error
    except Exception as error:
        raise kind(f"{place} is not {expected}: {in_short(error)}") from error


def in_short(error: Exception) -> str:
    """Return in one short line what an error is and says.

    >>> in_short(KeyError("weight_map"))
    "KeyError: 'weight_map'"
    """
    return f"{type(error).__name__}: {' '.join(str(error).split())}"[:LONGEST]
