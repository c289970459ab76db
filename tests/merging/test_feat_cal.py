"""FeatCal: its laws, the encoder against a calibration by hand, and what it starts from."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from merging.network import Network
from suture.backbones import Head, TaskCalibration, TextBackbone
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import InvalidHyperparameter, UnknownName
from suture.experiment.recipe import Recipe
from suture.merging import (
    Dare,
    FeatCal,
    Fisher,
    MergingMethod,
    TaskArithmetic,
    Ties,
    WeightAveraging,
    make_method,
    merge_tensors,
    merge_to_folder,
)

SHAPES = {"matrix": (7, 5), "second": (11, 7), "vector": (11,)}
TEXTS = ["the cat is red", "it is very blue not the", "one two", "a dog"]


def saved(folder: Path, name: str, seed: int) -> Checkpoint:
    noise = torch.Generator().manual_seed(seed)
    save_file(
        {key: torch.randn(shape, generator=noise, dtype=torch.float64) for key, shape in SHAPES.items()}, folder / f"{name}.safetensors"
    )
    return open_checkpoint(folder / f"{name}.safetensors")


def merged(method: MergingMethod, base: Checkpoint, *experts: Checkpoint) -> dict[str, Tensor]:
    network = Network(base, [expert.path.stem for expert in experts])
    return dict(merge_tensors(method, base, experts, calibration=network))


@pytest.mark.parametrize("start", [TaskArithmetic(), Ties(density=0.4), Dare(drop=0.5)])
def test_held_to_where_it_starts_it_stays_there(tmp_path: Path, start: MergingMethod) -> None:
    base, *experts = (saved(tmp_path, name, seed) for seed, name in enumerate(("base", "a", "b")))
    plain = dict(merge_tensors(start, base, experts))
    for name, tensor in merged(FeatCal(start=start, ridge=1e12, anchor=1.0), base, *experts).items():
        torch.testing.assert_close(tensor, plain[name], rtol=1e-9, atol=1e-9)


def test_equal_experts_calibrate_their_average_to_the_expert(tmp_path: Path) -> None:
    base, a, b = saved(tmp_path, "base", 0), saved(tmp_path, "a", 1), saved(tmp_path, "b", 1)
    for name, tensor in merged(FeatCal(start=WeightAveraging(), anchor=1.0), base, a, b).items():
        torch.testing.assert_close(tensor, a[name], rtol=1e-9, atol=1e-9)


def test_one_expert_is_regained_where_nothing_holds_the_merge(tmp_path: Path) -> None:
    """The first layers' inputs are the expert's own, so each layer after them sees what the expert's would."""
    base, a = saved(tmp_path, "base", 0), saved(tmp_path, "a", 1)
    for name, tensor in merged(FeatCal(ridge=1e-12), base, a).items():
        torch.testing.assert_close(tensor, a[name], rtol=1e-6, atol=1e-6)


def calibration_of(bert: Path, **texts: list[str]) -> TaskCalibration:
    return TaskCalibration(TextBackbone.open(bert), texts, {task: Head(torch.eye(16)[:2]) for task in texts})


def test_padding_does_not_matter(bert: Path, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    opened = [open_checkpoint(folder) for folder in experts.values()]
    found = []
    for tokens in (1, 1024):  # texts by themselves, or all together
        monkeypatch.setattr("suture.backbones.calibration.TOKENS_PER_BATCH", tokens)
        own = calibration_of(bert, **dict.fromkeys(experts, TEXTS))
        found.append(dict(merge_tensors(FeatCal(), own.backbone.weights, opened, calibration=own)))
    for name, tensor in found[0].items():
        torch.testing.assert_close(tensor, found[1][name], rtol=1e-4, atol=1e-5)


LAYERS = ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense")
LAYERS = (*LAYERS, "attention.output.LayerNorm", "intermediate.dense", "output.dense", "output.LayerNorm")


def test_the_encoder_is_calibrated_layer_by_layer(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    """Against whole forward passes of text after text for every layer, and least squares on stacked rows."""
    own, opened = calibration_of(bert, **dict.fromkeys(experts, TEXTS)), [open_checkpoint(folder) for folder in experts.values()]
    method = FeatCal(ridge=0.1, anchor=1.5, blend=0.4)
    out = merge_to_folder(method, open_checkpoint(bert), opened, tmp_path / "out", calibration=own)
    base, theirs = load_file(bert / "model.safetensors"), [load_file(folder / "model.safetensors") for folder in experts.values()]
    expected = {name: value + 0.3 * sum(expert[name] - value for expert in theirs) for name, value in base.items()}
    start = dict(expected)
    for layer in (f"encoder.layer.{block}.{name}" for block in (0, 1) for name in LAYERS):
        before = dict(expected)
        if layer.endswith(("key", "value")):  # they see what the query sees
            before |= {name: start[name] for name in start if "self" in name and layer.rsplit(".", 1)[0] in name}
        inputs = [(entering(own.backbone, before, layer), entering(own.backbone, expert, layer)) for expert in theirs]
        pulled = {name: 1.5 * start[name] + (1 - 1.5) * base[name] for name in base}
        expected |= by_hand(layer, inputs, theirs, pulled, ridge=0.1, blend=0.4)
    for name, tensor in load_file(out / "model.safetensors").items():
        torch.testing.assert_close(tensor, expected[name], rtol=1e-4, atol=1e-5, msg=name)
    assert not any(module._forward_pre_hooks for module in own.backbone.model.modules())
    for name, parameter in own.backbone.model.named_parameters():
        assert torch.equal(parameter, base[name])


def entering(backbone: TextBackbone, weights: dict[str, Tensor], layer: str) -> Tensor:
    """What enters a layer, token after token of one text after another: without padding."""
    seen: list[Tensor] = []
    module = backbone.model.get_submodule(layer)
    hook = module.register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0][0].double()))
    with torch.no_grad():
        for tokens in backbone.prepare(TEXTS):
            backbone.represent([tokens], weights)
    hook.remove()
    x = torch.cat(seen)
    if isinstance(module, torch.nn.LayerNorm):
        x = (x - x.mean(dim=1, keepdim=True)) / (x.var(dim=1, keepdim=True, unbiased=False) + module.eps).sqrt()
    return x


def by_hand(
    layer: str, inputs: list[tuple[Tensor, Tensor]], experts: list[dict[str, Tensor]], pulled: dict[str, Tensor], ridge: float, blend: float
) -> dict[str, Tensor]:
    weight, bias = f"{layer}.weight", f"{layer}.bias"
    root = ridge**0.5
    mixed = [(x, blend * y + (1 - blend) * x) for x, y in inputs]

    def ones(x: Tensor) -> Tensor:
        return torch.cat([x, torch.ones(len(x), 1, dtype=torch.float64)], dim=1)

    if pulled[weight].dim() == 2:
        anchor = torch.cat([pulled[weight].T, pulled[bias][None]]).double()
        rows, targets = [root * torch.eye(len(anchor), dtype=torch.float64)], [root * anchor]
        for (x, y), expert in zip(mixed, experts, strict=True):
            norm = (x.T @ x).norm().sqrt()
            rows.append(ones(x) / norm)
            targets.append((y @ expert[weight].T.double() + expert[bias]) / norm)
        found = torch.linalg.lstsq(torch.cat(rows), torch.cat(targets)).solution.float()
        return {weight: found[:-1].T, bias: found[-1]}
    columns = []
    for feature in range(len(pulled[weight])):
        rows, targets = (
            [root * torch.eye(2, dtype=torch.float64)],
            [root * torch.stack([pulled[weight], pulled[bias]])[:, feature].double()],
        )
        for (x, y), expert in zip(mixed, experts, strict=True):
            rows.append(ones(x[:, feature : feature + 1]) / len(x) ** 0.5)
            targets.append((y[:, feature] * expert[weight][feature].double() + expert[bias][feature]) / len(x) ** 0.5)
        columns.append(torch.linalg.lstsq(torch.cat(rows), torch.cat(targets)[:, None]).solution[:, 0])
    found = torch.stack(columns).float()
    return {weight: found[:, 0], bias: found[:, 1]}


def test_a_start_is_read_by_name_or_with_settings() -> None:
    assert make_method("feat_cal", {"start": "ties"}) == FeatCal(start=Ties())
    found = make_method("feat_cal", {"start": {"method": "task_arithmetic", "scale": "0.5"}, "samples": "64"})
    assert found == FeatCal(start=TaskArithmetic(scale=0.5), samples=64)
    assert make_method("feat_cal", {"start": Ties()}) == FeatCal(start=Ties())
    with pytest.raises(UnknownName, match="did you mean"):
        make_method("feat_cal", {"start": "tie"})
    with pytest.raises(UnknownName, match="hyperparameter of ties"):
        make_method("feat_cal", {"start": {"method": "ties", "scael": 1}})
    for wrong in (3, {"scale": 0.5}, None):
        with pytest.raises(InvalidHyperparameter, match="start must be the name of a method"):
            make_method("feat_cal", {"start": wrong})
    with pytest.raises(InvalidHyperparameter, match="take its own out"):
        make_method("feat_cal", {"start": {"method": "dare", "seed": 3}})
    for learnt in ("regmean", "feat_cal"):
        with pytest.raises(InvalidHyperparameter, match=f"needs no data, not {learnt}"):
            make_method("feat_cal", {"start": learnt})


def test_labels_tell_where_it_starts() -> None:
    assert (FeatCal().label, FeatCal(start=Ties()).label) == ("feat_cal", "feat_cal(start=ties)")
    assert FeatCal(start=Ties(density=0.1)).label == "feat_cal(start=ties(density=0.1))"
    assert FeatCal().settings.startswith("feat_cal(start=task_arithmetic(scale=0.3), samples=256, ")
    assert FeatCal(start=Dare(), seed=3).settings.startswith("feat_cal(start=dare(drop=0.9), samples=256, ")
    assert FeatCal(start=Dare(), seed=3).label == "feat_cal(start=dare)"


@pytest.mark.parametrize("given", ["feat_cal", {"method": "feat_cal", "start": {"method": "ties", "density": 0.1}, "samples": 64}])
def test_a_recipe_with_a_start_is_written_as_it_was_read(given: object) -> None:
    recipe = Recipe(suite="nlp8", merges=[given, {"method": "feat_cal", "start": "dare"}])
    written = recipe.model_dump(mode="json")
    assert written["merges"][1]["start"] == {"method": "dare", "drop": 0.9}
    assert Recipe.model_validate(written) == recipe
    with pytest.raises(ValueError, match="needs no data, not fisher"):
        Recipe(suite="nlp8", merges=[{"method": "feat_cal", "start": "fisher"}])


def test_a_start_draws_by_the_same_seed() -> None:
    assert FeatCal(start=Dare(drop=0.5), seed=3).start == Dare(drop=0.5, seed=3)


@pytest.mark.parametrize(
    "settings",
    [{"samples": 0}, {"ridge": 0.0}, {"anchor": float("nan")}, {"blend": 1.1}, {"blend": -0.1}, {"seed": -1}, {"start": Fisher()}],
)
def test_hyperparameters_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidHyperparameter):
        FeatCal(**settings)  # type: ignore[arg-type]
