"""Files: what is written reads back."""

import json
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from suture.checkpoints import TensorSpec, write_safetensors, writing
from suture.checkpoints.reading import DTYPES

SHAPES = st.lists(st.integers(0, 4), max_size=3)


@settings(deadline=None)
@given(specs=st.lists(st.tuples(SHAPES, st.sampled_from(list(DTYPES.values()))), max_size=5))
def test_what_is_written_reads_back(tmp_path_factory: pytest.TempPathFactory, specs: list[tuple[list[int], torch.dtype]]) -> None:
    file = tmp_path_factory.mktemp("out") / "model.safetensors"
    generator = torch.Generator().manual_seed(0)
    tensors = {f"t{i}": (10 * torch.randn(shape, generator=generator)).to(dtype) for i, (shape, dtype) in enumerate(specs)}
    write_safetensors(file, {name: TensorSpec(tuple(t.shape), t.dtype) for name, t in tensors.items()}, tensors.items(), {"a": "b"})
    back = load(file.read_bytes())
    assert back.keys() == tensors.keys()
    assert all(torch.equal(back[name], tensor) for name, tensor in tensors.items())
    size = int.from_bytes(file.read_bytes()[:8], "little")
    assert json.loads(file.read_bytes()[8 : 8 + size])["__metadata__"] == {"format": "pt", "a": "b"}


def test_tensors_that_were_not_announced_are_refused(tmp_path: Path) -> None:
    specs = {"a": TensorSpec((2,), torch.float32), "b": TensorSpec((1,), torch.float32)}
    for tensors in ([("a", torch.ones(3))], [("b", torch.ones(1))], [("a", torch.ones(2))], [("a", torch.ones(2).double())]):
        with pytest.raises(ValueError, match="announced"):
            write_safetensors(tmp_path / "x", specs, tensors)


def test_a_fault_that_is_not_the_systems_is_told_as_it_is(tmp_path: Path) -> None:
    def tensors() -> Iterator[tuple[str, torch.Tensor]]:
        raise OSError("odd")
        yield

    with pytest.raises(OSError, match=r"^odd$"):
        write_safetensors(tmp_path / "x", {"a": TensorSpec((2,), torch.float32)}, tensors())
    with pytest.raises(OSError, match=r"^odd$"), writing._told(tmp_path / "x", 8):
        raise OSError("odd")
