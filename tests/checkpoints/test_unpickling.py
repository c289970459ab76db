"""What the confined process does, called here, where its lines can be counted; ``test_converting.py`` has the process itself."""

import errno
import io
import json
import os
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from pickle import UnpicklingError
from typing import Any

import pytest
import torch
from safetensors.torch import load_file

from suture.checkpoints import unpickling
from suture.checkpoints.unpickling import Inert, RefusedError, tensors_in

TWO = {"a": torch.ones(2), "b": torch.zeros(3)}


@pytest.fixture
def answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[..., dict[str, Any]]:
    """Run the program here, without what would hold this process for good, and return its answer."""
    monkeypatch.setattr(unpickling, "_limit", lambda size: None)
    monkeypatch.setattr(unpickling, "_confine", lambda source, target: None)

    def run(content: Any, key: str = "") -> dict[str, Any]:
        torch.save(content, tmp_path / "old.pt")
        out = io.StringIO()
        with monkeypatch.context() as patch:
            patch.setattr(sys, "argv", ["", str(tmp_path / "old.pt"), str(tmp_path / "new.safetensors"), key])
            patch.setattr(sys, "stdout", out)
            unpickling.main()
        (line,) = out.getvalue().splitlines()
        found: dict[str, Any] = json.loads(line)
        return found

    return run


def test_it_answers_what_it_wrote(tmp_path: Path, answer: Callable[..., dict[str, Any]]) -> None:
    assert answer({**TWO, "epoch": 3}) == {"tensors": 2, "left_out": ["epoch"]}
    assert load_file(tmp_path / "new.safetensors").keys() == TWO.keys()
    assert answer({"ema": TWO}, "emu") == {"refused": "there is no 'emu' in it; it holds 'ema'"}


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (OSError(errno.ENOSPC, "No space left"), {"full": [errno.ENOSPC, "No space left"]}),
        (OSError(errno.EDQUOT, "Quota exceeded"), {"full": [errno.EDQUOT, "Quota exceeded"]}),
        (OSError(errno.EFBIG, "File too large"), {"corrupt": "OSError: File too large"}),
        (OSError("odd"), {"corrupt": "OSError: odd"}),
        (MemoryError(), {"corrupt": "it wants more memory than its size allows"}),
        (ValueError("a  b\nc"), {"corrupt": "ValueError: a b c"}),
        (UnpicklingError("No. WeightsUnpickler error: bad\nCheck the documentation of x"), {"corrupt": "UnpicklingError: bad"}),
    ],
)
def test_whatever_goes_wrong_is_an_answer(
    answer: Callable[..., dict[str, Any]], monkeypatch: pytest.MonkeyPatch, error: Exception, expected: dict[str, Any]
) -> None:
    def fail(*_: object) -> None:
        raise error

    monkeypatch.setattr(unpickling, "write_safetensors", fail)
    assert answer(TWO) == expected


def inert(**state: Any) -> Inert:
    made = Inert(1, two=2)
    made.__setstate__(state)
    return made


def test_what_is_stood_in_for_keeps_attributes_alone() -> None:
    assert vars(inert(a=1)) == {"a": 1}
    made = Inert()
    made.__setstate__((1, 2))
    assert vars(made) == {}


def test_the_tensors_of_a_module_are_those_of_its_state_dict() -> None:
    weight, count, mask = torch.ones(1), torch.tensor(2), torch.zeros(1)
    child = inert(
        _parameters={"weight": weight, "bias": None}, _buffers={"count": count, "mask": mask}, _non_persistent_buffers_set={"mask"}
    )
    module = inert(_parameters=None, _modules={"child": child, "none": None})
    assert tensors_in(module) == ({"child.weight": weight, "child.count": count}, [])
    assert tensors_in({"model": module, "epoch": 1}) == ({"child.weight": weight, "child.count": count}, ["epoch"])
    assert tensors_in(inert(net=TWO), "net") == (TWO, [])
    wrapped = {f"module.{name}": tensor for name, tensor in TWO.items()}
    assert tensors_in(wrapped) == (TWO, [])


@pytest.mark.parametrize(
    ("found", "key", "message"),
    [
        ([1], "a", "there is no 'a' in it; it holds list"),
        (inert(net=1), "nets", "there is no 'nets' in it; it holds 'net'"),
        ([1], "", "it holds no tensors by name, but list"),
        ({}, "", "it holds no tensors; name the place of them with --key, one of none"),
        (inert(), "", "it holds no tensors"),
        ({"best": torch.ones(1), "net": {"deep": inert(weight=torch.ones(1))}, "n": 1}, "", "more of them within net: name the place"),
        ({"z": torch.ones(1, dtype=torch.complex64)}, "", "'z' is torch.complex64, torch.strided, which safetensors does not hold"),
        ({"z": torch.ones(1).to_sparse()}, "", "'z' is torch.float32, torch.sparse_coo"),
    ],
)
def test_what_holds_no_tensors_that_can_be_written(found: Any, key: str, message: str) -> None:
    with pytest.raises(RefusedError) as caught:
        tensors_in(found, key)
    assert message.replace("within net", "within 'net'") in str(caught.value)


def test_classes_of_libraries_are_stood_in_for_and_others_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    torch.save({"layer": torch.nn.Linear(2, 2), "act": partial(torch.nn.functional.relu)}, tmp_path / "old.pt")
    found = unpickling._load(tmp_path / "old.pt")
    assert tensors_in(found, "layer")[0].keys() == {"weight", "bias"}
    torch.save({"bad": partial(os.system, "true")}, tmp_path / "bad.pt")
    with pytest.raises(RefusedError, match=r"it wants to run 'posix\.system', which no network needs"):
        unpickling._load(tmp_path / "bad.pt")
    torch.save(torch.nn.Linear(2, 2), tmp_path / "older.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(UnpicklingError, match="Only persistent_load of storage is allowed"):
        unpickling._load(tmp_path / "older.pt")
    monkeypatch.setattr(unpickling, "MANY", 1)
    with pytest.raises(RefusedError, match="it is made of more than 1 unknown classes"):
        unpickling._load(tmp_path / "old.pt")


@pytest.mark.parametrize(
    ("message", "name"),
    [
        ("Unsupported global: GLOBAL timm.Net was not an allowed global", "timm.Net"),
        ("Trying to load os.system whose module os is blocked", "os"),
        ("Unsupported class 'argparse.Namespace'.", "argparse.Namespace"),
        ("invalid load key", None),
    ],
)
def test_the_unknown_name_is_read_off_what_the_reader_says(message: str, name: str | None) -> None:
    assert unpickling._unknown(message) == name


def test_archives_that_claim_more_than_they_have_are_refused(tmp_path: Path) -> None:
    (tmp_path / "plain").write_bytes(b"no archive")
    unpickling._check_sizes(tmp_path / "plain")
    for name, kind in (("stored", zipfile.ZIP_STORED), ("bomb", zipfile.ZIP_DEFLATED)):
        with zipfile.ZipFile(tmp_path / name, "w", kind) as archive:
            archive.writestr("data", bytes(100_000))
    unpickling._check_sizes(tmp_path / "stored")
    with pytest.raises(RefusedError, match=r"its parts claim 100,000 bytes, more than the file has \(\d+\)"):
        unpickling._check_sizes(tmp_path / "bomb")


def test_limits_are_of_the_files_size(monkeypatch: pytest.MonkeyPatch) -> None:
    import resource

    told: dict[int, tuple[int, int]] = {}
    monkeypatch.setattr(resource, "setrlimit", told.__setitem__)
    unpickling._limit(1000)
    assert told[resource.RLIMIT_FSIZE] == (2000 + (64 << 20),) * 2
    assert told[resource.RLIMIT_CORE] == (0, 0)
    assert told.pop(resource.RLIMIT_AS)[0] > unpickling.ROOM + 4000
    monkeypatch.setattr(Path, "read_text", lambda *_, **__: (_ for _ in ()).throw(FileNotFoundError()))
    unpickling._limit(1000)
    assert resource.RLIMIT_AS not in told  # where nobody tells what is used
    monkeypatch.setitem(sys.modules, "resource", None)
    told.clear()
    unpickling._limit(1000)
    assert not told  # nor are there any on Windows


@pytest.mark.fault(7, 8)
def test_the_hook_lets_through_the_two_files_and_what_is_installed(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hooks: list[Callable[[str, tuple[Any, ...]], None]] = []
    monkeypatch.setattr(sys, "addaudithook", hooks.append)
    unpickling._confine(tmp_path / "source", tmp_path / "target")
    (look,) = hooks
    look("open", (3, "w", 0))  # what is open already
    look("open", (str(tmp_path / "source"), "r", 0))
    look("open", (os.fsencode(tmp_path / "target"), "w", os.O_WRONLY))
    look("open", (torch.__file__, "r", 0))
    look("import", ("os",))
    for place, mode, flags in (
        (tmp_path / "other", "r", 0),
        (torch.__file__, "r+", 0),
        (torch.__file__, None, os.O_RDWR),
        (tmp_path / "source2", None, None),
    ):
        with pytest.raises(RefusedError, match=r"^it tried to open '"):
            look("open", (str(place), mode, flags))
    for event in ("os.system", "subprocess.Popen", "socket.connect", "os.remove", "os.mkdir", "ctypes.dlopen"):
        with pytest.raises(RefusedError, match=f"^it tried {event}$"):
            look(event, ())
