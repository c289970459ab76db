"""What every part of a recipe has in common."""

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, PlainValidator, field_validator


def _share(value: object) -> float:
    """Read ``0.5%`` or ``0.005``."""
    text = str(value).strip()
    try:
        share = float(text.removesuffix("%")) / (100 if text.endswith("%") else 1)
    except ValueError:
        share = 0.0
    if not 0 < share <= 1:
        raise ValueError(f"expected a share of all, such as 0.5% or 0.005, not {value}")
    return share


def _amount(value: object) -> int | float:
    if isinstance(value, int) and value >= 1:
        return value
    try:
        if isinstance(value, float | str):
            return _share(value)
    except ValueError:
        pass
    raise ValueError(f"expected a number of samples, at least 1, or a share of all, such as 10%, not {value}")


Share = Annotated[float, PlainValidator(_share)]
"""``0.5%`` or ``0.005``."""
Amount = Annotated[int | float, PlainValidator(_amount)]
"""A whole number of samples, or a share of all."""

SWITCHES = {"allot", "labelled", "saved", "shift"}
"""The keys that are true or false."""


class Strict(BaseModel):
    """A part of a recipe: an unknown key is an error, and true is not the number 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object, info: Any) -> object:
        if isinstance(value, bool) and info.field_name not in SWITCHES:
            raise ValueError(f"cannot be {str(value).lower()}")
        return value
