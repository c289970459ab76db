"""Results as tidy rows: one value per row, the contract of ``results.csv``."""

from collections.abc import Iterable, Sequence
from dataclasses import astuple, dataclass, fields
from math import nan
from statistics import fmean, stdev
from typing import NamedTuple

from suture.errors import DataError

AVERAGE = "average"
"""The name of the column of averages; no task may be called so."""

PRETRAINED = "pretrained"
"""What the base is called among the merges."""
INDIVIDUAL = "individual"
"""What the experts, each on its own task, are called there."""
JOINT = "traditional_mtl"
"""What one backbone trained on the labelled data of all tasks is called there."""
UNMERGED = {PRETRAINED, INDIVIDUAL, JOINT}
NONE = "none"


class Model(NamedTuple):
    """What was measured, a row of the final table: everything that tells two models apart but the seed."""

    merge: str
    """A merging method with its settings, or ``pretrained``, ``individual`` or ``traditional_mtl``."""
    surgery: str = NONE
    rank: int = 0
    calibration: str = NONE
    """What merge or surgery learnt from: ``none``, ``held-out`` or ``transductive``, and whose inputs those were if not the task's own."""
    samples: int = 0
    """The most calibration samples of any task."""

    @property
    def operated(self) -> bool:
        """Whether surgery was done.

        >>> Model("ties").operated, Model("ties", "surgery", 16, "held-out", 256).operated
        (False, True)
        """
        return self.surgery != NONE


@dataclass(frozen=True)
class Record:
    """One measured value: of a :class:`Model` made with a seed, on a task.

    ``metric`` is ``accuracy`` (a share), ``bias_l1``, ``bias_mean_abs`` or ``parameters`` (how many numbers a task's surgery holds).
    """

    suite: str
    merge: str
    surgery: str
    rank: int
    calibration: str
    samples: int
    seed: int
    task: str
    metric: str
    value: float

    @property
    def model(self) -> Model:
        """What the row measures."""
        return Model(self.merge, self.surgery, self.rank, self.calibration, self.samples)


COLUMNS = [field.name for field in fields(Record)]
"""The header of ``results.csv``."""


@dataclass(frozen=True)
class Spread:
    """Mean and, over two seeds or more, sample standard deviation."""

    mean: float
    deviation: float | None

    @classmethod
    def of(cls, samples: Sequence[float]) -> "Spread":
        """Return mean and deviation of some values, at least one.

        >>> f"{Spread.of([1.0, 3.0]):.1f}", f"{Spread.of([2.0]):.1f}"
        ('2.0 ± 1.4', '2.0')
        """
        return cls(fmean(samples), stdev(samples) if len(samples) > 1 else None)

    def __format__(self, spec: str) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:{spec}}"
        return f"{self.mean:{spec}}{spread}"


def share_of_gap(merged: float, after: float, individual: float) -> float | None:
    """Return which share of the way from a merged model to the experts surgery goes; None when there is no gap.

    >>> share_of_gap(60.0, 75.0, 80.0), share_of_gap(80.0, 80.0, 80.0)
    (0.75, None)
    """
    return None if individual <= merged else (after - merged) / (individual - merged)


class Results:
    """Rows, and what the tables and figures read off them.

    Raises :class:`DataError` when one thing was measured twice.

    >>> rows = [Record("demo", *Model("ties"), 0, task, "accuracy", value) for task, value in (("spam", 0.5), ("news", 0.75))]
    >>> results = Results(rows)
    >>> results.tasks, results.average(Model("ties"))
    (['spam', 'news'], 62.5)
    """

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self._values: dict[tuple[Model, str, str], dict[int, float]] = {}
        for record in self.records:
            values = self._values.setdefault((record.model, record.metric, record.task), {})
            if record.seed in values:
                raise DataError(f"{record.metric} of {record.model} on task {record.task!r} with seed {record.seed} was measured twice")
            values[record.seed] = record.value

    @property
    def models(self) -> list[Model]:
        """Every model, in the order measured."""
        return list(dict.fromkeys(record.model for record in self.records))

    @property
    def tasks(self) -> list[str]:
        """Every task, in order."""
        return list(dict.fromkeys(record.task for record in self.records))

    @property
    def merges(self) -> list[str]:
        """Every merge, in order."""
        return list(dict.fromkeys(model.merge for model in self.models if model.merge not in UNMERGED))

    def plain(self, merge: str) -> Model:
        """Return the model of one merge as it is without surgery, with what it learnt from."""
        return next((model for model in self.models if model.merge == merge and not model.operated), Model(merge))

    def operated(self, merge: str) -> list[Model]:
        """Return the models that surgery made of one merge."""
        return [model for model in self.models if model.merge == merge and model.operated]

    def spread(self, model: Model, metric: str, task: str = AVERAGE, scale: float = 1.0) -> Spread | None:
        """Return mean and deviation over the seeds, of one task or of the average over tasks (seed by seed); None when not measured."""
        tasks = self.tasks if task == AVERAGE else [task]
        per_task = [self._values.get((model, metric, name)) for name in tasks]
        if any(values is None for values in per_task):
            return None
        seeds = [values for values in per_task if values is not None]
        return Spread.of([scale * fmean(values[seed] for values in seeds) for seed in seeds[0]])

    def average(self, model: Model) -> float:
        """Return a model's accuracy in %, the mean over tasks and seeds; NaN when it was not measured."""
        spread = self.spread(model, "accuracy", scale=100.0)
        return nan if spread is None else spread.mean

    def gap_closed(self, operated: Model) -> float | None:
        """Return the share of the accuracy between merged model and experts that surgery wins back; None when there is no gap."""
        merged, after, individual = (self.spread(model, "accuracy") for model in (self.plain(operated.merge), operated, Model(INDIVIDUAL)))
        if merged is None or after is None or individual is None:
            return None
        return share_of_gap(merged.mean, after.mean, individual.mean)

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of ``results.csv``."""
        return [astuple(record) for record in self.records]
