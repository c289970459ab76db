"""The error tree: whatever a library raises where Suture reads or writes comes out as an error of Suture's."""

import csv
import json
import os
import pickle
import struct
import zipfile
import zlib
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import datasets
import huggingface_hub.errors
import pyarrow
import pyarrow.parquet
import pydantic
import pytest
import safetensors
import torch
import yaml
from PIL import Image
from safetensors.torch import save_file
from transformers import AutoConfig

from suture.backbones import Head, load_heads, save_heads
from suture.backbones.huggingface import from_folder
from suture.backbones.opening import open_backbone
from suture.checkpoints import (
    Manifest,
    convert,
    open_checkpoint,
    open_manifest,
    open_sealed,
    staged_file,
    staged_folder,
    verify,
    write_safetensors,
    write_sealed,
    writing_to,
)
from suture.checkpoints.adapter import read_config
from suture.checkpoints.converting import pickles_of
from suture.checkpoints.writing import write_text
from suture.errors import CheckpointError, CorruptCheckpoint, OutputError, SutureError, reading
from suture.experiment import read_recipe
from suture.inputs import opened_image
from suture.multitask import Facts, MultiTaskModel, push_to_hub, read_description
from suture.multitask.router_files import load_router
from suture.report.page import read_report
from suture.surgery import load_operation
from suture.surgery.features import load_features
from suture.tasks import DataSet, read_dataset, read_split
from suture.tasks.prompts import read_prompts

LIBRARIES = (
    "builtins",
    "safetensors",
    "_safetensors_rust",
    "json",
    "yaml",
    "pydantic",
    "pydantic_core",
    "huggingface_hub",
    "httpx",
    "zipfile",
    "pickle",
    "_pickle",
    "struct",
    "zlib",
    "binascii",
    "csv",
    "_csv",
    "pyarrow",
    "PIL",
    "datasets",
    "socket",
    "ssl",
    "subprocess",
)
ARGUMENTS: list[tuple[Any, ...]] = [
    ("spoilt",),
    (),
    (1, "spoilt"),
    ("utf-8", b"spoilt", 0, 1, "spoilt"),
    ("spoilt", 0, b"x", "utf-8", "spoilt"),
    ("spoilt", "text", 0),
    ([],),
    ("spoilt", [ValueError()]),
]


def errors_of_libraries() -> Iterator[type[Exception]]:
    """Yield every class of an exception that one of the libraries has, their own and Python's."""
    waiting, seen = [Exception], set[type[Exception]]()
    while waiting:
        kind = waiting.pop()
        if kind in seen or issubclass(kind, SutureError | Warning | MemoryError):
            continue
        seen.add(kind)
        waiting += kind.__subclasses__()
        if kind.__module__.partition(".")[0] in LIBRARIES:
            yield kind


def raised(kind: type[Exception]) -> Exception | None:
    """Return an exception of a class, however it wants to be made; None for one that only its library can make."""
    if kind is pydantic.ValidationError:
        return kind.from_exception_data("spoilt", [])
    for arguments in ARGUMENTS:
        try:
            error = kind(*arguments)
            str(error)
        except Exception:
            continue
        return error
    try:
        error = kind.__new__(kind)
    except TypeError:
        return None
    error.args = ("spoilt",)
    vars(error).setdefault("message", "spoilt")
    for name in ("response", "request", "context", "problem", "note", "context_mark", "problem_mark", "code"):
        vars(error).setdefault(name, None)
    return error


ERRORS = [error for kind in errors_of_libraries() if (error := raised(kind)) is not None]


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """A file of each kind that is read, all of them whole."""
    save_file({"w": torch.ones(2)}, tmp_path / "model.safetensors")
    save_heads(tmp_path / "heads.safetensors", {"a": Head(torch.eye(2), classes=("x", "y"))})
    (tmp_path / "sharded").mkdir()
    for folder, name in ((tmp_path / "sharded", "model.safetensors.index.json"), (tmp_path, "pytorch_model.bin.index.json")):
        (folder / name).write_text(json.dumps({"weight_map": {"w": "model.safetensors"}}))
    torch.save({"w": torch.ones(2)}, tmp_path / "old.pt")
    for name in ("recipe.yaml", "config.json", "adapter_config.json", "suture.json", "report.json", "prompts.json", "a.jsonl", "a.csv"):
        (tmp_path / name).write_text("{}")
    pyarrow.parquet.write_table(pyarrow.table({"text": ["x"]}), tmp_path / "a.parquet")
    Image.new("RGB", (2, 2)).save(tmp_path / "a.png")
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "file").write_text("text")
    return tmp_path


Call = Callable[[Path], object]

READING: dict[str, tuple[str, Call]] = {
    "weights": ("suture.checkpoints.reading.safe_open", lambda at: open_checkpoint(at / "model.safetensors")),
    "a header": ("suture.checkpoints.header.json.loads", lambda at: open_checkpoint(at / "model.safetensors")),
    "a fingerprint": ("suture.checkpoints.reading.parsed", lambda at: open_checkpoint(at / "model.safetensors").fingerprint),
    "an index": ("suture.checkpoints.reading.parsed", lambda at: open_checkpoint(at / "sharded")),
    "an index of pickles": ("suture.checkpoints.reading.parsed", pickles_of),
    "metadata": ("suture.checkpoints.sealed.parsed", lambda at: open_sealed(at / "heads.safetensors")),
    "a seal": ("suture.checkpoints.sealed.hashlib.sha256", lambda at: open_sealed(at / "heads.safetensors")),
    "heads": ("suture.checkpoints.sealed.header_of", lambda at: load_heads(at / "heads.safetensors")),
    "surgery": ("suture.checkpoints.sealed.header_of", lambda at: load_operation(at / "heads.safetensors")),
    "a router": ("suture.checkpoints.sealed.header_of", lambda at: load_router(at / "heads.safetensors")),
    "features": ("suture.checkpoints.sealed.header_of", lambda at: load_features(at / "heads.safetensors")),
    "a manifest": ("pathlib.Path.read_bytes", lambda at: open_manifest(at / "out")),
    "an adapter": ("suture.checkpoints.adapter.parsed", read_config),
    "a pickle": ("subprocess.run", lambda at: convert(at / "old.pt", at / "new.safetensors")),
    "the hub": ("huggingface_hub.snapshot_download", lambda _: open_checkpoint("hf://a/b")),
    "a recipe": ("yaml.load", lambda at: read_recipe(at / "recipe.yaml")),
    "a configuration": ("transformers.AutoConfig.from_pretrained", lambda at: from_folder(AutoConfig, at)),
    "a description of a network": (
        "suture.backbones.opening.parsed",
        lambda at: open_backbone(at, open_checkpoint(at / "model.safetensors")),
    ),
    "a model": ("pathlib.Path.read_bytes", read_description),
    "a report": ("pathlib.Path.read_bytes", read_report),
    "prompts": ("suture.tasks.prompts._Content.model_validate_json", lambda at: read_prompts(at / "prompts.json")),
    "jsonl": ("suture.tasks.data.json.loads", lambda at: read_split(at / "a.jsonl", None)),
    "csv": ("suture.tasks.data.csv.DictReader", lambda at: read_split(at / "a.csv", None)),
    "parquet": ("pyarrow.parquet.read_table", lambda at: read_split(at / "a.parquet", None)),
    "a data set": ("datasets.load_dataset", lambda _: read_dataset(DataSet("some/name", "test"), None)),
    "an image": ("PIL.Image.open", lambda at: opened_image(at / "a.png")),
}


def test_there_are_classes_of_every_library() -> None:
    kinds = {type(error) for error in ERRORS}
    assert len(kinds) == len(ERRORS) > 150
    expected = {OSError, PermissionError, UnicodeDecodeError, RecursionError, EOFError, json.JSONDecodeError, struct.error, zlib.error}
    expected |= {safetensors.SafetensorError, yaml.YAMLError, pydantic.ValidationError, zipfile.BadZipFile, pickle.UnpicklingError}
    expected |= {csv.Error, pyarrow.ArrowInvalid, huggingface_hub.errors.HfHubHTTPError, datasets.exceptions.DatasetsError}
    assert expected <= kinds


@pytest.mark.fault(2)
@pytest.mark.parametrize("entrance", READING)
def test_no_error_of_a_library_comes_out_of_reading(files: Path, monkeypatch: pytest.MonkeyPatch, entrance: str) -> None:
    place, call = READING[entrance]
    now: list[Exception] = []

    def fail(*_: object, **__: object) -> object:
        raise now[0]

    monkeypatch.setattr(place, fail)
    for error in ERRORS:
        now[:] = [error]
        try:
            call(files)
        except SutureError as found:
            assert str(found)  # noqa: PT017
            assert "\n" not in str(found)  # noqa: PT017
        else:
            pytest.fail(f"{error!r} was lost")


WRITING: dict[str, Call] = {
    "a folder": lambda at: _in_folder(at, lambda _: None),
    "a text": lambda at: _in_folder(at, lambda stage: write_text(stage / "a", "text")),
    "weights": lambda at: _in_folder(at, lambda stage: write_safetensors(stage / "a.safetensors", {}, {}.items())),
    "a file": lambda at: _in_file(at),
    "a file of ours": lambda at: write_sealed(at / "new.safetensors", {"w": torch.ones(2)}, {}),
    "a lock": lambda at: writing_to(at / "new").__enter__(),
}


def _in_folder(at: Path, write: Call) -> None:
    with staged_folder(at / "new", Manifest()) as stage:
        write(stage)


def _in_file(at: Path) -> None:
    with staged_file(at / "new.txt") as stage:
        stage.write_text("text")


@pytest.mark.fault(2, 26)
@pytest.mark.parametrize("place", ["os.fsync", "os.open", "pathlib.Path.mkdir"])
@pytest.mark.parametrize("entrance", WRITING)
def test_no_error_of_the_system_comes_out_of_writing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, entrance: str, place: str) -> None:
    for error in [error for error in ERRORS if isinstance(error, OSError) and type(error).__module__ == "builtins"]:
        at = tmp_path / type(error).__name__
        at.mkdir()

        def fail(*_: object, error: OSError = error, **__: object) -> object:
            raise type(error)(5, "Input/output error")

        with monkeypatch.context() as patch:
            patch.setattr(place, fail)
            if entrance == "a lock" and place == "os.fsync":
                continue
            with pytest.raises(OutputError, match=r"new.*: "):
                WRITING[entrance](at)
        assert not list(at.iterdir())


@pytest.mark.fault(2)
def test_uploading_is_mapped_too(monkeypatch: pytest.MonkeyPatch) -> None:
    model = MultiTaskModel.__new__(MultiTaskModel)
    vars(model)["facts"] = Facts()
    monkeypatch.setattr("suture.multitask.folder.replace", lambda *_, **__: model)
    monkeypatch.setattr("suture.multitask.folder.save_pretrained", lambda *_, **__: None)
    for error in ERRORS:

        def fail(*_: object, error: Exception = error, **__: object) -> object:
            raise error

        monkeypatch.setattr("huggingface_hub.HfApi.create_repo", fail)
        with pytest.raises(OutputError, match="a/b was not uploaded: "):
            push_to_hub(model, "a/b")


@pytest.mark.fault(2)
@pytest.mark.parametrize("content", [b"", b"\xff\xfe\x00", b"[" * 9999, b'{"a": ' * 9999, b"\x80\x04.", b"null", b"[]", b"0", b"\0" * 9])
def test_nonsense_is_refused_by_every_reader(files: Path, content: bytes) -> None:
    for file in [file for file in files.rglob("*") if file.is_file()]:
        file.unlink()  # what is mapped into memory must not change below
        file.write_bytes(content)
    for entrance, (_, call) in READING.items():
        if entrance not in ("the hub", "a data set", "a fingerprint", "a pickle"):
            with pytest.raises(SutureError):
                call(files)
    assert verify(files / "out").faults


def test_errors_of_ours_and_of_memory_pass() -> None:
    for error in (OutputError("full"), MemoryError(), KeyboardInterrupt()):
        with pytest.raises(type(error)), reading("place", "whole"):
            raise error
    with pytest.raises(CorruptCheckpoint, match=r"^place is not whole: KeyError: 'x'$"), reading("place", "whole"):
        raise KeyError("x")
    with pytest.raises(CheckpointError, match=rf"^place cannot be read: {os.strerror(5)}$"), reading("place", "whole"):
        raise OSError(5, os.strerror(5))
