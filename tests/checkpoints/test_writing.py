"""Writing: whole or not at all."""

import json
from pathlib import Path

import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load

from suture.checkpoints import Manifest, TensorSpec, read_manifest, sha256_of, staged_folder, write_safetensors
from suture.checkpoints.reading import DTYPES
from suture.errors import OutputError, OutputExists


def listing(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def test_a_folder_appears_with_a_manifest_of_its_files(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest(settings={"a": 1})) as stage:
        (stage / "sub").mkdir()
        (stage / "sub" / "file.txt").write_text("hello")
        assert not (tmp_path / "out").exists()
    assert listing(tmp_path) == ["out"]
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.files == {"sub/file.txt": sha256_of(tmp_path / "out" / "sub" / "file.txt")}
    assert manifest.settings == {"a": 1}


def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "out", Manifest(), replace=True) as stage:
        (stage / "new").write_text(str(1 / 0))
    assert listing(tmp_path) == ["out"]
    assert listing(tmp_path / "out") == ["manifest.json", "old"]


def test_only_folders_of_ours_are_replaced(tmp_path: Path) -> None:
    out = tmp_path / "out"
    with staged_folder(out, Manifest()) as stage:
        (stage / "old").write_text("old")
    with pytest.raises(OutputExists, match="--replace"), staged_folder(out, Manifest()):
        pass
    with staged_folder(out, Manifest(), replace=True) as stage:
        (stage / "new").write_text("new")
    assert listing(out) == ["manifest.json", "new"]
    for spoil in ("{}", '{"writer": "somebody"}', "not json"):
        (out / "manifest.json").write_text(spoil if spoil != "{}" else '{"strange": 1}')
        with pytest.raises(OutputExists, match="not written by Suture"), staged_folder(out, Manifest(), replace=True):
            pass
    assert listing(tmp_path) == ["out"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*out"), staged_folder(tmp_path / "file" / "out", Manifest()):
        pass


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
