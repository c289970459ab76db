"""What ``--replace`` takes away, and what it does not."""

import os
import re
from collections.abc import Callable
from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import Manifest, check_output, replacing, staged_file, staged_folder
from suture.checkpoints.leftovers import hidden
from suture.errors import OutputError, OutputExists


@pytest.fixture
def out(tmp_path: Path) -> Path:
    """Return an output of two files, one of them in a folder in it."""
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "README.md").write_text("ours")
        (stage / "sub").mkdir()
        (stage / "sub" / "table.csv").write_text("ours")
    return tmp_path / "out"


def later(file: Path, text: str) -> None:
    """Write a file some time after the manifest, however coarse the clock of the file system."""
    file.write_text(text)
    now = (file.parent / "manifest.json" if file.parent.name == "out" else file.parents[1] / "manifest.json").stat().st_mtime
    os.utime(file, (now + 1, now + 1))


def older(file: Path, text: str) -> None:
    """Put a file in the place of another that says to be older than the manifest, as a copy or a move may."""
    manifest = file.with_name("manifest.json")
    now = manifest.stat().st_mtime
    os.utime(manifest, (now - 1, now - 1))  # the clock of the file system may be coarse
    copy = file.with_name("copy")
    copy.write_text(text)
    os.utime(copy, (now - 3, now - 3))
    copy.replace(file)


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


@pytest.mark.parametrize(
    ("put", "told"),
    [
        (lambda out: (out / "notes.txt").write_text("theirs"), "notes.txt"),
        (lambda out: (out / "sub" / "notes.txt").write_text("theirs"), "sub/notes.txt"),
        (lambda out: [(out / name).write_text("theirs") for name in "gfedcba"], "a, b, c, d, e and 2 more"),
        (lambda out: (out / "expert").symlink_to(out.parent), "expert"),
        (lambda out: (out / "gone").symlink_to("nowhere"), "gone"),
        (lambda out: later(out / "README.md", "ours, and theirs"), "README.md (changed since)"),
        (lambda out: later(out / "sub" / "table.csv", "0urs"), "sub/table.csv (changed since)"),
        (lambda out: [(out / "README.md").unlink(), os.mkfifo(out / "README.md")], "README.md (changed since)"),
        (lambda out: [(out / "README.md").unlink(), (out / "README.md").mkdir(), (out / "README.md" / "x").touch()], "README.md/x"),
        (lambda out: older(out / "README.md", "theirs"), "README.md (changed since)"),
        (lambda out: (out / "a\nb").touch(), r"'a\nb'"),
        (lambda out: (out / ".mine.lock").write_text("theirs"), ".mine.lock"),
        (lambda out: (out / "x.lock").touch(), "x.lock"),
        (lambda out: (out / ".staging-0").touch(), ".staging-0"),
        (lambda out: (out / ".large.lock").write_text("x" * 2000), ".large.lock"),
        (lambda out: (out / ".linked.lock").symlink_to(out / "README.md"), ".linked.lock"),
    ],
)
def test_what_others_have_put_into_it_is_not_taken_away(out: Path, put: Callable[[Path], object], told: str) -> None:
    put(out)
    before = sorted(out.rglob("*"))
    message = rf"out is not replaced, as it holds what Suture did not write: {re.escape(told)}; move that away, or choose another output$"
    with pytest.raises(OutputExists, match=message), staged_folder(out, Manifest(), replace=True):
        pytest.fail("the block must not run")
    assert (listing(out.parent), sorted(out.rglob("*"))) == (["out"], before)


def test_what_comes_into_it_meanwhile_is_not_taken_away(out: Path) -> None:
    with pytest.raises(OutputExists, match=r"did not write: notes\.txt; move"), staged_folder(out, Manifest(), replace=True):
        (out / "notes.txt").write_text("theirs")
    assert (listing(out.parent), listing(out)) == (["out"], ["README.md", "manifest.json", "notes.txt", "sub"])


def test_what_is_ours_goes(out: Path, tmp_path: Path) -> None:
    later(out / "README.md", "ours")  # a copy is younger than what it is of
    (out / "sub" / "table.csv").unlink()
    (out / "empty").mkdir()
    for file in (".README.md.lock", ".DS_Store", hidden(out / "README.md", ".md").name):
        (out / file).touch()
    half = hidden(out / "sub") / "new" / "half"
    half.parent.mkdir(parents=True)
    half.touch()
    with staged_folder(out, Manifest(), replace=True) as stage:
        (stage / "new").touch()
    assert (listing(tmp_path), listing(out)) == (["out"], ["manifest.json", "new"])


def test_what_others_write_in_it_is_waited_for(out: Path) -> None:
    with staged_file(out / "surgery.safetensors") as stage:
        stage.touch()
        with pytest.raises(OutputExists, match=r"did not write: \.surgery\.safetensors\.lock; "):
            check_output(out, replace=True)
    with pytest.raises(OutputExists, match=r"did not write: surgery\.safetensors; "):
        check_output(out, replace=True)


def test_what_a_killed_writer_in_it_had_moved_aside_is_kept(out: Path) -> None:
    place = hidden(out / "deep")
    for name in ("old", "new"):
        (out / place.name / name).mkdir(parents=True)
        (out / place.name / name / "file").touch()
    with pytest.raises(OutputExists, match=rf"did not write: {place.name}/new/file, {place.name}/old/file; "):
        check_output(out, replace=True)


def test_only_what_is_younger_than_the_manifest_is_read_and_once(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest, read = replacing.sha256_of, list[str]()

    def noted(file: Path) -> str:
        read.append(file.name)
        return digest(file)

    monkeypatch.setattr(replacing, "sha256_of", noted)
    check_output(out, replace=True)
    assert read == []
    later(out / "README.md", "ours")
    for _ in range(3):
        check_output(out, replace=True)
    assert read == ["README.md"]
    later(out / "README.md", "0urs")
    with pytest.raises(OutputExists, match=r"README\.md \(changed since\)"):
        check_output(out, replace=True)


def test_a_folder_that_cannot_be_looked_through_is_kept(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def closed(folder: Path) -> None:
        raise PermissionError(13, "Permission denied", str(folder))

    monkeypatch.setattr(os, "scandir", closed)
    with pytest.raises(OutputError, match=r"out is not replaced, as it cannot be looked through: Permission denied; choose another output"):
        check_output(out, replace=True)


def test_without_locks_a_lock_file_is_theirs(out: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (out / ".README.md.lock").touch()
    check_output(out, replace=True)
    monkeypatch.setattr("suture.checkpoints.locking.fcntl", None)
    with pytest.raises(OutputExists, match=r"\.README\.md\.lock"):
        check_output(out, replace=True)
