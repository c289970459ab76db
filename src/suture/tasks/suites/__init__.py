"""Suites that come with the package."""

from collections.abc import Callable

from suture.errors import UnknownName
from suture.tasks.suites import nlp8, vision8
from suture.tasks.suites.suite import Suite
from suture.types import Progress, no_progress

SUITES: dict[str, Callable[[Progress], Suite]] = {"nlp8": nlp8.load, "vision8": vision8.load}
"""What loads each suite that comes with Suture."""

__all__ = ["SUITES", "Suite", "load_suite"]


def load_suite(name: str, progress: Progress = no_progress) -> Suite:
    """Return a suite by name; ``progress`` counts experts made ready. Raises :class:`UnknownName` for a name that does not exist.

    >>> load_suite("nlp")
    Traceback (most recent call last):
    suture.errors.UnknownName: unknown suite 'nlp'; did you mean 'nlp8'? Known: nlp8, vision8
    """
    if name not in SUITES:
        raise UnknownName("suite", name, SUITES)
    return SUITES[name](progress)
