"""The contract that every merging method keeps."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save_file
from torch import Tensor

from merging.network import Network
from merging.oracles import CASES, Oracle
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import SutureWarning
from suture.merging import METHODS, DataDrivenMethod, MergingMethod, merge_tensors
from suture.merging.streaming import restore

SHAPES = {"matrix": (7, 5), "second": (11, 7), "vector": (11,), "scalar": (), "one": (1,), "empty": (0, 3), "kernel": (2, 3, 2, 2)}
each_method = pytest.mark.parametrize(("method", "oracle"), CASES, ids=[str(method) for method, _ in CASES])


def model(seed: int, dtype: torch.dtype = torch.float32, scale: float = 1.0) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    tensors = {name: (scale * torch.randn(shape, generator=generator)).to(dtype) for name, shape in SHAPES.items()}
    return tensors | {"ids": torch.arange(4), "flag": torch.tensor([True])}


def on_disk(folder: Path, name: str, tensors: Mapping[str, Tensor]) -> Checkpoint:
    file = folder / f"{name}.safetensors"
    save_file(dict(tensors), file)
    return open_checkpoint(file)


def merge(method: MergingMethod, base: Checkpoint, *experts: Checkpoint) -> dict[str, Tensor]:
    # Each expert brings a task of its own, by the name of its file.
    calibration = Network(base, names_of(experts)) if isinstance(method, DataDrivenMethod) else None
    return {name: tensor.clone() for name, tensor in merge_tensors(method, base, experts, calibration=calibration)}


def names_of(experts: Sequence[Checkpoint]) -> list[str]:
    return [expert.path.stem for expert in experts]


def floats(tensors: Mapping[str, Tensor]) -> dict[str, np.ndarray]:
    return {name: tensor.double().numpy() for name, tensor in tensors.items() if tensor.is_floating_point()}


def bits(tensor: Tensor) -> list[int]:
    return tensor.reshape(-1).view(torch.uint8).tolist()


def test_every_method_has_an_oracle() -> None:
    assert {method.name for method, _ in CASES} == set(METHODS)


@each_method
def test_equal_to_the_oracle(method: MergingMethod, oracle: Oracle, tmp_path: Path) -> None:
    base = on_disk(tmp_path, "base", model(0))
    experts = [on_disk(tmp_path, f"expert{seed}", model(seed)) for seed in (1, 2, 3)]
    names = names_of(experts) if isinstance(method, DataDrivenMethod) else [expert.fingerprint for expert in experts]
    expected = oracle(floats(base), [floats(expert) for expert in experts], names)
    merged = merge(method, base, *experts)
    for name, value in expected.items():
        scale = max(1.0, float(np.abs(value).max(initial=0)))
        np.testing.assert_allclose(merged[name].double().numpy(), value, rtol=1e-6, atol=1e-6 * scale)


@each_method
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64, torch.bfloat16, torch.float16])
def test_keys_shapes_dtypes_of_the_base_and_inputs_untouched(
    method: MergingMethod, oracle: Oracle, tmp_path: Path, dtype: torch.dtype
) -> None:
    base = on_disk(tmp_path, "base", model(0, dtype))
    experts = [on_disk(tmp_path, f"expert{seed}", model(seed, dtype)) for seed in (1, 2)]
    before = [file.read_bytes() for file in sorted(tmp_path.iterdir())]
    merged = merge(method, base, *experts)
    assert list(merged) == list(base)
    for name, tensor in merged.items():
        assert tensor.shape == base[name].shape
        assert tensor.dtype == base[name].dtype
        assert bool(tensor.isfinite().all())
    assert torch.equal(merged["ids"], base["ids"])
    assert [file.read_bytes() for file in sorted(tmp_path.iterdir())] == before


@pytest.mark.fault(19)
@each_method
def test_zero_task_vectors_give_the_base_bit_for_bit(method: MergingMethod, oracle: Oracle, tmp_path: Path) -> None:
    for dtype in (torch.float32, torch.bfloat16):
        tensors = model(0, dtype)
        tensors["vector"][:2] = torch.tensor([-0.0, 0.0])
        base = on_disk(tmp_path, f"base-{str(dtype)[6:]}", tensors)
        with pytest.warns(SutureWarning, match=rf"base-{str(dtype)[6:]}\S* is the base \S* again: its task vector is zero"):
            merged = merge(method, base, base, base)
        for name, tensor in merged.items():
            assert bits(tensor) == bits(base[name])


@each_method
@settings(deadline=None, max_examples=8)
@given(order=st.permutations([1, 2, 3]), scale=st.sampled_from([1e-4, 1.0, 1e3]))
def test_the_order_of_experts_does_not_matter(
    method: MergingMethod, oracle: Oracle, tmp_path_factory: pytest.TempPathFactory, order: list[int], scale: float
) -> None:
    folder = tmp_path_factory.mktemp("order")
    base = on_disk(folder, "base", model(0))
    experts = {seed: on_disk(folder, f"expert{seed}", model(seed, scale=scale)) for seed in (1, 2, 3)}
    first, second = merge(method, base, *experts.values()), merge(method, base, *(experts[seed] for seed in order))
    for name in first:
        torch.testing.assert_close(first[name], second[name], rtol=1e-5, atol=1e-5 * max(1, scale))


@each_method
def test_blocks_do_not_show(method: MergingMethod, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    base = on_disk(tmp_path, "base", model(0))
    experts = [on_disk(tmp_path, f"expert{seed}", model(seed)) for seed in (1, 2)]
    whole = merge(method, base, *experts)
    monkeypatch.setattr("suture.merging.streaming.BLOCK", 3)
    monkeypatch.setattr("suture.merging.streaming.SEGMENT", 8)
    for name, tensor in merge(method, base, *experts).items():
        assert torch.equal(tensor, whole[name])


@each_method
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float64])
def test_sums_come_in_the_precision_of_sums(
    method: MergingMethod, oracle: Oracle, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype
) -> None:
    base, *experts = (on_disk(tmp_path, f"model{seed}", model(seed, dtype)) for seed in range(3))
    seen = list[tuple[torch.dtype, bool]]()

    def restored(own: Tensor, delta: Tensor, target: Tensor) -> None:
        if own.numel():
            seen.append((delta.dtype, delta.shape == own.shape == target.shape))
        restore(own, delta, target)

    monkeypatch.setattr("suture.merging.driver.restore", restored)
    merge(method, base, *experts)
    assert len(seen) == len(SHAPES) - 1
    assert set(seen) == {(torch.promote_types(dtype, torch.float32), True)}


def test_equal_experts_average_to_the_expert(tmp_path: Path) -> None:
    base, expert = on_disk(tmp_path, "base", model(0)), on_disk(tmp_path, "expert", model(1))
    for name, tensor in merge(METHODS["weight_averaging"](), base, expert, expert).items():
        torch.testing.assert_close(tensor, expert[name], rtol=1e-6, atol=1e-6)
