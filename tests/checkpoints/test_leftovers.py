"""What is left of writes, and found without looking for it at every write."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from suture.checkpoints import Manifest, staged_file, staged_folder, writing_to
from suture.checkpoints.leftovers import hidden, remove
from suture.errors import SutureWarning


def listing(folder: Path) -> list[str]:
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries)


@pytest.fixture
def looks(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Return the folders that are looked through for stages, one by one."""
    seen, look = list[str](), Path.iterdir

    def noted(folder: Path) -> Iterator[Path]:
        seen.append(str(folder))
        return look(folder)

    monkeypatch.setattr(Path, "iterdir", noted)
    return seen


def write(out: Path) -> None:
    with staged_file(out, replace=True) as stage:
        stage.write_text("whole")


def write_folder(out: Path, *, replace: bool = False) -> None:
    with staged_folder(out, Manifest(), replace=replace):
        pass


@pytest.mark.fault(25)
def test_a_folder_is_looked_through_once_and_again_where_somebody_was_killed(tmp_path: Path, looks: list[str]) -> None:
    dead = [hidden(tmp_path / "a.csv", ".csv"), hidden(tmp_path / "b.csv", ".csv")]
    for place in dead:
        place.touch()
    for name in ("a.csv", "c.csv", "b.csv", *(f"{number}.csv" for number in range(20))):
        write(tmp_path / name)
        assert dead[0].exists() is False
        assert dead[1].exists() is (name in {"a.csv", "c.csv"})
    assert looks == [str(tmp_path)]
    late = hidden(tmp_path / "a.csv", ".csv")
    late.touch()
    write(tmp_path / "a.csv")
    assert late.exists(), "nothing has told of a process that was killed"
    (tmp_path / ".a.csv.lock").touch()
    write(tmp_path / "a.csv")
    assert looks == [str(tmp_path)] * 2
    assert not [name for name in listing(tmp_path) if name.startswith(".")]


def test_a_lock_that_another_has_had_is_a_reason_to_look(tmp_path: Path, looks: list[str], monkeypatch: pytest.MonkeyPatch) -> None:
    write(tmp_path / "a.csv")
    opened = os.open

    def first(path: Path, *options: int) -> int:
        """Open a file, which somebody else then takes, says who it is, and is killed."""
        descriptor = opened(path, *options)
        if Path(path).suffix == ".lock":
            Path(path).write_text('{"pid": 7, "host": "there", "since": "noon"}')
        return descriptor

    monkeypatch.setattr(os, "open", first)
    write(tmp_path / "a.csv")
    assert looks == [str(tmp_path)] * 2


def test_what_could_not_be_removed_is_removed_by_the_next(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, looks: list[str]) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(shutil, "rmtree", lambda *_, **__: None)
        with pytest.raises(ZeroDivisionError), staged_folder(tmp_path / "out", Manifest()):
            _ = 1 / 0
    assert len(listing(tmp_path)) == 1
    with writing_to(tmp_path / "other"):
        assert len(listing(tmp_path)) == 2
    with writing_to(tmp_path / "out"):
        assert listing(tmp_path) == [".out.lock"]
    assert looks == [str(tmp_path)]


@pytest.mark.parametrize("failures", [1, 2])
def test_a_removal_that_fails_is_tried_once_more(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, failures: int) -> None:
    removed, tries = shutil.rmtree, list[Path]()

    def failing(place: Path, ignore_errors: bool) -> None:
        tries.append(place)
        if len(tries) > failures:
            removed(place, ignore_errors=ignore_errors)

    monkeypatch.setattr(shutil, "rmtree", failing)
    (tmp_path / "place").mkdir()
    remove(tmp_path / "place")
    assert len(tries) == 2
    assert (tmp_path / "place").exists() is (failures == 2)


@pytest.mark.fault(25)
def test_what_stood_there_is_never_swept_while_something_else_does(tmp_path: Path) -> None:
    place = tmp_path / f".out.staging-{'0' * 16}"
    for name in ("old", "new"):
        (place / name).mkdir(parents=True)
    write_folder(tmp_path / "other")
    assert place.exists()
    write_folder(tmp_path / "unrelated")
    (tmp_path / "unrelated").rename(tmp_path / "out")
    with pytest.warns(SutureWarning, match=r"old stood at .*out before a run was killed, and something else does now"):
        write_folder(tmp_path / "out", replace=True)
    assert (place / "old").exists()


def test_only_stages_of_the_same_output_are_swept(tmp_path: Path) -> None:
    kept = [".out.staging-mine", f".out.b.staging-{'0' * 16}", f"out.staging-{'0' * 16}", f".out.staging-{'0' * 16}.csv"]
    for name in kept:
        (tmp_path / name).mkdir()
    write_folder(tmp_path / "out")
    assert listing(tmp_path) == sorted([*kept, "out"])
