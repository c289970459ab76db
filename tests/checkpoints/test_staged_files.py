"""Single files: whole or not at all."""

import errno
import os
from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import (
    staged_file,
)
from suture.errors import OutputError, OutputExists


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
        (tmp_path / ("x" * 245), OutputError, "File name too long"),  # that of the lock is not
        (Path("a\0b"), OutputError, "cannot be the name"),
        (tmp_path / "folder", OutputExists, "is a folder, which a file does not replace"),
    ):
        with pytest.raises(kind, match=message), staged_file(place, replace=True):
            pytest.fail("the block must not run")
    assert listing(tmp_path) == ["file", "folder"]
