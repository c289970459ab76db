"""What hostile files cost: the memory of the process that reads them.

Measured is the peak of the resident memory (``VmHWM``, as ``ru_maxrss`` may be that of the process that started it) of a process of its
own, which has imported ``suture.checkpoints``, and with it PyTorch, and then opens one hostile file after another. That process stays under
300 MB, PyTorch and all, and so does the one that reads a pickle. Last it opens a good file of ninety thousand tensors, which takes more.
"""

import json
import struct
import subprocess
import sys
import zlib
from collections.abc import Iterator
from pathlib import Path

import pytest

from gates.attacks import archive, traps
from gates.figures import Figure
from gates.test_pickles import attempt
from gates.warm import warm_reader
from suture.checkpoints.header import LARGEST
from suture.checkpoints.reading import INDEX

FIGURE = Figure("peak memory under hostile files", suite=0, soak=0)
MOST = 300 << 20
HUNDRED = 99_999_000
"""Bytes of a header just below what the library takes."""
GOOD = "ninety thousand tensors.safetensors"
READING = """
import json, sys
from pathlib import Path
from suture.checkpoints import open_checkpoint
from suture.errors import SutureError

def peak():
    lines = Path("/proc/self/status").read_text().splitlines()
    return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM:"))

peaks = [("before", "", peak())]
for place in sys.argv[1:]:
    try:
        told = str(len(open_checkpoint(Path(place)).specs))
    except SutureError as error:
        told = f"{type(error).__name__}: {error}"
    peaks.append((place, told, peak()))
print(json.dumps(peaks))
"""


def repeated(start: bytes, entry: bytes, end: bytes, size: int) -> bytes:
    return start + entry * ((size - len(start) - len(end)) // len(entry)) + end


def names(size: int) -> bytes:
    """Return a header of as many tensors as there is room for, each of another name and without elements."""
    entry = '"%x":{"dtype":"U8","shape":[0],"data_offsets":[0,0]},'
    body = "".join([entry % number for number in range(size // len(entry % 0xFFFFF))])
    return ("{" + body[:-1] + "}").encode()


def hostile_headers() -> Iterator[tuple[str, bytes]]:
    """Yield headers that cost much: just as large as is read, or as the library would read."""
    yield "of 16 MB of tensors", names(LARGEST - 4096)
    yield "of lists in lists", repeated(b'{"a":[', b"[" * 50 + b"]" * 50 + b",", b"0]}", LARGEST)
    yield "of 16 MB of one tensor twice", names(LARGEST - 4096)[:-1] + b',"0":{}}'
    yield "of 16 MB of lists", repeated(b'{"a":[', b"[],", b"0]}", LARGEST)
    yield "of 16 MB of one shape", repeated(b'{"a":{"dtype":"U8","data_offsets":[0,0],"shape":[', b"0,", b"0]}}", LARGEST)
    yield "of 100 MB of tensors", names(HUNDRED)
    yield "of 100 MB of depth", repeated(b"", b"[", b"", HUNDRED)
    yield "of 16 MB of one name", repeated(b'{"', b"a", b'":{}}', LARGEST)
    yield "of 16 MB of metadata", repeated(b'{"__metadata__":{', b'"a":"b",', b'"c":"d"}}', LARGEST)


@pytest.mark.fault(1)
@pytest.mark.skipif(not Path("/proc/self/status").is_file(), reason="only Linux tells")
def test_hostile_headers_take_little_memory(room: Path) -> None:
    places = []
    for number, (kind, header) in enumerate(hostile_headers()):
        places.append(room / f"{number} {kind}")
        places[-1].write_bytes(len(header).to_bytes(8, "little") + header)
    places.append(room / "claims more than there is")
    places[-1].write_bytes((1 << 62).to_bytes(8, "little") + b"{}")
    (room / "index").mkdir()
    (room / "index" / INDEX).write_bytes(repeated(b'{"weight_map":{', b'"a":"b",', b'"c":"d"}}', HUNDRED))
    places.append(room / "index")
    places.append(room / GOOD)
    header = names(5_200_000)
    places[-1].write_bytes(len(header).to_bytes(8, "little") + header)
    done = subprocess.run([sys.executable, "-c", READING, *places], capture_output=True, text=True, check=True)
    (_, _, before), *peaks, (_, opened, last) = json.loads(done.stdout)
    with FIGURE.told() as tally:
        assert int(opened) > 90_000
        assert last > before + (1 << 20), "nothing is measured"
        for place, told, peak in peaks:
            if peak > MOST:
                tally.faults.append(f"{place}: {peak >> 20} MB, {told}")
            if not told.startswith("CorruptCheckpoint: "):
                tally.faults.append(f"{place}: {told}")
        tally.counts[f"headers and indices in {max(peak for *_, peak in peaks) >> 20} MB or less"] += len(peaks)
    tally.check()


def zeros(length: int) -> bytes:
    """Return zeros as deflate packs them, a thousandth of the length, without making them."""
    part = 10 << 20
    packer = zlib.compressobj(9, zlib.DEFLATED, -15)
    first, later = (packer.compress(bytes(part)) + packer.flush(zlib.Z_FULL_FLUSH) for _ in range(2))
    return first + later * (length // part - 1) + packer.flush()


def bomb(length: int, said: int) -> bytes:
    """Return an archive with one part, ``data.pkl``, of that many zeros, which says that there are so many."""
    name, packed = b"archive/data.pkl", zeros(length)
    sizes = struct.pack("<HHQQ", 1, 16, said, len(packed))
    common = struct.pack("<HHHHHIIIHH", 45, 0, 8, 0, 33, 0, 0xFFFFFFFF, 0xFFFFFFFF, len(name), len(sizes))
    local = b"PK\x03\x04" + common + name + sizes + packed
    central = b"PK\x01\x02" + struct.pack("<H", 45) + common + struct.pack("<HHHII", 0, 0, 0, 0, 0) + name + sizes
    return local + central + b"PK\x05\x06" + struct.pack("<HHHHIIH", 0, 0, 1, 1, len(central), len(local), 0)


@pytest.mark.fault(9)
def test_zip_bombs_take_little_memory(room: Path, tmp_path: Path) -> None:
    ten = 10 << 30
    files = traps(tmp_path) | {
        "10 GB that are told": bomb(ten, ten),
        "10 GB that are not told": bomb(ten, 1000),
        "a storage of 10 GB": archive(b"\x80\x02N.") + bomb(ten, ten),
    }
    with FIGURE.told() as tally, warm_reader() as reader:
        most = 0
        for kind, raw in files.items():
            faults = attempt(reader, room, raw, refused="names that leave" not in kind)
            most = max(most, reader.peak)
            faults += [f"{reader.peak >> 20} MB"] if reader.peak > MOST else []
            tally.faults += [f"{kind}: {fault}" for fault in faults]
            (room / "bad.pt").unlink()
        tally.counts[f"archives in {most >> 20} MB or less"] += len(files)
    tally.check()
