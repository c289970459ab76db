"""Colours that the colour-blind tell apart, for white paper and for dark screens; nothing is told by colour alone."""

from collections.abc import Sequence

from suture.evaluation import INDIVIDUAL, PRETRAINED

WHITE, DARK = "#ffffff", "#15181c"
"""The grounds of the page."""

GREY, ORANGE, BLUE, BLACK = "#9aa0a6", "#d55e00", "#0072b2", "#202124"
"""Pretrained, merged, operated, expert: told apart by the colour-blind, and by their lightness in print."""

TASK_COLOURS = ("#0072b2", "#e69f00", "#009e73", "#cc79a7", "#56b4e9", "#d55e00", "#117733", "#6a3d9a")
SERIES_COLOURS = (ORANGE, BLUE, "#009e73", "#cc79a7", "#e69f00", "#56b4e9", "#6a3d9a", "#117733")
WITHOUT, EXPERTS = "without surgery", "individual experts"
BASELINES = {PRETRAINED: GREY, WITHOUT: GREY, INDIVIDUAL: BLACK, EXPERTS: BLACK}
"""The series that look alike in every picture; among lines they are the dashed ones."""

ON_DARK = {
    WHITE: DARK,
    GREY: "#7d858e",
    BLACK: "#f1f3f4",
    BLUE: "#4fa3e3",
    ORANGE: "#ff8a3c",
    "#e69f00": "#f2bb3f",
    "#009e73": "#2ec99a",
    "#cc79a7": "#ea9fca",
    "#56b4e9": "#a3dcfb",
    "#117733": "#63b57d",
    "#6a3d9a": "#b996e6",
}
"""What each colour is on a dark ground."""


def series_colours(labels: Sequence[str]) -> list[str]:
    """Return a colour for each series: the baselines' own, and the others' in turn.

    >>> series_colours(["pretrained", "ties", "ties + surgery"])
    ['#9aa0a6', '#d55e00', '#0072b2']
    """
    others = [label for label in labels if label not in BASELINES]
    return [BASELINES.get(label) or SERIES_COLOURS[others.index(label) % len(SERIES_COLOURS)] for label in labels]


def task_colours(tasks: Sequence[str]) -> list[str]:
    """Return a colour for each task; after eight they come again.

    >>> task_colours(["a", "b"])
    ['#0072b2', '#e69f00']
    """
    return [TASK_COLOURS[place % len(TASK_COLOURS)] for place in range(len(tasks))]
