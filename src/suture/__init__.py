"""Suture: many fine-tuned experts of one backbone, one multi-task model.

Names are loaded when they are first used, so that ``import suture`` costs nothing.
"""

from importlib import import_module
from importlib.metadata import version
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from suture.backbones import (
        Head,
        ImageBackbone,
        Network,
        TextBackbone,
        load_heads,
        open_aligned,
        open_backbone,
        prototype_head,
        save_heads,
        saved_head,
    )
    from suture.checkpoints import convert, open_checkpoint, open_expert, verify
    from suture.evaluation import accuracy
    from suture.experiment import Recipe, build, read_recipe, run
    from suture.merging import (
        METHODS,
        MergingMethod,
        TaskArithmetic,
        Ties,
        WeightAveraging,
        make_method,
        merge_tensors,
        merge_to_folder,
    )
    from suture.multitask import MultiTaskModel, Prediction
    from suture.representation import encode, representation_bias
    from suture.surgery import (
        ClosedForm,
        Schedule,
        Surgery,
        fit_closed_form,
        fit_deep_closed_form,
        fit_deep_surgery,
        fit_residual_surgery,
        fit_surgery,
        load_operation,
        load_surgery,
        represent,
        save_operation,
        save_surgery,
    )
    from suture.tasks import Split, Task, load_suite

_HOMES = {
    "suture.backbones": (
        "Head",
        "ImageBackbone",
        "Network",
        "TextBackbone",
        "load_heads",
        "open_aligned",
        "open_backbone",
        "prototype_head",
        "save_heads",
        "saved_head",
    ),
    "suture.checkpoints": ("convert", "open_checkpoint", "open_expert", "verify"),
    "suture.evaluation": ("accuracy",),
    "suture.experiment": ("Recipe", "build", "read_recipe", "run"),
    "suture.merging": (
        "METHODS",
        "MergingMethod",
        "TaskArithmetic",
        "Ties",
        "WeightAveraging",
        "make_method",
        "merge_tensors",
        "merge_to_folder",
    ),
    "suture.multitask": ("MultiTaskModel", "Prediction"),
    "suture.representation": ("encode", "representation_bias"),
    "suture.surgery": (
        "ClosedForm",
        "Schedule",
        "Surgery",
        "fit_closed_form",
        "fit_deep_closed_form",
        "fit_deep_surgery",
        "fit_residual_surgery",
        "fit_surgery",
        "load_operation",
        "load_surgery",
        "represent",
        "save_operation",
        "save_surgery",
    ),
    "suture.tasks": ("Split", "Task", "load_suite"),
}
_HOME_OF = {name: home for home, names in _HOMES.items() for name in names}

__version__ = version("suture")
__all__ = [
    "METHODS",
    "ClosedForm",
    "Head",
    "ImageBackbone",
    "MergingMethod",
    "MultiTaskModel",
    "Network",
    "Prediction",
    "Recipe",
    "Schedule",
    "Split",
    "Surgery",
    "Task",
    "TaskArithmetic",
    "TextBackbone",
    "Ties",
    "WeightAveraging",
    "accuracy",
    "build",
    "convert",
    "encode",
    "fit_closed_form",
    "fit_deep_closed_form",
    "fit_deep_surgery",
    "fit_residual_surgery",
    "fit_surgery",
    "load_heads",
    "load_operation",
    "load_suite",
    "load_surgery",
    "make_method",
    "merge_tensors",
    "merge_to_folder",
    "open_aligned",
    "open_backbone",
    "open_checkpoint",
    "open_expert",
    "prototype_head",
    "read_recipe",
    "represent",
    "representation_bias",
    "run",
    "save_heads",
    "save_operation",
    "save_surgery",
    "saved_head",
    "verify",
]


def __getattr__(name: str) -> object:
    if name not in _HOME_OF:
        raise AttributeError(f"module 'suture' has no attribute {name!r}")
    return getattr(import_module(_HOME_OF[name]), name)


def __dir__() -> list[str]:
    return sorted(__all__)
