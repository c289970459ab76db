"""The merges that are compared: the rows of the papers' Table 1, in its order, then rivals with and without data."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from suture.paper.study import DEEPER, Study


@dataclass(frozen=True)
class Merge:
    """One row: its name in print and, where the papers have it, in their tables."""

    name: str
    method: Mapping[str, Any]
    published: str = ""

    def settings(self, study: Study) -> dict[str, Any]:
        """Return the method with a study's own settings of it; its own go first."""
        return {**study.settings.get(self.method["method"], {}), **self.method}


AVERAGE_OF_WEIGHTS = Merge("Weight averaging", {"method": "weight_averaging"}, "Weight Averaging")
TASK_ARITHMETIC = Merge("Task arithmetic", {"method": "task_arithmetic", "scale": 0.3}, "Task Arithmetic")
TIES = Merge("Ties", {"method": "ties", "scale": 0.3}, "Ties-Merging")
ADA_MERGING = Merge("AdaMerging, layer-wise", {"method": "ada_merging", "scope": "layer"}, "AdaMerging")

MERGES = (
    AVERAGE_OF_WEIGHTS,
    Merge("Fisher", {"method": "fisher"}, "Fisher Merging"),
    Merge("RegMean", {"method": "regmean"}, "RegMean"),
    TASK_ARITHMETIC,
    TIES,
    Merge("Concrete task arithmetic", {"method": "concrete_task_arithmetic"}, "Concrete TA"),
    Merge("AdaMerging, task-wise", {"method": "ada_merging", "scope": "task"}, "TW AdaMerging"),
    ADA_MERGING,
    Merge("Concrete AdaMerging", {"method": "concrete_ada_merging"}, "Concrete AM"),
    Merge("AdaMerging++, layer-wise", {"method": "ada_merging_pp", "scope": "layer"}),
    Merge("RegMean++", {"method": "regmean_pp"}),
    Merge("FeatCal", {"method": "feat_cal"}),
    Merge("TSV-M", {"method": "tsv_m"}),
    Merge("Iso-C", {"method": "iso_c"}),
)
FOUR = (AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC, TIES, ADA_MERGING)
"""Those of the papers' figures."""
THREE = (AVERAGE_OF_WEIGHTS, TASK_ARITHMETIC, TIES)
"""Those that learn nothing."""
CALIBRATED = (
    *(Merge(f"FeatCal from {merge.name}", {"method": "feat_cal", "start": merge.method["method"], "blend": 0.7}) for merge in THREE),
    Merge("RegMean++", {"method": "regmean_pp"}),
)
"""Those that calibrate themselves block by block: rivals of deep surgery."""


def deep(study: Study, merge: Merge) -> bool:
    """Say whether surgery behind blocks, whose fit takes passes through both networks, is measured on a merge."""
    return study.depth > 0 and merge in FOUR and (merge == TASK_ARITHMETIC or not study.quick)


def possible(study: Study, procedures: Mapping[str, Mapping[str, Any]], merge: Merge) -> dict[str, Mapping[str, Any]]:
    """Return the procedures that are measured on a merge, by their names."""
    return {name: own for name, own in procedures.items() if own["procedure"] not in DEEPER or deep(study, merge)}
