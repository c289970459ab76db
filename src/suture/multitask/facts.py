"""What is known of how a model came about, and of how good it is."""

from pydantic import BaseModel, ConfigDict


class TaskFacts(BaseModel):
    """What was measured of one task, on how many test samples: accuracies as shares."""

    model_config = ConfigDict(extra="forbid")

    samples: int
    individual: float
    merged: float
    model: float
    identified: float | None = None
    """How often the router finds the task."""
    routed: float | None = None
    """The accuracy when the task is not told: found, and the class right."""
    strange: float | None = None
    """How often an input of the task is taken for one of none."""
    unseen: float | None = None
    """How often a router fitted without the task takes its inputs for those of none."""


class Facts(BaseModel):
    """What a model card tells of how a model came about."""

    model_config = ConfigDict(extra="forbid")

    suite: str = ""
    family: str = ""
    merge: str = ""
    surgery: str = ""
    calibration: str = ""
    tasks: dict[str, TaskFacts] = {}
    licences: list[str] = []
    recipe: dict[str, object] | None = None
    """That which made it, with the places of base, experts and data: ``suture add`` and ``suture remove`` start from it."""
