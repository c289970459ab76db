"""The contract of every merging method: estimate, then combine.

A method is a frozen dataclass: its fields are its hyperparameters, checked when it is made. It maps the task vectors of one tensor
to *one* task vector; the driver adds that to the base. Methods with a quantity of the whole model (Ties' threshold) compute it in
:meth:`MergingMethod.scan`, a first streaming pass.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, ClassVar

from torch import Tensor

from suture.errors import InvalidHyperparameter, UnknownName

Statistics = Any
"""What a method's first pass found out; opaque to the driver."""

Blocks = Callable[[], Iterator[Tensor]]
"""Starts a pass over all task vectors, a block of shape ``(T, n)`` at a time."""


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    arxiv: str
    year: int


@dataclass(frozen=True)
class MergingMethod(ABC):
    """Many task vectors to one.

    ``elementwise`` methods treat each element by itself, so that the driver may cut tensors into blocks that fit the processor's cache.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper]
    elementwise: ClassVar[bool] = True

    def scan(self, blocks: Blocks, size: int, experts: int) -> Statistics:  # noqa: ARG002
        """Return the whole-model statistics that :meth:`combine` needs.

        ``blocks`` may be called more than once; ``size`` is the number of floating-point elements of one model.
        """
        return None

    @abstractmethod
    def combine(self, task_vectors: Tensor, statistics: Statistics) -> Tensor:
        """Return the merged task vector, shape ``(...)``, of stacked ``task_vectors``, shape ``(T, ...)``."""

    def __str__(self) -> str:
        settings = ", ".join(f"{field.name}={getattr(self, field.name)}" for field in dataclasses.fields(self))
        return f"{self.name}({settings})" if settings else self.name


def make_method(methods: Mapping[str, type[MergingMethod]], name: str, settings: Mapping[str, object]) -> MergingMethod:
    """Make a method from its name and hyperparameters; text, as typed on a command line, is read as the field's type.

    Raises :class:`UnknownName` for a misspelt method or hyperparameter, :class:`InvalidHyperparameter` for a value out of range.
    """
    if name not in methods:
        raise UnknownName("merging method", name, methods)
    fields = {field.name: field for field in dataclasses.fields(methods[name])}
    values = {}
    for key, value in settings.items():
        if key not in fields:
            raise UnknownName(f"hyperparameter of {name}", key, fields)
        values[key] = _read(key, value, type(fields[key].default))
    return methods[name](**values)


def require(condition: bool, message: str) -> None:
    """Raise :class:`InvalidHyperparameter` unless the condition holds."""
    if not condition:
        raise InvalidHyperparameter(message)


def _read(key: str, value: object, kind: type) -> object:
    if kind is bool:
        if str(value).lower() in {"true", "false"}:
            return str(value).lower() == "true"
        raise InvalidHyperparameter(f"{key} must be true or false, not {value!r}")
    try:
        return value if type(value) is kind else kind(value)
    except (TypeError, ValueError) as error:
        raise InvalidHyperparameter(f"{key} must be a {kind.__name__}, not {value!r}") from error
