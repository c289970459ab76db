"""The public API: small, documented, and where it says it is."""

import inspect
import subprocess
import sys

import suture

PUBLIC = {
    "ClosedForm",
    "Head",
    "ImageBackbone",
    "METHODS",
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
}


def test_the_public_names_are_these() -> None:
    assert set(suture.__all__) == PUBLIC
    assert set(dir(suture)) == PUBLIC
    assert sorted(name for names in suture._HOMES.values() for name in names) == sorted(PUBLIC)


def test_every_public_name_loads_and_is_documented() -> None:
    for name in PUBLIC - {"METHODS"}:
        assert inspect.getdoc(getattr(suture, name)), name
    assert suture.__version__ == "0.1.0"


def test_a_name_that_does_not_exist() -> None:
    assert not hasattr(suture, "nonsense")


def test_importing_suture_loads_nothing_heavy() -> None:
    code = "import sys, suture; assert not {'torch', 'transformers', 'numpy'} & set(sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
