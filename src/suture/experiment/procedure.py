"""What a procedure of surgery is in a recipe: what it may look at, how large it may be, and what it gives."""

from abc import abstractmethod
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Annotated, Any, ClassVar

import torch
from pydantic import AfterValidator, Field, model_serializer, model_validator

from suture.backbones import Backbone
from suture.bibliography import Paper
from suture.errors import InvalidRecipe
from suture.experiment.strict import Share, Strict
from suture.surgery import Operation, Schedule
from suture.surgery.deep import PILOT, chosen_sites
from suture.surgery.pairs import Pair
from suture.types import Progress, Stage, silent


def _different(layers: list[int]) -> list[int]:
    if len(set(layers)) < len(layers):
        raise ValueError(f"expected different numbers of blocks, not {', '.join(map(str, layers))}")
    return layers


Layers = Annotated[list[Annotated[int, Field(strict=True, ge=0)]], AfterValidator(_different)]
"""Numbers of blocks, from 0."""

ROUNDING = 1e-6
"""A share that stands for a whole number of parameters must not fall short of it."""

NAMED: dict[str, Schedule] = {"reference": Schedule.reference(), "default": Schedule.default()}


@dataclass(frozen=True)
class Patient:
    """What a procedure may look at: each task's calibration inputs, and both networks."""

    inputs: Mapping[str, Sequence[Any]]
    merged_of: Callable[[], Backbone]
    expert_of: Callable[[str], Backbone]
    pairs_of: Callable[[], Mapping[str, Pair]]
    precision: torch.dtype

    @cached_property
    def merged(self) -> Backbone:
        """The merged network; what looks at final representations alone needs none."""
        return self.merged_of()

    @cached_property
    def pairs(self) -> Mapping[str, Pair]:
        """Each task's representations of its inputs, under the merged backbone and under its expert."""
        return self.pairs_of()

    @property
    def samples(self) -> int:
        """How many inputs there are in all."""
        return sum(map(len, self.inputs.values()))

    @property
    def size(self) -> int:
        """How many parameters the backbone has."""
        return sum(parameter.numel() for parameter in self.merged.model.parameters())

    @property
    def width(self) -> int:
        """The width k of its representations."""
        return self.merged.width

    @property
    def widths(self) -> int:
        """The widths of all places that deep surgery corrects, behind every block and at the end, together."""
        return self.widths_of(None)

    def widths_of(self, layers: Sequence[int] | None) -> int:
        """Return the widths behind some blocks and at the end, together; raises :class:`suture.errors.InvalidHyperparameter`."""
        widths = self.merged.widths
        chosen = chosen_sites(layers, len(widths) - 1)
        return sum(width for width, corrected in zip(widths, chosen, strict=True) if corrected)


class ProcedureRecipe(Strict):
    """What a recipe says of one surgery. Two of one procedure and rank need a ``name`` to tell them apart."""

    papers: ClassVar[tuple[Paper, ...]]
    """Where it comes from."""

    procedure: str
    rank: int

    name: str | None = Field(None, min_length=1)
    budget: Share | None = None
    """In place of a rank: the share of the backbone's parameters that a task may cost, as ``0.5%`` or ``0.005``."""

    @property
    def cited(self) -> Sequence[Paper]:
        """The papers to cite for it as it is set."""
        return self.papers

    @model_serializer(mode="wrap")
    def _as_given(self, serialise: Callable[[Any], dict[str, Any]]) -> dict[str, Any]:
        """Leave out a rank that is none: what is written is a procedure again."""
        content = serialise(self)
        return {key: value for key, value in content.items() if key != "rank" or self.budget is None}

    @property
    def label(self) -> str:
        """What the tables call it: its ``name``, or the procedure's.

        >>> from suture.experiment.surgery_procedures import PaperSurgery
        >>> PaperSurgery(rank=4).label, PaperSurgery(iterations=100, name="short").label
        ('surgery', 'short')
        """
        return self.name or self.procedure

    @model_validator(mode="after")
    def _one_of_both(self) -> "ProcedureRecipe":
        if self.budget is not None and "rank" in self.model_fields_set:
            raise ValueError("give either 'rank' or 'budget'")
        return self

    @property
    def size(self) -> str:
        """The rank, or the budget that decides it, in words."""
        return f"rank {self.rank}" if self.budget is None else f"{self.budget:.2%} of the parameters"

    @abstractmethod
    def told(self) -> str:
        """Return what a reader of the tables must know of it."""

    @abstractmethod
    def within(self, patient: Patient, seed: int = 0, stage: Stage = silent) -> "Procedure":
        """Return what is to be fitted, sized by the budget if there is one.

        Raises :class:`InvalidRecipe` when that does not allow rank 1.
        """


def places_of(layers: Sequence[int] | None) -> str:
    """Tell behind which blocks there are corrections.

    >>> places_of(None), places_of([4, 5]), places_of([])
    ('after every block', 'after blocks 4, 5', 'at the end alone')
    """
    if layers is None:
        return "after every block"
    return f"after block{'s' * (len(layers) > 1)} {', '.join(map(str, layers))}" if layers else "at the end alone"


class Procedure(ProcedureRecipe):
    """One way to fit surgery."""

    encodes: ClassVar[bool] = True
    """Whether it looks at final representations, which are computed before."""

    @abstractmethod
    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return how many parameters a task costs at rank 0, and how many more with every rank."""

    def within(self, patient: Patient, seed: int = 0, stage: Stage = silent) -> "Procedure":  # noqa: ARG002
        """Return the procedure of the highest rank that the budget allows."""
        if self.budget is None:
            return self
        (fixed, each), most = self.cost(patient), int(self.budget * patient.size + ROUNDING)
        if most < fixed + each:
            raise InvalidRecipe(
                f"a budget of {self.budget:.3%} of the backbone's {patient.size:,} parameters is {most:,} a task; "
                f"{self.procedure} of rank 1 takes {fixed + each:,}"
            )
        return self.model_copy(update={"rank": (most - fixed) // each})

    @abstractmethod
    def effort(self, patient: Patient) -> int:
        """Return what the progress of a fit counts up to."""

    @abstractmethod
    def fit(self, patient: Patient, seed: int, progress: Progress) -> Operation:
        """Return what is to be done."""


class DeepSolved(Procedure):
    """A procedure that solves for corrections after every block, and may refine what it has found by gradient."""

    encodes: ClassVar[bool] = False
    decays: ClassVar[bool] = False
    """Whether the learning rate of the refinement decays; then it is not stopped on the way."""

    rank: int = Field(16, ge=0)
    """That of the corrections."""
    allot: bool | None = None
    """Whether the rank is the average of a task's sites, and each gets what it has use for; by default where a budget decides the rank."""
    refine: int = Field(0, ge=0)
    """Steps of gradient from the closed form on; the best state on an eighth of the samples is kept."""
    refine_learning_rate: float = Field(3e-4, gt=0, allow_inf_nan=False)

    @property
    def allots(self) -> bool:
        """Whether ranks are allotted to sites."""
        return self.budget is not None if self.allot is None else self.allot

    @property
    def size(self) -> str:
        """The rank, or the budget that decides it, in words."""
        return f"{super().size} on average" if self.allots and self.budget is None else super().size

    def refining(self) -> Schedule | None:
        """Return the schedule of the refinement, if there is one."""
        if not self.refine:
            return None
        once = replace(NAMED["default"], iterations=self.refine, steps_per_iteration=1, learning_rate=self.refine_learning_rate)
        return replace(once, decay=True, patience=once.iterations) if self.decays else once

    def effort(self, patient: Patient) -> int:
        """Return the number of inputs that pass a block, and of those of the refinement."""
        looked_at = sum(-(-len(own) // PILOT) for own in patient.inputs.values() if len(own) >= PILOT) if self.allots else 0
        solved = (patient.samples + looked_at) * (patient.merged.blocks.depth + 1)
        schedule = self.refining()
        return solved + (schedule.steps * schedule.batch_size * len(patient.inputs) if schedule else 0)
