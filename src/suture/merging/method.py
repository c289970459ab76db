"""The contract of every merging method: estimate, then combine.

A method is a frozen dataclass: its fields are its hyperparameters, checked when it is made. It maps the task vectors of one tensor
to *one* task vector; the driver adds that to the base. Methods with a quantity of the whole model (Ties' threshold) estimate it in
:meth:`MergingMethod.scan`, a first streaming pass.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from math import isfinite
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints, runtime_checkable

from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from suture.errors import InvalidHyperparameter, UnknownName

Statistics = Any
"""What a method's first pass found out; opaque to the driver."""

Found = TypeVar("Found")


@dataclass(frozen=True)
class Block:
    """One tensor, or a run of its elements.

    ``start`` is the place of its first element in the flattened tensor, ``task_vectors`` has the shape ``(T, *base.shape)``, and
    ``experts`` tells the experts apart, in the same order, whatever the order is.
    """

    name: str
    start: int
    base: Tensor
    task_vectors: Tensor
    experts: tuple[str, ...] = ()


@runtime_checkable
class Survey(Protocol):
    """A pass over all task vectors of a model, for :meth:`MergingMethod.scan`; it may be made more than once.

    ``size`` is the number of floating-point elements of one model, ``experts`` the number of experts.
    """

    size: int
    experts: int

    def each(self, function: Callable[[Block], Found], share: float = 1.0) -> Iterator[Found]:
        """Yield the function's result for every block, in order; with a ``share``, each block is cut to that share of its elements."""
        ...


@dataclass(frozen=True)
class Paper:
    """Where a method was published."""

    title: str
    arxiv: str
    year: int


@dataclass(frozen=True)
class MergingMethod(ABC):
    """Many task vectors to one.

    ``elementwise`` methods treat each element by itself, so that the driver may cut tensors into blocks that fit a processor's cache.
    In ``linear`` ones every input reaches the output, so that NaN or Inf in an expert shows in the result.
    """

    name: ClassVar[str]
    paper: ClassVar[Paper]
    elementwise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        """How often a merge goes through all weights: for progress bars."""
        return 1

    def scan(self, survey: Survey) -> Statistics:  # noqa: ARG002
        """Return the whole-model statistics that :meth:`combine` needs."""
        return None

    @abstractmethod
    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the merged task vector of a block, of the shape of its base."""

    def __str__(self) -> str:
        settings = ", ".join(f"{field.name}={getattr(self, field.name)}" for field in dataclasses.fields(self))
        return f"{self.name}({settings})" if settings else self.name


def make_method(methods: Mapping[str, type[MergingMethod]], name: str, settings: Mapping[str, object]) -> MergingMethod:
    """Make a method from its name and hyperparameters; text, as typed on a command line, is read as the field's type.

    Raises :class:`UnknownName` for a misspelt method or hyperparameter, :class:`InvalidHyperparameter` for a value out of range.
    """
    if name not in methods:
        raise UnknownName("merging method", name, methods)
    hints = get_type_hints(methods[name])
    known = [field.name for field in dataclasses.fields(methods[name])]
    values = {}
    for key, value in settings.items():
        if key not in known:
            raise UnknownName(f"hyperparameter of {name}", key, known)
        values[key] = _read(key, value, hints[key])
    return methods[name](**values)


def require(condition: bool, message: str) -> None:
    """Raise :class:`InvalidHyperparameter` unless the condition holds."""
    if not condition:
        raise InvalidHyperparameter(message)


def require_finite(name: str, value: float) -> None:
    """Raise :class:`InvalidHyperparameter` unless a hyperparameter is a finite number."""
    require(isfinite(value), f"{name} must be a finite number, not {value}")


def _read(key: str, value: object, hint: Any) -> object:
    expected = getattr(hint, "__name__", hint)
    # Pydantic would read true as 1.0.
    require(not isinstance(value, bool) or hint is bool, f"{key} must be a {expected}, not {value!r}")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InvalidHyperparameter(f"{key} must be a {expected}, not {value!r}") from error
