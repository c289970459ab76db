"""The regression of a linear layer, and RegMean++ beside RegMean."""

from collections.abc import Callable
from functools import partial
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.learning_oracles import regmean
from merging.network import Network
from suture.backbones import Head, TaskCalibration, TextBackbone
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import InvalidHyperparameter
from suture.merging import MergingMethod, RegMean, RegMeanPlusPlus, merge_tensors
from suture.merging.regmean import gram_matrices, regression_mean

SHAPES = {"matrix": (7, 5), "second": (11, 7), "vector": (11,)}


def saved(folder: Path, name: str, seed: int, dtype: torch.dtype = torch.float64) -> Checkpoint:
    noise = torch.Generator().manual_seed(seed)
    save_file({key: torch.randn(shape, generator=noise).to(dtype) for key, shape in SHAPES.items()}, folder / f"{name}.safetensors")
    return open_checkpoint(folder / f"{name}.safetensors")


def merged(method: MergingMethod, network: Network, experts: list[Checkpoint]) -> dict[str, Tensor]:
    assert isinstance(network.base, Checkpoint)
    return dict(merge_tensors(method, network.base, experts, calibration=network))


def gram(x: Tensor) -> Tensor:
    return x.T @ x / len(x)


def test_equal_to_least_squares(generator: torch.Generator) -> None:
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    inputs, vectors = [draw(20, 6), 3 * draw(9, 6)], draw(2, 4, 6)
    found = regression_mean(vectors, [gram(x) for x in inputs], alpha=1.0)
    rows = torch.cat([x / len(x) ** 0.5 for x in inputs])
    targets = torch.cat([x @ vector.T / len(x) ** 0.5 for x, vector in zip(inputs, vectors, strict=True)])
    torch.testing.assert_close(found, torch.linalg.lstsq(rows, targets).solution.T, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("alpha", [0.0, 0.9, 1.0])
def test_a_feature_that_is_always_zero_is_averaged(generator: torch.Generator, alpha: float) -> None:
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    inputs, vectors = [draw(20, 6), draw(20, 6)], draw(2, 4, 6)
    for x in inputs:
        x[:, 2] = 0
    found = regression_mean(vectors, [gram(x) for x in inputs], alpha)
    torch.testing.assert_close(found[:, 2], vectors[:, :, 2].mean(dim=0))
    alive = [0, 1, 3, 4, 5]
    without = regression_mean(vectors[:, :, alive], [gram(x[:, alive]) for x in inputs], alpha)
    torch.testing.assert_close(found[:, alive], without, rtol=1e-9, atol=1e-9)


@pytest.mark.parametrize("alpha", [0.9, 1.0])
def test_fewer_tokens_than_features_keep_what_is_seen_and_stay_near_the_average(generator: torch.Generator, alpha: float) -> None:
    draw = partial(torch.randn, generator=generator, dtype=torch.float64)
    # Features of different powers, as in real networks.
    inputs, vectors = [draw(3, 12) * torch.logspace(-1, 1, 12) for _ in range(2)], draw(2, 4, 12)
    found = regression_mean(vectors, [gram(x) for x in inputs], alpha)
    assert found.abs().max() < 50 * vectors.abs().max()
    if alpha == 1:
        for x, vector in zip(inputs, vectors, strict=True):
            torch.testing.assert_close(x @ found.T, x @ vector.T, rtol=1e-5, atol=1e-5)


def test_nothing_seen_is_an_average(generator: torch.Generator) -> None:
    vectors = torch.randn(3, 4, 6, generator=generator)
    for alpha in (0.5, 1.0):
        found = regression_mean(vectors, [torch.zeros(6, 6, dtype=torch.float64)] * 3, alpha)
        torch.testing.assert_close(found, vectors.double().mean(dim=0))


@pytest.mark.parametrize("kind", [RegMean, RegMeanPlusPlus])
def test_without_shrinkage_float64_models_are_the_regression_to_many_digits(tmp_path: Path, kind: type[RegMean]) -> None:
    """With α = 1 the rounding of float32 activations is multiplied by the condition of their Gram matrix; here it shows nothing."""
    experts = [saved(tmp_path, name, seed) for seed, name in enumerate(("a", "b", "c"), 1)]
    network = Network(saved(tmp_path, "base", 0), ["a", "b", "c"])
    found = merged(kind(alpha=1.0), network, experts)
    models = [{name: tensor.numpy() for name, tensor in weights.items()} for weights in (network.base, *experts)]
    oracle = regmean(256, 1.0, 0, merged_inputs=kind is RegMeanPlusPlus)
    for name, value in oracle(models[0], models[1:], ["a", "b", "c"]).items():
        torch.testing.assert_close(found[name], torch.from_numpy(value), rtol=1e-9, atol=1e-9)


def test_in_one_block_both_are_the_same(tmp_path: Path) -> None:
    experts = [saved(tmp_path, name, seed) for seed, name in enumerate(("a", "b"), 1)]
    base, one = saved(tmp_path, "base", 0), {"layers": [["matrix", "second"]], "blocks": [["matrix", "second", "vector"]]}
    whole, cut = Network(base, ["a", "b"], **one), Network(base, ["a", "b"])  # type: ignore[arg-type]
    plain = merged(RegMean(), cut, experts)
    for name, tensor in merged(RegMeanPlusPlus(), whole, experts).items():
        assert torch.equal(tensor, plain[name])
    later = merged(RegMeanPlusPlus(), cut, experts)
    assert torch.equal(later["matrix"], plain["matrix"])
    assert not torch.allclose(later["second"], plain["second"])


def test_a_layer_that_shares_its_input_has_a_gram_matrix_of_its_own(generator: torch.Generator) -> None:
    class Sharing(Network):
        def watch(self, weights: object, rows: object, look: Callable[[str, Tensor], None]) -> None:  # type: ignore[override]
            first, second = torch.ones(2, 3), 2 * torch.ones(4, 3)
            for name, inputs in (("query", first), ("key", first), ("query", second), ("key", second), ("other", first)):
                look(name, inputs)

    found = gram_matrices(Sharing({}, []), {}, [], {"query", "key", "unseen"})
    assert set(found) == {"query", "key"}
    for total in found.values():
        torch.testing.assert_close(total, torch.full((3, 3), 3.0, dtype=torch.float64))


def test_the_encoder_is_merged_block_by_block(bert: Path, experts: dict[str, Path]) -> None:
    """RegMean++ of the second block sees what the merged first block makes of merged embeddings."""
    backbone, opened = TextBackbone.open(bert), [open_checkpoint(folder) for folder in experts.values()]
    texts = {task: ["the cat is red", "it is very blue not", "one two", "a dog"] for task in experts}
    heads = {task: Head(torch.eye(16)[:2]) for task in experts}
    calibration = TaskCalibration(backbone, texts, heads)
    found = dict(merge_tensors(RegMeanPlusPlus(), backbone.weights, opened, calibration=calibration))
    name, seen = "encoder.layer.1.attention.self.query.weight", {}
    for place, expert in enumerate(opened):
        own = {key: expert[key] if "layer.1." in key else found[key] for key in found}
        rows = [list(range(4)) if place == other else [] for other in range(3)]
        seen[place] = gram_matrices(calibration, own, rows, {name})[name]
    base = backbone.weights[name]
    vectors = torch.stack([expert[name] - base for expert in opened])
    torch.testing.assert_close(found[name], base + regression_mean(vectors, seen.values(), 0.9).float(), rtol=1e-4, atol=1e-5)
    average = torch.stack([expert["embeddings.LayerNorm.bias"] for expert in opened]).mean(dim=0)
    torch.testing.assert_close(found["embeddings.LayerNorm.bias"], average)


@pytest.mark.parametrize("settings", [{"samples": 0}, {"alpha": 1.1}, {"alpha": -0.1}, {"alpha": float("nan")}, {"seed": -1}])
def test_hyperparameters_are_checked(settings: dict[str, float]) -> None:
    with pytest.raises(InvalidHyperparameter):
        RegMean(**settings)  # type: ignore[arg-type]
