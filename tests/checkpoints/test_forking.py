"""A process that is forked in the middle of a write has no part in it."""

import os
import re
import subprocess
import sys
from collections.abc import Callable
from contextlib import AbstractContextManager
from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import Manifest, scratch, scratch_folder, staged_file, staged_folder, writing_to

pytestmark = pytest.mark.skipif(not hasattr(os, "fork"), reason="the system has no fork")


@pytest.mark.fault(27)
def test_a_forked_child_has_nothing_of_its_parents(tmp_path: Path) -> None:
    program = """
import os, sys
from pathlib import Path
from suture.checkpoints import Manifest, scratch_folder, staged_folder, writing_to
from suture.errors import OutputBusy
out, scratch = Path(sys.argv[1]), Path(sys.argv[2])
with scratch_folder(scratch) as mine, staged_folder(out, Manifest()) as stage:
    (stage / "name").write_text("name")
    if not (child := os.fork()):
        try:
            with writing_to(out):
                os._exit(1)
        except OutputBusy:
            with scratch_folder(scratch):
                os._exit(0 if stage.exists() and mine.exists() else 2)
    print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), flush=True)
    if not os.fork():
        os.read(0, 1)  # it lives on until the test closes this
    os._exit(0)
"""
    with subprocess.Popen(
        [sys.executable, "-c", program, str(tmp_path / "out"), str(tmp_path / "scratch")],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
    ) as process:
        assert process.stdout is not None
        assert process.stdin is not None
        assert process.stdout.readline() == b"0\n"
        process.wait()
        with staged_folder(tmp_path / "out", Manifest()) as stage:
            (stage / "name").write_text("name")
        with scratch_folder(tmp_path / "scratch") as ours:
            assert listing(tmp_path / "scratch") == [ours.name]
        process.stdin.close()
    assert listing(tmp_path / "out") == ["manifest.json", "name"]


Writer = Callable[[Path], AbstractContextManager[object]]


def leave(writer: Writer, out: Path, error: type[BaseException] | None) -> tuple[list[str], str]:
    """Fork in the middle of a write, and let the child leave by itself; return what the parent then finds there, and what became of it."""
    ours, theirs = os.pipe()
    parent = os.getpid()

    def block(stage: object) -> None:
        if isinstance(stage, Path):
            (stage / "name" if stage.is_dir() else stage).write_text("name")
        if child := os.fork():
            os.waitpid(child, 0)
            found.extend(listing(out.parent))
        elif error is not None:
            raise error

    found: list[str] = []
    told = "left"
    try:
        with writer(out) as stage:
            block(stage)
    except BaseException as raised:
        told = f"{type(raised).__name__}: {raised}"
    if os.getpid() != parent:
        os.write(theirs, told.encode())
        os._exit(0)
    os.close(theirs)
    with os.fdopen(ours) as stream:
        return found, stream.read()


@pytest.mark.fault(27)
@pytest.mark.parametrize("writer", [lambda out: staged_folder(out, Manifest(), replace=True), lambda out: staged_file(out, replace=True)])
@pytest.mark.parametrize("there", [False, True])
def test_only_who_has_begun_a_write_ends_it(tmp_path: Path, writer: Writer, there: bool) -> None:
    out = tmp_path / "new" / "out"
    if there:
        with writer(out):
            pass
    message = f"OutputError: {out} is written by process {os.getpid()}, and not by process [0-9]+, which that one has forked"
    for error, expected in ((None, message), (SystemExit, "SystemExit: "), (KeyboardInterrupt, "KeyboardInterrupt: ")):
        before = listing(out.parent) if out.parent.exists() else []
        beside, told = leave(writer, out, error)
        assert re.fullmatch(expected, told)
        stages = [name for name in beside if name.startswith(".out.staging-")]
        assert beside == sorted([*before, ".out.lock", *stages])
        assert len(stages) == 1, "the child leaves the stage alone"
        assert listing(out.parent) == ["out"], "and the parent puts it in its place"
    assert (out / "name" if out.is_dir() else out).read_text() == "name"


@pytest.mark.fault(27)
def test_a_child_gives_no_lock_back_and_removes_no_folder_above(tmp_path: Path) -> None:
    for error, told in ((None, "left"), (SystemExit, "SystemExit: ")):
        assert leave(lambda out: writing_to(out), tmp_path / "new" / "out", error) == ([".out.lock"], told)
    with staged_folder(tmp_path / "new" / "out", Manifest()):
        pass
    assert listing(tmp_path / "new") == ["out"]


def test_a_child_removes_no_scratch(tmp_path: Path) -> None:
    for error, told in ((None, "left"), (SystemExit, "SystemExit: ")):
        (ours,), child = leave(lambda out: scratch_folder(out.parent), tmp_path / "out", error)
        assert ours.startswith(scratch.PREFIX), "the parent still has it"
        assert child == told
        assert listing(tmp_path) == []
