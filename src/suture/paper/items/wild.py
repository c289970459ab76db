"""SurgeryV2's "wild" calibration data (arXiv 2410.14389): inputs of other tasks in place of a task's own; and inputs that are damaged."""

from collections.abc import Mapping, Sequence
from typing import Any

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, Row, accuracy_table, baseline, curve, level, of_all, operated, plain
from suture.paper.measures import Measure
from suture.paper.merges import TASK_ARITHMETIC, THREE, Merge, possible
from suture.paper.study import DEEPER, Study
from suture.report.colours import EXPERTS, WITHOUT
from suture.report.exhibits import AnyExhibit, Lines

PROCEDURES = {
    "surgery": {"procedure": SURGERY, "rank": 16},
    "closed form": {"procedure": CLOSED, "rank": 16},
    "deep closed form": {"procedure": DEEP, "rank": 16},
}
DAMAGES = (0.0, 0.05, 0.1, 0.2, 0.4)


def _rows(study: Study, sources: Mapping[str, Mapping[str, Any]], behind: Sequence[Merge] = THREE) -> list[Row]:
    """Return a row per merge, procedure and source of calibration inputs; surgery behind blocks is fitted on the merges of ``behind``."""
    return [
        Row((merge.name, label, told), operated(study, merge, procedure, calibration=learnt))
        for merge in THREE
        for label, procedure in possible(study, PROCEDURES, merge).items()
        if merge in behind or procedure["procedure"] not in DEEPER
        for told, learnt in sources.items()
    ]


class Wild(Item):
    """A task's own inputs, and those of the other tasks."""

    name = "wild"
    title = "Calibration data of other tasks (SurgeryV2's wild data)"
    sources: Mapping[str, Mapping[str, Any]] = {"own": {}, "other tasks": {"source": "others"}}

    def _all(self, study: Study) -> list[Row]:
        bare = [Row((merge.name, "none", ""), plain(study, merge)) for merge in THREE]
        return [*bare, *_rows(study, self.sources), Row((EXPERTS, "", ""), baseline(study))]

    def measures(self, study: Study) -> list[Measure]:
        """Return the table's."""
        return of_all(self._all(study))

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table."""
        notes = [*study.told, "As many inputs from the other tasks, in turn, as of a task's own."]
        return [accuracy_table(found, self.name, self.title, ["merge", "surgery", "inputs"], self._all(study), notes)]


class Robustness(Item):
    """Calibration inputs of which a share is damaged; the test inputs are whole."""

    name = "robustness"
    title = "Shifted calibration data: a share of every input is damaged"

    def _sources(self) -> dict[str, Mapping[str, Any]]:
        return {f"{damage:.0%} damaged": {"damage": damage} if damage else {} for damage in DAMAGES}

    def measures(self, study: Study) -> list[Measure]:
        """Return the grid."""
        return of_all(self._all(study))

    def _all(self, study: Study) -> list[Row]:
        bare = [Row((merge.name, "none", ""), plain(study, merge)) for merge in THREE]
        return [*bare, *self._damaged(study), Row((EXPERTS, "", ""), baseline(study))]

    def _damaged(self, study: Study) -> list[Row]:
        return _rows(study, self._sources(), behind=[TASK_ARITHMETIC])

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table, and a figure for every merge."""
        notes = [
            *study.told,
            "Damaged: that share of a text's characters, or an image's pixels. Held-out; all seeds see the same damage. "
            "Surgery behind blocks: on task arithmetic alone.",
        ]
        table = accuracy_table(found, self.name, self.title, ["merge", "surgery", "inputs"], self._all(study), notes)
        return [table, *(self._figure(study, found, place, notes) for place in range(len(THREE)))]

    def _figure(self, study: Study, found: Found, place: int, notes: list[str]) -> Lines:
        merge = THREE[place]
        curves = {label: [row.measures for row in self._damaged(study) if row.told[:2] == (merge.name, label)] for label in PROCEDURES}
        series = [curve(found, label, own) for label, own in curves.items() if own]
        series.append(level(found, WITHOUT, plain(study, merge), len(DAMAGES)))
        series.append(level(found, EXPERTS, baseline(study), len(DAMAGES)))
        return Lines(
            name=f"robustness-{merge.method['method']}",
            title=f"Damaged calibration data: {merge.name}",
            x="damaged, %",
            y="average accuracy, %",
            places=[100 * damage for damage in DAMAGES],
            series=series,
            notes=notes,
        )
