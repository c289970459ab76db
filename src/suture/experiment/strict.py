"""What every part of a recipe has in common."""

from typing import Annotated

from pydantic import AfterValidator, BaseModel, BeforeValidator, ConfigDict, Field, field_validator


def _percent(value: object) -> object:
    """Read ``0.5%`` for 0.005."""
    if isinstance(value, str) and value.rstrip().endswith("%"):
        return float(value.rstrip()[:-1]) / 100
    return value


def _positive(value: int | float) -> int | float:
    if value <= 0 or (isinstance(value, float) and not value <= 1):
        raise ValueError("expected how many, at least 1, or a share of all, such as 10%")
    return value


Share = Annotated[float, BeforeValidator(_percent), Field(gt=0, le=1)]
"""``0.5%`` or ``0.005``."""
Amount = Annotated[int | float, BeforeValidator(_percent), AfterValidator(_positive)]
"""A whole number of samples, or a share of all."""


class Strict(BaseModel):
    """A part of a recipe: an unknown key is an error, and true is not the number 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"cannot be {str(value).lower()}")  # noqa: TRY004  pydantic takes ValueErrors
        return value
