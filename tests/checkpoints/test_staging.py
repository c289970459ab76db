"""Output: whole or not at all."""

import errno
import os
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import pytest
import torch
from safetensors.torch import save_file

from suture.checkpoints import (
    Manifest,
    TensorSpec,
    check_output,
    clear_away,
    open_checkpoint,
    read_manifest,
    sha256_of,
    staged_file,
    staged_folder,
    staging,
    verify,
    write_like,
    write_safetensors,
    write_sealed,
)
from suture.checkpoints.writing import write_text
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


@pytest.mark.fault(26)
def test_an_error_leaves_what_stood_there(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "old").write_text("old")
    with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "out", Manifest(), replace=True) as stage:
        (stage / "new").write_text(str(1 / 0))
    assert listing(tmp_path) == ["out"]
    assert listing(tmp_path / "out") == ["manifest.json", "old"]


def test_a_place_that_cannot_be_written_is_named(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(OutputError, match=r"file.*out"), staged_folder(tmp_path / "file" / "out", Manifest()):
        pass


def appear(folder: Path, *files: Path) -> None:
    folder.mkdir(exist_ok=True)
    for file in files:
        file.write_text("theirs")


def write_folder(out: Path, name: str = "old", **options: bool) -> None:
    with staged_folder(out, Manifest(), **options) as stage:
        (stage / name).write_text(name)


@pytest.mark.parametrize("replace", [False, True])
@pytest.mark.parametrize("full", [False, True])
def test_what_came_into_being_meanwhile_is_kept(tmp_path: Path, replace: bool, full: bool) -> None:
    out = tmp_path / "out"
    message = "not written by Suture" if replace else "exists already"
    theirs = [out / "theirs"] if full else []
    with pytest.raises(OutputExists, match=message), staged_folder(out, Manifest(), replace=replace):
        appear(out, *theirs)
    assert listing(tmp_path) == ["out"]
    assert listing(out) == (["theirs"] if full else [])


@pytest.mark.fault(27)
def test_what_came_into_being_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename

    def late(self: Path, target: Path) -> Path:
        assert self != out, "without replace nothing is moved away"
        appear(out, out / "theirs")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", late)
    with pytest.raises(OutputExists, match="came into being"):
        write_folder(out)
    assert listing(out) == ["theirs"]
    assert listing(tmp_path) == ["out"]


@pytest.mark.fault(26)
@pytest.mark.parametrize("error", [OSError(errno.EIO, "Input/output error"), KeyboardInterrupt()])
def test_a_swap_that_fails_puts_the_old_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, error: BaseException) -> None:
    out, rename = tmp_path / "out", Path.rename
    write_folder(out)

    def failing(self: Path, target: Path) -> Path:
        if self.name == "new":
            raise error
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(staging, "_exchanged", lambda *_: False)
    with pytest.raises(OutputError if isinstance(error, OSError) else KeyboardInterrupt, match="Input/output" if error.args else None):
        write_folder(out, "new", replace=True)
    assert listing(tmp_path) == ["out"]
    assert listing(out) == ["manifest.json", "old"]


@pytest.mark.fault(25)
def test_the_old_is_never_lost_even_if_it_cannot_go_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    write_folder(out)

    def failing(self: Path, target: Path) -> Path:
        if self == out:
            return rename(self, target)
        raise OSError(errno.EIO, "Input/output error")

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(staging, "_exchanged", lambda *_: False)
    with pytest.raises(OutputError, match=r"what stood there is whole, at .*old"):
        write_folder(out, "new", replace=True)
    (kept,) = tmp_path.glob(".out.staging-*/old")
    assert listing(kept) == ["manifest.json", "old"]
    monkeypatch.setattr(Path, "rename", rename)
    with pytest.raises(OutputExists):  # the next run puts it back, and then finds it there
        write_folder(out)
    assert (listing(tmp_path), listing(out)) == (["out"], ["manifest.json", "old"])


def test_folders_made_above_the_output_go_with_a_failed_run(tmp_path: Path) -> None:
    (tmp_path / "kept").mkdir()
    for writer in (staged_file, lambda out: staged_folder(out, Manifest())):
        with pytest.raises(ZeroDivisionError), writer(tmp_path / "kept" / "new" / "deep" / "out"):
            _ = 1 / 0
        assert listing(tmp_path) == ["kept"]
        assert listing(tmp_path / "kept") == []
        with pytest.raises(ZeroDivisionError), writer(tmp_path / "kept" / "new" / "deep" / "out"):
            _ = (tmp_path / "kept" / "new" / "other").write_text("theirs") / 0
        assert listing(tmp_path / "kept" / "new") == ["other"]
        shutil.rmtree(tmp_path / "kept" / "new")


def test_folders_above_the_output_stay_with_a_run_that_succeeds(tmp_path: Path) -> None:
    write_folder(tmp_path / "new" / "deep" / "out")
    assert listing(tmp_path / "new" / "deep") == ["out"]


def test_faults_of_the_block_are_its_own(tmp_path: Path) -> None:
    out = tmp_path / "out"
    for writer in (staged_file, lambda out: staged_folder(out, Manifest())):
        with pytest.raises(FileNotFoundError, match="input"), writer(out):
            (tmp_path / "input").read_bytes()
        with pytest.raises(FileNotFoundError), writer(out) as stage:
            (stage.parent / "never").read_bytes()
        with pytest.raises(PermissionError, match="elsewhere"), writer(out):
            raise PermissionError(errno.EACCES, "Permission denied", "/elsewhere")
        with pytest.raises(OSError, match="odd"), writer(out):
            raise OSError("odd")
        assert listing(tmp_path) == []


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


def test_inputs_are_never_replaced(tmp_path: Path) -> None:
    out, deep = tmp_path / "out", tmp_path / "out" / "base" / "model.safetensors"
    write_folder(out)
    deep.parent.mkdir()
    deep.write_text("weights")
    (tmp_path / "link").symlink_to(out)
    (tmp_path / "elsewhere").mkdir()
    (out / "expert").symlink_to(tmp_path / "elsewhere")
    for place in (out, tmp_path / "link", tmp_path / "x" / ".." / "out"):
        with pytest.raises(OutputError, match=r"is the input .*, which would be lost; choose another output"):
            check_output(place, replace=True, inputs=[out])
        for source in (deep, deep.parent, out / "expert", tmp_path / "link" / "base"):
            with pytest.raises(OutputError, match=r"holds the input .*, which would be lost; choose another output"):
                check_output(place, replace=True, inputs=iter([tmp_path / "free", source]))
    with pytest.raises(OutputError, match="holds the input"), staged_folder(out, Manifest(), replace=True, inputs=[deep]):
        pytest.fail("the block must not run")
    assert deep.read_text() == "weights"
    assert listing(tmp_path) == ["elsewhere", "link", "out"]


def test_outputs_beside_and_inside_inputs_are_fine(tmp_path: Path) -> None:
    (tmp_path / "base").mkdir()
    check_output(tmp_path / "base-merged", replace=False, inputs=[tmp_path / "base"])
    check_output(tmp_path / "base" / "merged", replace=False, inputs=[tmp_path / "base"])
    with staged_folder(tmp_path / "out", Manifest(), inputs=[tmp_path / "base"]):
        pass
    with pytest.raises(OutputError, match="cannot be the name"):
        check_output(Path("a\0b"), replace=False)


def test_a_link_that_leads_nowhere_is_something(tmp_path: Path) -> None:
    (tmp_path / "out").symlink_to(tmp_path / "gone")
    with pytest.raises(OutputExists, match="exists already"):
        check_output(tmp_path / "out", replace=False)


def test_a_file_appears_whole(tmp_path: Path) -> None:
    out = tmp_path / "new" / "table.csv"
    with staged_file(out) as stage:
        assert (stage.parent, stage.suffix, stage.name[0]) == (out.parent, ".csv", ".")
        stage.write_text("whole")
        assert not out.exists()
    assert listing(out.parent) == ["table.csv"]
    assert out.read_text() == "whole"
    umask = os.umask(0)
    os.umask(umask)
    assert out.stat().st_mode & 0o777 == 0o666 & ~umask


def test_a_file_is_replaced_only_when_asked(tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    out.write_text("old")
    with pytest.raises(OutputExists, match="exists already; choose another output or pass --replace"), staged_file(out):
        pytest.fail("the block must not run")
    with pytest.raises(ZeroDivisionError), staged_file(out, replace=True) as stage:
        stage.write_text(str(1 / 0))
    assert (out.read_text(), listing(tmp_path)) == ("old", ["table.csv"])
    with staged_file(out, replace=True) as stage:
        stage.write_text("new")
    assert (out.read_text(), listing(tmp_path)) == ("new", ["table.csv"])


def test_a_file_that_came_into_being_meanwhile_is_kept(tmp_path: Path) -> None:
    out = tmp_path / "table.csv"
    with pytest.raises(OutputExists, match="exists already"), staged_file(out):
        out.write_text("theirs")
    assert (out.read_text(), listing(tmp_path)) == ("theirs", ["table.csv"])


@pytest.mark.fault(27)
def test_a_file_that_came_into_being_at_the_last_moment_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, link = tmp_path / "table.csv", os.link

    def late(stage: Path, target: Path) -> None:
        out.write_text("theirs")
        link(stage, target)

    monkeypatch.setattr(os, "link", late)
    with pytest.raises(OutputExists, match=r"table\.csv came into being while it was written"), staged_file(out) as stage:
        stage.write_text("ours")
    assert (out.read_text(), listing(tmp_path)) == ("theirs", ["table.csv"])


@pytest.mark.parametrize("number", [errno.EPERM, errno.EOPNOTSUPP])
def test_a_file_appears_where_there_are_no_hard_links(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, number: int) -> None:
    def none(*_: Path) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "link", none)
    with staged_file(tmp_path / "table.csv") as stage:
        stage.write_text("whole")
    assert ((tmp_path / "table.csv").read_text(), listing(tmp_path)) == ("whole", ["table.csv"])


def test_a_place_that_cannot_take_a_file_is_named_at_entry(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    (tmp_path / "folder").mkdir()
    for place, kind, message in (
        (tmp_path / "file" / "out", OutputError, r"cannot write .*file/out: "),
        (tmp_path / "file" / "deep" / "out", OutputError, r"cannot write .*deep/out: "),
        (tmp_path / ("x" * 300), OutputError, "File name too long"),
        (Path("a\0b"), OutputError, "cannot be the name"),
        (tmp_path / "folder", OutputExists, "is a folder, which a file does not replace"),
    ):
        with pytest.raises(kind, match=message), staged_file(place, replace=True):
            pytest.fail("the block must not run")
    assert listing(tmp_path) == ["file", "folder"]


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


def test_what_is_cleared_away_is_gone_from_its_name_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    kept = tmp_path / ".out.shards"
    appear(kept, *(tmp_path / ".out.shards" / name for name in ("a", "b")))
    monkeypatch.setattr(shutil, "rmtree", lambda *_, **__: None)  # as if killed before the first file goes
    clear_away(kept, tmp_path / "out")
    assert not kept.exists()
    assert len(listing(tmp_path)) == 1
    monkeypatch.undo()
    write_folder(tmp_path / "out")
    assert listing(tmp_path) == ["out"]
    clear_away(tmp_path / "absent", tmp_path / "out")
    assert listing(tmp_path) == ["out"]


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


def test_systems_that_cannot_exchange_swap(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out = tmp_path / "out"
    write_folder(out)
    monkeypatch.setattr(staging.ctypes, "CDLL", lambda _: object())
    write_folder(out, "new", replace=True)
    assert listing(out) == ["manifest.json", "new"]
    assert listing(tmp_path) == ["out"]


def test_a_swap_whose_first_move_fails_leaves_all_as_it_was(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, rename = tmp_path / "out", Path.rename
    write_folder(out)

    def failing(self: Path, target: Path) -> Path:
        if self == out:
            raise OSError(errno.EACCES, "Permission denied")
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", failing)
    monkeypatch.setattr(staging, "_exchanged", lambda *_: False)
    with pytest.raises(OutputError, match="Permission denied"):
        write_folder(out, "new", replace=True)
    assert listing(out) == ["manifest.json", "old"]
    assert listing(tmp_path) == ["out"]
