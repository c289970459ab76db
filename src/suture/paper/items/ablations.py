"""What each part of surgery is for: bias term, nonlinearity, loss, start, early stop, depth, which layers."""

from collections.abc import Mapping, Sequence
from typing import Any

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, Row, accuracy_table, baseline, of_all, operated, plain
from suture.paper.measures import Measure
from suture.paper.merges import TASK_ARITHMETIC, THREE, deep
from suture.paper.study import Study
from suture.report.colours import EXPERTS, WITHOUT
from suture.report.exhibits import AnyExhibit

MODULES: Mapping[str, Mapping[str, Any]] = {
    "as published: ReLU, no bias term, L1, W_up from 0": {},
    "no ReLU": {"activation": "none"},
    "bias term": {"shift": True},
    "no ReLU, bias term": {"activation": "none", "shift": True},
    "L2": {"loss": "l2"},
    "no ReLU, bias term, L2": {"activation": "none", "shift": True, "loss": "l2"},
    "no ReLU, bias term, from the closed form": {"activation": "none", "shift": True, "start": "closed_form"},
    "early stop on an eighth": {"schedule": "default"},
    "one step an iteration": {"steps_per_iteration": 1},
}
"""What is changed of the papers' module and fit."""


def _rows(study: Study) -> list[Row]:
    rows = []
    for merge in THREE:
        bare = plain(study, merge)
        rows.append(Row((merge.name, WITHOUT), bare))
        for label, changed in MODULES.items():
            told = {**changed, "name": label} if changed else changed
            rows.append(Row((merge.name, label), operated(study, merge, {"procedure": SURGERY, "rank": 16, **told}), bare))
        rows.append(Row((merge.name, "solved for, at the end"), operated(study, merge, {"procedure": CLOSED, "rank": 16}), bare))
        for label, procedure in (_deep(study) if merge == TASK_ARITHMETIC and deep(study, merge) else {}).items():
            rows.append(Row((merge.name, label), operated(study, merge, procedure), bare))
    return rows


def _deep(study: Study) -> dict[str, Mapping[str, Any]]:
    """Return the choices of blocks, all solved for; the representation is corrected in each."""
    depth = study.depth
    half = depth // 2
    parts: dict[str, Sequence[int]] = {
        "the first half of the blocks": range(half),
        "the last half of the blocks": range(half, depth),
        "every second block": range(1, depth, 2),
        "the last block": [depth - 1],
    }
    deep = {"procedure": DEEP, "rank": 16}
    chosen = {f"solved for, behind {label}": {**deep, "layers": list(blocks), "name": label} for label, blocks in parts.items() if blocks}
    return {"solved for, behind every block": deep, **chosen}


class Ablations(Item):
    """The papers' modules with one thing changed at a time, and surgery at other depths."""

    name = "ablations"
    title = "Ablations of surgery"

    def measures(self, study: Study) -> list[Measure]:
        """Return the rows'."""
        return [*baseline(study), *of_all(_rows(study))]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table."""
        rows = [*_rows(study), Row((EXPERTS, ""), baseline(study))]
        notes = [*study.told, "Held-out, rank 16. Behind blocks: on task arithmetic alone; the representation is corrected too."]
        return [accuracy_table(found, self.name, self.title, ["merge", "surgery"], rows, notes)]
