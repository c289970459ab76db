"""Residual experts: against NumPy in float64, their laws, as weights of a real encoder, and on disk."""

from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from torch import Tensor

from suture.backbones import TextBackbone
from suture.checkpoints import open_checkpoint
from suture.errors import (
    CorruptCheckpoint,
    DataError,
    IncompatibleExperts,
    InvalidHyperparameter,
    NonFiniteTensor,
    UnknownName,
)
from suture.representation import encode, representation_bias
from suture.surgery import (
    Origin,
    Residuals,
    calibrated_residuals,
    load_residuals,
    low_rank_residuals,
    read_origin,
    save_residuals,
)
from suture.surgery.residual import LowRank, ResidualExpert, Whole, changed, tensors_of_blocks, truncated
from suture.surgery.residual_fit import Inputs

SHAPES = {"a.weight": (5, 3), "a.bias": (5,), "b.weight": (4, 6), "b.scale": (), "left.alone": (2, 2)}
NAMES = ["a.weight", "a.bias", "b.weight", "b.scale"]
TEXTS = [f"{colour} is {'very ' * (place % 5)}not {word}" for place, colour in enumerate(["red", "blue"] * 20) for word in ("so", "it")]


def weights(seed: int) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: torch.randn(shape, generator=generator) for name, shape in SHAPES.items()}


def shapes_of(residuals: Residuals, task: str) -> dict[str, tuple[int, ...]]:
    return {name: change.shape for name, change in residuals.of(task).items()}


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), rank=st.integers(0, 7))
def test_equal_to_a_truncated_svd(seed: int, rank: int) -> None:
    merged, expert = weights(seed), weights(seed + 1)
    residuals = low_rank_residuals(merged, {"t": expert}, NAMES, rank)
    for name in ("a.weight", "b.weight"):
        left, values, right = np.linalg.svd((expert[name].double() - merged[name].double()).numpy(), full_matrices=False)
        np.testing.assert_allclose(residuals.of("t")[name].whole(), (left[:, :rank] * values[:rank]) @ right[:rank], atol=2e-5)
    for name in ("a.bias", "b.scale"):
        np.testing.assert_array_equal(residuals.of("t")[name].whole(), expert[name] - merged[name])
    assert residuals.parameters("t") == 6 + min(rank, 3) * 8 + min(rank, 4) * 10


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), rank=st.integers(0, 6), shape=st.sampled_from([(5, 3), (3, 5), (4, 4)]))
def test_equal_to_the_svd_of_what_the_inputs_make_of_it(seed: int, rank: int, shape: tuple[int, int]) -> None:
    generator = np.random.default_rng(seed)
    delta, factor = generator.normal(size=shape), generator.normal(size=(shape[1], shape[1]))
    root = np.linalg.cholesky(factor @ factor.T + 0.1 * np.eye(shape[1]))
    left, values, right = np.linalg.svd(delta @ root, full_matrices=False)
    expected = (left[:, :rank] * values[:rank]) @ right[:rank] @ np.linalg.inv(root)
    found = truncated(torch.from_numpy(delta), rank, torch.float64, torch.from_numpy(root))
    np.testing.assert_allclose(found.whole(), expected, atol=1e-6)
    assert found.rank == min(rank, *shape)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 1000), rank=st.integers(1, 4))
def test_on_the_data_it_loses_less_than_the_plain_one(seed: int, rank: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    delta = torch.randn(5, 6, generator=generator, dtype=torch.float64)
    rows = torch.randn(40, 6, generator=generator, dtype=torch.float64) * torch.tensor([0.1, 0.2, 0.5, 1, 2, 5]) + 1
    inputs = Inputs.of(rows.split(7))
    for centred in (False, True):
        seen = rows - rows.mean(dim=0) if centred else rows
        root = inputs.root(1e-9, centred=centred)
        plain, aware = (float((seen @ (delta - truncated(delta, rank, root=each).whole()).T).norm()) for each in (None, root))
        assert aware <= plain * (1 + 1e-6)


@pytest.mark.parametrize("shape", [(5, 3), (3, 5)])
@pytest.mark.parametrize("centred", [False, True])
def test_inputs_that_do_not_vary_say_nothing(shape: tuple[int, int], centred: bool) -> None:
    rows = torch.full((9, shape[1]), 0.1 if centred else 0.0)
    assert Inputs.of([rows, rows]).root(0.1, centred=centred) is None


def test_moments_are_those_of_numpy_and_of_all_portions() -> None:
    rows = torch.randn(23, 4, generator=torch.Generator().manual_seed(0))
    found, wide = Inputs.of(rows.split(5)), rows.double().numpy()
    np.testing.assert_allclose(found.mean, wide.mean(axis=0), rtol=1e-12)
    np.testing.assert_allclose(found.square, wide.T @ wide / 23, rtol=1e-12)
    root = found.root(0.5, centred=True)
    covariance = np.cov(wide.T, bias=True)
    assert root is not None
    np.testing.assert_allclose(root @ root.T, covariance / np.diag(covariance).mean() + 0.5 * np.eye(4), rtol=1e-9, atol=1e-12)


def test_merged_equal_to_expert_leaves_nothing() -> None:
    residuals = low_rank_residuals(weights(0), {"t": weights(0)}, NAMES, 2)
    assert not any(change.whole().any() for change in residuals.of("t").values())


def test_tasks_are_apart_and_in_order() -> None:
    experts = {task: weights(seed) for seed, task in enumerate("abc", 1)}
    one = low_rank_residuals(weights(0), experts, NAMES, 2)
    other = low_rank_residuals(weights(0), {task: experts[task] for task in "cab"}, NAMES, 2)
    assert (one.tasks, other.tasks, one.rank) == (("a", "b", "c"), ("c", "a", "b"), 2)
    for task in experts:
        for name in NAMES:
            assert torch.equal(one.of(task)[name].whole(), other.of(task)[name].whole())


@pytest.mark.parametrize("shape", [(6, 4, 3, 3), (8, 1, 5, 5), (6, 2, 3)])
def test_a_convolution_is_the_matrix_of_its_filters(shape: tuple[int, ...]) -> None:
    merged, expert = (torch.randn(shape, generator=torch.Generator().manual_seed(seed)) for seed in (0, 1))
    change = low_rank_residuals({"w": merged}, {"t": {"w": expert}}, ["w"], 2).of("t")["w"]
    left, values, right = np.linalg.svd((expert.double() - merged.double()).reshape(shape[0], -1).numpy(), full_matrices=False)
    np.testing.assert_allclose(change.whole(), (left[:, :2] * values[:2]) @ right[:2], atol=2e-5)
    assert changed(merged, change).shape == shape
    whole = low_rank_residuals({"w": merged}, {"t": {"w": expert}}, ["w"], 99).of("t")["w"]
    torch.testing.assert_close(changed(merged, whole), expert)


def test_what_makes_no_sense() -> None:
    merged = weights(0)
    with pytest.raises(InvalidHyperparameter, match="rank must be at least 0"):
        low_rank_residuals(merged, {"t": merged}, NAMES, -1)
    with pytest.raises(IncompatibleExperts, match=r"'t': 'a.bias' has the shape \[5\] in the merged model and none in the expert"):
        low_rank_residuals(merged, {"t": {"a.weight": merged["a.weight"]}}, NAMES, 1)
    with pytest.raises(NonFiniteTensor, match=r"a\.weight"):
        low_rank_residuals(merged, {"t": merged | {"a.weight": torch.full((5, 3), torch.inf)}}, NAMES, 1)
    with pytest.raises(UnknownName, match="did you mean 'task'"):
        low_rank_residuals(merged, {"task": merged}, NAMES, 1).parameters("tsk")


# As weights of an encoder


def test_full_rank_is_the_expert_and_rank_zero_its_vectors(bert: Path, experts: dict[str, Path]) -> None:
    merged, expert = TextBackbone.open(bert), open_checkpoint(experts["pets"])
    names = tensors_of_blocks(merged)
    assert len(names) == 2 * 16
    assert not any("embeddings" in name or "pooler" in name for name in names)
    for rank in (16, 0):
        residual = low_rank_residuals(merged.weights, {"pets": expert}, names, rank).weights("pets", open_checkpoint(bert))
        assert list(residual) == list(merged.weights)
        assert residual.specs == merged.weights.specs
        for name, tensor in residual.items():
            whole = name in names and (rank or tensor.dim() == 1)
            torch.testing.assert_close(tensor, expert[name] if whole else merged.weights[name], rtol=0, atol=1e-6 if whole else 0)


def test_nearer_to_the_expert_with_every_rank(bert: Path, experts: dict[str, Path]) -> None:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["colours"])
    goal, names = encode(expert, TEXTS), tensors_of_blocks(merged)
    biases = [representation_bias(encode(merged, TEXTS), goal).l1]
    for rank in (0, 4, 16):
        residuals = low_rank_residuals(merged.weights, {"colours": expert.weights}, names, rank)
        biases.append(representation_bias(encode(seen_as(residuals, merged), TEXTS), goal).l1)
    assert biases == sorted(biases, reverse=True)


def seen_as(residuals: Residuals, merged: TextBackbone, task: str = "colours") -> TextBackbone:
    return TextBackbone(merged.folder, residuals.weights(task, open_checkpoint(merged.folder)))


def test_changes_of_what_is_changed_already(bert: Path, experts: dict[str, Path]) -> None:
    merged, expert, names = open_checkpoint(bert), open_checkpoint(experts["pets"]), tensors_of_blocks(TextBackbone.open(bert))
    half = low_rank_residuals(merged, {"pets": expert}, names, 3).weights("pets", merged)
    rest = low_rank_residuals(half, {"pets": expert}, names, 16).weights("pets", half)
    for name in names:
        torch.testing.assert_close(rest[name], expert[name], rtol=0, atol=1e-6)
    assert len({merged.digest, half.digest, rest.digest}) == 3


def test_identities_tell_residuals_apart(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    merged, names = open_checkpoint(bert), tensors_of_blocks(TextBackbone.open(bert))
    opened = {task: open_checkpoint(folder) for task, folder in experts.items()}
    found = [low_rank_residuals(merged, opened, names, rank).weights(task, merged) for rank in (1, 2) for task in opened]
    one = low_rank_residuals(merged, opened, names, 1)
    changed = dict(one.of("pets")) | {names[1]: Whole(one.of("pets")[names[1]].whole() + 1e-7)}
    found += [ResidualExpert(merged, {}), ResidualExpert(merged, changed), ResidualExpert(opened["pets"], one.of("pets"))]
    for identity in ("digest", "fingerprint"):
        assert len({getattr(each, identity) for each in [*found, merged]}) == len(found) + 1
        assert getattr(one.weights("pets", merged), identity) == getattr(found[list(opened).index("pets")], identity)
    assert TextBackbone(bert, found[0]).digest != TextBackbone(bert, found[1]).digest


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_other_precisions(tmp_path: Path, dtype: torch.dtype) -> None:
    for name, seed in (("merged", 0), ("expert", 1)):
        save_file({name: tensor.to(dtype) for name, tensor in weights(seed).items()}, tmp_path / f"{name}.safetensors")
    merged, expert = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("merged", "expert"))
    residuals = low_rank_residuals(merged, {"t": expert}, NAMES, 9)
    assert {part.dtype for change in residuals.of("t").values() for part in change.parts()} == {
        torch.float64 if dtype == torch.float64 else torch.float32
    }
    for name, tensor in residuals.weights("t", merged).items():
        assert tensor.dtype == dtype
        torch.testing.assert_close(tensor, (expert if name in NAMES else merged)[name])


def test_changes_of_another_model_are_refused(bert: Path) -> None:
    merged = open_checkpoint(bert)
    with pytest.raises(IncompatibleExperts, match=r"(?<!\w)no such tensor(?!\w)"):
        ResidualExpert(merged, {"stranger": Whole(torch.ones(3))})
    with pytest.raises(IncompatibleExperts, match=r"'embeddings\.word_embeddings\.weight' of shape"):
        ResidualExpert(merged, {"embeddings.word_embeddings.weight": LowRank(torch.ones(2, 1), torch.ones(1, 2))})


# With data


def numpy_inputs(backbone: TextBackbone, texts: list[str], name: str) -> np.ndarray:
    """What enters a layer, text by text, without padding."""
    rows: list[Tensor] = []
    hook = backbone.model.get_submodule(name).register_forward_pre_hook(lambda _, inputs: rows.append(inputs[0][0]))
    with torch.no_grad():
        for tokens in backbone.prepare(texts):
            backbone.represent([tokens])
    hook.remove()
    return torch.cat(rows).double().numpy()


@pytest.mark.parametrize("rank", [2, 16])
def test_every_layer_is_solved_on_what_enters_it_in_the_expert(bert: Path, experts: dict[str, Path], rank: int) -> None:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["colours"])
    residuals = calibrated_residuals({"colours": TEXTS}, merged, lambda _: expert, rank)
    result = seen_as(residuals, merged).weights
    layers = [name for name, module in merged.model.named_modules() if isinstance(module, torch.nn.Linear) and "encoder" in name]
    assert len(layers) == 12
    for name in layers:
        weight, bias = f"{name}.weight", f"{name}.bias"
        x = numpy_inputs(expert, TEXTS, name)
        delta = (expert.weights[weight].double() - merged.weights[weight].double()).numpy()
        covariance = np.cov(x.T, bias=True)
        root = np.linalg.cholesky(covariance / np.diag(covariance).mean() + 0.1 * np.eye(len(covariance)))
        left, values, right = np.linalg.svd(delta @ root, full_matrices=False)
        kept = (left[:, :rank] * values[:rank]) @ right[:rank] @ np.linalg.inv(root)
        np.testing.assert_allclose(residuals.of("colours")[weight].whole(), kept, atol=1e-4)
        sides = [(each[weight].double().numpy(), each[bias].double().numpy()) for each in (result, expert.weights)]
        ours, theirs = (x.mean(axis=0) @ matrix.T + vector for matrix, vector in sides)
        np.testing.assert_allclose(ours, theirs, atol=1e-5)
    assert not any(module._forward_pre_hooks for backbone in (merged, expert) for module in backbone.model.modules())


def test_with_data_nearer_to_the_expert_than_without(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    merged, expert = TextBackbone.open(bert), TextBackbone.open(experts["colours"])
    before, seen = {name: tensor.clone() for name, tensor in merged.model.state_dict().items()}, list[int]()
    aware = calibrated_residuals({"colours": TEXTS[:50]}, merged, lambda _: expert, 2, scratch=tmp_path, progress=seen.append)
    plain = low_rank_residuals(merged.weights, {"colours": expert.weights}, tensors_of_blocks(merged), 2)
    goal = encode(expert, TEXTS[50:])
    assert aware.parameters("colours") == plain.parameters("colours")
    one, other = (representation_bias(encode(seen_as(each, merged), TEXTS[50:]), goal).l1 for each in (aware, plain))
    assert one < other
    assert sum(seen) == 2 * 50
    assert not [entry for entry in tmp_path.iterdir() if entry.name.startswith("residual")]
    assert all(torch.equal(tensor, before[name]) for name, tensor in merged.model.state_dict().items())


def test_batches_and_other_tasks_change_nothing(bert: Path, experts: dict[str, Path], monkeypatch: pytest.MonkeyPatch) -> None:
    merged, opened = TextBackbone.open(bert), {task: TextBackbone.open(folder) for task, folder in experts.items()}
    alone = calibrated_residuals({"pets": TEXTS[:30]}, merged, opened.__getitem__, 3)
    again = calibrated_residuals({"colours": TEXTS, "pets": TEXTS[:30]}, merged, opened.__getitem__, 3)
    monkeypatch.setattr("suture.surgery.residual_fit.TOKENS_PER_BATCH", 40)
    cut = calibrated_residuals({"pets": TEXTS[:30]}, merged, opened.__getitem__, 3)
    assert shapes_of(alone, "pets") == {name: merged.weights.specs[name].shape for name in tensors_of_blocks(merged)}
    for name, change in alone.of("pets").items():
        assert torch.equal(change.whole(), again.of("pets")[name].whole())
        torch.testing.assert_close(change.whole(), cut.of("pets")[name].whole(), rtol=1e-3, atol=1e-4)


def test_what_cannot_be_calibrated(bert: Path) -> None:
    merged = TextBackbone.open(bert)
    with pytest.raises(DataError, match="'a' has no inputs"):
        calibrated_residuals({"a": []}, merged, lambda _: merged, 1)
    with pytest.raises(InvalidHyperparameter, match="rank"):
        calibrated_residuals({"a": TEXTS}, merged, lambda _: merged, -1)
    for shrinkage in (0, -1.0, float("nan")):
        with pytest.raises(InvalidHyperparameter, match="shrinkage"):
            calibrated_residuals({"a": TEXTS}, merged, lambda _: merged, 1, shrinkage=shrinkage)


# On disk


def some(rank: int = 2) -> Residuals:
    return low_rank_residuals(weights(0), {"a": weights(1), "b/c.d": weights(2)}, NAMES, rank)


@pytest.mark.parametrize("rank", [0, 2])
def test_round_trip(tmp_path: Path, rank: int) -> None:
    origin, file = Origin("held-out", 64, 3, "abc", "residual"), tmp_path / "r.safetensors"
    save_residuals(file, some(rank), origin)
    back = load_residuals(file)
    assert (back.tasks, back.rank, read_origin(file)) == (("a", "b/c.d"), rank, origin)
    for task in back.tasks:
        assert back.parameters(task) == some(rank).parameters(task)
        for name, change in some(rank).of(task).items():
            assert torch.equal(change.whole(), back.of(task)[name].whole())


def spoilt(folder: Path, without: str = "", told: dict[str, str] | None = None, **other: Tensor) -> Path:
    """Write residuals with some tensors left out or replaced."""
    save_residuals(folder / "r.safetensors", some())
    tensors = {name: tensor for name, tensor in load_file(folder / "r.safetensors").items() if not without or without not in name}
    metadata = told if told is not None else {"suture": "residuals", "tasks": '["a", "b/c.d"]'}
    save_file(tensors | {name.replace("__", "/").replace("_", "."): t for name, t in other.items()}, folder / "s.safetensors", metadata)
    return folder / "s.safetensors"


@pytest.mark.parametrize("without", ["a/a.weight/left", "a/b.weight/right", "a/a.weight", "c.d/b.scale", "b/c.d"])
def test_what_is_lost_is_missed(tmp_path: Path, without: str) -> None:
    with pytest.raises(CorruptCheckpoint, match="not a whole file of residuals"):
        load_residuals(spoilt(tmp_path, without))


@pytest.mark.parametrize(
    ("name", "wrong"),
    [
        ("a__a_weight__left", torch.ones(5)),
        ("a__a_weight__left", torch.ones(4, 2)),
        ("a__a_weight__left", torch.ones(5, 3)),
        ("a__a_weight__left", torch.ones(5, 2).double()),
        ("a__a_weight__change", torch.ones(5, 3)),
        ("a__a_bias__change", torch.ones(4)),
        ("a__a_bias__change", torch.ones(5, dtype=torch.int64)),
        ("z__a_bias__change", torch.ones(5)),
        ("stranger", torch.ones(5)),
    ],
)
def test_what_does_not_fit_is_refused(tmp_path: Path, name: str, wrong: Tensor) -> None:
    with pytest.raises(CorruptCheckpoint, match="not a whole file of residuals"):
        load_residuals(spoilt(tmp_path, **{name: wrong}))


@pytest.mark.parametrize(
    "told",
    [
        {},
        {"suture": "residuals"},
        {"suture": "surgery", "tasks": "[]"},
        *({"suture": "residuals", "tasks": tasks} for tasks in ("[1]", '"a"', "3", "no JSON")),
    ],
)
def test_files_of_something_else_are_refused(tmp_path: Path, told: dict[str, str]) -> None:
    with pytest.raises(CorruptCheckpoint, match="which tasks"):
        load_residuals(spoilt(tmp_path, told=told))


def test_a_slash_in_the_name_of_a_tensor(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="slash"):
        save_residuals(tmp_path / "r.safetensors", Residuals({"a": {"x/y": Whole(torch.ones(1))}}))
