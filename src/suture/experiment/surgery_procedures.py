"""The procedures that correct representations: what each is told, what it looks at, and what it fits."""

from dataclasses import replace
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator

from suture.bibliography import REDUCED_RANK, REPRESENTATION_SURGERY, SURGERY_V2, Paper
from suture.experiment.procedure import NAMED, DeepSolved, Layers, Patient, Procedure, places_of
from suture.surgery import (
    ClosedForm,
    Schedule,
    Surgery,
    fit_closed_form,
    fit_deep_closed_form,
    fit_deep_surgery,
    fit_surgery,
)
from suture.surgery.module import Activation
from suture.surgery.schedule import Loss, Start
from suture.types import Progress


class ByGradient(Procedure):
    """A procedure that fits modules by gradient, the papers' or others."""

    activation: Activation = "relu"
    """What stands between the two matrices: the papers' ReLU, or nothing."""
    loss: Loss = "l1"
    """The papers' mean absolute error, or the mean squared one (``l2``)."""
    shift: bool = False
    """Whether a vector is trained too, which is added at the end."""

    def kind(self) -> dict[str, Any]:
        """Return what a schedule is told of the modules and their loss."""
        return {"activation": self.activation, "loss": self.loss, "shift": self.shift}

    def unlike(self) -> str:
        """Tell in what the modules and their loss are not the papers'."""
        told = {"no activation": self.activation == "none", "squared error": self.loss == "l2", "a shift": self.shift}
        return "".join(f", {each}" for each, so in told.items() if so)


class PaperSurgery(ByGradient):
    """The modules of Representation Surgery, fitted by gradient; see :class:`suture.surgery.Schedule`."""

    papers: ClassVar[tuple[Paper, ...]] = (REPRESENTATION_SURGERY,)

    procedure: Literal["surgery"] = "surgery"
    schedule: Literal["reference", "default"] = "reference"
    """The authors' loop, or ours, which stops early by an eighth of the samples."""
    rank: int = Field(16, ge=1)
    iterations: int | None = Field(None, ge=1)
    """Without a number, those of the schedule: 500, or at most 1,000 of ours."""
    steps_per_iteration: int = Field(2, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)
    start: Start = "zero"
    """The papers' start, which is the identity, or the closed form of the same samples: with no activation, and a shift."""

    @model_validator(mode="after")
    def _together(self) -> "PaperSurgery":
        if self.start == "closed_form" and (self.activation != "none" or not self.shift):
            raise ValueError("'start: closed_form' goes with 'activation: none' and 'shift: true'")
        return self

    def fitting(self) -> Schedule:
        """Return the schedule that these numbers describe."""
        named = NAMED[self.schedule]
        return replace(
            named,
            rank=self.rank,
            iterations=self.iterations or named.iterations,
            steps_per_iteration=self.steps_per_iteration,
            batch_size=self.batch_size,
            learning_rate=self.learning_rate,
            start=self.start,
            **self.kind(),
        )

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of one module."""
        return patient.width if self.shift else 0, 2 * patient.width

    def told(self) -> str:
        """Tell the steps."""
        most = "at most " if self.schedule == "default" else ""
        after = " from the closed form on" if self.start == "closed_form" else ""
        return f"{self.size}, {most}{self.fitting().steps} steps{after}{self.unlike()}"

    def effort(self, patient: Patient) -> int:  # noqa: ARG002
        """Return the number of steps."""
        return self.fitting().steps

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Surgery:
        """Fit the modules of all tasks together."""
        return fit_surgery(patient.pairs, self.fitting(), seed, progress)


def solving(rank: int, shrinkage: float | None) -> ClosedForm:
    """Return what a closed form is told; without a shrinkage, cross-validation chooses it, and how much of the rank is of use."""
    return ClosedForm(rank) if shrinkage is None else ClosedForm(rank, (shrinkage,))


class ClosedFormSurgery(Procedure):
    """Corrections of the final representation, solved for; see :func:`suture.surgery.fit_closed_form`."""

    papers: ClassVar[tuple[Paper, ...]] = (REPRESENTATION_SURGERY, REDUCED_RANK)

    procedure: Literal["closed_form"]
    rank: int = Field(16, ge=0)
    shrinkage: float | None = Field(None, gt=0, allow_inf_nan=False)
    """A share of the inputs' mean variance, taken as it is, in place of cross-validation."""

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of one correction with a shift."""
        return patient.width, 2 * patient.width

    def told(self) -> str:
        """Tell the rank."""
        return f"{self.size}, in closed form"

    def effort(self, patient: Patient) -> int:
        """Return the number of tasks."""
        return len(patient.inputs)

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Surgery:  # noqa: ARG002
        """Solve task by task; nothing is drawn."""
        return fit_closed_form(patient.pairs, solving(self.rank, self.shrinkage), progress)


class DeepClosedFormSurgery(DeepSolved):
    """Corrections after every block and at the end, solved for in forward order, and refined by gradient if asked for."""

    papers: ClassVar[tuple[Paper, ...]] = (SURGERY_V2, REDUCED_RANK)

    procedure: Literal["deep_closed_form"]
    layers: Layers | None = None
    """The numbers of the blocks that are followed by a correction, from 0; without them, all. The end always is corrected."""
    shrinkage: float | None = Field(None, gt=0, allow_inf_nan=False)
    """As in :class:`ClosedFormSurgery`."""

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of a correction with a shift at every site."""
        widths = patient.widths_of(self.layers)
        return widths, 2 * widths

    def told(self) -> str:
        """Tell the rank, and the steps after it."""
        after = f", at most {self.refine} steps after it" if self.refine else ""
        return f"{self.size}, in closed form {places_of(self.layers)}{after}"

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Surgery:
        """Solve, then refine."""
        inputs, merged, expert_of, layers = patient.inputs, patient.merged, patient.expert_of, self.layers
        told = solving(self.rank, self.shrinkage)
        solved = fit_deep_closed_form(inputs, merged, expert_of, told, progress=progress, allot=self.allots, layers=layers)
        if (schedule := self.refining()) is None:
            return solved
        return fit_deep_surgery(
            inputs, merged, expert_of, schedule, seed, start=solved, layers=layers, precision=patient.precision, progress=progress
        )


class DeepSurgery(ByGradient):
    """SurgeryV2 by gradient; see :func:`suture.surgery.fit_deep_surgery`."""

    papers: ClassVar[tuple[Paper, ...]] = (SURGERY_V2,)
    encodes: ClassVar[bool] = False

    procedure: Literal["surgery_v2"]
    layers: Layers | None = None
    """As those of ``deep_closed_form``."""
    schedule: Literal["reference", "default"] = "reference"
    rank: int = Field(16, ge=1)
    steps: int = Field(1000, ge=1)
    batch_size: int = Field(16, ge=1)
    learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)

    def fitting(self) -> Schedule:
        """Return the schedule that these numbers describe."""
        once = replace(NAMED[self.schedule], iterations=self.steps, steps_per_iteration=1)
        return replace(once, rank=self.rank, batch_size=self.batch_size, learning_rate=self.learning_rate, **self.kind())

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of a module at every site."""
        widths = patient.widths_of(self.layers)
        return widths if self.shift else 0, 2 * widths

    def told(self) -> str:
        """Tell the steps."""
        most = "at most " if self.schedule == "default" else ""
        return f"{self.size} {places_of(self.layers)}, {most}{self.steps} steps{self.unlike()}"

    def effort(self, patient: Patient) -> int:
        """Return the number of inputs of all steps."""
        return self.steps * self.batch_size * len(patient.inputs)

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Surgery:
        """Fit the modules of all blocks, task by task."""
        return fit_deep_surgery(
            patient.inputs,
            patient.merged,
            patient.expert_of,
            self.fitting(),
            seed,
            layers=self.layers,
            precision=patient.precision,
            progress=progress,
        )
