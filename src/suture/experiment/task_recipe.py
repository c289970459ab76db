"""The parts of a recipe that say what one's own tasks are: networks, data, heads."""

from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Literal

from pydantic import Discriminator, Field, Tag, field_validator, model_validator

from suture.backbones import PLACE, Backbone, Pooling, open_backbone
from suture.checkpoints import Weights
from suture.evaluation import AVERAGE
from suture.experiment.strict import Strict
from suture.tasks import DataSet
from suture.tasks.prompts import Known


class BackboneRecipe(Strict):
    """How the network makes one representation of an input."""

    pooling: Pooling | None = None
    """Without one, what is usual in the network's family."""
    max_length: int = Field(128, ge=1)
    """Of texts, in tokens."""
    network: str = Field("", pattern=f"^({PLACE})?$")
    """For networks of one's own: the place of a function that returns a :class:`suture.Network`, ``package.module:function``."""

    def open(self, folder: Path, weights: Weights) -> Backbone:
        """Return the network of a folder with these weights."""
        return open_backbone(folder, weights, self.pooling, self.max_length, self.network)


class DataSetRecipe(Strict):
    """A split of a data set of Hugging Face's library (:class:`suture.tasks.DataSet`)."""

    dataset: str = Field(min_length=1)
    """Its name on the hub, or a folder, from where the command is run on."""
    split: str = Field(min_length=1)
    config: str | None = None
    revision: str | None = None
    files: str | None = Field(None, min_length=1)
    """A pattern of the only files to fetch; all their rows are the split."""
    shuffle: int | None = Field(None, ge=0)
    """The seed of a random order of its rows; without one they come as they are."""

    def source(self) -> DataSet:
        """Return what these settings name."""
        return DataSet(self.dataset, self.split, self.config, self.revision, self.files, self.shuffle)

    def __str__(self) -> str:
        return str(self.source())


FILE, DATASET, KNOWN = PARTS = ("<file>", "<data set>", "<known>")
"""What parts of one place are told apart by; no keys."""

Source = Annotated[
    Annotated[Path, Tag(FILE)] | Annotated[DataSetRecipe, Tag(DATASET)],
    Discriminator(lambda value: DATASET if isinstance(value, Mapping | DataSetRecipe) else FILE),
]
"""A file, a folder of images, or a data set."""

PromptsPlace = Annotated[
    Annotated[Known, Tag(KNOWN)] | Annotated[Path, Tag(FILE)],
    Discriminator(lambda value: KNOWN if isinstance(value, str) and Path(value).suffix != ".json" else FILE),
]
"""A task whose prompts come with Suture, or a file of one's own, which ends in ``.json``."""


class HeadRecipe(Strict):
    """A frozen head: prototypes of a few labelled samples under the base, prompts, a file that Suture wrote, or the expert's classifier."""

    support: Source | None = None
    file: Path | None = None
    saved: Literal[True] | None = None
    """Whether it is the linear layer of the classifier that the expert was saved as (``…ForImageClassification`` and the like)."""
    prompts: PromptsPlace | None = None
    """Names and templates for a CLIP's zero-shot head."""
    scale: float | None = Field(None, gt=0, allow_inf_nan=False)
    """What prototypes' cosines are multiplied by, 20 without; other heads bring their own."""

    @model_validator(mode="after")
    def _one_source(self) -> "HeadRecipe":
        if [source is not None for source in (self.support, self.file, self.saved, self.prompts)].count(True) != 1:
            raise ValueError(
                "give one of 'support' (a few labelled samples per class), 'prompts' (for CLIP), 'file' (a heads file) "
                "and 'saved: true' (the expert's own)"
            )
        if self.scale is not None and self.support is None:
            raise ValueError("'scale' is for prototypes: other heads bring their own; take it out")
        return self


class TaskRecipe(Strict):
    """A task of the user's own."""

    name: str = Field(min_length=1)
    expert: Path
    test: Source
    head: HeadRecipe
    calibration: Source | None = None
    train: Source | None = None
    classes: list[str] | None = None
    text: str = "text"
    """The column of the texts."""
    image: str | None = None
    """The column of the images, where the network takes images and the files are no folders of them."""
    label: str = "label"
    labelled: bool = True
    """Whether the test samples have labels; without them, agreement with the expert is measured in the place of accuracy."""

    @field_validator("name")
    @classmethod
    def _free(cls, name: str) -> str:
        if name == AVERAGE:
            raise ValueError(f"a task cannot be called {AVERAGE!r}: the tables have a column of that name")
        return name

    @field_validator("classes")
    @classmethod
    def _distinct(cls, classes: list[str] | None) -> list[str] | None:
        if classes is not None and (len(set(classes)) != len(classes) or len(classes) < 1):
            raise ValueError("expected the names of at least one class, each once")
        return classes
