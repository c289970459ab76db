"""Other combinations of tasks: all pairs, all but one, and more and more of them."""

from collections.abc import Sequence
from itertools import combinations
from statistics import fmean

from suture.paper.found import Found
from suture.paper.items.item import CLOSED, SURGERY, Item, baseline, operated, plain, single
from suture.paper.measures import Measure
from suture.paper.merges import TASK_ARITHMETIC
from suture.paper.study import Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Lines, Table

PROCEDURES = {"surgery": {"procedure": SURGERY, "rank": 16}, "closed form": {"procedure": CLOSED, "rank": 16}}
MERGE = TASK_ARITHMETIC


def _all(study: Study) -> dict[str, list[tuple[str, ...]]]:
    """Return the combinations by what they are."""
    tasks = tuple(study.tasks)
    return {
        "pairs": list(combinations(tasks, 2)),
        "all but one": [tuple(task for task in tasks if task != left) for left in tasks] if len(tasks) > 3 else [],
        "growing": [tasks[:size] for size in range(2, len(tasks) + 1)],
    }


def _measures(study: Study, only: Sequence[str]) -> dict[str, list[Measure]]:
    """Return the measurements of one combination, by what was done."""
    chosen = None if len(only) == len(study.tasks) else list(only)
    own = {label: operated(study, MERGE, procedure, seeds=study.seeds[:1], only=chosen) for label, procedure in PROCEDURES.items()}
    return {"merged": plain(study, MERGE, only=chosen), **own}


class Combinations(Item):
    """Task arithmetic of every pair, of all tasks but one, and of 2, 3, … tasks, with surgery and without."""

    name = "combinations"
    title = "Other combinations of tasks"

    def measures(self, study: Study) -> list[Measure]:
        """Return all of them."""
        sets = [only for found in _all(study).values() for only in found]
        return [*baseline(study), *(each for only in sets for own in _measures(study, only).values() for each in own)]

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return a table of each kind, and a figure over the number of tasks."""
        notes = [*study.told, f"{MERGE.name}, λ 0.3; held-out, rank 16, first seed; average accuracy over the tasks that were merged, %."]
        exhibits: list[AnyExhibit] = []
        for kind, sets in _all(study).items():
            rows = [[_named(study, kind, only), *(f"{value:.1f}" for value in _values(study, found, only))] for only in sets]
            if rows:
                means = [fmean(column) for column in zip(*(_values(study, found, only) for only in sets), strict=True)]
                rows.append(["mean", *(f"{mean:.1f}" for mean in means)])
                name = f"combinations-{kind.replace(' ', '-')}"
                header = ["tasks", "merged", *PROCEDURES, "individual"]
                exhibits.append(Table(name=name, title=f"{self.title}: {kind}", header=header, rows=rows, notes=notes))
        return [*exhibits, _figure(study, found, notes)]


def _values(study: Study, found: Found, only: Sequence[str]) -> list[float]:
    """Return the average accuracy of the merge, after each surgery, and of the experts, over some tasks."""
    experts = found[baseline(study)[0]]["tasks"]
    own = [found.spread(measures, "accuracy", scale=100.0).mean for measures in _measures(study, only).values()]
    return [*own, fmean(100 * experts[task]["accuracy"] for task in only)]


def _named(study: Study, kind: str, only: Sequence[str]) -> str:
    if kind == "all but one":
        return "without " + next(task for task in study.tasks if task not in only)
    return " + ".join(only) if kind == "pairs" else f"first {len(only)}"


def _figure(study: Study, found: Found, notes: list[str]) -> Lines:
    sets = _all(study)["growing"]
    values = list(zip(*(_values(study, found, only) for only in sets), strict=True))
    labels = ["merged", *(f"+ {label}" for label in PROCEDURES), EXPERTS]
    series = [single(label, own) for label, own in zip(labels, values, strict=True)]
    return Lines(
        name="combinations-number",
        title="Accuracy over the number of tasks merged",
        x="tasks",
        y="average accuracy, %",
        places=[float(len(only)) for only in sets],
        series=series,
        notes=notes,
    )
