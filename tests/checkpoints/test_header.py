"""Headers: what is refused before the library reads them."""

import json
from collections.abc import Callable
from pathlib import Path

import pytest

from suture.checkpoints import header, open_checkpoint
from suture.checkpoints.adapter import read_config
from suture.checkpoints.manifest import open_manifest
from suture.checkpoints.twins import ties_embeddings
from suture.errors import CheckpointError, CorruptCheckpoint
from suture.multitask import read_description


def write(folder: Path, text: str, data: bytes = b"") -> Path:
    file = folder / "model.safetensors"
    file.write_bytes(len(text).to_bytes(8, "little") + text.encode() + data)
    return file


def entry(*shape: int, end: int = 0) -> str:
    return json.dumps({"dtype": "U8", "shape": shape, "data_offsets": [0, end]})


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (f'{{"a": {entry(1, end=1)}, "a": {entry(1, end=1)}}}', "the name 'a' stands twice"),
        (f'{{"a": {entry(0, 2**63)}}}', r"no tensor has the shape \[0, 9223372036854775808\]"),
        (f'{{"a": {entry(0, 2**62, 3)}}}', r"no tensor has the shape \[0, 4611686018427387904, 3\]"),
    ],
)
def test_what_no_reader_should_take(tmp_path: Path, text: str, message: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=rf"model.safetensors is not a whole safetensors file: ValueError: {message}"):
        open_checkpoint(write(tmp_path, text, b"\0"))


def test_shapes_of_nothing_that_can_be(tmp_path: Path) -> None:
    assert open_checkpoint(write(tmp_path, f'{{"a": {entry(0, 2**62, 1)}}}'))["a"].shape == (0, 2**62, 1)


def test_headers_and_indices_have_a_largest_size(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = write(tmp_path, f'{{"a": {entry(0)}}}' + " " * 500)
    monkeypatch.setattr(header, "LARGEST", 100)
    with pytest.raises(CorruptCheckpoint, match=r"5\d\d bytes of JSON, where at most 100 are read"):
        open_checkpoint(file)
    (tmp_path / "model.safetensors.index.json").write_text(" " * 101)
    with pytest.raises(CorruptCheckpoint, match=r"index.json is not an index with a weight_map: .*101 bytes of JSON"):
        open_checkpoint(tmp_path)


def test_headers_and_indices_have_a_largest_number_of_parts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(header, "MOST", 20)
    assert len(open_checkpoint(write(tmp_path, f'{{"a": {entry(0)}}}'))) == 1
    with pytest.raises(CorruptCheckpoint, match="JSON of 24 parts, where at most 20 are read"):
        open_checkpoint(write(tmp_path, '{"a": [[], [], [], [], [], [], [], [], [], [], []]}'))
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": [0' + ",0" * 20 + "]}")
    with pytest.raises(CorruptCheckpoint, match="JSON of 23 parts, where at most 20 are read"):
        open_checkpoint(tmp_path)


def test_an_index_of_nothing_is_none(tmp_path: Path) -> None:
    (tmp_path / "model.safetensors.index.json").write_text('{"weight_map": {}}')
    with pytest.raises(CorruptCheckpoint, match="it names no tensors"):
        open_checkpoint(tmp_path)


READERS: dict[str, Callable[[Path], object]] = {
    "manifest.json": open_manifest,
    "adapter_config.json": read_config,
    "suture.json": read_description,
    "model.safetensors.index.json": open_checkpoint,
}


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    ("bound", "message"), [("LARGEST", "bytes of JSON, where at most 50 are read"), ("MOST", "JSON of 6. parts, where")]
)
@pytest.mark.parametrize("name", READERS)
def test_too_much_is_refused_before_it_is_parsed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str, bound: str, message: str
) -> None:
    (tmp_path / name).write_text('{"a": [' + "1," * 60 + "1]}")
    monkeypatch.setattr(f"suture.checkpoints.header.{bound}", 50)
    with pytest.raises(CheckpointError, match=message):
        READERS[name](tmp_path)


def test_a_configuration_that_is_too_large_ties_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "config.json").write_text('{"tie_word_embeddings": true}')
    assert ties_embeddings(tmp_path, ["lm_head.weight"])
    monkeypatch.setattr("suture.checkpoints.header.LARGEST", 10)
    assert not ties_embeddings(tmp_path, ["lm_head.weight"])
