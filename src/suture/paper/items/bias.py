"""Fig. 4, 9 and 15–17 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): representation bias with and without surgery."""

from collections.abc import Sequence

from suture.evaluation import AVERAGE
from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, operated, plain, series_of
from suture.paper.measures import Measure
from suture.paper.merges import FOUR, MERGES, Merge, possible
from suture.paper.study import MODES, Study
from suture.report.colours import WITHOUT
from suture.report.exhibits import AnyExhibit, Bars, Table

PROCEDURES = {
    "surgery, rank 16": {"procedure": SURGERY, "rank": 16},
    "surgery, rank 64": {"procedure": SURGERY, "rank": 64},
    "closed form, rank 16": {"procedure": CLOSED, "rank": 16},
}
AFTER_BLOCKS = {"deep closed form, rank 16": {"procedure": DEEP, "rank": 16}}


def _series(study: Study, merge: Merge, mode: Mode) -> dict[str, list[Measure]]:
    """Return the measurements of a merge by what was done to it."""
    procedures = possible(study, PROCEDURES | AFTER_BLOCKS, merge)
    done = {label: operated(study, merge, procedure, mode) for label, procedure in procedures.items()}
    return {WITHOUT: plain(study, merge, mode), **done}


class RepresentationBias(Item):
    """The bias of every merge on every task; bars of the papers' four."""

    name = "bias"
    title = "Representation bias with and without surgery (Fig. 4, 9, 15–17)"

    def measures(self, study: Study) -> list[Measure]:
        """Return all that the tables and bars show."""
        return [each for merge in MERGES for mode in MODES for own in _series(study, merge, mode).values() for each in own]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return a table per mode, and bars for the merges of the papers' figures, held-out and transductive."""
        tables: list[AnyExhibit] = [_table(study, found, mode) for mode in MODES]
        return [*tables, *(_bars(study, found, merge, mode) for merge in FOUR for mode in MODES)]


def _table(study: Study, found: Found, mode: Mode) -> Table:
    tasks = [*study.tasks, AVERAGE]
    rows = [
        [merge.name, label, *(f"{found.spread(measures, 'bias_mean_abs', task):.4f}" for task in tasks)]
        for merge in MERGES
        for label, measures in _series(study, merge, mode).items()
    ]
    notes = [*study.told, "Mean |Z − Z of the expert| over samples and features: Eq. 1 of the paper ÷ k."]
    return Table(name=f"bias-{mode}", title=f"Representation bias, {mode}", header=["merge", "surgery", *tasks], rows=rows, notes=notes)


def _bars(study: Study, found: Found, merge: Merge, mode: Mode) -> Bars:
    tasks: Sequence[str] = [*study.tasks, AVERAGE]
    series = []
    for label, measures in _series(study, merge, mode).items():
        spreads = [found.spread(measures, "bias_mean_abs", task) for task in tasks]
        series.append(series_of(label, spreads))
    place = FOUR.index(merge) + 1
    return Bars(
        name=f"bias-{place}-{merge.method['method']}-{mode}",
        title=f"Representation bias: {merge.name}, {mode}",
        y="mean |Z − Z of the expert|",
        groups=list(tasks),
        series=series,
        notes=study.told,
    )
