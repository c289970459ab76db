"""An item of the papers: what it takes to be measured, and what it shows."""

from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

from suture.evaluation import AVERAGE, INDIVIDUAL, Spread
from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.measures import Baseline, Measure, Operated, Plain
from suture.paper.merges import Merge
from suture.paper.study import DEEPER, Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Lines, Series, Table

SURGERY, CLOSED, DEEP, V2 = "surgery", "closed_form", "deep_closed_form", "surgery_v2"
BUDGET = "1%"
"""The share of the backbone's parameters that a task may cost, where sizes are matched."""


class Item(ABC):
    """One table or figure, or several that are read together. To add one: a file beside this one, and its name in the list."""

    name: ClassVar[str]
    title: ClassVar[str]
    """What it shows, and where the papers show it."""

    @abstractmethod
    def measures(self, study: Study) -> Iterable[Measure]:
        """Return all that must be measured; a measurement that several items name is made once."""

    @abstractmethod
    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return what is shown of what was found."""


@dataclass(frozen=True)
class Row:
    """One thing in a table: its name cells, and a measurement of it for every seed."""

    told: tuple[str, ...]
    measures: Sequence[Measure]
    before: Sequence[Measure] = ()
    """The same without surgery, to tell what surgery gains."""


def plain(study: Study, merge: Merge, mode: Mode = "held-out", only: Sequence[str] | None = None) -> list[Measure]:
    """Return the measurement of a merge as it is."""
    return [Plain(study, study.recipe(merge.settings(study), mode=mode, only=only))]


def operated(
    study: Study, merge: Merge, procedure: Mapping[str, Any], mode: Mode = "held-out", seeds: Sequence[int] | None = None, **learnt: Any
) -> list[Measure]:
    """Return the measurements, one for every seed, of a merge after a procedure; ``learnt`` as in :meth:`Study.recipe`.

    Without ``seeds``, what corrects behind blocks is measured with the first one, and all else with all.
    """
    settings, told = merge.settings(study), procedure_of(study, procedure)
    taken = seeds or (study.seeds[:1] if procedure["procedure"] in DEEPER else study.seeds)
    return [Operated(study, study.recipe(settings, told, mode=mode, seed=seed, **learnt)) for seed in taken]


def baseline(study: Study, model: str = INDIVIDUAL) -> list[Measure]:
    """Return the measurement of the base or of the experts."""
    return [Baseline(study, study.recipe({"method": "weight_averaging"}), model)]


def procedure_of(study: Study, procedure: Mapping[str, Any]) -> dict[str, Any]:
    """Return a procedure with the study's own settings of it."""
    return {**study.settings.get(procedure["procedure"], {}), **procedure}


def of_all(rows: Iterable[Row]) -> list[Measure]:
    """Return every measurement of some rows."""
    return [measure for row in rows for measure in (*row.measures, *row.before)]


def accuracy_table(found: Found, name: str, title: str, header: Sequence[str], rows: Sequence[Row], notes: Sequence[str]) -> Table:
    """Return a table of accuracies in %, a column per task and their average."""
    tasks = [*found[rows[0].measures[0]]["tasks"], AVERAGE]
    lines = [[*row.told, *(f"{found.spread(row.measures, 'accuracy', task, 100.0):.1f}" for task in tasks)] for row in rows]
    return Table(name=name, title=title, header=[*header, *tasks], rows=lines, notes=list(notes))


def series_of(label: str, spreads: Sequence[Spread | None]) -> Series:
    """Return values over seeds as a series; None is what was not measured."""
    return Series(label=label, mean=[each and each.mean for each in spreads], deviation=[each and each.deviation for each in spreads])


def curve(found: Found, label: str, places: Sequence[Sequence[Measure]]) -> Series:
    """Return the accuracy in %, averaged over tasks, at every place."""
    return series_of(label, [found.spread(each, "accuracy", scale=100.0) for each in places])


def single(label: str, values: Sequence[float]) -> Series:
    """Return values of one seed as a series."""
    return series_of(label, [Spread(value, None) for value in values])


def level(found: Found, label: str, measures: Sequence[Measure], places: int) -> Series:
    """Return the straight line of something that does not change along the x-axis."""
    return single(label, [found.spread(measures, "accuracy", scale=100.0).mean] * places)


@dataclass(frozen=True)
class Sweep:
    """Surgery of some merges over one setting: measured, put in a table, and drawn, held-out and transductive side by side."""

    places: Sequence[int | float]
    procedures: Mapping[str, Mapping[str, Any]]
    merges: Sequence[Merge]
    modes: Sequence[Mode]
    at: Callable[[Study, Merge, Mapping[str, Any], Mode, int | float], list[Measure]]
    """Returns the measurements at one place."""
    header: str
    """What a place is called, as a format."""
    quick: Sequence[int | float] = ()
    """The places of a quick study, where those are fewer."""

    def places_of(self, study: Study) -> Sequence[int | float]:
        """Return the places of a study."""
        return self.quick if study.quick and self.quick else self.places

    def headers(self, study: Study) -> list[str]:
        """Return the names of the places."""
        return [self.header.format(place) for place in self.places_of(study)]

    def rows(self, study: Study) -> list[tuple[Merge, Mode, str, list[list[Measure]]]]:
        """Return every curve: its merge, mode and procedure, and its measurements place by place."""
        return [
            (merge, mode, label, [self.at(study, merge, procedure, mode, place) for place in self.places_of(study)])
            for merge in self.merges
            for mode in self.modes
            for label, procedure in self.procedures.items()
        ]

    def measures(self, study: Study) -> list[Measure]:
        """Return all measurements, and those without surgery."""
        own = [measure for *_, places in self.rows(study) for place in places for measure in place]
        bare = [measure for merge in self.merges for mode in self.modes for measure in plain(study, merge, mode)]
        return [*baseline(study), *bare, *own]

    def table(self, study: Study, found: Found, name: str, title: str, notes: Sequence[str]) -> Table:
        """Return a row per curve, a column per place; the accuracy is the average over tasks, in %."""
        lines = []
        for merge, mode, label, places in self.rows(study):
            bare = f"{found.spread(plain(study, merge, mode), 'accuracy', scale=100.0):.1f}"
            cells = [f"{found.spread(place, 'accuracy', scale=100.0):.1f}" for place in places]
            lines.append([merge.name, label, mode, bare, *cells])
        individual = f"{found.spread(baseline(study), 'accuracy', scale=100.0):.1f}"
        lines.append([EXPERTS, "", "", individual, *[""] * len(self.places_of(study))])
        return Table(
            name=name, title=title, header=["merge", "surgery", "calibration", "none", *self.headers(study)], rows=lines, notes=list(notes)
        )

    def lines(self, study: Study, found: Found, name: str, title: str, x: str, mode: Mode, *, logarithmic: bool = True) -> Lines:
        """Return the curves of one mode."""
        series = [
            curve(found, f"{merge.name}{f', {label}' if len(self.procedures) > 1 else ''}", places)
            for merge, own, label, places in self.rows(study)
            if own == mode
        ]
        series.append(level(found, EXPERTS, baseline(study), len(self.places_of(study))))
        return Lines(
            name=name,
            title=f"{title}, {mode}",
            x=x,
            y="average accuracy, %",
            places=list(self.places_of(study)),
            logarithmic=logarithmic,
            series=series,
            notes=study.told,
        )
