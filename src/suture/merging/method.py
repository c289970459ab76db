"""The contract of every merging method: estimate, then combine.

A method is a frozen dataclass: its fields are its hyperparameters, checked when it is made. It maps the task vectors of one tensor
to *one* task vector; the driver adds that to the base. Methods with a quantity of the whole model (Ties' threshold) find it in
:meth:`MergingMethod.scan`, a first streaming pass; :class:`DataDrivenMethod` ones find theirs in :meth:`DataDrivenMethod.estimate`,
from unlabelled inputs.
"""

import dataclasses
from abc import ABC, abstractmethod
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from math import isfinite
from pathlib import Path
from typing import Any, ClassVar, Protocol, TypeVar, get_type_hints, runtime_checkable

import torch
from pydantic import TypeAdapter, ValidationError
from torch import Tensor

from suture.bibliography import Paper
from suture.checkpoints import Weights
from suture.errors import InvalidHyperparameter, UnknownName
from suture.merging.calibration import Calibration
from suture.merging.matching import check_finite
from suture.task_vector import accumulation_dtype
from suture.types import Progress

Statistics = Any
"""What a method found out before it combines; opaque to the driver."""

Found = TypeVar("Found")

SEED = "seed"
"""The field of the methods that draw at random."""


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
    """A look at a base and its experts before they are merged.

    ``names`` are the floating-point tensors, ``size`` is the number of their elements in one model.
    """

    @property
    def base(self) -> Weights: ...  # noqa: D102
    @property
    def experts(self) -> Sequence[Weights]: ...  # noqa: D102
    @property
    def names(self) -> Sequence[str]: ...  # noqa: D102
    @property
    def size(self) -> int: ...  # noqa: D102

    def whole(self, name: str) -> Block:
        """Return one tensor, uncut."""
        ...

    def each(self, function: Callable[[Block], Found], share: float = 1.0) -> Iterator[Found]:
        """Make a pass over all task vectors, and yield the function's result for every block, in order.

        With a ``share``, each block is cut to that share of its elements.
        """
        ...


@dataclass(frozen=True)
class MergingMethod(ABC):
    """Many task vectors to one.

    ``elementwise`` methods treat each element by itself, so that the driver may cut tensors into blocks that fit a processor's cache.
    In ``linear`` ones every input reaches the output, so that NaN or Inf in an expert shows in the result.

    >>> from suture.merging import TaskArithmetic
    >>> block = Block("w", 0, torch.zeros(2), torch.tensor([[1.0, 2.0], [3.0, 0.0]]))
    >>> TaskArithmetic(scale=0.5).combine(block, None)
    tensor([2., 1.])
    """

    name: ClassVar[str]
    paper: ClassVar[Paper]
    builds_on: ClassVar[tuple[Paper, ...]] = ()
    """The papers of other methods that it takes a part of."""
    elementwise: ClassVar[bool] = True
    linear: ClassVar[bool] = False

    @property
    def passes(self) -> int:
        """How often a merge goes through all weights: for progress bars."""
        return 1

    @property
    def cited(self) -> tuple[Paper, ...]:
        """The papers to cite for a merge by it: its own, those that it builds on, and those of a method among its settings."""
        inner = [value for field in dataclasses.fields(self) if isinstance(value := getattr(self, field.name), MergingMethod)]
        return (self.paper, *self.builds_on, *(paper for method in inner for paper in method.cited))

    def scan(self, survey: Survey) -> Statistics:  # noqa: ARG002
        """Return the whole-model statistics that :meth:`combine` needs."""
        return None

    @abstractmethod
    def combine(self, block: Block, statistics: Statistics) -> Tensor:
        """Return the merged task vector of a block, of the shape of its base."""

    @property
    def label(self) -> str:
        """The name with the settings that are not the defaults, for tables; the seed has a place of its own there."""
        return self._described(lambda field, value: field.name != SEED and value != field.default)

    @property
    def settings(self) -> str:
        """The name with all settings but the seed and switches that are off, for the notes below tables."""
        return self._described(lambda field, value: field.name != SEED and value is not False)

    def __str__(self) -> str:
        return self._described(lambda _field, _value: True)

    def _described(self, told: Callable[["dataclasses.Field[Any]", object], bool]) -> str:
        settings = []
        for field in dataclasses.fields(self):
            value = getattr(self, field.name)
            if told(field, value):
                settings.append(f"{field.name}={value._described(told) if isinstance(value, MergingMethod) else value}")
        return f"{self.name}({', '.join(settings)})" if settings else self.name


@dataclass(frozen=True)
class WeighedMethod(MergingMethod):
    """A method that weighs whole experts: Σ_t w_t τ_t. The driver sums while it reads, and stacks nothing."""

    linear: ClassVar[bool] = True

    @abstractmethod
    def weights(self, experts: int) -> Sequence[float]:
        """Return w, one number for each of so many experts."""

    def combine(self, block: Block, statistics: Statistics) -> Tensor:  # noqa: ARG002
        """Return Σ_t w_t τ_t."""
        vectors = block.task_vectors
        weighed: Tensor = torch.tensordot(torch.tensor(self.weights(len(vectors)), dtype=vectors.dtype), vectors, dims=1)
        return weighed


@dataclass(frozen=True)
class DataDrivenMethod(MergingMethod):
    """A method that learns from unlabelled inputs of every task what it needs to combine."""

    @abstractmethod
    def effort(self, calibration: Calibration) -> int:
        """Return how many units of work :meth:`estimate` reports to its ``progress``."""

    @abstractmethod
    def estimate(self, survey: Survey, calibration: Calibration, scratch: Path, progress: Progress) -> Statistics:
        """Return what :meth:`combine` needs; what is too large for memory may be written to the folder ``scratch``."""


def network_weights(survey: Survey, expert: int, names: Collection[str]) -> dict[str, Tensor]:
    """Return those tensors of one expert, in the precision that sums run in.

    Raises :class:`suture.errors.NonFiniteTensor` for NaN or Inf, which would spread to all that a network makes of them.
    """
    weights = {}
    for name in survey.names:
        if name in names:
            tensor = survey.experts[expert][name]
            check_finite(name, tensor, survey.base, survey.experts)
            weights[name] = tensor.to(accumulation_dtype(survey.base[name].dtype))
    return weights


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
        values[key] = _read_method(methods, key, value) if hints[key] is MergingMethod else _read(key, value, hints[key])
    return methods[name](**values)


def require(condition: bool, message: str) -> None:
    """Raise :class:`InvalidHyperparameter` unless the condition holds."""
    if not condition:
        raise InvalidHyperparameter(message)


def require_finite(name: str, value: float) -> None:
    """Raise :class:`InvalidHyperparameter` unless a hyperparameter is a finite number."""
    require(isfinite(value), f"{name} must be a finite number, not {value}")


def require_positive(**values: int | float) -> None:
    """Raise :class:`InvalidHyperparameter` unless each of the named hyperparameters is a positive number."""
    for name, value in values.items():
        require(isfinite(value) and value > 0, f"{name} must be a positive number, not {value}")


def require_seed(seed: int) -> None:
    """Raise :class:`InvalidHyperparameter` for a negative seed."""
    require(seed >= 0, f"seed must not be negative, but is {seed}")


def _read_method(methods: Mapping[str, type[MergingMethod]], key: str, value: object) -> MergingMethod:
    """Read ``ties`` or ``{method: ties, density: 0.2}``."""
    if isinstance(value, MergingMethod):
        return value
    settings = {"method": value} if isinstance(value, str) else value
    if not isinstance(settings, Mapping) or not isinstance(settings.get("method"), str):
        raise InvalidHyperparameter(f"{key} must be the name of a method, or a mapping with the key 'method', not {value!r}")
    require(SEED not in settings, f"{key} draws by the {SEED} of the method that it belongs to; take its own out")
    return make_method(methods, settings["method"], {name: own for name, own in settings.items() if name != "method"})


def _read(key: str, value: object, hint: Any) -> object:
    expected = getattr(hint, "__name__", hint)
    # Pydantic would read true as 1.0.
    require(not isinstance(value, bool) or hint is bool, f"{key} must be a {expected}, not {value!r}")
    try:
        return TypeAdapter(hint).validate_python(value)
    except ValidationError as error:
        raise InvalidHyperparameter(f"{key} must be a {expected}, not {value!r}") from error
