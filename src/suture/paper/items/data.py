"""Table 4 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): how much calibration data it takes."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, Sweep, operated
from suture.paper.measures import Measure
from suture.paper.merges import FOUR, THREE, Merge, deep
from suture.paper.published import published_rows
from suture.paper.study import MODES, Study
from suture.report.exhibits import AnyExhibit

SHARES = (1, 5, 10, 100)


def _at(study: Study, merge: Merge, procedure: Mapping[str, Any], mode: Mode, place: int | float) -> list[Measure]:
    return operated(study, merge, {**procedure, "rank": 16}, mode, samples=f"{place:g}%")


SWEEP = Sweep(SHARES, {"surgery": {"procedure": SURGERY}, "closed form": {"procedure": CLOSED}}, FOUR, MODES, _at, "{:g} %")
DEEP_SWEEP = Sweep(SHARES, {"deep closed form": {"procedure": DEEP}}, THREE, ("held-out",), _at, "{:g} %")
"""SurgeryV2's own question, how far it gets on less data, of its closed form."""


def _deep_sweep(study: Study) -> Sweep:
    return replace(DEEP_SWEEP, merges=[merge for merge in THREE if deep(study, merge)])


class Data(Item):
    """1 to 100 % of the samples there are."""

    name = "data"
    title = "Accuracy over the share of calibration data (Table 4)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the sweeps'."""
        return [*SWEEP.measures(study), *_deep_sweep(study).measures(study)]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the tables, and the figures."""
        notes = [
            *study.told,
            f"Held-out, 100 % are the first {study.pool} samples of a task's calibration split; transductive, its test split. Rank 16.",
        ]
        exhibits: list[AnyExhibit] = [SWEEP.table(study, found, "data", self.title, notes)]
        exhibits += [SWEEP.lines(study, found, f"data-{mode}", self.title, "share of the data, %", mode) for mode in MODES]
        sweep = _deep_sweep(study)
        if not sweep.merges:
            return [*exhibits, *published_rows(study, "4", "data-published")]
        deep = "Surgery after every block over the share of calibration data (SurgeryV2's question)"
        exhibits.append(sweep.table(study, found, "data-deep", deep, notes))
        exhibits.append(sweep.lines(study, found, "data-deep-held-out", deep, "share of the data, %", "held-out"))
        return [*exhibits, *published_rows(study, "4", "data-published")]
