"""One writer for each output, whatever becomes of the others; and what killed ones leave."""

import errno
import fcntl
import importlib.util
import json
import os
import re
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import Manifest, locking, scratch, scratch_folder, staged_file, staged_folder, writing_to
from suture.errors import OutputBusy, OutputError, OutputExists, SutureWarning

PROGRAM = """
import sys, time
from pathlib import Path
from suture.checkpoints import Manifest, scratch_folder, staged_file, staged_folder, staging
out, kind = Path(sys.argv[1]), sys.argv[2]
def stay(place):
    print(place, flush=True)
    time.sleep(60)
if kind == "folder":
    with staged_folder(out, Manifest(), replace=True) as stage:
        (stage / "half").write_text("half")
        stay(stage)
elif kind == "file":
    with staged_file(out) as stage:
        stage.write_text("half")
        stay(stage)
elif kind == "scratch":
    with scratch_folder(out) as folder:
        (folder / "large").write_text("large")
        stay(folder)
elif kind == "swap":
    staging._exchanged = lambda *_: False
    rename = Path.rename
    def stopping(self, target):
        if self.name == "new":
            stay(self)
        return rename(self, target)
    Path.rename = stopping
    with staged_folder(out, Manifest(), replace=True) as stage:
        (stage / "name").write_text("new")
"""


@pytest.fixture
def holding() -> Iterator[Callable[[Path, str], tuple["subprocess.Popen[str]", Path]]]:
    """Start processes that stay where they hold something, and say where that is."""
    started: list[subprocess.Popen[str]] = []

    def start(out: Path, kind: str) -> tuple["subprocess.Popen[str]", Path]:
        process = subprocess.Popen([sys.executable, "-c", PROGRAM, str(out), kind], stdout=subprocess.PIPE, text=True)
        started.append(process)
        assert process.stdout is not None
        return process, Path(process.stdout.readline().strip())

    yield start
    for process in started:
        process.kill()
        process.communicate()


Holding = Callable[[Path, str], tuple["subprocess.Popen[str]", Path]]


def write(out: Path, name: str = "name", *, replace: bool = False, wait: bool = False) -> None:
    with staged_folder(out, Manifest(), replace=replace, wait=wait) as stage:
        (stage / name).write_text(name)


def kill(process: "subprocess.Popen[str]") -> None:
    process.send_signal(signal.SIGKILL)
    process.wait()


@pytest.mark.fault(25, 27)
def test_the_loser_names_the_holder_and_a_killed_holder_holds_nothing(tmp_path: Path, holding: Holding) -> None:
    out = tmp_path / "out"
    write(out, "old")
    process, stage = holding(out, "folder")
    who = re.escape(f"{out} is being written by process {process.pid} on {socket.gethostname()!r}, since 20")
    for attempt in (lambda: write(out, replace=True), lambda: writing_to(out).__enter__()):
        with pytest.raises(OutputBusy, match=who + r".* UTC; wait until that has ended, or choose another output"):
            attempt()
    assert listing(out) == ["manifest.json", "old"]
    assert (stage / "half").exists(), "the loser leaves alone what the holder writes"
    kill(process)
    assert listing(tmp_path) == [".out.lock", stage.parent.name, "out"]
    write(out, "new", replace=True)
    assert (listing(tmp_path), listing(out)) == (["out"], ["manifest.json", "new"])


@pytest.mark.fault(25, 27)
def test_a_file_has_one_writer_too(tmp_path: Path, holding: Holding) -> None:
    out = tmp_path / "table.csv"
    process, _ = holding(out, "file")
    with pytest.raises(OutputBusy, match=f"process {process.pid} "), staged_file(out):
        pytest.fail("the block must not run")
    kill(process)
    assert len(listing(tmp_path)) == 2
    with staged_file(out) as stage:
        stage.write_text("whole")
    assert listing(tmp_path) == ["table.csv"]


@pytest.mark.fault(25)
def test_killed_between_two_moves_the_old_comes_back(tmp_path: Path, holding: Holding) -> None:
    out = tmp_path / "out"
    write(out, "old")
    process, stage = holding(out, "swap")
    kill(process)
    assert not out.exists()
    assert listing(stage.with_name("old")) == ["manifest.json", "old"]
    with pytest.raises(OutputExists):
        write(out)
    assert (listing(tmp_path), listing(out)) == (["out"], ["manifest.json", "old"])


@pytest.mark.fault(27)
def test_who_waits_comes_next(tmp_path: Path) -> None:
    out, order = tmp_path / "out", list[str]()
    inside, go_on = threading.Event(), threading.Event()

    def first() -> None:
        with staged_folder(out, Manifest()):
            inside.set()
            go_on.wait(10)
            order.append("first")

    def second() -> None:
        with pytest.raises(OutputExists, match="exists already"), staged_folder(out, Manifest(), wait=True):
            pytest.fail("what the first wrote stands")
        order.append("second")

    threads = [threading.Thread(target=first), threading.Thread(target=second)]
    threads[0].start()
    inside.wait(10)
    with pytest.raises(OutputBusy, match=f"process {os.getpid()} "):
        write(out)
    threads[1].start()
    go_on.set()
    for thread in threads:
        thread.join(10)
    assert order == ["first", "second"]
    assert listing(tmp_path) == ["out"]


def test_a_thread_may_ask_again_for_what_it_has(tmp_path: Path) -> None:
    with writing_to(tmp_path / "out"):
        write(tmp_path / "out")
        assert listing(tmp_path) == [".out.lock", "out"]
        (tmp_path / "link").symlink_to(tmp_path)
        with pytest.raises(OutputExists):
            write(tmp_path / "link" / "out")
    assert listing(tmp_path) == ["link", "out"]


@pytest.mark.fault(27)
def test_who_asks_again_keeps_what_it_is_writing(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as stage:
        (stage / "first").write_text("first")
        with writing_to(tmp_path / "out"):
            assert listing(stage) == ["first"]
    assert listing(tmp_path / "out") == ["first", "manifest.json"]


def test_a_lock_that_says_nothing_is_a_lock(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(locking, "PATIENCE", 0.0)
    for content in ("", "[]", json.dumps({"pid": "x"}), "[" * 100_000):
        with writing_to(tmp_path / "out"):
            (tmp_path / ".out.lock").write_text(content)
            with pytest.raises(OutputBusy, match="is being written by another process; wait"), ThreadPoolExecutor(1) as other:
                other.submit(write, tmp_path / "out").result()
        (tmp_path / ".out.lock").unlink(missing_ok=True)


def test_a_link_in_the_place_of_a_lock_is_not_followed(tmp_path: Path) -> None:
    (tmp_path / "theirs").write_text("theirs")
    (tmp_path / ".out.lock").symlink_to(tmp_path / "theirs")
    with pytest.raises(OutputError, match=r"cannot write .*out: "):
        write(tmp_path / "out")
    assert (tmp_path / "theirs").read_text() == "theirs"


@pytest.mark.parametrize("content", ["theirs", "[]", '{"pid": 1}', "x" * 3400, "[" * 100_000])
def test_a_file_of_others_in_the_place_of_a_lock_is_kept(tmp_path: Path, content: str) -> None:
    (tmp_path / ".out.lock").write_text(content)
    with pytest.raises(
        OutputError, match=r"cannot write .*out: .*\.out\.lock stands where its lock file goes, and is none of Suture's; move"
    ):
        write(tmp_path / "out")
    assert (tmp_path / ".out.lock").read_text() == content
    assert listing(tmp_path) == [".out.lock"]


def test_without_locks_it_is_said_and_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class NoLocks:
        LOCK_EX = LOCK_NB = 0

        @staticmethod
        def flock(*_: object) -> None:
            raise OSError(errno.ENOLCK, "No locks available")

    place = tmp_path / f".out.staging-{'0' * 16}"
    place.mkdir()
    monkeypatch.setattr(locking, "fcntl", NoLocks)
    with pytest.warns(SutureWarning, match=r"has no locks: see to it that one process at a time writes there"):
        write(tmp_path / "out")
    assert listing(tmp_path) == [place.name, "out"]


@pytest.mark.fault(25)
def test_scratch_of_the_dead_is_swept_and_of_the_living_kept(tmp_path: Path, holding: Holding) -> None:
    process, theirs = holding(tmp_path, "scratch")
    with scratch_folder(tmp_path) as ours:
        assert listing(tmp_path) == sorted([ours.name, theirs.name])
    assert listing(tmp_path) == [theirs.name]
    kill(process)
    with scratch_folder(tmp_path) as ours:
        assert listing(tmp_path) == [ours.name]
    assert listing(tmp_path) == []
    (tmp_path / "file").touch()
    with pytest.raises(OutputError, match=r"which cannot be written: .*; set SUTURE_CACHE"), scratch_folder(tmp_path / "file"):
        pytest.fail("the block must not run")


def test_a_fault_of_the_disk_while_locking_is_the_outputs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: object) -> None:
        raise OSError(errno.EIO, "Input/output error")

    with monkeypatch.context() as patch:
        patch.setattr(fcntl, "flock", fail)
        with pytest.raises(OutputError, match=r"cannot write .*out: Input/output error \(.*\.out\.lock\)"):
            write(tmp_path / "out")
        # A folder that cannot be locked is one that nobody sweeps, and is usable all the same.
        with scratch_folder(tmp_path / "work") as ours, scratch_folder(tmp_path / "work") as other:
            assert listing(tmp_path / "work") == sorted([ours.name, other.name])
    before = len(listing(Path("/proc/self/fd")))
    monkeypatch.setattr(locking, "_introduce", interrupted)
    with pytest.raises(KeyboardInterrupt):
        write(tmp_path / "out")
    assert len(listing(Path("/proc/self/fd"))) == before


def interrupted(*_: object) -> None:
    raise KeyboardInterrupt


def test_a_lock_whose_file_was_removed_is_taken_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    is_at, answers = locking._is_at, []

    def once_gone(lock: Path, descriptor: int) -> bool:
        if not answers:
            lock.unlink()
        answers.append(is_at(lock, descriptor))
        return answers[-1]

    monkeypatch.setattr(locking, "_is_at", once_gone)
    write(tmp_path / "out")
    assert answers == [False, True, True]
    assert listing(tmp_path) == ["out"]


def test_a_lock_file_that_is_gone_when_it_is_given_back_is_no_fault(tmp_path: Path) -> None:
    with writing_to(tmp_path / "out"):
        (tmp_path / ".out.lock").unlink()
    assert listing(tmp_path) == []


def test_a_holder_has_a_moment_to_say_who_it_is(tmp_path: Path) -> None:
    file = tmp_path / "lock"
    descriptor = os.open(file, os.O_RDWR | os.O_CREAT)
    told = json.dumps({"pid": 7, "host": "there", "since": "noon"})
    late = threading.Timer(0.03, file.write_text, [told])
    late.start()
    assert locking._holder(descriptor) == "process 7 on 'there', since noon"
    late.join()
    os.close(descriptor)


def test_on_windows_there_are_no_locks_and_nothing_is_swept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "fcntl", None)
    spec = importlib.util.spec_from_file_location("locking_without", locking.__file__)
    assert spec is not None
    assert spec.loader is not None
    without = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(without)
    assert without.fcntl is None
    with without.sole_writer(tmp_path / "out") as locked:
        assert locked is None
        assert listing(tmp_path) == []
    monkeypatch.setattr(scratch, "fcntl", without.fcntl)
    (tmp_path / "scratch-dead").mkdir()
    with scratch_folder(tmp_path) as ours:
        assert listing(tmp_path) == sorted(["scratch-dead", ours.name])
    assert listing(tmp_path) == ["scratch-dead"]
