"""What a run reports is what it measured."""

from pathlib import Path

import pytest
import yaml

from suture.errors import SutureWarning, UnsupportedFormat
from suture.evaluation import AVERAGE, Model, Record, Results
from suture.experiment import read_recipe, run
from suture.experiment.reporting import summary_of
from suture.report.exhibits import Bars, Plane, Table
from suture.report.page import read_report


def missing(_: Path) -> Path:
    raise UnsupportedFormat("a page needs a library")


def test_a_report_tells_what_was_measured_even_where_no_page_is_made(
    recipe_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("suture.report.page.write_page", missing)
    recipe = read_recipe(recipe_file)
    with pytest.warns(SutureWarning, match="report.html is not written: a page needs a library"):
        outcome = run(recipe, tmp_path / "out")
    assert not (tmp_path / "out" / "report.html").exists()
    report = read_report(tmp_path / "out")
    shown = {exhibit.name: exhibit for exhibit in report.exhibits}
    assert report.notes == outcome.notes
    assert report.summary.startswith(f"Surgery takes {recipe.merges[0].label} from ")
    assert yaml.safe_load(report.recipe)["name"] == "tiny"
    assert {"suture", "torch", "pets, test"} <= set(report.provenance)

    merge, measured = recipe.merges[0].label, {}
    for record in outcome.results.records:
        if record.metric == "accuracy" and record.seed == 0 and record.merge in ("individual", merge):
            name = record.merge if record.surgery == "none" else f"{merge} + surgery"
            measured[name, record.task] = record.value
    plane = shown["tsne"]
    assert isinstance(plane, Plane)
    assert {(cloud.model, cloud.task): sum(cloud.right) / len(cloud.right) for cloud in plane.clouds} == pytest.approx(measured)
    assert all("test0" in cloud.samples[0] for cloud in plane.clouds)

    bars, table = shown["accuracy"], shown["accuracies"]
    assert isinstance(bars, Bars)
    assert isinstance(table, Table)
    assert bars.groups == [*outcome.results.tasks, AVERAGE]
    cells = {row[0]: row[1:] for row in table.rows}
    for series in bars.series:
        assert [f"{mean:.1f}" for mean in series.mean] == [cell.split(" ")[0] for cell in cells[series.label]]


def test_the_summary_is_of_the_surgery_asked_for_and_not_of_the_best() -> None:
    first, best = (Model("ties", name, 16, "held-out", 64) for name in ("surgery", "closed_form"))
    values = {Model("pretrained"): 0.1, Model("individual"): 0.9, Model("ties"): 0.5, first: 0.6, best: 0.8}
    results = Results([Record("s", *model, 0, "spam", "accuracy", value) for model, value in values.items()])
    assert summary_of(results, first) == (
        "Surgery (surgery, rank 16) takes ties from 50.0 % to 60.0 % accuracy, on average over 1 tasks; "
        "the individual experts reach 90.0 %, the pretrained model 10.0 %."
    )
