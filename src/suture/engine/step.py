"""What an engine runs: steps, each of which makes one result of a store out of the results of others."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol, runtime_checkable

from suture.errors import UsageError
from suture.types import Stage


@dataclass(frozen=True)
class Resources:
    """What a step takes of the node that it runs on; engines of one machine count steps, and do not look at it.

    Raises :class:`suture.errors.UsageError` for negative numbers.
    """

    cpus: int | float = 1
    gpus: int | float = 0

    def __post_init__(self) -> None:
        if self.cpus < 0 or self.gpus < 0:
            raise UsageError(f"a step cannot take {self.cpus} processors and {self.gpus} GPUs: neither may be negative")


@runtime_checkable
class Step(Protocol):
    """A piece of work with a result in a store, a folder that all who work on it share.

    ``key`` is a digest of all that the result depends on: steps of the same key have the same result, and are run once. ``title`` says
    what is done, for people. ``needs`` are run before. Steps are pickled to reach the processes that run them.
    """

    @property
    def title(self) -> str: ...  # noqa: D102
    @property
    def key(self) -> str: ...  # noqa: D102
    @property
    def needs(self) -> "Sequence[Step]": ...  # noqa: D102
    @property
    def resources(self) -> Resources: ...  # noqa: D102

    def done(self, store: Path) -> bool:
        """Say whether the result is in the store, whole."""
        ...

    def run(self, store: Path, stage: Stage) -> None:
        """Make the result, and put it into the store in one move; to do so again changes nothing."""
        ...
