"""The whole of ``suture paper`` in miniature: a tiny BERT, three experts; what is encoded, what is repeated, what is written."""

import csv
import json
import os
import subprocess
import sys
from collections import Counter
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any, cast

import numpy as np
import pytest
import yaml

from suture.engine import LocalEngine, RayEngine, run_steps
from suture.evaluation import Model, Results, accuracy
from suture.experiment import read_recipe, run
from suture.experiment.pipeline import calibration_pairs, drawn_rows
from suture.paper import Study, chosen, study_of, write_paper
from suture.paper.found import Found
from suture.paper.items import ITEMS, ablations, bias, cost, data, iterations, layers, matched, methods, online, rank, surgeries, tsne, wild
from suture.paper.items.item import operated, plain
from suture.paper.merges import ADA_MERGING, AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC
from suture.paper.study import MODES, representations
from suture.representation import representation_bias
from suture.surgery import Schedule, prequential_closed_form, prequential_surgery
from suture.types import silent

TINY = {
    "fisher": {"samples": 4},
    "ada_merging": {"steps": 2, "batch_size": 2},
    "ada_merging_pp": {"steps": 2, "batch_size": 2},
    "concrete_task_arithmetic": {"steps": 2, "batch_size": 2},
    "concrete_ada_merging": {"steps": 2, "coefficient_steps": 2, "batch_size": 2},
    "surgery": {"iterations": 20},
    "surgery_v2": {"steps": 2},
    "residual_surgery": {"refine": 2},
}


TWO = (TASK_ARITHMETIC, ADA_MERGING)


@pytest.fixture
def study(recipe_file: Path) -> Study:
    content = yaml.safe_load(recipe_file.read_text())
    recipe_file.write_text(yaml.safe_dump(content | {"seeds": [0], "test_samples": 12, "calibration": {"samples": 10, "pool": 16}}))
    return study_of(read_recipe(recipe_file), settings=TINY)


@pytest.fixture
def encoded(monkeypatch: pytest.MonkeyPatch) -> "Counter[tuple[str, tuple[Any, ...]]]":
    """Count what is encoded: the digest of the weights, and the inputs."""
    import suture.representation.extract as extract

    seen: Counter[tuple[str, tuple[Any, ...]]] = Counter()
    original = extract.encode

    def counting(backbone: Any, inputs: Any, *rest: Any) -> Any:
        seen[backbone.digest, tuple(inputs)] += 1
        return original(backbone, inputs, *rest)

    monkeypatch.setattr(extract, "encode", counting)
    return seen


@pytest.fixture
def sparse(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at the ends of the sweeps only, and at two merges."""
    for module in (rank, data, online):
        ends = module.SWEEP.places[:1] + module.SWEEP.places[-1:]
        monkeypatch.setattr(module, "SWEEP", replace(module.SWEEP, places=ends, merges=TWO))
    monkeypatch.setattr(data, "DEEP_SWEEP", replace(data.DEEP_SWEEP, places=(1, 100)))
    monkeypatch.setattr(wild, "DAMAGES", (0.0, 0.4))
    for module, name in ((methods, "MERGES"), (bias, "MERGES"), (bias, "FOUR"), (tsne, "FOUR"), (iterations, "FOUR"), (layers, "FOUR")):
        monkeypatch.setattr(module, name, TWO)
    monkeypatch.setattr(surgeries, "SIZES", (4,))
    monkeypatch.setattr(surgeries, "FEW", tuple(replace(each, sizes=(4,)) for each in surgeries.FEW))
    monkeypatch.setattr(surgeries, "SAMPLES", (4,))
    for module in (surgeries, layers):
        monkeypatch.setattr(module, "CALIBRATED", surgeries.CALIBRATED[1:2])
    monkeypatch.setattr(surgeries, "AFTER", tuple(replace(each, sizes=(4,)) for each in surgeries.AFTER))
    for module in (data, matched, surgeries, wild, ablations):
        monkeypatch.setattr(module, "THREE", TWO[:1])


@pytest.mark.usefixtures("sparse")
def test_all_of_it_encodes_everything_once_and_is_resumed(study: Study, encoded: "Counter[Any]", tmp_path: Path) -> None:
    written = write_paper(study, chosen(["all"]), tmp_path / "out", store=tmp_path / "store")
    assert set(encoded.values()) == {1}
    assert len(encoded) > 30
    again = run_steps([each for item in chosen(["all"]) for each in item.measures(study)], tmp_path / "store", LocalEngine())
    assert again.ran == ()
    assert set(encoded.values()) == {1}
    for item in ITEMS.values():
        folder = tmp_path / "out" / item.name
        assert (folder / "README.md").is_file()
        for file in folder.glob("*.csv"):
            rows = list(csv.reader(file.open(encoding="utf-8", newline="")))
            assert len(rows) > 1
            assert len({len(row) for row in rows}) == 1
            assert not any("nan" in cell for row in rows for cell in row), file
    names = {exhibit.name for exhibit in written.report.exhibits}
    assert {
        "methods",
        "methods-dots-held-out",
        "methods-dots-transductive",
        "data",
        "rank",
        "cost",
        "bias-held-out",
        "iterations",
        "layers",
        "matched",
        "surgeries",
        "wild",
        "ablations",
    } <= names
    for name in ("methods", "rank", "data"):
        assert (tmp_path / "out" / name / f"{name}.tex").is_file()
    assert json.loads((tmp_path / "out" / "report.json").read_text())["title"].startswith("tiny")
    assert (tmp_path / "out" / "report.html").stat().st_size < 5_000_000


def test_layers_show_residuals_where_a_budget_buys_them(study: Study) -> None:
    def shown(own: Study) -> set[str]:
        return {each.recipe.surgery[0].procedure for each in ITEMS["layers"].measures(own) if isinstance(each, layers.Drift)}

    rich = replace(study, widths=10, matrices=180, whole=130, parameters=31_000)
    assert (study.linear, study.affords("1%"), rich.affords("1%"), replace(rich, parameters=30_999).affords("1%")) == (
        True,
        False,
        True,
        False,
    )
    assert replace(rich, linear=False, parameters=3_000).affords("1%")
    bought = {"low_rank_residual", "calibrated_residual", "residual_surgery"}
    assert shown(rich) - shown(study) == bought
    assert shown(replace(rich, linear=False, rows=False)) & bought == {"low_rank_residual"}
    assert not shown(replace(rich, linear=False, rows=False, matrices=0)) & bought
    assert shown(replace(rich, linear=False)) & bought == {"low_rank_residual", "calibrated_residual"}


def test_of_convolutions_there_are_residuals_and_calibrated_ones_where_some_have_one_place(study: Study) -> None:
    def shown(own: Study, size: str) -> set[str]:
        return {line.surgery for line in surgeries._sized(own) if line.told == size}

    network = replace(study, linear=False, rows=False, widths=10, matrices=180, whole=400, parameters=31_000)
    assert {"low-rank residual", "calibrated residual"} <= shown(study, "rank 16")
    assert shown(network, "rank 16") & {"low-rank residual", "calibrated residual"} == {"low-rank residual"}
    assert {"low-rank residual", "calibrated residual"} <= shown(replace(network, rows=True), "rank 16")
    assert {"deep closed form", "residual surgery"} <= shown(network, "1%")
    assert "low-rank residual" not in shown(network, "1%")  # what it keeps whole takes more than the share
    assert "low-rank residual" in shown(replace(network, whole=130), "1%")
    assert not {"low-rank residual", "residual surgery"} & shown(replace(network, parameters=20_000), "1%")


def test_its_figures_are_those_of_a_run(study: Study, recipe_file: Path, tmp_path: Path) -> None:
    write_paper(study, chosen(["rank"]), tmp_path / "out", store=tmp_path / "store")
    found = Found(tmp_path / "store")
    content = yaml.safe_load(recipe_file.read_text())
    content |= {"merges": ["weight_averaging"], "surgery": {"rank": 4, "iterations": 20}}
    content["calibration"] |= {"precision": "bfloat16"}
    recipe_file.write_text(yaml.safe_dump(content))
    results = Results(run(read_recipe(recipe_file), tmp_path / "run").results.records)
    ours = operated(study, AVERAGE_OF_WEIGHTS, {"procedure": "surgery", "rank": 4})
    for metric in ("accuracy", "bias_mean_abs", "parameters"):
        (model,) = results.operated("weight_averaging")
        theirs = results.spread(model, metric)
        assert theirs is not None
        assert found.spread(ours, metric).mean == pytest.approx(theirs.mean, rel=1e-6)
    bare = results.spread(Model("weight_averaging"), "accuracy", "pets")
    assert bare is not None
    assert found.value(plain(study, AVERAGE_OF_WEIGHTS)[0], "accuracy", "pets") == bare.mean


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Look at one fit only: there is enough of it to be shared out."""
    monkeypatch.setattr(cost, "SIZES", {"surgery": (4,)})


@pytest.mark.usefixtures("small")
def test_several_processes_find_the_same(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    one = write_paper(study, chosen(["cost"]), tmp_path / "one", store=tmp_path / "first")
    monkeypatch.setenv("SUTURE_CACHE", str(tmp_path / "cache"))
    two = write_paper(study, chosen(["cost"]), tmp_path / "two", store=tmp_path / "second", engine=LocalEngine(2))
    assert one.report == two.report
    assert sorted(one.steps.ran) == sorted(two.steps.ran)


@pytest.mark.usefixtures("small")
def test_a_cluster_finds_the_same(study: Study, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join(sys.path))
    here = write_paper(study, chosen(["cost"]), tmp_path / "one", store=tmp_path / "first")
    monkeypatch.setenv("SUTURE_CACHE", str(tmp_path / "cache"))
    there = write_paper(study, chosen(["cost"]), tmp_path / "two", store=tmp_path / "second", engine=RayEngine())
    assert here.report == there.report
    assert sorted(here.steps.ran) == sorted(there.steps.ran)


def test_what_learns_is_merged_once_whatever_surgery_is_fitted_on(study: Study) -> None:
    merge = ITEMS["data"].measures(study)
    learnt = {measure.merged.key for measure in merge if "ada_merging" in str(measure.recipe.merges[0])}
    assert len(learnt) == 2  # held-out and transductive
    assert len({measure.key for measure in merge}) > 60


def test_a_share_of_a_stream_is_what_a_pass_over_it_alone_finds(study: Study, tmp_path: Path) -> None:
    found, streams = Found(tmp_path), list[online.Stream]()
    for form, mode, share in product(("surgery", "closed_form"), MODES, (30, 100)):
        (stream,) = online.SWEEP.at(study, AVERAGE_OF_WEIGHTS, {"procedure": form}, mode, share)
        streams.append(cast(online.Stream, stream))
    ran = run_steps(streams, tmp_path, LocalEngine()).ran
    assert {stream.whole.key for stream in streams} < set(ran)
    assert len({stream.whole.key for stream in streams}) == len(streams) / 2
    for stream in streams:
        with representations(stream.recipe, silent) as seen:
            weights = stream.merged.open(tmp_path)
            pairs = calibration_pairs(seen.setting, stream.recipe, "merged", weights, seen, 0)
            test, expert = seen.shared("merged", weights, "test"), seen.individual("test")
        alone = prequential_surgery(pairs, Schedule.online(), 0) if stream.form == "surgery" else prequential_closed_form(pairs)
        assert {len(own) for own in alone.corrected.values()} <= {4, 5, 12, 16}
        for task in seen.setting.tasks:
            own, head = found[stream]["tasks"][task.name], seen.setting.heads[task.name]
            z, before = alone.surgery(task.name, test[task.name]), alone.corrected[task.name]
            assert own["bias_mean_abs"] == pytest.approx(representation_bias(z, expert[task.name]).mean_abs, rel=1e-6)
            assert own["accuracy"] == accuracy(head(z), task.split("test").known_labels())
            if stream.recipe.calibration.mode == "transductive":
                rows = drawn_rows(12, len(before), 0, task.name)
                assert own["prequential"] == accuracy(head(before), task.split("test").known_labels()[rows])


def test_gains_are_paired(study: Study, tmp_path: Path) -> None:
    found = Found(tmp_path / "store")
    before, after = plain(study, TASK_ARITHMETIC), operated(study, TASK_ARITHMETIC, {"procedure": "surgery", "rank": 16})
    run_steps([*before, *after], found.store, LocalEngine())
    gain = found.gain(before, after)
    wanted = found.spread(after, "accuracy").mean - found.spread(before, "accuracy").mean
    assert gain.difference == pytest.approx(wanted)
    assert gain.low <= gain.difference <= gain.high
    assert np.isfinite([gain.low, gain.high]).all()


def test_the_command(recipe_file: Path, tmp_path: Path) -> None:
    def suture(*arguments: str) -> "subprocess.CompletedProcess[str]":
        environment = os.environ | {"OMP_NUM_THREADS": "1", "COLUMNS": "120"}
        command = [sys.executable, "-m", "suture", "paper", *arguments]
        return subprocess.run(command, capture_output=True, text=True, env=environment, cwd=tmp_path, check=False)

    done = suture("cost", "--recipe", str(recipe_file), "--quick", "-o", "out")
    assert done.returncode == 0, done.stderr
    assert "Written to out" in done.stdout
    assert "steps were run" in done.stdout
    assert (tmp_path / "out" / "cost" / "cost.md").read_text().startswith("**Parameters (Table 7)**")
    refused = suture("ranks", "--recipe", str(recipe_file))
    assert refused.returncode != 0
    assert "rank" in refused.stderr
    assert "Traceback" not in refused.stderr
    assert "Fig. 11" in suture("--list").stdout
