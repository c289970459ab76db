"""Packed experts: small, close, and whole."""

import zlib
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import save, save_file

from suture.checkpoints import open_checkpoint
from suture.errors import CorruptCheckpoint
from suture.task_vector import TaskVector
from suture.tasks.suites.packing import dequantise, pack_task_vector, quantise, unpack_expert


@settings(deadline=None, max_examples=50)
@given(seed=st.integers(0, 99), size=st.integers(1, 300), scale=st.sampled_from([1e-2, 1.0, 100.0]))
def test_the_error_is_that_of_seven_levels(seed: int, size: int, scale: float) -> None:
    delta = scale * torch.randn(size, generator=torch.Generator().manual_seed(seed))
    codes, steps = quantise(delta)
    back = dequantise(codes, steps, size)
    assert back.shape == delta.shape
    inside = delta.abs() <= 3.5 * steps.float().repeat_interleave(64)[:size]
    assert bool(((back - delta).abs()[inside] <= 0.501 * steps.float().repeat_interleave(64)[:size][inside] + 1e-4).all())


def test_signal_to_noise_of_a_normal_distribution() -> None:
    delta = torch.randn(64_000, generator=torch.Generator().manual_seed(0))
    error = dequantise(*quantise(delta), delta.numel()) - delta
    assert float(error.square().mean() / delta.square().mean()) < 0.05
    assert len(pack_task_vector({"w": delta})) * 8 / delta.numel() < 3.0


def test_an_unpacked_expert_is_a_checkpoint_of_the_base(bert: Path, tmp_path: Path) -> None:
    from transformers import AutoModel

    base = open_checkpoint(bert)
    noise = torch.Generator().manual_seed(0)
    expert = {name: t + 0.1 * torch.randn(t.shape, generator=noise) if "layer.0" in name else t for name, t in base.items()}
    (tmp_path / "packed").write_bytes(pack_task_vector(TaskVector(base, expert)))
    unpack_expert(tmp_path / "packed", base, tmp_path / "out")
    state = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    for name in base:
        if "layer.0" in name:
            assert 0 < float((state[name] - expert[name]).square().mean() / 0.01) < 0.1
        else:
            assert torch.equal(state[name], base[name])


def test_a_spoilt_file_is_refused(bert: Path, tmp_path: Path) -> None:
    base = open_checkpoint(bert)
    strange = zlib.compress(save({"ghost.codes": torch.zeros(32, dtype=torch.uint8), "ghost.steps": torch.zeros(1).half()}))
    none = "is not a packed task vector"
    for content, message in ((b"nonsense", none), (zlib.compress(b"nonsense"), none), (strange, "ghost")):
        (tmp_path / "packed").write_bytes(content)
        with pytest.raises(CorruptCheckpoint, match=message):
            unpack_expert(tmp_path / "packed", base, tmp_path / "out")
        assert not (tmp_path / "out").exists()


def test_task_vectors_leave_buffers_out(tmp_path: Path) -> None:
    for name in ("base", "expert"):
        save_file({"w": torch.full((2,), float(len(name))), "ids": torch.arange(2)}, tmp_path / f"{name}.safetensors")
    base, expert = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert"))
    vector = TaskVector(base, expert)
    assert list(vector) == ["w"]
    assert len(vector) == 1
    assert vector["w"].tolist() == [2.0, 2.0]
