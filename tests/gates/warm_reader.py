"""The confined process of ``suture convert`` with its imports behind it: for every pickle a fork, which is confined as ever.

A line of JSON ``[source, target, key]`` comes in, one ``[code, stdout, stderr, peak]`` goes out: how the fork ended, what it wrote, and the
most memory that it has held, in KiB. Whatever the confinement lets through is told on stderr.
"""

import json
import os
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from suture.checkpoints import unpickling

PASSED = "let through:"


def watched(confine: Callable[[Path, Path], None]) -> Callable[[Path, Path], None]:
    """Return a confinement that tells what it lets through."""

    def tell(event: str, args: tuple[Any, ...]) -> None:
        about = repr(os.fsdecode(args[0])) if event == "open" and not isinstance(args[0], int) else ""
        os.write(2, f"{PASSED} {event} {about}\n".encode(errors="replace"))

    def confined(source: Path, target: Path) -> None:
        confine(source, target)
        sys.addaudithook(tell)  # asked after the confinement's own, and only about what that does not refuse

    return confined


def read(request: str, out: int, err: int) -> None:
    """Do what the process does that ``suture convert`` starts."""
    os.dup2(out, 1)
    os.dup2(err, 2)
    sys.argv = ["unpickling", *json.loads(request)]
    unpickling.main()
    sys.stdout.flush()


def answer(request: str) -> list[Any]:
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        child = os.fork()
        if child == 0:
            code = 1
            try:
                read(request, out.fileno(), err.fileno())
                code = 0
            finally:
                os._exit(code)
        _, status, usage = os.wait4(child, 0)
        told = []
        for stream in (out, err):
            stream.seek(0)
            told.append(stream.read().decode(errors="replace"))
    return [os.waitstatus_to_exitcode(status), *told, usage.ru_maxrss]


if __name__ == "__main__":
    unpickling._confine = watched(unpickling._confine)
    for request in sys.stdin:
        sys.stdout.write(json.dumps(answer(request)) + "\n")
        sys.stdout.flush()
