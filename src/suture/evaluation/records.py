"""Results as tidy rows: one value per row, the contract of ``results.csv``."""

from collections.abc import Iterable
from dataclasses import astuple, dataclass, fields
from statistics import fmean, stdev

Key = tuple[str, str]
"""A merge and a surgery."""

AVERAGE = "average"
UNMERGED = {"pretrained", "individual"}


@dataclass(frozen=True)
class Record:
    """One measured value.

    ``merge`` is a merging method with its settings, or ``pretrained`` or ``individual``; ``surgery`` is ``none`` or its kind;
    ``calibration`` is ``none``, ``held-out`` or ``transductive``; ``metric`` is ``accuracy`` (a share), ``bias_l1`` or ``bias_mean_abs``.
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
    def key(self) -> Key:
        """What the row measures: a row of the final table."""
        return self.merge, self.surgery


COLUMNS = [field.name for field in fields(Record)]


@dataclass(frozen=True)
class Spread:
    """Mean and, over two seeds or more, sample standard deviation."""

    mean: float
    deviation: float | None

    def __format__(self, spec: str) -> str:
        spread = "" if self.deviation is None else f" ± {self.deviation:{spec}}"
        return f"{self.mean:{spec}}{spread}"


class Results:
    """Rows, and what the tables and figures read off them."""

    def __init__(self, records: Iterable[Record]) -> None:
        self.records = list(records)
        self._values: dict[tuple[Key, str, str], dict[int, float]] = {}
        for record in self.records:
            self._values.setdefault((record.key, record.metric, record.task), {})[record.seed] = record.value

    @property
    def keys(self) -> list[Key]:
        """Every (merge, surgery), in the order measured."""
        return list(dict.fromkeys(record.key for record in self.records))

    @property
    def tasks(self) -> list[str]:
        """Every task, in order."""
        return list(dict.fromkeys(record.task for record in self.records))

    @property
    def merges(self) -> list[str]:
        """Every merged model."""
        return list(dict.fromkeys(merge for merge, _ in self.keys if merge not in UNMERGED))

    @property
    def surgeries(self) -> list[str]:
        """Every kind of surgery."""
        return list(dict.fromkeys(surgery for _, surgery in self.keys if surgery != "none"))

    def spread(self, key: Key, metric: str, task: str = AVERAGE, scale: float = 1.0) -> Spread | None:
        """Return mean and deviation over the seeds, of one task or of the average over tasks (seed by seed); None when not measured."""
        tasks = self.tasks if task == AVERAGE else [task]
        per_task = [self._values.get((key, metric, name)) for name in tasks]
        if any(values is None for values in per_task):
            return None
        seeds = [values for values in per_task if values is not None]
        samples = [scale * fmean(values[seed] for values in seeds) for seed in seeds[0]]
        return Spread(fmean(samples), stdev(samples) if len(samples) > 1 else None)

    def gap_closed(self, merge: str, surgery: str) -> float | None:
        """Return the share of the accuracy between merged model and experts that surgery wins back; None when there is no gap."""
        merged, operated, individual = (self.spread(key, "accuracy") for key in ((merge, "none"), (merge, surgery), ("individual", "none")))
        if merged is None or operated is None or individual is None or individual.mean <= merged.mean:
            return None
        return (operated.mean - merged.mean) / (individual.mean - merged.mean)

    def rows(self) -> list[tuple[object, ...]]:
        """Return the rows of ``results.csv``."""
        return [astuple(record) for record in self.records]
