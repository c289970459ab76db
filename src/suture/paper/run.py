"""``suture paper``: measure what is missing, then show all of it in one folder."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import yaml

from suture.checkpoints import Manifest, cache_folder, check_output, staged_folder
from suture.checkpoints.writing import write_text
from suture.engine import Engine, LocalEngine, Summary, run_steps
from suture.experiment.provenance import libraries
from suture.paper.found import Found
from suture.paper.items.item import CLOSED, DEEP, SURGERY, Item, baseline, operated, plain
from suture.paper.measures import Baseline, Joint, Measure, Plain
from suture.paper.merges import TASK_ARITHMETIC, possible
from suture.paper.study import Study
from suture.report.exhibits import AnyExhibit, Report
from suture.report.page import write_report_and_page
from suture.report.writing import overview, write_exhibit
from suture.types import Stage, silent


@dataclass(frozen=True)
class Written:
    """What came of a run: the report, where it lies, and which steps were run for it."""

    out: Path
    report: Report
    steps: Summary


def write_paper(
    study: Study,
    items: Sequence[Item],
    out: Path,
    *,
    engine: Engine | None = None,
    store: Path | None = None,
    replace: bool = False,
    stage: Stage = silent,
) -> Written:
    """Measure what the items need and has not been measured, and write their tables, figures and page to ``out``.

    Results are kept in ``store``, by default a folder of the cache: what was measured once, in this run or any before, is not measured
    again. ``out`` appears whole or not at all.

    Raises any :class:`suture.errors.SutureError`; what was measured until then is kept.
    """
    store = store or cache_folder() / "paper"
    inputs = [*study.places, store]
    check_output(out, replace=replace, inputs=inputs)
    measures = [measure for item in items for measure in item.measures(study)]
    steps = run_steps(measures, store, engine or LocalEngine(), stage)
    found = Found(store)
    shown = [(item, item.exhibits(study, found)) for item in items]
    report = Report(
        title=f"{study.name}: the papers' tables and figures",
        summary=_summary(study, found),
        notes=study.told,
        exhibits=[_placed(exhibit, item, study.told) for item, exhibits in shown for exhibit in exhibits],
        recipe=yaml.safe_dump(dict(study.content), sort_keys=False, allow_unicode=True),
        provenance={**libraries(), "weights": study.weights, "data": study.data},
    )
    settings = {"study": study.content, "items": [item.name for item in items], "quick": study.quick, "seeds": study.seeds}
    settings["used"] = used_in(measures)
    manifest = Manifest(settings=settings, libraries=libraries(), inputs={"weights": study.weights})
    with staged_folder(out, manifest, replace=replace, inputs=inputs) as folder, stage("Drawing", len(report.exhibits)) as progress:
        for item, exhibits in shown:
            (folder / item.name).mkdir()
            write_text(folder / item.name / "README.md", overview(item.title, exhibits))
            for exhibit in exhibits:
                write_exhibit(folder / item.name, exhibit)
                progress(1)
        write_report_and_page(folder, report)
    return Written(out, report, steps)


def used_in(measures: Sequence[Measure]) -> list[str]:
    """Return the names of the merging methods and procedures of surgery that were measured, for ``suture cite``."""
    merged = [measure for measure in measures if not isinstance(measure, Baseline | Joint)]
    methods = {measure.recipe.merges[0].name for measure in merged}
    operated_on = (measure.recipe.surgery for measure in merged if not isinstance(measure, Plain))
    return sorted(methods | {procedure.procedure for procedures in operated_on for procedure in procedures})


def _summary(study: Study, found: Found) -> str:
    """Return what was found in a sentence, of what was measured of task arithmetic."""

    def accuracy(measures: Sequence[Measure]) -> str:
        return f"{found.spread(measures, 'accuracy', scale=100.0):.1f} %"

    merge, parts = TASK_ARITHMETIC, list[str]()
    told = {SURGERY: "with the papers' surgery", CLOSED: "with its closed form", DEEP: "with closed forms behind every block"}
    for name, procedure in possible(study, {name: {"procedure": name, "rank": 16} for name in told}, merge).items():
        measures = operated(study, merge, procedure)
        if found.has(measures):
            parts.append(f"{accuracy(measures)} {told[name]}")
    if not (parts and found.has([*baseline(study), *plain(study, merge)])):
        return f"{study.name}: {len(study.tasks)} tasks."
    return (
        f"{merge.name} merges {len(study.tasks)} experts of {accuracy(baseline(study))} into one model of "
        f"{accuracy(plain(study, merge))}; {', '.join(parts)} (rank 16, held-out, average accuracy)."
    )


def _placed(exhibit: AnyExhibit, item: Item, told: Sequence[str]) -> AnyExhibit:
    """Return an exhibit in the section of its item, without the notes that stand at the head of the report."""
    return exhibit.model_copy(update={"section": item.title, "notes": [note for note in exhibit.notes if note not in told]})
