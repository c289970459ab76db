"""Table 4 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): how much calibration data it takes."""

from collections.abc import Mapping
from typing import Any

from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, Sweep, operated
from suture.paper.measures import Measure
from suture.paper.merges import FOUR, THREE, Merge
from suture.paper.published import published_rows
from suture.paper.study import MODES, Study
from suture.report.exhibits import AnyExhibit

SHARES = (1, 5, 10, 100)


def _at(study: Study, merge: Merge, procedure: Mapping[str, Any], mode: Mode, place: int | float) -> list[Measure]:
    seeds = study.seeds[:1] if procedure["procedure"] == DEEP else None
    return operated(study, merge, {**procedure, "rank": 16}, mode, seeds, samples=f"{place:g}%")


SWEEP = Sweep(SHARES, {"surgery": {"procedure": SURGERY}, "closed form": {"procedure": CLOSED}}, FOUR, MODES, _at)
DEEP_SWEEP = Sweep(SHARES, {"deep closed form": {"procedure": DEEP}}, THREE, ("held-out",), _at)
"""SurgeryV2's own question, how far it gets on less data, of its closed form."""


class Data(Item):
    """1 to 100 % of the samples there are."""

    name = "data"
    title = "Accuracy over the share of calibration data (Table 4)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the sweeps'."""
        return [*SWEEP.measures(study), *(DEEP_SWEEP.measures(study) if study.depth else [])]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the tables, and the figures."""
        notes = [
            *study.told,
            f"Held-out, 100 % are the first {study.pool} samples of a task's calibration split; transductive, its test split. Rank 16.",
        ]
        headers = [f"{share} %" for share in SHARES]
        exhibits: list[AnyExhibit] = [SWEEP.table(study, found, "data", self.title, headers, notes)]
        exhibits += [SWEEP.lines(study, found, f"data-{mode}", self.title, "share of the data, %", mode) for mode in MODES]
        if not study.depth:
            return [*exhibits, *published_rows(study, "4", "data-published")]
        deep = "Surgery after every block over the share of calibration data (SurgeryV2's question)"
        exhibits.append(DEEP_SWEEP.table(study, found, "data-deep", deep, headers, [*notes, "Deep closed form: first seed alone."]))
        exhibits.append(DEEP_SWEEP.lines(study, found, "data-deep-held-out", deep, "share of the data, %", "held-out"))
        return [*exhibits, *published_rows(study, "4", "data-published")]
