"""Many pickles through ``suture convert``, without starting an interpreter for each."""

import json
import subprocess
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from subprocess import CompletedProcess
from types import SimpleNamespace
from typing import Any

import pytest

from gates.warm_reader import PASSED
from suture.checkpoints import converting

COMMAND = ["-P", "-B", "-m", "suture.checkpoints.unpickling"]


class WarmReader:
    """Stands in for :func:`subprocess.run` in :mod:`suture.checkpoints.converting`: the same program, flags and environment, forked."""

    def __init__(self) -> None:
        self.process: subprocess.Popen[str] | None = None
        self.code = 0
        """How the last process ended."""
        self.passed: list[str] = []
        """What its confinement let through."""
        self.peak = 0
        """The most memory that it held, in bytes."""

    def run(self, command: Sequence[str], *, env: Mapping[str, str], **_: Any) -> CompletedProcess[str]:
        """Read one pickle."""
        assert list(command[1:5]) == COMMAND, f"the command of the confined process has changed: {command}"
        if self.process is None:
            program = [command[0], *COMMAND[:2], str(Path(__file__).with_name("warm_reader.py"))]
            self.process = subprocess.Popen(program, env=env, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(json.dumps(command[5:]) + "\n")
        self.process.stdin.flush()
        self.code, out, err, peak = json.loads(self.process.stdout.readline())
        self.passed = [line.removeprefix(PASSED).strip() for line in err.splitlines() if line.startswith(PASSED)]
        self.peak = 1024 * peak
        told = "\n".join(line for line in err.splitlines() if not line.startswith(PASSED))
        return CompletedProcess(command, self.code, out, told)


@contextmanager
def warm_reader() -> Iterator[WarmReader]:
    """Have :func:`suture.checkpoints.convert` read with one while the block runs."""
    reader = WarmReader()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(converting, "subprocess", SimpleNamespace(run=reader.run))
        try:
            yield reader
        finally:
            if reader.process is not None:
                reader.process.communicate()
