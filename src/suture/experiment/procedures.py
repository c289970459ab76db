"""The procedures of surgery that a recipe may ask for, one or several."""

from collections.abc import Mapping, Sequence
from typing import Annotated, Any, get_args

from pydantic import BeforeValidator, Discriminator, Field, Tag

from suture.experiment.best import BestProcedure
from suture.experiment.procedure import ProcedureRecipe
from suture.experiment.residual_procedures import CalibratedResidual, LowRankResidual, ResidualSurgeryProcedure
from suture.experiment.surgery_procedures import ClosedFormSurgery, DeepClosedFormSurgery, DeepSurgery, PaperSurgery


def _listed(value: object) -> object:
    """Take one procedure for a list of one, and the paper's where none is named."""
    if isinstance(value, Mapping):
        value = [value]
    if isinstance(value, Sequence) and not isinstance(value, str):
        return [{"procedure": "surgery"} | dict(each) if isinstance(each, Mapping) else _named(each) for each in value]
    return [_named(value)]


def _named(value: object) -> Any:
    return {"procedure": value} if isinstance(value, str) else value


def _procedure_of(value: object) -> object:
    return value.get("procedure") if isinstance(value, Mapping) else getattr(value, "procedure", None)


PROCEDURES: tuple[type[ProcedureRecipe], ...] = (
    PaperSurgery,
    ClosedFormSurgery,
    DeepClosedFormSurgery,
    DeepSurgery,
    LowRankResidual,
    CalibratedResidual,
    ResidualSurgeryProcedure,
    BestProcedure,
)
PROCEDURES_BY_NAME: dict[str, type[ProcedureRecipe]] = {
    name: kind for kind in PROCEDURES for name in get_args(kind.model_fields["procedure"].annotation)
}
"""The same, by the names that recipes call them by."""

AnyProcedure = Annotated[
    Annotated[PaperSurgery, Tag("surgery")]
    | Annotated[ClosedFormSurgery, Tag("closed_form")]
    | Annotated[DeepClosedFormSurgery, Tag("deep_closed_form")]
    | Annotated[DeepSurgery, Tag("surgery_v2")]
    | Annotated[LowRankResidual, Tag("low_rank_residual")]
    | Annotated[CalibratedResidual, Tag("calibrated_residual")]
    | Annotated[ResidualSurgeryProcedure, Tag("residual_surgery")]
    | Annotated[BestProcedure, Tag("best")],
    Discriminator(
        _procedure_of,
        custom_error_type="unknown_procedure",
        custom_error_message=f"there is no such procedure; expected one of {', '.join(PROCEDURES_BY_NAME)}",
    ),
]
Procedures = Annotated[list[AnyProcedure], Field(min_length=1), BeforeValidator(_listed)]
