"""Pickles through ``suture convert``: mutated ones are converted or refused, malicious ones do nothing."""

import io
import os
import pickle
import socket
import stat
import warnings
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import partial
from pathlib import Path
from random import Random

import pytest
import torch
from torch import nn

import suture
from gates.attacks import TENSORS, attacks, furnish, traps
from gates.figures import Figure, check_message, fork, survey
from gates.mutating import HUGE, mutate_bytes
from gates.warm import WarmReader, warm_reader
from suture.checkpoints import convert, open_checkpoint
from suture.errors import CheckpointError, OutputError, SutureError

MUTATED = Figure("mutated .pt through convert", suite=1_000, soak=50_000)
MALICIOUS = Figure("malicious pickles", suite=0, soak=0)
KINDS = 40
"""The fewest kinds of malicious pickles."""
PARTS = 2
QUIET = {"compile", "code.__new__", "exec", "marshal.loads", "object.__getattr__", "sys._getframe", "tempfile.mkstemp"}
"""What the interpreter tells of that goes on within it."""
SOURCES = [Path(package.__file__).parent for package in (torch, suture)]
"""Where sources are read, to tell where an error was raised."""
GLOBALS = """torch.FloatStorage torch.DoubleStorage torch._utils._rebuild_tensor_v2 torch._utils._rebuild_parameter torch.Tensor torch.Size
collections.OrderedDict builtins.set os.system torch.nn.modules.linear.Linear"""
OPCODES = ["c{}\n{}\n".format(*name.rsplit(".", 1)).encode() for name in GLOBALS.split()]
OPCODES += [
    b"K\xff",
    b"M\xff\xff",
    b"J\xff\xff\xff\xff",
    b"\x8a\x08\xff\xff\xff\xff\xff\xff\xff\x7f",
    *(bytes([code]) for code in b"(tRbusQ}]0N"),
]


def valid_files() -> list[bytes]:
    """Return small files as trainers save them: in both of PyTorch's formats, a whole module, a training run."""
    torch.manual_seed(0)
    halves = {name: tensor.half() for name, tensor in TENSORS.items()}
    module = nn.Sequential(nn.Linear(2, 2), nn.LayerNorm(2))
    found = []
    for content, archived in (
        (TENSORS, True),
        (TENSORS, False),
        ({"state_dict": halves, "epoch": 3, "loss": 0.5}, True),
        ({f"module.{name}": nn.Parameter(tensor) for name, tensor in TENSORS.items()}, True),
        (module, True),
        ({"shared": TENSORS["w"], "part": TENSORS["w"][1:3], "turned": torch.arange(6).reshape(2, 3).T}, True),
    ):
        stream = io.BytesIO()
        torch.save(content, stream, _use_new_zipfile_serialization=archived)
        found.append(stream.getvalue())
    return found


def mutated_pickle(valid: list[bytes], number: int) -> bytes:
    """Return what a number makes of a valid file: of its bytes, or of those of a part of the archive, which is whole again."""
    random = Random(number)
    raw = random.choice(valid)
    if not raw.startswith(b"PK") or random.random() < 0.25:
        return mutate_bytes(raw, random, OPCODES, times=2)
    with zipfile.ZipFile(io.BytesIO(raw)) as archive:
        parts = [(entry.filename, archive.read(entry)) for entry in archive.infolist()]
    pickled = next(place for place, (name, _) in enumerate(parts) if name.endswith("data.pkl"))
    place = pickled if random.random() < 0.7 else random.randrange(len(parts))
    name, content = parts[place]
    kind = random.randrange(12)
    if kind == 0:
        del parts[place]
    elif kind == 1:
        parts[place] = (random.choice(("../x", "/x", "archive/data.pkl", "x" * 300, name.upper())), content)
    elif kind == 2:
        parts.append((name, mutate_bytes(content, random)))
    else:
        parts[place] = (name, mutate_bytes(content, random, OPCODES, times=2))
    stream = io.BytesIO()
    compression = random.choice((zipfile.ZIP_STORED,) * 9 + (zipfile.ZIP_DEFLATED,))
    with warnings.catch_warnings(), zipfile.ZipFile(stream, "w", compression) as archive:
        warnings.simplefilter("ignore")  # of names that stand twice
        for each, content in parts:
            archive.writestr(each, content)
    raw = bytearray(stream.getvalue())
    if random.random() < 0.1:
        place = raw.rfind(b"PK\x01\x02") + random.choice((20, 24))  # the sizes that the directory tells of the last part
        raw[place : place + 4] = (random.choice(HUGE) % 2**32).to_bytes(4, "little")
    return bytes(raw)


def names_in(folder: Path) -> list[str]:
    return sorted(entry.name for entry in folder.iterdir())


def check(error: SutureError, folder: Path) -> None:
    assert isinstance(error, CheckpointError), repr(error)
    assert names_in(folder) == ["old.pt"]


def converted(reader: WarmReader, folder: Path, raw: bytes) -> str:
    """Convert, and say what came of it: the tensors can be read, or nothing is there."""
    source, out = folder / "old.pt", folder / "new.safetensors"
    source.write_bytes(raw)
    try:
        found = convert(source, out)
    except SutureError as error:
        check_message(error, source, len(raw))
        check(error, folder)
        return type(error).__name__ if reader.code == 0 else "the reading process died"
    written = open_checkpoint(out)
    assert found.tensors == len(written) > 0
    assert all(list(written[name].shape) == list(spec.shape) for name, spec in written.specs.items())
    assert names_in(folder) == ["new.safetensors", "old.pt"]
    del written
    out.unlink()
    return "converted"


@pytest.mark.fault(2, 7)
@pytest.mark.parametrize("part", range(PARTS))
def test_mutated_pickles_are_converted_or_refused(room: Path, part: int) -> None:
    valid = valid_files()
    with warm_reader() as reader:
        assert {converted(reader, room, raw) for raw in valid} == {"converted"}
        tally = survey(MUTATED, MUTATED.share(part, PARTS), partial(mutated_pickle, valid), partial(converted, reader, room))
    tally.check()
    assert min(tally["converted"], tally["CorruptCheckpoint"]) > tally.total() / 20, tally.counts


def test_the_warm_reader_answers_as_the_real_one(tmp_path: Path) -> None:
    """Two of each fate through the program that users run."""
    answers = {}
    for name, raw in {"valid": valid_files()[0], "evil": attacks(tmp_path, 9)["os.system"]}.items():
        file = tmp_path / f"{name}.pt"
        file.write_bytes(raw)
        for way in ("real", "warm"):
            out = tmp_path / f"{name}-{way}.safetensors"
            with warm_reader() if way == "warm" else nothing():
                try:
                    answers[name, way] = convert(file, out), out.read_bytes()
                except CheckpointError as error:
                    answers[name, way] = str(error), b""
        assert answers[name, "real"] == answers[name, "warm"]
    assert "os.system" in str(answers["evil", "real"][0]) or "posix.system" in str(answers["evil", "real"][0])


@contextmanager
def nothing() -> Iterator[None]:
    yield


def look(place: Path) -> dict[str, tuple[int, bytes]]:
    """Return what lies in a folder: modes and contents."""
    found = {}
    for entry in sorted(place.rglob("*")):
        mode = entry.lstat().st_mode
        found[str(entry)] = (mode, entry.read_bytes() if stat.S_ISREG(mode) else b"")
    return found


@contextmanager
def listener() -> Iterator[socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        server.setblocking(False)
        yield server


def called(server: socket.socket) -> bool:
    """Say whether somebody has called, and hang up."""
    try:
        server.accept()[0].close()
    except BlockingIOError:
        return False
    return True


@pytest.mark.fault(8)
def test_malicious_pickles_do_nothing(tmp_path: Path, room: Path) -> None:
    """Each kind does what it was made for where it is read without care, and nothing at all in ``convert``."""
    with listener() as server, warm_reader() as reader, MALICIOUS.told() as tally:
        port = server.getsockname()[1]
        kinds = list(attacks(tmp_path, port))
        assert len(kinds) >= KINDS
        for number, kind in enumerate(kinds):
            place = tmp_path / str(number)
            furnish(place)
            raw, before = attacks(place, port)[kind], look(place)
            faults = attempt(reader, room, raw)
            if look(place) != before or called(server):
                faults.append("did harm")
            _read_without_care(raw)
            if look(place) == before and not called(server):
                faults.append("is harmless even where it is read without care")
            tally.counts["refused" if not faults else "fault"] += 1
            tally.faults += [f"{kind}: {fault}" for fault in faults]
        for kind, raw in traps(tmp_path).items():
            tally.counts["trap"] += 1
            tally.faults += [f"{kind}: {fault}" for fault in attempt(reader, room, raw, refused=kind != "names that leave the archive")]
    tally.check()
    assert not (tmp_path / "trace").exists()


def attempt(reader: WarmReader, folder: Path, raw: bytes, *, refused: bool = True) -> list[str]:
    """Convert, and return what should not have happened."""
    source, out = folder / "bad.pt", folder / "new.safetensors"
    source.write_bytes(raw)
    faults = []
    try:
        convert(source, out)
        if refused:
            faults.append("was converted")
        out.unlink()
    except CheckpointError as error:
        check_message(error, source, len(raw))
    except OutputError as error:  # it is read, and then there is no room for it
        assert "bytes are needed" in str(error)  # noqa: PT017
    if names_in(folder) != ["bad.pt"]:
        faults.append(f"left {names_in(folder)}")
    faults += [f"was let: {event}" for event in reader.passed if not _harmless(event, source)]
    return faults


def _harmless(event: str, source: Path) -> bool:
    """Say whether an event that the confinement lets through is one that reading takes."""
    kind, _, place = event.partition(" ")
    opened = Path(place.strip("'"))
    own = opened == source or (opened.parent == source.parent and ".staging-" in opened.name)
    return kind in QUIET or (kind == "open" and (own or any(opened.is_relative_to(each) for each in SOURCES)))


def _read_without_care(raw: bytes) -> None:
    """Unpickle in a process of its own, and wait until whatever it starts has ended."""

    def read() -> None:
        os.setsid()
        with Path(os.devnull).open("w") as nowhere:
            os.dup2(nowhere.fileno(), 1)
            os.dup2(nowhere.fileno(), 2)
        for reader in (partial(torch.load, weights_only=False), pickle.load):
            with suppress(Exception):
                reader(io.BytesIO(raw))
        with suppress(ChildProcessError):
            while True:
                os.wait()

    os.waitpid(fork(read), 0)
