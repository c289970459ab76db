"""The settings that a study takes in place of the methods' defaults: of the embedded suites, and of quick runs."""

from collections.abc import Mapping
from typing import Any

Settings = Mapping[str, Mapping[str, Any]]
"""Of methods, of procedures of surgery, and of ``joint`` training, by name."""

CLIP: Settings = {"regmean": {"alpha": 0.95}}
"""What RegMean's authors recommend for vision transformers."""

EMBEDDED: Settings = {
    "fisher": {"samples": 64},
    "ada_merging": {"batch_size": 4},
    "ada_merging_pp": {"batch_size": 4},
    "concrete_task_arithmetic": {"steps": 500, "batch_size": 4},
    "concrete_ada_merging": {"steps": 500, "coefficient_steps": 250, "batch_size": 4},
    "surgery_v2": {"batch_size": 4},
}
"""A quarter of the samples, of the batches and, where batches alone leave hours, of the steps: a run must end on two cores."""

QUICK: Settings = {
    "fisher": {"samples": 16},
    "ada_merging": {"steps": 10, "batch_size": 4},
    "ada_merging_pp": {"steps": 10, "batch_size": 4},
    "concrete_task_arithmetic": {"steps": 10, "batch_size": 4},
    "concrete_ada_merging": {"steps": 10, "coefficient_steps": 5, "batch_size": 4},
    "surgery": {"iterations": 100},
    "closed_form": {"shrinkage": 0.1},
    "deep_closed_form": {"shrinkage": 0.1},
    "surgery_v2": {"steps": 10, "batch_size": 4},
    "residual_surgery": {"refine": 5},
    "joint": {"epochs": 1, "samples": 200},
}
"""A few of the steps of what learns by gradient; what is solved for is so once, without cross-validation."""

SUITES: Mapping[str, Settings] = {"nlp8": EMBEDDED, "vision8": EMBEDDED, "clip8": CLIP}


def settings_for(suite: str, *, quick: bool = False) -> dict[str, Mapping[str, Any]]:
    """Return the settings of a suite, by its name; quick ones on top.

    >>> settings_for("clip8"), settings_for("", quick=True)["ada_merging"]
    ({'regmean': {'alpha': 0.95}}, {'steps': 10, 'batch_size': 4})
    """
    own = dict(SUITES.get(suite, {}))
    return own | {name: {**own.get(name, {}), **told} for name, told in QUICK.items()} if quick else own
