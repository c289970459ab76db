"""What every part of a recipe has in common."""

from pydantic import BaseModel, ConfigDict, field_validator


class Strict(BaseModel):
    """A part of a recipe: an unknown key is an error, and true is not the number 1."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    @field_validator("*", mode="before")
    @classmethod
    def _no_switch(cls, value: object) -> object:
        if isinstance(value, bool):
            raise ValueError(f"cannot be {str(value).lower()}")  # noqa: TRY004  pydantic takes ValueErrors
        return value
