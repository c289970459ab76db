"""Floor 2: merging. One method, one file; ``METHODS`` lists them, the driver runs any of them."""

from collections.abc import Mapping

from suture.merging import method as contract
from suture.merging.ada_merging import AdaMerging, AdaMergingPlusPlus
from suture.merging.calibration import Batch, Calibration, Walk
from suture.merging.concrete import ConcreteAdaMerging, ConcreteTaskArithmetic
from suture.merging.dare import Dare, DareTies
from suture.merging.driver import merge_tensors, merge_to_folder
from suture.merging.feat_cal import FeatCal
from suture.merging.fisher import Fisher
from suture.merging.iso_c import IsoC
from suture.merging.method import DataDrivenMethod, MergingMethod
from suture.merging.regmean import RegMean
from suture.merging.regmean_pp import RegMeanPlusPlus
from suture.merging.sharded import merge_by_shards
from suture.merging.task_arithmetic import TaskArithmetic
from suture.merging.ties import Ties
from suture.merging.tsv_m import TsvM
from suture.merging.weight_averaging import WeightAveraging

METHODS: dict[str, type[MergingMethod]] = {
    kind.name: kind
    for kind in (
        WeightAveraging,
        TaskArithmetic,
        Ties,
        Dare,
        DareTies,
        TsvM,
        IsoC,
        Fisher,
        RegMean,
        RegMeanPlusPlus,
        FeatCal,
        AdaMerging,
        AdaMergingPlusPlus,
        ConcreteTaskArithmetic,
        ConcreteAdaMerging,
    )
}
"""Every merging method by its name."""

__all__ = [
    "METHODS",
    "AdaMerging",
    "AdaMergingPlusPlus",
    "Batch",
    "Calibration",
    "ConcreteAdaMerging",
    "ConcreteTaskArithmetic",
    "Dare",
    "DareTies",
    "DataDrivenMethod",
    "FeatCal",
    "Fisher",
    "IsoC",
    "MergingMethod",
    "RegMean",
    "RegMeanPlusPlus",
    "TaskArithmetic",
    "Ties",
    "TsvM",
    "Walk",
    "WeightAveraging",
    "make_method",
    "merge_by_shards",
    "merge_tensors",
    "merge_to_folder",
]


def make_method(name: str, settings: Mapping[str, object] | None = None) -> MergingMethod:
    """Make a merging method from its name and hyperparameters.

    Raises :class:`suture.errors.UnknownName` or :class:`suture.errors.InvalidHyperparameter`.

    >>> str(make_method("task_arithmetic", {"scale": "0.4"}))
    'task_arithmetic(scale=0.4)'
    """
    return contract.make_method(METHODS, name, settings or {})
