"""Figures: what they show, and that they are the same bytes every time."""

from pathlib import Path

import pytest
from PIL import Image

from suture.evaluation import Model, Record, Results
from suture.report.figures import accuracy_figure, bias_figure, save_figure

TASKS = ("spam", "$cash")
OPERATED = Model("ties", "surgery", 16, "held-out", 64)


@pytest.fixture
def results() -> Results:
    accuracies = {Model("pretrained"): 0.4, Model("individual"): 0.9, Model("ties"): 0.5, OPERATED: 0.8}
    return Results(
        Record("s", *model, seed, task, metric, value)
        for model, accuracy in accuracies.items()
        for seed in range(2 if model.operated else 1)
        for task in TASKS
        for metric, value in (("accuracy", accuracy + seed / 100), ("bias_mean_abs", 1 - accuracy))
    )


def test_accuracy_has_a_row_per_task_and_a_series_per_model(results: Results) -> None:
    figure = accuracy_figure(results, OPERATED)
    (axes,) = figure.axes
    assert [label.get_text() for label in axes.get_yticklabels()] == ["spam", r"\$cash", "average"]
    (legend,) = [legend for legend in (axes.get_legend(),) if legend]
    assert [text.get_text() for text in legend.get_texts()] == ["pretrained", "merged: ties", "merged + surgery", "individual experts"]
    means = [container.lines[0].get_xdata()[0] for container in axes.containers]
    assert means == pytest.approx([40, 50, 80.5, 90])


def test_bias_has_two_bars_per_task(results: Results) -> None:
    (axes,) = bias_figure(results, OPERATED).axes
    heights = [bar.get_height() for bar in axes.patches]
    assert heights == pytest.approx([0.5] * 3 + [0.2] * 3)


def test_the_same_figure_is_the_same_bytes(results: Results, tmp_path: Path) -> None:
    for name in ("first", "second"):
        save_figure(lambda: bias_figure(results, OPERATED), tmp_path / name)
    for suffix in (".png", ".svg", ".pdf"):
        assert (tmp_path / f"first{suffix}").read_bytes() == (tmp_path / f"second{suffix}").read_bytes()
    with Image.open(tmp_path / "first.png") as picture:
        assert min(picture.size) > 300
    assert "$cash" in (tmp_path / "first.svg").read_text(encoding="utf-8")
