"""What every method says of itself: what it is called in tables, notes and manifests, what it refuses, how much work it announces."""

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path

import pytest

from merging.network import Network
from merging.oracles import CASES
from merging.test_contract import model, names_of, on_disk
from suture.errors import InvalidHyperparameter
from suture.merging import METHODS, Dare, DataDrivenMethod, MergingMethod, WeightAveraging, merge_tensors
from suture.types import Progress

each_method = pytest.mark.parametrize("method", [method for method, _ in CASES], ids=str)
COEFFICIENTS = [("scope", "tensor", "'layer' or 'task'"), ("initial", -0.1, "in [0, 1]"), ("initial", 1.1, "in [0, 1]")]
POSITIVE = {
    "ada_merging": ("steps", "batch_size", "learning_rate"),
    "ada_merging_pp": ("steps", "batch_size", "learning_rate"),
    "concrete_task_arithmetic": ("steps", "batch_size", "learning_rate", "temperature"),
    "concrete_ada_merging": (
        *("steps", "coefficient_steps", "batch_size", "temperature"),
        *("learning_rate", "inner_learning_rate", "coefficient_learning_rate"),
    ),
    "fisher": ("samples", "floor"),
    "regmean": ("samples",),
    "regmean_pp": ("samples",),
    "feat_cal": ("samples", "ridge"),
}


def not_positive(name: str, key: str) -> list[int] | list[float]:
    """Numbers of the field's type that are not positive and finite."""
    return [0, -1] if isinstance(METHODS[name].__dataclass_fields__[key].default, int) else [0.0, -1.0, float("inf"), float("nan")]


REFUSED = [
    *((name, "scale", float("inf"), "finite number") for name in ("task_arithmetic", "ties", "dare_ties", "tsv_m", "iso_c")),
    ("concrete_task_arithmetic", "scale", float("nan"), "finite number"),
    *((name, "density", wrong, "in (0, 1]") for name in ("ties", "dare_ties", "ada_merging_pp") for wrong in (0.0, 1.01)),
    *((name, "drop", wrong, "in [0, 1)") for name in ("dare", "dare_ties") for wrong in (-0.1, 1.0)),
    *((name, *wrong) for name in ("ada_merging", "ada_merging_pp", "concrete_ada_merging") for wrong in COEFFICIENTS),
    *((name, "alpha", wrong, "in [0, 1]") for name in ("regmean", "regmean_pp") for wrong in (-0.1, 1.1)),
    *((name, key, wrong, "positive number") for name, keys in POSITIVE.items() for key in keys for wrong in not_positive(name, key)),
    *((name, "seed", -1, "not be negative") for name in METHODS if "seed" in METHODS[name].__dataclass_fields__),
]


def test_labels_tell_what_is_not_the_default_and_settings_tell_all() -> None:
    assert (WeightAveraging().label, WeightAveraging().settings) == ("weight_averaging", "weight_averaging")
    published = WeightAveraging(as_published=True)
    assert published.label == published.settings == "weight_averaging(as_published=True)"
    dare = Dare(drop=0.5, seed=3)
    assert (dare.label, Dare().label, Dare().settings) == ("dare(drop=0.5)", "dare", "dare(drop=0.9)")
    assert str(dare) == "dare(drop=0.5, seed=3)"


@pytest.mark.parametrize(("name", "key", "value", "told"), REFUSED)
def test_what_is_out_of_range_is_refused_by_name(name: str, key: str, value: float | str, told: str) -> None:
    with pytest.raises(InvalidHyperparameter) as caught:
        METHODS[name](**{key: value})
    assert str(caught.value).startswith(key)
    assert told in str(caught.value)
    assert str(value) in str(caught.value)


@each_method
def test_the_ends_of_ranges_are_in_them(method: MergingMethod) -> None:
    ends = {"density": 1.0, "drop": 0.0, "alpha": 1.0, "blend": 1.0, "initial": 1.0, "seed": 0, "samples": 1, "steps": 1}
    own = {key: value for key, value in ends.items() if key in method.__dataclass_fields__}
    assert all(getattr(replace(method, **own), key) == value for key, value in own.items())
    starts = {"alpha": 0.0, "blend": 0.0, "initial": 0.0}
    own = {key: value for key, value in starts.items() if key in method.__dataclass_fields__}
    assert all(getattr(replace(method, **own), key) == value for key, value in own.items())
    assert replace(method) == method


@each_method
def test_all_work_is_announced_and_no_more(method: MergingMethod, tmp_path: Path) -> None:
    base, *experts = (on_disk(tmp_path, f"model{seed}", model(seed)) for seed in range(4))
    announced, done = dict[str, int](), defaultdict[str, int](int)

    @contextmanager
    def stage(name: str, units: int) -> Iterator[Progress]:
        def progress(count: int) -> None:
            done[name] += count

        announced[name] = units
        yield progress

    calibration = Network(base, names_of(experts)) if isinstance(method, DataDrivenMethod) else None
    list(merge_tensors(method, base, experts, calibration=calibration, stage=stage))
    assert announced == done
    learnt = {f"Estimating: {method.name}"} if isinstance(method, DataDrivenMethod) else set()
    assert announced.keys() == {f"Merging: {method.name}"} | learnt
