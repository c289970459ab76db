"""Table 6 and Fig. 10 of Representation Surgery (Yang et al., 2024, arXiv 2402.02705): accuracy over the rank."""

from collections.abc import Mapping
from typing import Any

from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, SURGERY, Item, Sweep, operated
from suture.paper.measures import Measure
from suture.paper.merges import FOUR, Merge
from suture.paper.published import published_rows
from suture.paper.study import MODES, Study
from suture.report.exhibits import AnyExhibit

RANKS = (4, 8, 16, 32, 64)


def _at(study: Study, merge: Merge, procedure: Mapping[str, Any], mode: Mode, place: int | float) -> list[Measure]:
    return operated(study, merge, {**procedure, "rank": int(place)}, mode)


SWEEP = Sweep(RANKS, {"surgery": {"procedure": SURGERY}, "closed form": {"procedure": CLOSED}}, FOUR, MODES, _at, "rank {:g}")


class Rank(Item):
    """Rank 4 to 64, four merges."""

    name = "rank"
    title = "Accuracy over the rank of surgery (Table 6, Fig. 10)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the sweep's."""
        return SWEEP.measures(study)

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table, and a figure for each mode."""
        table = SWEEP.table(study, found, "rank", self.title, study.told)
        figures = [SWEEP.lines(study, found, f"rank-{mode}", self.title, "rank", mode) for mode in MODES]
        return [table, *figures, *published_rows(study, "6", "rank-published")]
