"""What has been measured, read back: values over tasks and seeds."""

import json
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

import numpy as np

from suture.errors import DataError, reading
from suture.evaluation import AVERAGE, Interval, Spread, average_interval
from suture.paper.measures import Measure


@dataclass
class Found:
    """The results in a store, each read once."""

    store: Path
    _read: dict[str, dict[str, Any]] = field(default_factory=dict)

    def __getitem__(self, measure: Measure) -> dict[str, Any]:
        if measure.key not in self._read:
            file = measure.file(self.store)
            with reading(file, "the result of a measurement; remove it to have it measured again", DataError, DataError):
                self._read[measure.key] = dict(json.loads(file.read_text(encoding="utf-8")))
        return self._read[measure.key]

    def has(self, measures: Sequence[Measure]) -> bool:
        """Say whether all of these were measured."""
        return all(measure.key in self._read or measure.done(self.store) for measure in measures)

    def spread(self, measures: Sequence[Measure], metric: str, task: str = AVERAGE, scale: float = 1.0) -> Spread:
        """Return mean and deviation over measurements of one thing with several seeds, on a task or averaged over all, seed by seed."""
        return Spread.of([scale * self.value(measure, metric, task) for measure in measures])

    def value(self, measure: Measure, metric: str, task: str = AVERAGE) -> float:
        """Return one value; the average of all tasks where none is named."""
        tasks = self[measure]["tasks"]
        return fmean(own[metric] for own in tasks.values()) if task == AVERAGE else tasks[task][metric]

    def gain(self, before: Sequence[Measure], after: Sequence[Measure], task: str = AVERAGE) -> Interval:
        """Return the paired bootstrap interval of the accuracy after minus that before, over test samples, as a share."""
        tasks = list(self[after[0]]["tasks"]) if task == AVERAGE else [task]
        return average_interval({own: (self._right(after, own), self._right(before, own)) for own in tasks})

    def _right(self, measures: Sequence[Measure], task: str) -> "np.ndarray[Any, np.dtype[np.bool_]]":
        return np.array([[digit == "1" for digit in self[measure]["tasks"][task]["right"]] for measure in measures])
