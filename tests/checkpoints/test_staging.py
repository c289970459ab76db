"""Output: whole or not at all."""

import errno
import shutil
from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import (
    Manifest,
    check_output,
    clear_away,
    read_manifest,
    sha256_of,
    staged_file,
    staged_folder,
    staging,
)
from suture.errors import OutputError, OutputExists


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


@pytest.mark.fault(25)
def test_an_exchange_leaves_no_moment_without_output(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    out, seen = tmp_path / "out", list[list[str]]()
    write_folder(out, "old")
    exchanged = staging._exchanged

    def watched(stage: Path, target: Path) -> bool:
        seen.append(listing(out))
        done = exchanged(stage, target)
        seen.append(listing(out))
        return done

    if not exchanged(*_two(tmp_path)):
        pytest.skip("the system cannot exchange two names")
    monkeypatch.setattr(staging, "_exchanged", watched)
    monkeypatch.setattr(staging, "_swap", lambda *_: pytest.fail("there is a better way"))
    write_folder(out, "new", replace=True)
    assert seen == [["manifest.json", "old"], ["manifest.json", "new"]]


def _two(folder: Path) -> tuple[Path, Path]:
    for name in ("one", "two"):
        (folder / name).mkdir()
    return folder / "one", folder / "two"
