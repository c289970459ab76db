"""What an experiment shows: its figures, and its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import yaml

from suture.checkpoints import Manifest
from suture.evaluation import AVERAGE, INDIVIDUAL, PRETRAINED, Model, Results
from suture.experiment.pipeline import Encoded
from suture.experiment.recipe import Recipe
from suture.experiment.setting import Setting
from suture.inputs import Input
from suture.report.drawing import draw
from suture.report.exhibits import AnyExhibit, Bars, Cloud, Plane, Report, Series, Table
from suture.report.figures import accuracy_figure, bias_figure, save_figure
from suture.report.page import write_report_and_page
from suture.report.tables import METRICS, cells, labels_of
from suture.representation import project
from suture.types import Progress

PLOTTED_SAMPLES = 60
"""Samples per task and model in the t-SNE picture: more only hide one another."""
LONGEST = 120
"""Characters of a text that a reader is shown."""
DIGITS = 3
"""After the point, of a place in the plane."""
ACCURACY, BIAS, PLACES = "Accuracy", "Representation bias", "Representations"
"""The report's sections."""
DEVIATIONS = "mean ± standard deviation over seeds of calibration subset and start"


def write_pictures(
    folder: Path,
    setting: Setting,
    recipe: Recipe,
    encoded: Mapping[str, Encoded],
    results: Results,
    notes: Sequence[str],
    manifest: Manifest,
    progress: Progress,
) -> None:
    """Draw the first merge of the recipe, before and after its first surgery, and write the report; four steps.

    ``encoded`` maps the experts and each model that is drawn to every task's representations, shape (n, k) each.
    """
    operated = results.operated(recipe.merges[0].label)[0]
    figures = folder / "figures"
    figures.mkdir()
    save_figure(lambda: accuracy_figure(results, operated), figures / "accuracy")
    progress(1)
    save_figure(lambda: bias_figure(results, operated), figures / "bias")
    progress(1)
    plane = plane_of(setting, encoded, recipe.seeds[0])
    save_figure(lambda: draw(plane), figures / "tsne")
    progress(1)
    write_report_and_page(folder, report_of(recipe, results, operated, plane, notes, manifest))
    progress(1)


def report_of(recipe: Recipe, results: Results, operated: Model, plane: Plane, notes: Sequence[str], manifest: Manifest) -> Report:
    """Return an experiment's report; pictures show the merge of ``operated``, tables all merges."""
    baselines = [Model(PRETRAINED), results.plain(operated.merge), operated, Model(INDIVIDUAL)]
    exhibits: list[AnyExhibit] = [
        _bars(results, baselines, "accuracy", "accuracy", f"Accuracy of {operated.merge}, before and after surgery", ACCURACY),
        _table(results, "accuracy", "accuracies", "Accuracy of every model", ACCURACY),
        _bars(results, baselines[1:3], "bias_mean_abs", "bias", f"Bias of {operated.merge}, before and after surgery", BIAS),
        _table(results, "bias_mean_abs", "biases", "Bias of every model, mean |ΔZ|", BIAS),
        _table(results, "bias_l1", "biases-l1", "Bias of every model, (1/N) ‖ΔZ‖₁", BIAS),
        plane,
    ]
    return Report(
        title=f"{results.records[0].suite}: {len(results.tasks)} experts in one model",
        summary=summary_of(results, operated),
        notes=list(notes),
        exhibits=exhibits,
        recipe=yaml.safe_dump(recipe.model_dump(mode="json"), sort_keys=False, allow_unicode=True),
        provenance=provenance_of(manifest),
    )


def summary_of(results: Results, operated: Model) -> str:
    """Say in a sentence what one surgery does for its merge.

    Which one that is, is the recipe's to say and not the results': the best by test accuracy would be chosen on the test set.
    """
    told = (results.plain(operated.merge), operated, Model(INDIVIDUAL), Model(PRETRAINED))
    before, after, expert, base = (results.average(model) for model in told)
    by = "Surgery" if len(results.operated(operated.merge)) == 1 else f"Surgery ({operated.surgery}, rank {operated.rank})"
    return (
        f"{by} takes {operated.merge} from {before:.1f} % to {after:.1f} % accuracy, on average over {len(results.tasks)} tasks; "
        f"the individual experts reach {expert:.1f} %, the pretrained model {base:.1f} %."
    )


def plane_of(setting: Setting, encoded: Mapping[str, Encoded], seed: int) -> Plane:
    """Place representations of some test samples of every task, as each model sees them, in one plane by t-SNE."""
    names = [(model, task) for model in encoded for task in setting.tasks]
    shown = [encoded[model][task.name][:PLOTTED_SAMPLES] for model, task in names]
    clouds = []
    for (model, task), z, points in zip(names, shown, project(shown, seed), strict=True):
        split = task.split("test").first(PLOTTED_SAMPLES)
        right = setting.heads[task.name](z).argmax(dim=1) == split.known_labels()
        x, y = ([round(value, DIGITS) for value in side] for side in points.T.double().tolist())
        samples = [described(each, task.name, number) for number, each in enumerate(split.inputs, 1)]
        clouds.append(Cloud(model=model, task=task.name, x=x, y=y, samples=samples, right=right.tolist()))
    notes = [f"The first {PLOTTED_SAMPLES} test samples of every task, all models in one t-SNE; point at a sample to see it."]
    title = "Where representations lie: the experts' and the merged model's"
    return Plane(name="tsne", title=title, section=PLACES, notes=notes, reference=INDIVIDUAL, clouds=clouds)


def described(given: Input, task: str, number: int) -> str:
    """Return what a reader is shown of a sample: a text's beginning, or the place of an image among its task's.

    >>> described("a  text", "spam", 1), described(Path("cat.png"), "pets", 17)
    ('a text', 'pets, sample 17')
    """
    if not isinstance(given, str):
        return f"{task}, sample {number}"
    text = " ".join(given.split())
    return text if len(text) <= LONGEST else f"{text[: LONGEST - 1]}…"


def provenance_of(manifest: Manifest) -> dict[str, str]:
    """Return the versions of all libraries, and the digests of weights and data.

    >>> provenance_of(Manifest(version="1.0", libraries={"torch": "2.5"}, inputs={"base": "ab12"}))
    {'suture': '1.0', 'torch': '2.5', 'base': 'ab12'}
    """
    data = {
        f"{task}, {split}": f"{about['size']} samples, sha256 {about['sha256']}"
        for task, splits in manifest.settings.get("data", {}).items()
        for split, about in splits.items()
    }
    return {"suture": manifest.version, **manifest.libraries, **manifest.inputs, **data}


def _table(results: Results, metric: str, name: str, title: str, section: str) -> Table:
    header, rows = cells(results, metric)
    measure = METRICS[metric][0]
    notes = [f"{measure[:1].upper()}{measure[1:]}; {DEVIATIONS}."]
    return Table(name=name, title=title, section=section, notes=notes, header=header, rows=rows)


def _bars(results: Results, models: Sequence[Model], metric: str, name: str, title: str, section: str) -> Bars:
    groups, labels = [*results.tasks, AVERAGE], labels_of(results.models)
    series = []
    for model in models:
        spreads = [results.spread(model, metric, task, METRICS[metric][1]) for task in groups]
        means = [spread.mean if spread else None for spread in spreads]
        deviations = [spread.deviation if spread else None for spread in spreads]
        series.append(Series(label=labels.get(model, model.merge), mean=means, deviation=deviations))
    return Bars(name=name, title=title, section=section, y=METRICS[metric][0], groups=groups, series=series)
