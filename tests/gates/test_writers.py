"""Eight writers of one output at the same time: one whole output stands there, and who did not write it was told so."""

import mmap
import os
import time
from pathlib import Path

import pytest

from gates.figures import Figure, Tally, fork, show
from gates.interposing import look
from suture.checkpoints import Manifest, staged_file, staged_folder
from suture.errors import OutputError

FIGURE = Figure("8 writers on one output, rounds", suite=20, soak=500)
WRITERS = 8
OLD = WRITERS
"""The writer of what stood there before."""
ENDS = {0: "wrote", OutputError.exit_code: "refused"}


def write_folder(out: Path, writer: int, *, replace: bool) -> None:
    with staged_folder(out, Manifest(settings={"writer": writer}), replace=replace) as stage:
        for part in range(3):
            (stage / f"{part}.txt").write_text(f"{writer} " * 1000 * (part + 1))


def write_file(out: Path, writer: int, *, replace: bool) -> None:
    with staged_file(out, replace=replace) as stage:
        stage.write_text(f"{writer} " * 1000)


def writing(out: Path, writer: int, start: mmap.mmap, *, folder: bool, replace: bool) -> None:
    """Wait for the start, write, and end with the code of what was raised."""
    while not start[0]:
        time.sleep(0)
    try:
        (write_folder if folder else write_file)(out, writer, replace=replace)
    except OutputError as error:
        os._exit(error.exit_code)


@pytest.mark.fault(27)
def test_one_of_eight_writers_stands_there_whole(tmp_path: Path) -> None:
    expected = {}
    for folder in (False, True):
        for writer in range(WRITERS + 1):
            out = tmp_path / f"expected-{folder}-{writer}" / "out"
            (write_folder if folder else write_file)(out, writer, replace=False)
            expected[folder, writer] = look(out)
    with FIGURE.told() as tally:
        for number in range(FIGURE.trials):
            tally.trials = number + 1
            tally.faults += [f"round {number}: {fault}" for fault in compete(tmp_path / str(number) / "out", number, expected, tally)]
            show(FIGURE, number, FIGURE.trials)
    tally.check()
    assert tally["refused"] > FIGURE.trials, tally.counts


def compete(out: Path, number: int, expected: dict[tuple[bool, int], dict[str, bytes | None]], tally: Tally) -> list[str]:
    """Have eight processes write at once, and return what is wrong with what comes of that."""
    folder, replace = bool(number % 2), bool(number // 2 % 2)
    out.parent.mkdir()
    if replace:
        (write_folder if folder else write_file)(out, OLD, replace=False)
    start = mmap.mmap(-1, 1)
    children = [fork(lambda writer=writer: writing(out, writer, start, folder=folder, replace=replace)) for writer in range(WRITERS)]
    start[0] = 1
    ends = [os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children]
    tally.counts.update(ENDS.get(end, f"ended with {end}") for end in ends)
    wrote = [writer for writer, end in enumerate(ends) if end == 0]
    faults = [f"writer {writer} ended with {end}" for writer, end in enumerate(ends) if end not in ENDS]
    if not wrote or (len(wrote) > 1 and not replace):
        faults.append(f"{len(wrote)} have written")
    standing = [writer for writer in range(WRITERS + 1) if look(out) == expected[folder, writer]]
    if len(standing) != 1 or standing[0] not in wrote:
        faults.append(f"what stands there is of {standing}, and {wrote} have written")
    if left := [entry.name for entry in out.parent.iterdir() if entry != out]:
        faults.append(f"left {left}")
    return faults
