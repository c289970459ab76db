"""Between the program and the system: every call that changes a disk, seen before and after, and made to fail or to be the last one."""

import builtins
import io
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from suture.checkpoints import staging

NAMED = ("open", "mkdir", "rename", "replace", "link", "symlink", "unlink", "rmdir", "chmod", "truncate")
"""Functions of :mod:`os` whose errors name a file."""
UNNAMED = ("write", "pwrite", "fsync", "fchmod", "ftruncate", "sendfile", "copy_file_range")
"""Those whose errors do not."""


@dataclass(frozen=True)
class Call:
    """One call: how many came before it, what it is, and of which file, if that is known."""

    place: int
    name: str
    file: str = ""

    @property
    def writes(self) -> bool:
        """Whether it changes the disk."""
        return self.name != "read"

    @property
    def clears(self) -> bool:
        """Whether it clears something away; to look into a folder for that is to open it."""
        looks = self.name == "read" and (".staging-" in self.file or not Path(self.file).is_absolute())
        return looks or self.name in {"unlink", "rmdir"}


Hook = Callable[[Call, bool], None]
"""Is told of a call, before (False) and after it (True); what it raises before is what the call raises."""


@contextmanager
def interposed(hook: Hook) -> Iterator[None]:
    """Tell a hook of every call while the block runs: of those of :mod:`os`, of opening files, and of writing to those opened."""
    count = 0

    def told(name: str, file: Any, call: Callable[[], Any]) -> Any:
        nonlocal count
        one = Call(count, name, os.fsdecode(file) if isinstance(file, str | bytes | os.PathLike) else "")
        count += 1
        hook(one, False)
        result = call()
        hook(one, True)
        return result

    with pytest.MonkeyPatch.context() as patch:
        for name in NAMED + UNNAMED:
            patch.setattr(os, name, _of_os(name, getattr(os, name), told))
        opening = _opening(io.open, told)
        patch.setattr(io, "open", opening)
        patch.setattr(builtins, "open", opening)
        if hasattr(staging, "_exchanged"):
            exchanged = staging._exchanged
            patch.setattr(staging, "_exchanged", lambda stage, out: told("exchange", out, lambda: exchanged(stage, out)))
        yield


Teller = Callable[[str, Any, Callable[[], Any]], Any]


def _of_os(name: str, function: Callable[..., Any], told: Teller) -> Callable[..., Any]:
    def call(*args: Any, **kwargs: Any) -> Any:
        file = args[-1 if name in {"rename", "replace", "link", "symlink"} else 0] if name in NAMED and args else ""
        reads = name == "open" and not (args[1] & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
        return told("read" if reads else name, file, lambda: function(*args, **kwargs))

    return call


def _opening(function: Callable[..., Any], told: Teller) -> Callable[..., Any]:
    def call(file: Any, mode: str = "r", *args: Any, **kwargs: Any) -> Any:
        writes = bool(set(mode) & set("wax+"))
        opened = told("open" if writes else "read", file, lambda: function(file, mode, *args, **kwargs))
        return _Stream(opened, told) if writes else opened

    return call


class _Stream:
    """An open file whose writes are told of."""

    def __init__(self, stream: Any, told: Teller) -> None:
        self._stream, self._told = stream, told

    def __getattr__(self, name: str) -> Any:
        return getattr(self._stream, name)

    def __enter__(self) -> "_Stream":
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def write(self, content: Any) -> Any:
        return self._told("write", "", lambda: self._stream.write(content))

    def close(self) -> None:
        if not self._stream.closed:
            try:
                self._told("close", "", self._stream.flush)
            finally:
                self._stream.close()


def calls_of(work: Callable[[], object]) -> list[Call]:
    """Do some work, and return its calls."""
    calls: list[Call] = []
    with interposed(lambda call, after: None if after else calls.append(call)):
        work()
    return calls


def failing(place: int, code: int) -> Hook:
    """Return what lets one call fail, as the system would."""

    def hook(call: Call, after: bool) -> None:
        if call.place == place and not after:
            raise OSError(code, os.strerror(code), *([call.file] if call.file else []))

    return hook


def look(folder: Path) -> dict[str, bytes | None]:
    """Return what lies in a folder, or what a file holds: contents by name, None for a folder; nothing where nothing is."""
    if folder.is_file():
        return {"": folder.read_bytes()}
    found = sorted(folder.rglob("*")) if folder.is_dir() else []
    return {entry.relative_to(folder).as_posix(): None if entry.is_dir() else entry.read_bytes() for entry in found}
