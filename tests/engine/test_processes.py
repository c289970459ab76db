"""Worker processes, one at a time: how they end, and what is said of it."""

import multiprocessing
import os
import pickle
import signal
from pathlib import Path

import pytest

from engine.steps import Noted
from suture.engine import processes
from suture.engine.processes import Worker
from suture.errors import SutureError

SPAWN = multiprocessing.get_context("spawn")
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); line.send_bytes(b'ready'); time.sleep(60)"


def started(program: str) -> Worker:
    """Start a process that runs a program, which has its end of the line."""
    ours, theirs = SPAWN.Pipe()
    process = SPAWN.Process(target=exec, args=(program, {"line": theirs}))
    process.start()
    theirs.close()
    return Worker(process, ours)


def test_a_process_that_does_not_listen_is_killed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(processes, "PATIENCE", 0.1)
    worker = started(DEAF)
    assert worker.line.recv_bytes() == b"ready"
    worker.stop()
    worker.bury()
    assert worker.process.exitcode == -signal.SIGKILL


def test_a_process_that_has_ended_is_told_of_and_buried() -> None:
    worker = started("import os; os._exit(3)")
    worker.process.join()
    step = Noted("a")
    worker.give(step)  # nobody is there to take it, which shows in the outcome
    outcome = worker.outcome(step)
    assert isinstance(outcome, SutureError)
    assert str(outcome) == "the process that ran the step 'Writing a' ended with exit code 3, without a result"
    worker.stop()
    worker.bury()


@pytest.mark.parametrize(
    ("code", "told"),
    [
        (None, "ended with exit code None, without a result"),
        (-signal.SIGSEGV, "was ended by SIGSEGV"),
        (-signal.SIGKILL, "was ended by SIGKILL: the machine may be out of memory; fewer jobs take less"),
        (-250, "was ended by signal 250"),
    ],
)
def test_an_end_is_told_in_words(code: int | None, told: str) -> None:
    assert processes._end(code) == told


def test_a_step_that_cannot_be_unpickled_is_an_outcome(tmp_path: Path) -> None:
    error = processes._received(b"nothing that was pickled", tmp_path).error()
    assert isinstance(error, pickle.UnpicklingError)
    outcome = processes._received(pickle.dumps(Noted("a")), tmp_path)
    assert outcome.error() is None
    assert (tmp_path / Noted("a").key).read_text() == "a()"


def test_a_worker_ends_with_its_parent(monkeypatch: pytest.MonkeyPatch) -> None:
    ended, joined = [], []

    class Parent:
        def join(self) -> None:
            joined.append(True)

    monkeypatch.setattr(os, "kill", lambda *told: ended.append(told))
    processes._end_with_parent()  # this process was not started by multiprocessing: nothing to wait for
    assert ended == []
    monkeypatch.setattr(multiprocessing, "parent_process", Parent)
    processes._end_with_parent()
    assert (joined, ended) == ([True], [(os.getpid(), signal.SIGTERM)])


def test_a_worker_leaves_in_good_order_and_is_told_so_once() -> None:
    before = signal.getsignal(signal.SIGTERM)
    try:
        with pytest.raises(SystemExit) as caught:
            processes._leave(signal.SIGTERM, None)
        assert caught.value.code == 128 + signal.SIGTERM
        assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGTERM, before)


def test_a_line_that_is_closed_ends_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ours, theirs = multiprocessing.Pipe()
    ours.send_bytes(pickle.dumps(Noted("a")))
    ours.close()  # it cannot even be told of the outcome
    before = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        processes._work(theirs, tmp_path)
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
    assert (tmp_path / Noted("a").key).exists()
