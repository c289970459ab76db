"""SurgeryV2's finding (Yang et al., 2024, arXiv 2410.14389): bias grows from layer to layer, and surgery after every block ends that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from suture.engine import Step
from suture.experiment import Recipe
from suture.paper.found import Found
from suture.paper.items.item import BUDGET, CLOSED, DEEP, SURGERY, V2, Item, procedure_of, single
from suture.paper.measures import Bench, Measure
from suture.paper.merges import CALIBRATED, FOUR, THREE, Merge, deep
from suture.paper.study import DEEPER, Study
from suture.report.colours import WITHOUT
from suture.report.exhibits import AnyExhibit, Bars, Table
from suture.representation import encode, representation_bias
from suture.surgery import parts_of
from suture.surgery.sites import bias_by_block

SAMPLES = 100
"""Test samples of a task."""
PROCEDURES: Mapping[str, Mapping[str, Any]] = {
    "surgery": {"procedure": SURGERY, "rank": 16},
    "closed form": {"procedure": CLOSED, "rank": 16},
    "SurgeryV2": {"procedure": V2, "rank": 16},
    "deep closed form": {"procedure": DEEP, "rank": 16},
}
RESIDUALS: Mapping[str, Mapping[str, Any]] = {
    f"low-rank residual, {BUDGET}": {"procedure": "low_rank_residual", "budget": BUDGET},
    f"calibrated residual, {BUDGET}": {"procedure": "calibrated_residual", "budget": BUDGET},
    f"residual surgery, {BUDGET}": {"procedure": "residual_surgery", "budget": BUDGET},
}
"""What changes the weights of a block, for merges that learn nothing."""
OF_RANK: Mapping[str, Mapping[str, Any]] = {
    "low-rank residual": {"procedure": "low_rank_residual", "rank": 16},
    "calibrated residual": {"procedure": "calibrated_residual", "rank": 16},
}
"""The same where blocks have no linear layers, and the share may buy no rank of convolutions."""


@dataclass(frozen=True)
class Drift(Measure):
    """The bias behind every block and of the representation, of a merge or after its surgery."""

    kind = "drift"
    operated: bool = True

    @property
    def told(self) -> Sequence[object]:
        """How many samples, and which surgery."""
        return (SAMPLES, self.fit.key if self.operated else self.merged.key)

    @property
    def title(self) -> str:
        """What is measured."""
        return f"Bias behind every block: {self.fit.title if self.operated else self.merged.title}"

    @property
    def needs(self) -> Sequence[Step]:
        """The surgery, or the merge."""
        return (self.merged, self.fit) if self.operated else (self.merged,)

    def measure(self, bench: Bench) -> dict[str, Any]:
        """Return each task's bias, block by block."""
        weights, setting = self.merged.open(bench.store), bench.setting
        operation = self.fit.open(bench.store)[0] if self.operated else None
        residuals, surgery = parts_of(operation) if operation is not None else (None, None)
        found, shared = {}, setting.backbone(weights)
        with bench.stage(self.title, len(setting.tasks)) as progress:
            for task in setting.tasks:
                own = shared if residuals is None else setting.backbone(residuals.weights(task.name, weights))
                expert, inputs = setting.backbone(setting.experts[task.name]), task.split("test").first(SAMPLES).inputs
                corrections = [each for _, each in surgery.sites(task.name)] if surgery is not None and surgery.deep else None
                blocks = bias_by_block(own, expert, inputs, corrections)
                if surgery is not None and not surgery.deep:
                    blocks[-1] = representation_bias(surgery(task.name, encode(own, inputs)), encode(expert, inputs)).mean_abs
                found[task.name] = blocks
                progress(1)
        return {"blocks": found}


class Layers(Item):
    """Bias by layer, before and after, of the papers' four merges and of those that calibrate themselves."""

    name = "layers"
    title = "Representation bias behind every block (SurgeryV2)"

    def measures(self, study: Study) -> list[Measure]:
        """Return all bars."""
        return [drift for merge in _merges(study) for _, drift in _drifts(study, merge)]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table, and bars for every merge; nothing for a backbone without blocks."""
        if not _merges(study):
            return []
        notes = [
            *study.told,
            f"Mean |Δ| of the mean token behind every block, and of z; {SAMPLES} test samples a task. Held-out; one seed; rank 16 unless a "
            "share of the parameters is named.",
        ]
        rows, bars, groups = [], list[AnyExhibit](), list[str]()
        for place, merge in enumerate(_merges(study), 1):
            series = []
            for label, drift in _drifts(study, merge):
                values = [fmean(blocks) for blocks in zip(*found[drift]["blocks"].values(), strict=True)]
                series.append(single(label, values))
                rows.append([merge.name, label, *(f"{value:.4f}" for value in values)])
                groups = [*(f"block {number}" for number in range(1, len(values))), "z"]
            if merge in FOUR:
                name, title = f"layers-{place}-{merge.method['method']}", f"Bias behind every block: {merge.name}"
                bars.append(Bars(name=name, title=title, y="mean |Δ| to the expert", groups=groups, series=series, notes=notes))
        return [Table(name="layers", title=self.title, header=["merge", "surgery", *groups], rows=rows, notes=notes), *bars]


def _merges(study: Study) -> list[Merge]:
    calibrated = CALIBRATED if study.depth and not study.quick else ()
    return [*(merge for merge in FOUR if deep(study, merge)), *calibrated]


def _procedures(study: Study, merge: Merge) -> Mapping[str, Mapping[str, Any]]:
    """Return those that are measured on a merge: behind the blocks of one that corrected them itself there is nothing to add."""
    if merge in CALIBRATED:
        return {name: procedure for name, procedure in PROCEDURES.items() if procedure["procedure"] not in DEEPER}
    if merge not in THREE or study.quick:
        return PROCEDURES
    if study.linear:
        return {**PROCEDURES, **(RESIDUALS if study.affords(BUDGET) else {})}
    possible = {name: own for name, own in OF_RANK.items() if study.rows or own["procedure"] == "low_rank_residual"}
    return {**PROCEDURES, **(possible if study.matrices else {})}


def _drifts(study: Study, merge: Merge) -> list[tuple[str, Measure]]:
    def recipe(procedure: Mapping[str, Any] | None = None) -> Recipe:
        return study.recipe(merge.settings(study), procedure and procedure_of(study, procedure))

    return [
        (WITHOUT, Drift(study, recipe(), operated=False)),
        *((label, Drift(study, recipe(procedure))) for label, procedure in _procedures(study, merge).items()),
    ]
