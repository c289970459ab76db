"""What a recipe says of the samples that are learnt from."""

from math import ceil
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Field, PlainValidator, model_validator

from suture.experiment.strict import Amount, Share, Strict

Mode = Literal["held-out", "transductive"]
TEXT = "text"


def _source(value: object) -> object:
    if value in ("own", "others") or isinstance(value, Path):
        return value
    if isinstance(value, str) and value:
        return Path(value)
    raise ValueError("expected own, others or a file")


Source = Annotated[Literal["own", "others"] | Path, PlainValidator(_source)]


class CalibrationRecipe(Strict):
    """The unlabelled samples that data-driven merges and surgery learn from.

    Each seed draws ``samples`` of each task's first ``pool``: a number or a share (``10%``); None means all. In ``precision`` bfloat16
    data-driven merges, joint training and surgery by gradient run their forward passes in that, as far as autocast does.
    """

    mode: Mode = "held-out"
    source: Source = "own"
    """Each task's own calibration inputs, those of the other tasks, or a csv, jsonl or parquet file, or folder of images, of any kind."""
    text: str = TEXT
    """The column of such a file."""
    image: str | None = None
    """The same, of images."""
    precision: Literal["float32", "bfloat16"] = "float32"
    samples: Amount | None = None
    pool: int | None = Field(None, ge=1)
    damage: Share | None = None
    """The share of each calibration input that is spoilt, drawn with the first seed: characters of texts, pixels of images."""

    @property
    def label(self) -> str:
        """What tables and files say that was learnt from.

        >>> CalibrationRecipe(source="others", damage="10%").label
        'held-out, other tasks, 10 % damaged'
        """
        kinds = {"own": "", "others": ", other tasks"}
        spoilt = "" if self.damage is None else f", {100 * self.damage:g} % damaged"
        return self.mode + kinds.get(str(self.source), f", {Path(self.source).name}") + spoilt

    @property
    def of_tasks(self) -> bool:
        """Whether tasks' calibration files are learnt from, by themselves or by others."""
        return self.mode == "held-out" and not isinstance(self.source, Path)

    @property
    def own(self) -> bool:
        """Whether each task learns from its own calibration file."""
        return self.mode == "held-out" and self.source == "own"

    def size(self, among: int) -> int:
        """Return how many of so many samples are drawn.

        >>> CalibrationRecipe(samples="1%").size(250), CalibrationRecipe().size(250)
        (3, 250)
        """
        if self.samples is None:
            return among
        return self.samples if isinstance(self.samples, int) else ceil(round(self.samples * among, 6))

    @model_validator(mode="after")
    def _held_out(self) -> "CalibrationRecipe":
        if self.mode == "transductive" and self.source != "own":
            raise ValueError("transductive calibration is on the task's own test inputs: take out 'source'")
        if self.mode == "transductive" and self.damage is not None:
            raise ValueError("transductive calibration is on the test inputs as they are: take out 'damage'")
        if (self.text != TEXT or self.image is not None) and not isinstance(self.source, Path):
            raise ValueError("'text' and 'image' name the column of a file: give one as 'source', or take them out")
        return self
