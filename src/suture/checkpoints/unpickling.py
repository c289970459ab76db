"""The confined process in which a pickle is read: it may open one file to read and one to write, and nothing else.

Started by :func:`suture.checkpoints.convert` alone, as ``python -m suture.checkpoints.unpickling SOURCE TARGET KEY``; it answers with one
line of JSON. PyTorch's own restricted reader (``weights_only=True``) runs no code of the pickle. Whole modules, as older projects
pickled them, are made of classes that this reader does not know: those of libraries of networks are stood in for by inert ones that
keep what they are given, from which the tensors are taken; any other name is refused. Beneath, an audit hook refuses to open other
files, start processes and talk to a network, and limits of the system hold memory and the size of what is written.
"""

import errno
import json
import os
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import torch
import torch.utils.serialization  # imported by reading, which may import nothing any more
from torch import Tensor

from suture.checkpoints.reading import TensorSpec
from suture.checkpoints.writing import DTYPE_NAMES, write_safetensors

LIBRARIES = ("open_clip.", "clip.", "src.", "timm.", "transformers.", "torch.nn.modules.", "torchvision.models.", "torchvision.transforms.")
"""What the names of stood-in classes begin with: libraries of networks, and ``src``, where the task-vectors authors keep their modules."""
FUNCTIONS = {"torch._C._nn.gelu", "torch.nn.functional.gelu", "torch.nn.functional.relu", "argparse.Namespace", "functools.partial"}
"""Other names that modules hold."""
NESTED = ("state_dict", "model_state_dict", "model", "module", "net", "params", "weights")
"""Where trainers keep the tensors, in the order of trying."""
ROOM = 2 << 30
"""Bytes of memory, beside four times the file, that reading may take."""
STORED_MORE = 1.1
"""How much larger than the file its parts may claim to be: PyTorch does not compress them."""
BLOCKED = (
    "subprocess.",
    "os.system",
    "os.exec",
    "os.fork",
    "os.posix_spawn",
    "os.spawn",
    "os.startfile",
    "socket.",
    "ctypes.",
    "pty.",
    "sqlite3.",
)
CHANGES = (
    "chmod",
    "chown",
    "kill",
    "killpg",
    "link",
    "mkdir",
    "putenv",
    "remove",
    "rename",
    "rmdir",
    "setxattr",
    "symlink",
    "truncate",
    "utime",
)
MANY = 1000
"""The most names that an old file may want stood in for."""


class Inert:
    """What stands in for an object of a class that is not run: it keeps its state."""

    def __new__(cls, *args: Any, **kwargs: Any) -> "Inert":  # noqa: ARG004
        """Make one of whatever arguments."""
        return object.__new__(cls)

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        """Take whatever arguments."""

    def __setstate__(self, state: Any) -> None:
        """Keep a dictionary of attributes, and nothing else."""
        if isinstance(state, dict):
            self.__dict__.update({str(key): value for key, value in state.items()})


class RefusedError(Exception):
    """What cannot be converted, and why."""


def main() -> None:
    """Convert, and answer."""
    source, target, key = Path(sys.argv[1]), Path(sys.argv[2]), sys.argv[3]
    try:
        _check_sizes(source)
        _limit(source.stat().st_size)
        _confine(source, target)
        tensors, left_out = tensors_in(_load(source), key)
        specs = {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}
        write_safetensors(target, specs, tensors.items())
        answer: dict[str, Any] = {"tensors": len(tensors), "left_out": left_out}
    except RefusedError as error:
        answer = {"refused": str(error)}
    except OSError as error:
        full = error.errno in (errno.ENOSPC, errno.EDQUOT)
        answer = {"full": [error.errno, error.strerror]} if full else {"corrupt": f"{type(error).__name__}: {error.strerror or error}"}
    except MemoryError:
        answer = {"corrupt": "it wants more memory than its size allows"}
    except Exception as error:
        answer = {"corrupt": f"{type(error).__name__}: {_told(str(error))[:300]}"}
    sys.stdout.write(json.dumps(answer) + "\n")


def tensors_in(found: Any, key: str = "") -> tuple[dict[str, Tensor], list[str]]:
    """Return the tensors of what was read, by name, and the names of what is none; ``key`` says where, if not in a usual place."""
    for part in filter(None, key.split(".")):
        inside = found if isinstance(found, Mapping) else vars(found) if isinstance(found, Inert) else {}
        if part not in inside:
            raise RefusedError(f"there is no {part!r} in it; it holds {', '.join(map(repr, list(inside)[:20])) or type(found).__name__}")
        found = inside[part]
    if isinstance(found, Inert):
        return _whole(dict(_of_module(found))), []
    if not isinstance(found, Mapping):
        raise RefusedError(f"it holds no tensors by name, but {type(found).__name__}")
    tensors = {str(name): value for name, value in found.items() if isinstance(value, Tensor)}
    if tensors and (within := [str(name) for name, value in found.items() if _holds_tensors(value)]):
        raise RefusedError(f"it holds tensors, and more of them within {', '.join(map(repr, within))}: name the place of yours with --key")
    if tensors:
        return _whole(tensors), [str(name) for name, value in found.items() if not isinstance(value, Tensor)]
    for name in NESTED:
        if isinstance(found.get(name), Mapping | Inert):
            inner, left_out = tensors_in(found[name])
            return inner, [*(str(other) for other in found if other != name), *left_out]
    raise RefusedError(f"it holds no tensors; name the place of them with --key, one of {', '.join(map(repr, list(found)[:20])) or 'none'}")


def _holds_tensors(value: Any) -> bool:
    inside = value.values() if isinstance(value, Mapping) else vars(value).values() if isinstance(value, Inert) else ()
    return any(isinstance(each, Tensor) or _holds_tensors(each) for each in inside)


def _of_module(module: Inert, prefix: str = "") -> Iterator[tuple[str, Tensor]]:
    """Yield the tensors of a module that was pickled whole, as its ``state_dict`` would."""
    own = vars(module)
    passing = own.get("_non_persistent_buffers_set") or set()
    for kind in ("_parameters", "_buffers"):
        for name, value in (own.get(kind) or {}).items():
            if isinstance(value, Tensor) and not (kind == "_buffers" and name in passing):
                yield f"{prefix}{name}", value
    for name, child in (own.get("_modules") or {}).items():
        if isinstance(child, Inert):
            yield from _of_module(child, f"{prefix}{name}.")


def _whole(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Return tensors that can be written, without the prefix of a wrapper for several devices."""
    if not tensors:
        raise RefusedError("it holds no tensors")
    for name, tensor in tensors.items():
        if tensor.dtype not in DTYPE_NAMES or tensor.layout != torch.strided:
            raise RefusedError(f"{name!r} is {tensor.dtype}, {tensor.layout}, which safetensors does not hold")
    if all(name.startswith("module.") for name in tensors):
        return {name.removeprefix("module."): tensor for name, tensor in tensors.items()}
    return tensors


def _load(source: Path) -> Any:
    """Read a pickle by PyTorch's restricted reader; classes of networks' libraries are stood in for."""
    standing: dict[str, type[Inert]] = {}
    for _ in range(MANY):
        try:
            with torch.serialization.safe_globals([(own, name) for name, own in standing.items()]):
                return torch.load(source, map_location="cpu", weights_only=True)
        except UnpicklingError as error:
            name = _unknown(str(error))
            if name is None or name in standing:
                raise
            if not (name.startswith(LIBRARIES) or name in FUNCTIONS):
                raise RefusedError(f"it wants to run {name!r}, which no network needs") from error
            standing[name] = type(name.rpartition(".")[2], (Inert,), {})
    raise RefusedError(f"it is made of more than {MANY} unknown classes")


def _unknown(message: str) -> str | None:
    """Return the name that the reader did not know, from what it says."""
    for before, after in (("GLOBAL ", " was not an allowed"), ("whose module ", " is blocked"), ("Unsupported class ", "")):
        _, found, rest = message.partition(before)
        if found:
            return rest.partition(after)[0].split()[0].strip("`'\"") if after else rest.split()[0].strip("`'\".")
    return None


def _told(message: str) -> str:
    """Return in one line what an error says, without PyTorch's advice to read the file by its other reader, which runs code."""
    told = message.partition("WeightsUnpickler error: ")[2].partition("Check the documentation")[0]
    return " ".join((told or message).split())


def _check_sizes(source: Path) -> None:
    """Refuse an archive whose parts claim to be larger than the file."""
    if not zipfile.is_zipfile(source):
        return
    with zipfile.ZipFile(source) as archive:
        declared = sum(entry.file_size for entry in archive.infolist())
    if declared > STORED_MORE * source.stat().st_size + 4096:
        raise RefusedError(f"its parts claim {declared:,} bytes, more than the file has ({source.stat().st_size:,})")


def _limit(size: int) -> None:
    """Hold memory and the size of what is written, where the system can."""
    try:
        import resource
    except ImportError:  # not on Windows
        return
    try:
        used = int(Path("/proc/self/statm").read_text(encoding="ascii").split()[0]) * resource.getpagesize()
        resource.setrlimit(resource.RLIMIT_AS, (used + 4 * size + ROOM,) * 2)
    except OSError:  # not on macOS
        pass
    resource.setrlimit(resource.RLIMIT_FSIZE, (2 * size + (64 << 20),) * 2)
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _confine(source: Path, target: Path) -> None:
    """Refuse from now on whatever reading one file and writing another does not need; this cannot be undone."""
    own = {os.path.realpath(source), os.path.realpath(target)}
    installed = tuple(os.path.realpath(place) + os.sep for place in {sys.prefix, sys.base_prefix, *filter(None, sys.path)})

    def look(event: str, args: tuple[Any, ...]) -> None:
        if event == "open":
            place, mode, flags = args
            if isinstance(place, int) or os.path.realpath(os.fsdecode(place)) in own:
                return
            writing = bool(set(str(mode or "")) & set("wax+")) or bool((flags or 0) & (os.O_WRONLY | os.O_RDWR | os.O_CREAT))
            if writing or not os.path.realpath(os.fsdecode(place)).startswith(installed):
                raise RefusedError(f"it tried to open {os.fsdecode(place)!r}")
        elif event.startswith(BLOCKED) or event.removeprefix("os.") in CHANGES:
            raise RefusedError(f"it tried {event}")

    sys.addaudithook(look)


if __name__ == "__main__":  # pragma: no cover  confined by then, it can open no file to keep its count in
    main()
