"""Every procedure of surgery and its rivals, side by side: at ranks 4, 16 and 64, at 1 % of the parameters, and on very few samples."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from statistics import fmean
from typing import Any

from suture.evaluation.records import share_of_gap
from suture.paper.found import Found
from suture.paper.items.item import BUDGET, CLOSED, DEEP, SURGERY, V2, Item, baseline, operated, plain
from suture.paper.measures import Measure
from suture.paper.merges import CALIBRATED, TASK_ARITHMETIC, THREE, Merge
from suture.paper.study import DEEPER, WHOLE, Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Table

SIZES: tuple[int | str, ...] = (4, 16, 64, BUDGET)
"""Ranks, and the share of the backbone's parameters that a task may cost."""
BEST = "residual_surgery"
LOW_RANK, CALIBRATED_RESIDUAL = "low_rank_residual", "calibrated_residual"


@dataclass(frozen=True)
class Rival:
    """A procedure, the sizes at which it is measured, and whether with every seed."""

    name: str
    procedure: Mapping[str, Any]
    sizes: Sequence[int | str] = SIZES
    seeded: bool = True

    def at(self, study: Study, merge: Merge, size: int | str, **learnt: Any) -> list[Measure]:
        """Return the measurements at one size."""
        sized = {**self.procedure, "rank" if isinstance(size, int) else "budget": size}
        return operated(study, merge, sized, seeds=study.seeds if self.seeded else study.seeds[:1], **learnt)


SURGERIES = (
    Rival("surgery", {"procedure": SURGERY}),
    Rival("surgery, early stop", {"procedure": SURGERY, "schedule": "default", "name": "surgery, early stop"}),
    Rival("closed form", {"procedure": CLOSED}),
    Rival("SurgeryV2", {"procedure": V2}, seeded=False),
    Rival("deep closed form", {"procedure": DEEP}),
    Rival("deep closed form, refined", {"procedure": DEEP, "refine": 300, "name": "deep, refined"}, sizes=(16,), seeded=False),
    Rival("low-rank residual", {"procedure": LOW_RANK}, seeded=False),
    Rival("calibrated residual", {"procedure": CALIBRATED_RESIDUAL}),
    Rival("residual surgery", {"procedure": BEST}, sizes=(BUDGET,), seeded=False),
    Rival("residual surgery", {"procedure": BEST, "residual_rank": 1}, sizes=(BUDGET,)),
)
AFTER = (
    Rival("surgery", {"procedure": SURGERY}),
    Rival("closed form", {"procedure": CLOSED}),
)
"""What is fitted after the merges that calibrate themselves."""
FEW = (
    Rival("closed form", {"procedure": CLOSED}, sizes=(16,)),
    Rival("deep closed form", {"procedure": DEEP}, sizes=(16,)),
)
FULL = Rival("residual surgery", {"procedure": BEST}, sizes=(BUDGET,))
"""What comes closest to the experts."""
FULL_ELSEWHERE = Rival(
    "deep closed form, refined",
    {"procedure": DEEP, "refine": 200, "refine_learning_rate": 1e-3, "name": "deep, refined"},
    sizes=(BUDGET,),
)
"""The same where blocks have no linear layers."""
SAMPLES: tuple[int | str, ...] = (8, 32, WHOLE)
QUICK_SIZES, QUICK_SAMPLES = (16, BUDGET), (8, WHOLE)


@dataclass(frozen=True)
class Line:
    """One line of a table: a merge, what is done to it, and how large that is or how many samples it sees."""

    merge: Merge
    surgery: str
    told: str
    measures: Sequence[Measure]


class Surgeries(Item):
    """Which surgery is best for its size, and how few samples it takes."""

    name = "surgeries"
    title = "Every surgery at the same sizes, and its rivals"

    def measures(self, study: Study) -> list[Measure]:
        """Return both tables'."""
        return [*baseline(study), *(measure for line in (*_sized(study), *_starved(study)) for measure in line.measures)]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table over sizes, and that over samples."""
        notes = [
            *study.told,
            "Held-out. Of individual: share of the experts' average accuracy. Gap: share of the way from the merge to the experts. Worst "
            "task: accuracy minus the expert's. Parameters: those of a task. Seconds: of the fit of all tasks; the machine may be busy.",
        ]
        return [
            _table(study, found, "surgeries", self.title, "size", _sized(study), notes),
            _table(study, found, "surgeries-samples", "Surgery on few samples", "samples a task", _starved(study), notes),
        ]


def _sized(study: Study) -> list[Line]:
    """Return the merges as they are, and after every procedure at every size."""
    lines = []
    for merge, rivals in [*((merge, SURGERIES) for merge in _merges(study)), *((merge, AFTER) for merge in _calibrated(study))]:
        lines.append(Line(merge, "none", "", plain(study, merge)))
        lines += [Line(merge, rival.name, _size(size), rival.at(study, merge, size)) for rival, size in _possible(study, rivals)]
    return lines


def _starved(study: Study) -> list[Line]:
    """Return some procedures over numbers of samples."""
    counts = {count: study.pool if count == WHOLE else count for count in (QUICK_SAMPLES if study.quick else SAMPLES)}
    return [
        Line(merge, f"{rival.name}, {_size(size)}", str(told), rival.at(study, merge, size, samples=count))
        for merge in _merges(study)
        for rival, size in _possible(study, (*FEW, FULL if study.linear else FULL_ELSEWHERE))
        for count, told in counts.items()
    ]


def _sizes(study: Study) -> Sequence[int | str]:
    """Return the sizes that are looked at."""
    wanted = QUICK_SIZES if study.quick else SIZES
    return [size for size in wanted if isinstance(size, int) or study.affords(size)]


def _size(size: int | str) -> str:
    return f"rank {size}" if isinstance(size, int) else size


def _merges(study: Study) -> Sequence[Merge]:
    return [TASK_ARITHMETIC] if study.quick else THREE


def _calibrated(study: Study) -> Sequence[Merge]:
    return [] if study.quick else CALIBRATED


def _possible(study: Study, rivals: Sequence[Rival]) -> list[tuple[Rival, int | str]]:
    """Return what can be measured at which size: residuals are of matrices in blocks, and some procedures correct behind blocks."""
    sizes = _sizes(study)
    return [
        (rival, size)
        for rival in rivals
        if (study.depth > 0 or rival.procedure["procedure"] not in DEEPER) and not (study.quick and "refine" in rival.procedure)
        for size in rival.sizes
        if size in sizes and _changeable(study, rival.procedure, size)
    ]


def _changeable(study: Study, procedure: Mapping[str, Any], size: int | str) -> bool:
    """Say whether the blocks hold what a procedure changes, if it does, and a budget buys a rank of that.

    What calibrates residuals looks at linear maps of rows. Of convolutions a share of 1 % may buy none, so there residuals get a rank by
    name.
    """
    if procedure["procedure"] in (LOW_RANK, CALIBRATED_RESIDUAL):
        found = study.rows or procedure["procedure"] == LOW_RANK
        return found and (study.matrices > 0 if isinstance(size, int) else study.affords_residuals(size))
    if "residual_rank" in procedure:
        return not study.linear and 0 < study.matrices <= study.share(BUDGET) - 3 * study.widths
    return study.linear or procedure["procedure"] != BEST


def _table(study: Study, found: Found, name: str, title: str, over: str, lines: Sequence[Line], notes: list[str]) -> Table:
    experts = found.spread(baseline(study), "accuracy", scale=100.0)
    rows = [[EXPERTS, "", "", "", f"{experts:.1f}", "100.0", "", "", "", "", ""]]
    rows += [[line.merge.name, line.surgery, line.told, *_cells(study, found, line)] for line in lines]
    header = ["merge", "surgery", over, "seeds", "accuracy, %", "of individual, %", "gap, %", "worst task", "bias", "parameters", "seconds"]
    return Table(name=name, title=title, header=header, rows=rows, notes=notes)


def _cells(study: Study, found: Found, line: Line) -> list[str]:
    """Return what a line shows of its measurements."""
    experts, bare, own = (
        found.spread(measures, "accuracy", scale=100.0) for measures in (baseline(study), plain(study, line.merge), line.measures)
    )
    behind = {
        task: found.spread(line.measures, "accuracy", task).mean - found.value(baseline(study)[0], "accuracy", task) for task in study.tasks
    }
    worst = min(behind, key=behind.__getitem__)
    cells = [f"{own:.1f}", f"{100 * own.mean / experts.mean:.1f}"]
    told = [found[measure] for measure in line.measures]
    if line.surgery == "none":
        return ["", *cells, "", f"{100 * behind[worst]:+.1f} {worst}", f"{found.spread(line.measures, 'bias_mean_abs'):.4f}", "", ""]
    size = max(int(own["parameters"]) for each in told for own in each["tasks"].values())
    gap = share_of_gap(bare.mean, own.mean, experts.mean)
    return [
        str(len(line.measures)),
        *cells,
        "" if gap is None else f"{100 * gap:.0f}",
        f"{100 * behind[worst]:+.1f} {worst}",
        f"{found.spread(line.measures, 'bias_mean_abs'):.4f}",
        f"{size:,}",
        f"{fmean(each['seconds'] for each in told):.0f}",
    ]
