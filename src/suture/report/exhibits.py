"""What a report shows, as plain values: tables, bars, dots, lines and planes of points. Whoever renders them reads nothing else."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field, model_validator


class Exhibit(BaseModel):
    """One thing to look at; ``name`` is that of its files, ``notes`` are what a reader must know to read it."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(pattern=r"^[a-z0-9][a-z0-9_-]*$")
    title: str
    notes: list[str] = []
    section: str = ""
    """The heading it stands under, if any; those of one section stand together, in the order of the first of each."""


class Table(Exhibit):
    """Rows of text under a header; the first column names the row, the others are numbers.

    >>> Table(name="cost", title="Cost", header=["model", "parameters"], rows=[["surgery", "131,072"]]).rows
    [['surgery', '131,072']]
    """

    kind: Literal["table"] = "table"
    header: list[str] = Field(min_length=1)
    rows: list[list[str]]

    @model_validator(mode="after")
    def _rectangular(self) -> "Table":
        if any(len(row) != len(self.header) for row in self.rows):
            raise ValueError(f"every row of {self.name!r} has {len(self.header)} cells")
        return self


class Series(BaseModel):
    """Values with a label, and their standard deviations over seeds where there are several; None where nothing was measured."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    label: str
    mean: list[float | None]
    deviation: list[float | None]

    @model_validator(mode="after")
    def _paired(self) -> "Series":
        if len(self.mean) != len(self.deviation):
            raise ValueError(f"{self.label!r} has {len(self.mean)} means and {len(self.deviation)} deviations")
        return self


class Grouped(Exhibit):
    """A value of every series in each group."""

    groups: list[str]
    series: list[Series]

    @model_validator(mode="after")
    def _whole(self) -> "Grouped":
        if any(len(series.mean) != len(self.groups) for series in self.series):
            raise ValueError(f"every series of {self.name!r} has {len(self.groups)} values")
        return self


class Bars(Grouped):
    """A group of bars for every task (or layer), a bar of each series in it."""

    kind: Literal["bars"] = "bars"
    y: str
    """What is measured, with its unit."""


class Dots(Grouped):
    """A row for every group (a merge), a dot of each series in it; the baselines are lines down through all rows."""

    kind: Literal["dots"] = "dots"
    x: str
    """What is measured, with its unit."""


class Lines(Exhibit):
    """One curve for every series over the same places on the x-axis: a sweep."""

    kind: Literal["lines"] = "lines"
    x: str
    y: str
    places: list[float]
    logarithmic: bool = False
    """Whether the x-axis is."""
    series: list[Series]

    @model_validator(mode="after")
    def _whole(self) -> "Lines":
        if any(len(series.mean) != len(self.places) for series in self.series):
            raise ValueError(f"every series of {self.name!r} has {len(self.places)} values")
        return self


class Cloud(BaseModel):
    """One model's samples of one task, in the plane; ``samples`` says what each is, ``right`` whether it was classified so."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str
    task: str
    x: list[float]
    y: list[float]
    samples: list[str]
    right: list[bool]

    @model_validator(mode="after")
    def _paired(self) -> "Cloud":
        if len({len(self.x), len(self.y), len(self.samples), len(self.right)}) != 1:
            raise ValueError(f"the samples of {self.model!r} on {self.task!r} are not one for one")
        return self


class Plane(Exhibit):
    """Representations of several models in one plane: the experts' (``reference``), the merge's, before and after surgery."""

    kind: Literal["plane"] = "plane"
    reference: str
    clouds: list[Cloud]

    @property
    def models(self) -> list[str]:
        """The models other than the reference, in order."""
        return [model for model in dict.fromkeys(cloud.model for cloud in self.clouds) if model != self.reference]

    @property
    def tasks(self) -> list[str]:
        """The tasks, in order."""
        return list(dict.fromkeys(cloud.task for cloud in self.clouds))


Picture = Bars | Dots | Lines | Plane
AnyExhibit = Annotated[Table | Picture, Field(discriminator="kind")]


class Report(BaseModel):
    """All of a report: ``report.json``, from which the page is made."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    summary: str
    """What was found, in a sentence."""
    notes: list[str]
    exhibits: list[AnyExhibit]
    recipe: str
    """In YAML."""
    provenance: dict[str, str]
    """Libraries, weights and data, each with its version or digest."""

    @model_validator(mode="after")
    def _named(self) -> "Report":
        names = [exhibit.name for exhibit in self.exhibits]
        if twice := sorted({name for name in names if names.count(name) > 1}):
            raise ValueError(f"two exhibits are called {', '.join(twice)}, and their files would be one another's")
        return self
