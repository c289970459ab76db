"""SurgeryV2's question (Yang et al., 2024, arXiv 2410.14389): is it depth, or only more parameters? Both at the same size."""

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, V2, Item, baseline, curve, operated, plain
from suture.paper.measures import Measure
from suture.paper.merges import TASK_ARITHMETIC, THREE, Merge, deep
from suture.paper.study import Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Lines, Table

RANKS, QUICK_RANKS = (1, 4, 16), (1, 16)
"""Of surgery after every block: their parameters are the budgets of all."""
NAMES = {SURGERY: "surgery", CLOSED: "closed form", V2: "SurgeryV2", DEEP: "deep closed form"}


def _budget(study: Study, rank: int) -> float:
    """Return the share of the backbone's parameters that corrections with a shift of this rank take at every place."""
    return study.widths * (2 * rank + 1) / study.parameters


def _names(merge: Merge) -> dict[str, str]:
    """Return what is measured on a merge: SurgeryV2 by gradient, which takes long, on task arithmetic alone."""
    return {name: told for name, told in NAMES.items() if name != V2 or merge == TASK_ARITHMETIC}


def _ranks(study: Study) -> list[int]:
    """Return the ranks that fit into the backbone's own size."""
    return [rank for rank in (QUICK_RANKS if study.quick else RANKS) if _budget(study, rank) <= 1]


def _measures(study: Study, merge: Merge, procedure: str, rank: int) -> list[Measure]:
    return operated(study, merge, {"procedure": procedure, "budget": _budget(study, rank)})


def _merges(study: Study) -> list[Merge]:
    return [merge for merge in THREE if deep(study, merge)]


class Matched(Item):
    """Surgery at the end and after every block, with as many parameters."""

    name = "matched"
    title = "Surgery at the end and after every block, at the same number of parameters (SurgeryV2)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the grid; nothing for a backbone without blocks."""
        if not _merges(study):
            return []
        own = [
            each
            for merge in _merges(study)
            for name in _names(merge)
            for rank in _ranks(study)
            for each in _measures(study, merge, name, rank)
        ]
        return [*baseline(study), *(each for merge in _merges(study) for each in plain(study, merge)), *own]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table, and a figure for every merge."""
        if not _merges(study):
            return []
        rows = []
        for merge in _merges(study):
            rows.append([merge.name, "none", "", "", f"{found.spread(plain(study, merge), 'accuracy', scale=100.0):.1f}", ""])
            for name, told in _names(merge).items():
                for rank in _ranks(study):
                    measures = _measures(study, merge, name, rank)
                    first = found[measures[0]]
                    size = max(int(each["parameters"]) for each in first["tasks"].values())
                    accuracy, bias = (found.spread(measures, metric, scale=scale) for metric, scale in METRICS)
                    rows.append([merge.name, told, f"{_budget(study, rank):.3%}", f"{size:,}", f"{accuracy:.1f}", f"{bias:.4f}"])
        rows.append([EXPERTS, "", "", "", f"{found.spread(baseline(study), 'accuracy', scale=100.0):.1f}", ""])
        notes = [
            *study.told,
            "Budget: the share of the backbone's parameters that a task may cost, as much as rank "
            f"{', '.join(map(str, _ranks(study)))} takes at every place. Held-out. Deep closed form: its rank "
            "allotted to the blocks that have a use for it; the others', as high as the budget allows.",
        ]
        header = ["merge", "surgery", "budget", "parameters a task", "accuracy, %", "bias"]
        table = Table(name="matched", title=self.title, header=header, rows=rows, notes=notes)
        return [table, *(_figure(study, found, merge, notes) for merge in _merges(study))]


METRICS = (("accuracy", 100.0), ("bias_mean_abs", 1.0))


def _figure(study: Study, found: Found, merge: Merge, notes: list[str]) -> Lines:
    series = [curve(found, told, [_measures(study, merge, name, rank) for rank in _ranks(study)]) for name, told in _names(merge).items()]
    return Lines(
        name=f"matched-{merge.method['method']}",
        title=f"At the same number of parameters: {merge.name}",
        x="parameters of a task, % of the backbone's",
        y="average accuracy, %",
        places=[100 * _budget(study, rank) for rank in _ranks(study)],
        logarithmic=True,
        series=series,
        notes=notes,
    )
