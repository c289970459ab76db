"""Small steps that write files, and a log of what was run."""

import hashlib
import os
import signal
import time
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from suture.engine import Resources, Step
from suture.errors import SutureWarning, UnknownName
from suture.types import Stage

ONE = Resources()


@dataclass(frozen=True)
class Noted:
    """Writes its name and the results of what it needs; sleeps for ``seconds`` first."""

    name: str
    needs: Sequence[Step] = ()
    seconds: float = 0.0
    resources: Resources = ONE

    @property
    def title(self) -> str:
        return f"Writing {self.name}"

    @property
    def key(self) -> str:
        return hashlib.sha256(" ".join([self.name, *(need.key for need in self.needs)]).encode()).hexdigest()

    def done(self, store: Path) -> bool:
        return (store / self.key).is_file()

    def run(self, store: Path, stage: Stage) -> None:
        log(store, f"start {self.name}")
        with stage(self.title, 1) as progress:
            self.work(store)
            progress(1)
        given = "".join((store / need.key).read_text() for need in self.needs)
        hidden = store / f".{self.key}.{os.getpid()}"
        hidden.write_text(f"{self.name}({given})")
        hidden.replace(store / self.key)
        log(store, f"end {self.name}")

    def work(self, store: Path) -> None:
        time.sleep(self.seconds)


class Failing(Noted):
    def work(self, store: Path) -> None:
        super().work(store)
        raise UnknownName("colour", "gren", ["green", "red"])


class OddlyFailing(Noted):
    def work(self, store: Path) -> None:
        raise Odd(lambda: 1)


class Odd(Exception):
    """Cannot be pickled."""


class Missing(Noted):
    def work(self, store: Path) -> None:
        Path("/nonexistent/file").read_text()


class Dying(Noted):
    def work(self, store: Path) -> None:
        os.kill(os.getpid(), signal.SIGKILL)


class Warned(Noted):
    def work(self, store: Path) -> None:
        warnings.warn("the ice is thin", SutureWarning, stacklevel=2)


class Threads(Noted):
    def work(self, store: Path) -> None:
        assert os.environ["OMP_NUM_THREADS"] == self.name


class Held(Noted):
    """Goes on when there is a file ``released`` in the store."""

    def work(self, store: Path) -> None:
        log(store, f"held {os.getpid()}")
        deadline = time.monotonic() + 60
        while not (store / "released").exists() and time.monotonic() < deadline:
            time.sleep(0.02)


class Idle(Noted):
    """Never writes its result."""

    def run(self, store: Path, stage: Stage) -> None:
        pass


def log(store: Path, line: str, file: str = "log") -> None:
    """Append a line: short writes to a file opened for appending do not mix."""
    store.mkdir(parents=True, exist_ok=True)
    with (store / file).open("a") as stream:
        stream.write(f"{line}\n")


def logged(store: Path, word: str = "end") -> list[str]:
    """Return the names that were logged with a word, in order."""
    file = store / "log"
    lines = file.read_text().splitlines() if file.exists() else []
    return [line.split(" ", 1)[1] for line in lines if line.startswith(f"{word} ")]


def result(store: Path, step: Noted) -> str:
    return (store / step.key).read_text()
