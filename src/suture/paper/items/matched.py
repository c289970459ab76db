"""SurgeryV2's question (Yang et al., 2024, arXiv 2410.14389): is it depth, or only more parameters? Both at the same size."""

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, baseline, operated, plain, series_of
from suture.paper.measures import Measure
from suture.paper.merges import THREE, Merge
from suture.paper.study import DEEPER, Study
from suture.report.exhibits import AnyExhibit, Lines, Table

BUDGETS = ("0.1%", "0.2%", "0.5%")
NAMES = {SURGERY: "surgery", CLOSED: "closed form", DEEP: "deep closed form"}


def _names(study: Study) -> dict[str, str]:
    return {name: told for name, told in NAMES.items() if study.depth or name not in DEEPER}


def _measures(study: Study, merge: Merge, procedure: str, budget: str) -> list[Measure]:
    seeds = study.seeds[:1] if procedure == DEEP else None
    return operated(study, merge, {"procedure": procedure, "budget": budget}, seeds=seeds)


class Matched(Item):
    """Surgery at the end and after every block, with as many parameters."""

    name = "matched"
    title = "Surgery at the end and after every block, at the same number of parameters (SurgeryV2)"

    def measures(self, study: Study) -> list[Measure]:
        """Return the grid."""
        own = [each for merge in THREE for name in _names(study) for budget in BUDGETS for each in _measures(study, merge, name, budget)]
        return [*baseline(study), *(each for merge in THREE for each in plain(study, merge)), *own]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return the table, and a figure for every merge."""
        rows = []
        for merge in THREE:
            rows.append([merge.name, "none", "", "", f"{found.spread(plain(study, merge), 'accuracy', scale=100.0):.1f}", ""])
            for name, told in _names(study).items():
                for budget in BUDGETS:
                    measures = _measures(study, merge, name, budget)
                    first = found[measures[0]]
                    size = max(int(each["parameters"]) for each in first["tasks"].values())
                    accuracy, bias = (found.spread(measures, metric, scale=scale) for metric, scale in METRICS)
                    rows.append([merge.name, told, budget, f"{size:,}", f"{accuracy:.1f}", f"{bias:.4f}"])
        rows.append(["individual experts", "", "", "", f"{found.spread(baseline(study), 'accuracy', scale=100.0):.1f}", ""])
        notes = [
            *study.told,
            "Budget: the share of the backbone's parameters that a task may cost. Held-out. Deep closed form: first seed, its rank "
            "allotted to the blocks that have a use for it; the others', as high as the budget allows.",
        ]
        header = ["merge", "surgery", "budget", "parameters a task", "accuracy, %", "bias"]
        table = Table(name="matched", title=self.title, header=header, rows=rows, notes=notes)
        return [table, *(_figure(study, found, merge, notes) for merge in THREE)]


METRICS = (("accuracy", 100.0), ("bias_mean_abs", 1.0))


def _figure(study: Study, found: Found, merge: Merge, notes: list[str]) -> Lines:
    series = []
    for name, told in _names(study).items():
        spreads = [found.spread(_measures(study, merge, name, budget), "accuracy", scale=100.0) for budget in BUDGETS]
        series.append(series_of(told, spreads))
    return Lines(
        name=f"matched-{merge.method['method']}",
        title=f"At the same number of parameters: {merge.name}",
        x="parameters of a task, % of the backbone's",
        y="average accuracy, %",
        places=[float(budget.rstrip("%")) for budget in BUDGETS],
        logarithmic=True,
        series=series,
        notes=notes,
    )
