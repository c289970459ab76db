"""The procedures of surgery that change weights: low-rank residuals, alone or with deep surgery on top."""

from typing import ClassVar, Literal

from pydantic import Field

from suture.bibliography import LORA, REDUCED_RANK, SURGERY_V2, SVD_LLM, TRUNCATED_SVD, Paper
from suture.experiment.procedure import DeepSolved, Patient, Procedure
from suture.surgery import ClosedForm, Operation, calibrated_residuals, fit_residual_surgery, low_rank_residuals
from suture.surgery.residual import parameters_of_residuals, tensors_of_blocks
from suture.surgery.residual_surgery import factors_of
from suture.types import Progress, Stage, silent

RANK = 3
"""That of residuals where neither a number nor a budget decides it."""
SHARE = 0.6
"""What residuals get of a budget; the corrections get the rest."""


class ResidualProcedure(Procedure):
    """Low-rank changes of the blocks' weights, and nothing else."""

    encodes: ClassVar[bool] = False

    rank: int = Field(4, ge=0)

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of all that is no matrix, and of the factors of all matrices."""
        return parameters_of_residuals(patient.merged)


class LowRankResidual(ResidualProcedure):
    """Changes that need no data; see :func:`suture.surgery.low_rank_residuals`."""

    papers: ClassVar[tuple[Paper, ...]] = (TRUNCATED_SVD,)

    procedure: Literal["low_rank_residual"]

    def told(self) -> str:
        """Tell the rank."""
        return f"{self.size} of what every matrix misses"

    def effort(self, patient: Patient) -> int:
        """Return the number of tensors of all tasks."""
        return len(patient.inputs) * len(tensors_of_blocks(patient.merged))

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Operation:  # noqa: ARG002
        """Decompose what the merged weights miss of every expert."""
        experts = {task: patient.expert_of(task).weights for task in patient.inputs}
        return low_rank_residuals(patient.merged.weights, experts, tensors_of_blocks(patient.merged), self.rank, progress)


class CalibratedResidual(ResidualProcedure):
    """Changes as the activations on the calibration set want them; see :func:`suture.surgery.calibrated_residuals`."""

    papers: ClassVar[tuple[Paper, ...]] = (TRUNCATED_SVD, SVD_LLM)

    procedure: Literal["calibrated_residual"]

    def told(self) -> str:
        """Tell the rank."""
        return f"{self.size} of what every matrix misses, weighed by activations"

    def effort(self, patient: Patient) -> int:
        """Return the number of inputs that pass a block."""
        return patient.samples * patient.merged.blocks.depth

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Operation:  # noqa: ARG002
        """Decompose what the merged weights miss of every expert, weighed."""
        return calibrated_residuals(patient.inputs, patient.merged, patient.expert_of, self.rank, progress=progress)


class ResidualSurgeryProcedure(DeepSolved):
    """Low-rank changes of weights and deep surgery of what they make, together; see :func:`suture.surgery.fit_residual_surgery`."""

    papers: ClassVar[tuple[Paper, ...]] = (SURGERY_V2, REDUCED_RANK, LORA, TRUNCATED_SVD)
    decays: ClassVar[bool] = True

    procedure: Literal["residual_surgery"]
    residual_rank: int | None = Field(None, ge=0)
    """Without a number 3, or what a share of the budget comes to."""
    refine: int = Field(200, ge=0)
    refine_learning_rate: float = Field(1e-3, gt=0, allow_inf_nan=False)

    def cost(self, patient: Patient) -> tuple[int, int]:
        """Return the parameters of all changes and of the shifts, and of a rank more of the corrections."""
        return self._residual_rank * factors_of(patient.merged) + patient.widths, 2 * patient.widths

    def within(self, patient: Patient, seed: int = 0, stage: Stage = silent) -> Procedure:
        """Return the procedure of the highest ranks that the budget allows; residuals get a share of it unless their rank is given."""
        if self.budget is None or self.residual_rank is not None:
            return super().within(patient, seed, stage)
        shared = self.model_copy(update={"residual_rank": int(SHARE * self.budget * patient.size / factors_of(patient.merged))})
        return shared.within(patient, seed, stage)

    def told(self) -> str:
        """Tell the ranks, and the steps."""
        after = f", {self.refine} steps after it" if self.refine else ""
        if self.budget is not None and self.residual_rank is None:
            return f"residuals and corrections after every block of {self.size}, in closed form{after}"
        return f"corrections after every block of {self.size}, in closed form, on residuals of rank {self._residual_rank}{after}"

    @property
    def _residual_rank(self) -> int:
        return RANK if self.residual_rank is None else self.residual_rank

    def fit(self, patient: Patient, seed: int, progress: Progress) -> Operation:
        """Decompose, solve, then refine."""
        return fit_residual_surgery(
            patient.inputs,
            patient.merged,
            patient.expert_of,
            self._residual_rank,
            ClosedForm(self.rank),
            self.refining(),
            seed,
            allot=self.allots,
            precision=patient.precision,
            progress=progress,
        )
