"""A whole experiment, from recipe to output folder."""

import json
from dataclasses import dataclass, field
from pathlib import Path
from statistics import fmean
from typing import Any

from suture.backbones import save_heads
from suture.checkpoints import Manifest, check_output, staged_folder
from suture.checkpoints.writing import write_text
from suture.evaluation import INDIVIDUAL, JOINT, PRETRAINED, Model, Record, Results
from suture.experiment import pipeline
from suture.experiment.answers import answered, told_of_answers
from suture.experiment.pipeline import Encoded, Representations
from suture.experiment.procedure import ProcedureRecipe
from suture.experiment.provenance import inputs_of, libraries, paths_of, settings_of
from suture.experiment.recipe import Recipe
from suture.experiment.reporting import write_pictures
from suture.experiment.setting import Setting, prepare
from suture.merging import MergingMethod
from suture.report.tables import METRICS, csv_table, markdown_report, tidy_csv
from suture.surgery import save_operation
from suture.types import Stage, silent


@dataclass
class Outcome:
    """What an experiment found, and where it lies."""

    out: Path
    results: Results
    notes: list[str] = field(default_factory=list)


def run(recipe: Recipe, out: str | Path, *, replace: bool = False, stage: Stage = silent) -> Outcome:
    """Merge, encode, operate, measure; write everything to ``out`` or nothing at all.

    Raises any :class:`suture.errors.SutureError`; then ``out`` is as it was.
    """
    out = Path(out)
    check_output(out, replace=replace, inputs=paths_of(recipe))
    with stage("Preparing experts", len(recipe.tasks)) as progress:
        setting = prepare(recipe, progress)
    pipeline.calibration_sizes(setting, recipe)
    manifest = Manifest(
        settings=settings_of(setting, recipe),
        libraries=libraries(),
        inputs=inputs_of(setting, recipe),
    )
    with staged_folder(out, manifest, replace=replace, inputs=paths_of(recipe)) as folder:
        setting = answered(setting, stage)
        representations = Representations(setting, stage)
        records = baselines(setting, representations)
        if recipe.joint is not None:
            records += _joint(setting, recipe, folder, representations, stage)
        save_heads(folder / "heads.safetensors", setting.heads)
        shown: dict[str, Encoded] = {}
        for method in recipe.merges:
            records += _merge_and_operate(setting, recipe, method, folder, representations, shown, stage)
        results = Results(records)
        notes = describe(setting, recipe, results)
        _write_tables(folder, results, notes, recipe)
        merge = recipe.merges[0].label
        merged = representations.known(_encoded_as(recipe, recipe.merges[0], recipe.seeds[0]), "test")
        encoded = {INDIVIDUAL: representations.individual("test"), merge: merged, f"{merge} + surgery": shown[merge]}
        with stage("Drawing", 4) as progress:
            write_pictures(folder, setting, recipe, encoded, results, notes, manifest, progress)
    return Outcome(out, results, notes)


def baselines(setting: Setting, representations: Representations) -> list[Record]:
    """Measure the base and the experts under the same heads."""
    expert = representations.individual("test")
    base = representations.shared(PRETRAINED, setting.base, "test")
    return [*pipeline.measure(setting, Model(PRETRAINED), 0, base, expert), *pipeline.measure(setting, Model(INDIVIDUAL), 0, expert)]


def _joint(setting: Setting, recipe: Recipe, folder: Path, representations: Representations, stage: Stage) -> list[Record]:
    """Train the base on all tasks together, once for every seed, and measure it; its weights are written."""
    records = []
    for seed in recipe.seeds:
        name = f"{JOINT}-seed{seed}"
        weights = pipeline.train_jointly(setting, recipe, seed, folder / JOINT / f"seed{seed}", stage)
        test, expert = representations.shared(name, weights, "test"), representations.individual("test")
        records += pipeline.measure(setting, Model(JOINT), seed, test, expert)
    return records


def describe(setting: Setting, recipe: Recipe, results: Results) -> list[str]:
    """Return what a reader must know to read the tables, and what they say in a sentence."""
    seeds, sizes = len(recipe.seeds), pipeline.calibration_sizes(setting, recipe).values()
    samples = f"{min(sizes)}" if min(sizes) == max(sizes) else f"{min(sizes)} to {max(sizes)}"
    test = round(fmean(len(task.split("test")) for task in setting.tasks))
    notes = [
        f"{setting.name}: {setting.family}; {len(setting.tasks)} tasks, {test} samples of the test split a task on average.",
        f"Surgery: {'; or '.join(procedure.told() for procedure in recipe.surgery)}; calibration {recipe.calibration.label}, "
        f"{samples} unlabelled samples a task; mean ± standard deviation over {seeds} seed{'s' if seeds > 1 else ''} "
        "of calibration subset and start.",
        *told_of_answers(recipe),
    ]
    settings = {method.label: method.settings for method in recipe.merges}
    for operated in [operated for merge in results.merges for operated in results.operated(merge)]:
        closed = results.gap_closed(operated)
        before, after = results.average(results.plain(operated.merge)), results.average(operated)
        share = "" if closed is None else f", {closed:.0%} of the gap to the individual experts closed"
        by = "it" if len(recipe.surgery) == 1 else f"{operated.surgery}, rank {operated.rank}"
        notes.append(f"{settings[operated.merge]}: {before:.1f} % without surgery, {after:.1f} % with {by}{share}.")
    return notes


def _merge_and_operate(
    setting: Setting,
    recipe: Recipe,
    method: MergingMethod,
    folder: Path,
    representations: Representations,
    shown: dict[str, Encoded],
    stage: Stage,
) -> list[Record]:
    """Measure one merge before and after surgery; write its weights, and its surgeries by seed. What the first makes is kept to be drawn.

    A method that draws at random is merged once for every seed.
    """
    model, place, expert = pipeline.merged_model(setting, recipe, method), place_of(recipe, method), representations.individual("test")
    plain: list[Record] = []
    operated: list[Record] = []
    procedures: dict[int, ProcedureRecipe] = dict(enumerate(recipe.surgery, 1))
    (folder / "surgery").mkdir(exist_ok=True)
    for variant, seeds in pipeline.seeded(method, recipe.seeds):
        name = _encoded_as(recipe, method, seeds[0])
        merged = pipeline.merge(setting, recipe, variant, seeds[0], folder / "merged" / name.replace(model.merge, place), stage)
        test = representations.shared(name, merged, "test")
        plain += pipeline.measure(setting, model, seeds[0], test, expert)
        for number, asked in enumerate(recipe.surgery, 1):
            part = "" if len(recipe.surgery) == 1 else f"-{number}-{asked.procedure}"
            for fitted in pipeline.fit_surgeries(setting, recipe, procedures[number], name, merged, representations, seeds, stage):
                procedures[number] = fitted.procedure or procedures[number]
                save_operation(folder / "surgery" / f"{place}{part}-seed{fitted.origin.seed}.safetensors", fitted.operation, fitted.origin)
                after = representations.after(fitted.operation, name, merged, "test")
                shown.setdefault(model.merge, after)
                about = pipeline.operated_model(model.merge, fitted)
                operated += pipeline.measure(setting, about, fitted.origin.seed, after, expert, fitted.operation)
    return plain + operated


def _encoded_as(recipe: Recipe, method: MergingMethod, seed: int) -> str:
    """Return what the representations of a merge are called: its label, and its seed where there are several."""
    return method.label if len(pipeline.seeded(method, recipe.seeds)) == 1 else f"{method.label}-seed{seed}"


def place_of(recipe: Recipe, method: MergingMethod) -> str:
    """Return the folder name of one merge: the method's, numbered when it occurs with several settings."""
    alike = [other for other in recipe.merges if other.name == method.name]
    return method.name if len(alike) == 1 else f"{method.name}-{alike.index(method) + 1}"


def _write_tables(folder: Path, results: Results, notes: list[str], recipe: Recipe) -> None:
    write_text(folder / "results.csv", tidy_csv(results))
    write_text(folder / "table.md", markdown_report(results, notes))
    for metric in METRICS:
        write_text(folder / f"table_{metric}.csv", csv_table(results, metric))
    summary: dict[str, Any] = {
        "recipe": recipe.model_dump(mode="json"),
        "notes": notes,
        "gap_closed": {model.merge: results.gap_closed(model) for model in results.models if model.operated},
        "records": [vars(record) for record in results.records],
    }
    write_text(folder / "results.json", json.dumps(summary, indent=1, ensure_ascii=False) + "\n")
