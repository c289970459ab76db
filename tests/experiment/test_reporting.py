"""What a run reports is what it measured."""

from pathlib import Path

import pytest
import yaml

from suture.errors import SutureWarning, UnsupportedFormat
from suture.evaluation import AVERAGE
from suture.experiment import read_recipe, run
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
