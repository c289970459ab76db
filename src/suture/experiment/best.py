"""The procedure that a user who only knows how much a task may cost wants: whichever comes nearest to the experts for that."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from statistics import fmean
from typing import Any, ClassVar, Literal

from pydantic import Field, model_validator
from torch import Tensor

from suture.bibliography import Paper
from suture.errors import DataError, InvalidRecipe, UnsupportedFormat
from suture.experiment.procedure import Patient, Procedure, ProcedureRecipe
from suture.experiment.residual_procedures import LowRankResidual, ResidualSurgeryProcedure
from suture.experiment.surgery_procedures import ClosedFormSurgery, DeepClosedFormSurgery, PaperSurgery
from suture.representation import encode, representation_bias
from suture.surgery import Operation, represent
from suture.types import Stage, silent

CANDIDATES: dict[str, type[Procedure]] = {
    "surgery": PaperSurgery,
    "closed_form": ClosedFormSurgery,
    "deep_closed_form": DeepClosedFormSurgery,
    "low_rank_residual": LowRankResidual,
    "residual_surgery": ResidualSurgeryProcedure,
}
JUDGED = 4
"""One sample of so many says which procedure is the best."""


class BestProcedure(ProcedureRecipe):
    """Of several procedures, each as large as the budget allows, the one that leaves the least bias on samples it has not seen.

    Each is fitted to three quarters of the first seed's samples and judged on the last; what is chosen is then fitted to all. What is
    compared is mean |ẑ − z_expert|, as a share of the merged model's, the mean over tasks.
    """

    papers: ClassVar[tuple[Paper, ...]] = tuple(paper for kind in CANDIDATES.values() for paper in kind.papers)

    procedure: Literal["best"]
    rank: int = Field(0, exclude=True)
    among: list[Literal["surgery", "closed_form", "deep_closed_form", "low_rank_residual", "residual_surgery"]] = Field(
        ["closed_form", "deep_closed_form", "low_rank_residual", "residual_surgery"], min_length=1
    )

    @model_validator(mode="after")
    def _budgeted(self) -> "BestProcedure":
        if self.budget is None:
            raise ValueError("'best' takes a 'budget', such as 1%, and no rank")
        return self

    @property
    def cited(self) -> Sequence[Paper]:
        """The papers of all that is chosen among."""
        return [paper for name in self.among for paper in CANDIDATES[name].papers]

    def within(self, patient: Patient, seed: int = 0, stage: Stage = silent) -> Procedure:
        """Return the best of the procedures, sized; those that the budget or the network does not allow are left out.

        Raises :class:`InvalidRecipe` when none is left.
        """
        part, judged = _parted(patient)
        targets = {task: encode(patient.expert_of(task), inputs) for task, inputs in judged.items()}
        before = {task: representation_bias(encode(patient.merged, inputs), targets[task]).mean_abs for task, inputs in judged.items()}

        def left(operation: Operation) -> float:
            z = {task: represent(operation, patient.merged, task, inputs) for task, inputs in judged.items()}
            after = {task: representation_bias(z[task], targets[task]).mean_abs for task in judged}
            share = fmean(after[task] / before[task] if before[task] else after[task] for task in judged)
            return share if math.isfinite(share) else math.inf

        tried: list[tuple[float, Procedure]] = []
        refused = []
        for name in dict.fromkeys(self.among):
            try:
                candidate = CANDIDATES[name].model_validate({"procedure": name, "budget": self.budget}).within(patient)
                if candidate.encodes:
                    _ = part.pairs  # encoding has a bar of its own
                with stage(f"Trying {candidate.label}", candidate.effort(part)) as progress:
                    tried.append((left(candidate.fit(part, seed, progress)), candidate))
            except (InvalidRecipe, UnsupportedFormat) as error:  # too dear, or not for such networks
                refused.append(f"{name}: {error}")
        if not tried:
            raise InvalidRecipe(f"none of {', '.join(self.among)} can be fitted: {'; '.join(refused)}")
        best = min(tried, key=lambda found: found[0])[1]
        return best.model_copy(update={"name": f"{self.label}: {best.label}"})

    def told(self) -> str:
        """Tell what is chosen among."""
        return f"the best of {', '.join(self.among)} for {self.size}, by a quarter of the samples"


def _parted(patient: Patient) -> tuple[Patient, Mapping[str, list[Any]]]:
    """Return the patient with the first of its inputs only, and the others, which are to judge by."""
    ends = {task: len(inputs) - len(inputs) // JUDGED for task, inputs in patient.inputs.items()}
    if bare := [task for task, inputs in patient.inputs.items() if ends[task] == len(inputs)]:
        raise DataError(f"choosing the best procedure takes at least {JUDGED} calibration samples a task; fewer: {', '.join(bare)}")

    def pairs() -> dict[str, tuple[Tensor, Tensor]]:
        return {task: (merged[: ends[task]], expert[: ends[task]]) for task, (merged, expert) in patient.pairs.items()}

    inputs = {task: list(own)[: ends[task]] for task, own in patient.inputs.items()}
    return replace(patient, inputs=inputs, pairs_of=pairs), {task: list(own)[ends[task] :] for task, own in patient.inputs.items()}
