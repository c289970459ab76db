"""Disks that are full, or fail: the old stands, or the new."""

import errno
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from checkpoints.listing import listing
from suture.checkpoints import (
    Manifest,
    TensorSpec,
    open_checkpoint,
    staged_file,
    staged_folder,
    staging,
    verify,
    write_like,
    write_safetensors,
    write_sealed,
)
from suture.checkpoints.writing import write_text
from suture.errors import OutputError


def write_folder(out: Path, name: str = "old", **options: bool) -> None:
    with staged_folder(out, Manifest(), **options) as stage:
        (stage / name).write_text(name)


@pytest.mark.fault(26)
@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EDQUOT, errno.EROFS, errno.EACCES])
def test_no_room_and_no_leave_to_write_in_the_stage_are_the_outputs(tmp_path: Path, code: int) -> None:
    out = tmp_path / "out"
    with pytest.raises(OutputError, match=rf"cannot write .*out: {os.strerror(code)}"), staged_folder(out, Manifest()) as stage:
        raise OSError(code, os.strerror(code), str(stage / "model.safetensors"))
    with pytest.raises(OutputError, match=rf"cannot write .*out: {os.strerror(code)}"), staged_folder(out, Manifest()) as stage:
        raise OSError(code, os.strerror(code), "/source", None, os.fsencode(stage / "copy"))
    with pytest.raises(OutputError, match=rf"cannot write .*out: {os.strerror(code)}"), staged_file(out) as stage:
        raise OSError(code, os.strerror(code), str(stage))
    assert listing(tmp_path) == []


@pytest.mark.fault(26)
def test_a_full_disk_names_the_output(tmp_path: Path) -> None:
    with pytest.raises(OutputError, match=r"cannot write .*out: No space left"), staged_folder(tmp_path / "out", Manifest()):
        os.write(os.open("/dev/full", os.O_WRONLY), b"x")
    assert listing(tmp_path) == []


@contextmanager
def limited(size: int) -> Iterator[None]:
    """Let no file grow beyond a size: writes fail as they do where a disk is full."""
    resource = pytest.importorskip("resource")
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.fault(26)
def test_a_write_that_finds_no_room_tells_what_is_needed(tmp_path: Path) -> None:
    out = tmp_path / "out"
    write_folder(out)
    specs = {"w": TensorSpec((100, 1000), torch.float32)}
    message = r"cannot write .*out: File too large: 400,[0-9]{3} bytes are needed for model\.safetensors, and [0-9,]+ are free"
    with pytest.raises(OutputError, match=message), limited(100_000), staged_folder(out, Manifest(), replace=True) as stage:
        write_safetensors(stage / "model.safetensors", specs, [("w", torch.ones(100, 1000))])
    message = r"cannot write .*out: File too large: 200,000 bytes are needed for table\.csv, and [0-9,]+ are free"
    with pytest.raises(OutputError, match=message), limited(100_000), staged_folder(out, Manifest(), replace=True) as stage:
        write_text(stage / "table.csv", "x" * 200_000)
    assert (listing(tmp_path), listing(out)) == (["out"], ["manifest.json", "old"])


@pytest.mark.fault(26)
def test_a_disk_that_is_too_small_is_found_before_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def asked() -> Iterator[tuple[str, torch.Tensor]]:
        pytest.fail("no tensor is asked for")
        yield

    save_file({"w": torch.ones(100, 1000), "b": torch.ones(5, dtype=torch.int64)}, tmp_path / "base.safetensors")
    base = open_checkpoint(tmp_path / "base.safetensors")
    monkeypatch.setattr("shutil.disk_usage", lambda _: SimpleNamespace(free=1000))
    message = r"cannot write .*out: No space left on device: 200,040 bytes are needed for the weights, and 1,000 are free"
    with pytest.raises(OutputError, match=message), staged_folder(tmp_path / "out", Manifest()) as stage:
        write_like(base, stage, asked(), torch.bfloat16)
    message = r"No space left on device: 400,[0-9]{3} bytes are needed for \.one\.safetensors\.staging-.*, and 1,000 are free"
    with pytest.raises(OutputError, match=message):
        write_sealed(tmp_path / "one.safetensors", {"w": torch.ones(100, 1000)}, {})
    assert listing(tmp_path) == ["base.safetensors"]


@pytest.mark.fault(26)
@pytest.mark.parametrize("exchange", [True, False])
def test_whichever_call_fails_the_old_or_the_new_stands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, exchange: bool) -> None:
    """The first, second, … call that changes something fails, until a run comes through."""
    calls, failing = -(10**6), 0
    if not exchange:
        monkeypatch.setattr(staging, "_exchanged", lambda *_: False)

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **named: object) -> object:
            nonlocal calls
            calls += 1
            if calls == failing:
                raise OSError(errno.EIO, "Input/output error")
            return original(*arguments, **named)

        return call

    out = tmp_path / "out"
    write_folder(out, "0")
    for name in ("mkdir", "rename", "replace", "touch", "open"):
        monkeypatch.setattr(Path, name, counted(getattr(Path, name)))
    for name in ("fsync", "ftruncate"):
        monkeypatch.setattr(os, name, counted(getattr(os, name)))
    through = False
    while not through:
        before, failing = (out / "manifest.json").read_bytes(), failing + 1
        calls = 0
        try:
            with staged_folder(out, Manifest(), replace=True) as stage:
                write_text(stage / str(failing), "new")
                write_sealed(stage / "ours.safetensors", {"w": torch.ones(2)}, {})
            through = calls < failing
            assert listing(out) == sorted(["manifest.json", str(failing), "ours.safetensors"])
        except OutputError as error:
            assert "Input/output error" in str(error)  # noqa: PT017
            committed = (out / "manifest.json").read_bytes() != before
            assert not committed or str(failing) in listing(out)
        calls = -(10**6)
        assert (listing(tmp_path), verify(out).faults) == (["out"], [])
    assert failing > 20


@pytest.mark.fault(26)
def test_a_rename_that_fails_for_another_reason_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rename = Path.rename

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise OSError(errno.EXDEV, "Invalid cross-device link")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    with pytest.raises(OutputError, match=r"cannot write .*out: Invalid cross-device link"):
        write_folder(tmp_path / "out")
    assert listing(tmp_path) == []


@pytest.mark.fault(26)
def test_a_link_that_fails_is_an_error_and_not_a_disk_without_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(*_: object) -> None:
        raise OSError(errno.EIO, os.strerror(errno.EIO))

    monkeypatch.setattr(os, "link", fails)
    with pytest.raises(OutputError, match=r"cannot write .*out: Input/output error"), staged_file(tmp_path / "out") as stage:
        stage.write_text("new")
    assert listing(tmp_path) == []
