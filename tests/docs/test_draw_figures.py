"""The pictures of concepts are drawn from the tables of results."""

from docs.pages import DOCS, script


def test_the_numbers_are_those_of_the_tables() -> None:
    figures, results = script("draw_figures"), DOCS / "results"
    methods, layers = ((results / name).read_text(encoding="utf-8") for name in ("nlp8-methods.md", "paper/nlp8/layers/layers.md"))
    _, held_out, transductive = figures.calibration(results).series
    shown = [f"{each.mean[0]} ± {each.deviation[0]}" for each in (held_out, transductive)]
    row = next(line for line in methods.splitlines() if line.startswith("| `weight_averaging` |"))
    assert [cell.strip() for cell in row.split("|")][4:7:2] == shown
    assert held_out.deviation[-1] is None  # one seed
    for series in figures.bias_by_block(results).series:
        assert " | ".join(f"{value:.4f}" for value in series.mean) in layers
