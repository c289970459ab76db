"""How work reports itself: the callables that long-running functions accept. Nothing heavy is imported here."""

from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from typing import Protocol, runtime_checkable

Progress = Callable[[int], None]
"""Called with the number of units of work just finished."""

Stage = Callable[[str, int], AbstractContextManager[Progress]]
"""Announces a piece of long work, by name and number of units, and gives the callable that counts them."""


@runtime_checkable
class Renaming(Protocol):
    """A :data:`Progress` that can also say what the work is at."""

    def rename(self, name: str) -> None:
        """Show another name from now on."""
        ...


def no_progress(_: int) -> None:
    """Report nothing."""


@contextmanager
def silent(_name: str, _units: int) -> Iterator[Progress]:
    """Announce nothing."""
    yield no_progress
