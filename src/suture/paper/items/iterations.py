"""Fig. 11 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): accuracy over the iterations of the fit."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from statistics import fmean
from typing import Any

from suture.engine import Step
from suture.evaluation import Spread, accuracy
from suture.experiment import pipeline
from suture.experiment.calibration import Mode
from suture.experiment.surgery_procedures import PaperSurgery
from suture.paper.found import Found
from suture.paper.items.item import SURGERY, Item, baseline, level, procedure_of, series_of
from suture.paper.measures import Bench, Measure
from suture.paper.merges import FOUR, Merge
from suture.paper.steps import encoded
from suture.paper.study import MODES, Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Lines, Series, Table
from suture.representation import representation_bias
from suture.surgery import Surgery, fit_surgery

EVERY = 20
"""Iterations from one look to the next."""


@dataclass(frozen=True)
class Trace(Measure):
    """The fit of a merge's surgery, looked at as it goes on; the test split is looked at, and decides nothing."""

    kind = "trace"

    @property
    def told(self) -> Sequence[object]:
        """How often it is looked at."""
        return (EVERY,)

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Watching the surgery of {self.recipe.merges[0].label}"

    @property
    def needs(self) -> Sequence[Step]:
        """The representations that are learnt from, and those that are measured."""
        return encoded(self.merged, self.recipe, pipeline.SPLIT_OF[self.recipe.calibration.mode], "test")

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Fit, and return each task's accuracy, and the mean bias, at every look."""
        (procedure,), (seed,), label = self.recipe.surgery, self.recipe.seeds, self.recipe.merges[0].label
        assert isinstance(procedure, PaperSurgery)  # noqa: S101  made with one
        weights = self.merged.open(bench.store)
        test, expert = bench.representations.shared(label, weights, "test"), bench.representations.individual("test")
        pairs = pipeline.calibration_pairs(bench.setting, self.recipe, label, weights, bench.representations, seed)
        looks: list[dict[str, Any]] = []

        def look(iteration: int, surgery: Surgery) -> None:
            tasks = {}
            for task in bench.setting.tasks:
                z = surgery(task.name, test[task.name])
                right = accuracy(bench.setting.heads[task.name](z), task.split("test").known_labels())
                tasks[task.name] = {"accuracy": right, "bias_mean_abs": representation_bias(z, expert[task.name]).mean_abs}
            looks.append({"iteration": iteration, "tasks": tasks})

        schedule = replace(procedure.fitting(), look_every=EVERY)
        with bench.stage(self.title, schedule.steps) as progress:
            fit_surgery(pairs, schedule, seed, progress, watch=look)
        return {"looks": looks}


class Iterations(Item):
    """The papers' four merges, every 20 iterations."""

    name = "iterations"
    title = "Accuracy over the iterations of the fit (Fig. 11)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the fits."""
        return [*baseline(study), *(each for mode in MODES for merge in FOUR for each in _traces(study, merge, mode))]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return a figure per mode, and their numbers at the first hundreds."""
        rows, figures = [], list[AnyExhibit]()
        for mode in MODES:
            series, places = [], list[int]()
            for merge in FOUR:
                looks = [found[trace]["looks"] for trace in _traces(study, merge, mode)]
                places = [look["iteration"] for look in looks[0]]
                spreads = [Spread.of([_average(own[place]) for own in looks]) for place in range(len(places))]
                series.append(series_of(merge.name, spreads))
                rows.append([merge.name, mode, *(f"{spreads[places.index(place)]:.1f}" for place in _shown(places))])
            series.append(level(found, EXPERTS, baseline(study), len(places)))
            figures.append(_figure(study, self.title, mode, places, series))
        header = ["merge", "calibration", *map(str, _shown(places))]
        notes = [*study.told, "Rank 16; an iteration takes two steps, as in the authors' code. Average accuracy, %."]
        return [Table(name="iterations", title=self.title, header=header, rows=rows, notes=notes), *figures]


def _traces(study: Study, merge: Merge, mode: Mode) -> list[Measure]:
    procedure = procedure_of(study, {"procedure": SURGERY, "rank": 16})
    return [Trace(study, study.recipe(merge.settings(study), procedure, mode=mode, seed=seed)) for seed in study.seeds]


def _average(look: dict[str, Any]) -> float:
    tasks = look["tasks"].values()
    return 100 * fmean(own["accuracy"] for own in tasks)


def _shown(places: Sequence[int]) -> list[int]:
    """Return the places that a table has room for."""
    wanted = {0, 20, 40, 60, 80, 100, 200, 300, 400, 500, places[-1]}
    return [place for place in places if place in wanted]


def _figure(study: Study, title: str, mode: Mode, places: Sequence[int], series: list[Series]) -> Lines:
    return Lines(
        name=f"iterations-{mode}",
        title=f"{title}, {mode}",
        x="iterations",
        y="average accuracy, %",
        places=[float(place) for place in places],
        series=series,
        notes=study.told,
    )
