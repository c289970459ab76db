"""Tables 1 to 3 of Representation Surgery (arXiv 2402.02705), and SurgeryV2's (arXiv 2410.14389): every merge, before and after surgery."""

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

from suture.evaluation import AVERAGE, INDIVIDUAL, PRETRAINED, Spread
from suture.experiment.calibration import Mode
from suture.paper.found import Found
from suture.paper.items.item import (
    CLOSED,
    DEEP,
    SURGERY,
    V2,
    Item,
    Row,
    accuracy_table,
    baseline,
    level,
    of_all,
    operated,
    plain,
    series_of,
)
from suture.paper.measures import Joint, Measure
from suture.paper.merges import MERGES, TASK_ARITHMETIC, Merge, deep, possible
from suture.paper.published import published_accuracy
from suture.paper.study import MODES, Study
from suture.report.colours import EXPERTS
from suture.report.exhibits import AnyExhibit, Dots, Table


class Variant(NamedTuple):
    """A surgery of every merge: its name in the table, and what the papers call it, with its rank."""

    name: str
    procedure: Mapping[str, Any]
    published: int | None = None
    alone: bool = False
    """Whether it is measured on task arithmetic alone, as it takes long."""

    def fits(self, study: Study, merge: Merge) -> bool:
        """Say whether it is measured on a merge."""
        if self.alone and merge != TASK_ARITHMETIC:
            return False
        return bool(possible(study, {self.name: self.procedure}, merge))

    def measures(self, study: Study, merge: Merge, mode: Mode) -> list[Measure]:
        """Return the measurements."""
        return operated(study, merge, self.procedure, mode)


VARIANTS = (
    Variant("+ surgery, rank 16", {"procedure": SURGERY, "rank": 16}, 16),
    Variant("+ surgery, rank 64", {"procedure": SURGERY, "rank": 64}, 64),
    Variant("+ closed form, rank 16", {"procedure": CLOSED, "rank": 16}),
    Variant("+ SurgeryV2, rank 16", {"procedure": V2, "rank": 16}),
    Variant("+ SurgeryV2, rank 64", {"procedure": V2, "rank": 64}, alone=True),
    Variant("+ deep closed form, rank 16", {"procedure": DEEP, "rank": 16}),
    Variant("+ deep closed form, rank 64", {"procedure": DEEP, "rank": 64}, alone=True),
)
DRAWN = 16
"""The rank of the surgeries that are drawn."""


def rows_of(study: Study, mode: Mode) -> list[Row]:
    """Return every row of one mode's table."""
    rows = []
    for merge in MERGES:
        bare = plain(study, merge, mode)
        rows.append(Row((merge.name,), bare))
        rows += [
            Row((f"{merge.name} {each.name}",), each.measures(study, merge, mode), bare) for each in VARIANTS if each.fits(study, merge)
        ]
    return rows


def references(study: Study) -> list[Row]:
    """Return what the merges stand between: the base, joint training where there are labels for it, and the experts."""
    rows = [Row(("Pretrained",), baseline(study, PRETRAINED))]
    if study.labelled:
        recipe = study.recipe({"method": "weight_averaging"}, joint=study.settings.get("joint", {}))
        rows.append(Row(("Traditional MTL",), [Joint(study, recipe)]))
    return [*rows, Row(("Individual",), baseline(study, INDIVIDUAL))]


class Methods(Item):
    """Every merge on every task."""

    name = "methods"
    title = "Merging methods, before and after surgery (Tables 1–3)"

    def measures(self, study: Study) -> list[Measure]:
        """Return all cells."""
        return of_all([*references(study), *(row for mode in MODES for row in rows_of(study, mode))])

    def exhibits(self, study: Study, found: Found) -> list[AnyExhibit]:
        """Return both modes side by side, each by task, and what surgery gains."""
        behind = [merge.name for merge in MERGES if deep(study, merge)]
        notes = [*study.told, *([f"Surgery behind blocks is measured on {', '.join(behind)}."] if behind else [])]
        exhibits: list[AnyExhibit] = [_summary(study, found, self.title, notes)]
        exhibits += [_dots(study, found, mode, notes) for mode in MODES]
        for mode in MODES:
            rows = [*references(study), *rows_of(study, mode)]
            exhibits.append(accuracy_table(found, f"methods-{mode}", f"Accuracy on every task, {mode}, %", ["method"], rows, notes))
            exhibits.append(_gains(study, found, mode))
        return exhibits


def _summary(study: Study, found: Found, title: str, notes: Sequence[str]) -> Table:
    """Return a row per merge and surgery: both modes, and the published figure."""

    def cell(measures: Sequence[Measure]) -> str:
        return f"{found.spread(measures, 'accuracy', scale=100.0):.1f}"

    rows = [[row.told[0], cell(row.measures), "", published_accuracy(study, row.told[0])] for row in references(study)]
    for merge in MERGES:
        both = [cell(plain(study, merge, mode)) for mode in MODES]
        rows.append([merge.name, *both, published_accuracy(study, merge.published)])
        for each in [each for each in VARIANTS if each.fits(study, merge)]:
            ours = [cell(each.measures(study, merge, mode)) for mode in MODES]
            theirs = published_accuracy(study, f"{merge.published}+Surgery", each.published) if each.published and merge.published else ""
            rows.append([f"{merge.name} {each.name}", *ours, theirs])
    header, published = ["method", *MODES, "published"], any(row[-1] for row in rows)
    if not published:
        header, rows = header[:-1], [row[:-1] for row in rows]
    return Table(name="methods", title=title, header=header, rows=rows, notes=[*notes, "Average accuracy over all tasks, %."])


def _dots(study: Study, found: Found, mode: Mode, notes: Sequence[str]) -> Dots:
    """Return a row per merge: what it reaches by itself, and with every surgery of the papers' smaller rank."""

    def reached(measures: Sequence[Measure]) -> Spread:
        return found.spread(measures, "accuracy", scale=100.0)

    series = [
        level(found, PRETRAINED, baseline(study, PRETRAINED), len(MERGES)),
        series_of("merged", [reached(plain(study, merge, mode)) for merge in MERGES]),
    ]
    for each in VARIANTS:
        if each.procedure["rank"] == DRAWN:
            spreads = [reached(each.measures(study, merge, mode)) if each.fits(study, merge) else None for merge in MERGES]
            series.append(series_of(each.name.removeprefix("+ "), spreads))
    series.append(level(found, EXPERTS, baseline(study), len(MERGES)))
    return Dots(
        name=f"methods-dots-{mode}",
        title=f"Every merge, before and after surgery, {mode}",
        x="average accuracy, %",
        groups=[merge.name for merge in MERGES],
        series=series,
        notes=list(notes),
    )


def _gains(study: Study, found: Found, mode: Mode) -> Table:
    """Return what surgery gains on every task, with its interval."""
    tasks, lines = [*study.tasks, AVERAGE], []
    for row in rows_of(study, mode):
        if row.before:
            gains = [found.gain(row.before, row.measures, task) for task in tasks]
            lines.append([row.told[0], *(f"{100 * g.difference:+.1f} [{100 * g.low:+.1f}, {100 * g.high:+.1f}]" for g in gains)])
    notes = [*study.told, "Points of accuracy, and the 95 % interval of a paired bootstrap over test samples (2,000 resamples)."]
    return Table(
        name=f"methods-gain-{mode}",
        title=f"What surgery gains, {mode}: accuracy with minus without",
        header=["method", *tasks],
        rows=lines,
        notes=notes,
    )
