"""Pickles made into safetensors: the old projects' ones are, those that want more than tensors are refused and leave no trace."""

import os
import pickle
import subprocess
import sys
import types
import zipfile
from collections import OrderedDict
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load_file
from torch import nn

from suture.checkpoints import convert, open_checkpoint, read_manifest
from suture.errors import CheckpointNotFound, CorruptCheckpoint, OutputError, OutputExists, UnsupportedFormat

TENSORS = {"a.weight": torch.arange(6.0).reshape(2, 3), "a.bias": torch.ones(2, dtype=torch.float16), "steps": torch.tensor(3)}


def same(file: Path, expected: dict[str, torch.Tensor]) -> bool:
    found = load_file(file)
    return found.keys() == expected.keys() and all(torch.equal(found[name], tensor) for name, tensor in expected.items())


@pytest.mark.fault(7)
@pytest.mark.parametrize(
    "content",
    [
        TENSORS,
        OrderedDict(TENSORS),
        {"state_dict": TENSORS, "epoch": 3, "arch": "vit"},
        {"model": {"module." + name: tensor for name, tensor in TENSORS.items()}, "optimizer": {"state": {}}},
        {name: nn.Parameter(tensor) if tensor.is_floating_point() else tensor for name, tensor in TENSORS.items()},
    ],
)
def test_state_dicts_as_trainers_save_them(tmp_path: Path, content: Any) -> None:
    torch.save(content, tmp_path / "old.pt", _use_new_zipfile_serialization="model" not in content)  # either format
    found = convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert found.tensors == 3
    assert same(tmp_path / "new.safetensors", TENSORS)
    assert set(found.left_out) == set(content) - {"state_dict", "model", *TENSORS}


def pickled_module(folder: Path, monkeypatch: pytest.MonkeyPatch) -> tuple[Path, dict[str, torch.Tensor]]:
    """Save a whole module as the task-vectors code does: classes of ``src.modeling`` and open_clip, transforms beside the network."""
    modeling, clip, transform = (types.ModuleType(name) for name in ("src.modeling", "open_clip.model", "open_clip.transform"))

    class VisualTransformer(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.proj = nn.Parameter(torch.randn(4, 3))
            self.blocks = nn.Sequential(nn.Linear(4, 4), nn.GELU(), nn.LayerNorm(4))
            self.register_buffer("mask", torch.ones(2), persistent=False)
            self.register_buffer("count", torch.tensor(7))

    class ImageEncoder(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.model = VisualTransformer()
            self.train_preprocess = convert_to_rgb
            self.cache_dir = "~/.cache"

    def convert_to_rgb(image: Any) -> Any:
        return image

    for module, members in ((modeling, [ImageEncoder]), (clip, [VisualTransformer]), (transform, [convert_to_rgb])):
        for member in members:
            member.__module__, member.__qualname__ = module.__name__, member.__name__
            setattr(module, member.__name__, member)
        monkeypatch.setitem(sys.modules, module.__name__, module)
    for package in ("src", "open_clip"):
        monkeypatch.setitem(sys.modules, package, types.ModuleType(package))
    encoder = ImageEncoder()
    torch.save(encoder, folder / "finetuned.pt")
    return folder / "finetuned.pt", {name: tensor.clone() for name, tensor in encoder.state_dict().items()}


def test_a_module_pickled_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file, expected = pickled_module(tmp_path, monkeypatch)
    assert convert(file, tmp_path / "new.safetensors").tensors == len(expected) == 6
    assert same(tmp_path / "new.safetensors", expected)


class Calling:
    """What an attacker pickles: reading it in full calls a function."""

    def __init__(self, function: Any, *args: Any) -> None:
        self.function, self.args = function, args

    def __reduce__(self) -> tuple[Any, ...]:
        return self.function, self.args


@pytest.mark.fault(8)
@pytest.mark.parametrize(
    "attack",
    [
        lambda trace: Calling(os.system, f"touch {trace}"),
        lambda trace: Calling(eval, f"open({str(trace)!r}, 'w')"),
        lambda trace: Calling(exec, f"open({str(trace)!r}, 'w')"),
        lambda trace: Calling(open, str(trace), "w"),
        lambda trace: Calling(subprocess.Popen, ["touch", str(trace)]),
        lambda trace: Calling(os.mkdir, str(trace)),
        lambda trace: Calling(torch.save, {}, str(trace)),
        lambda trace: Calling(pickle.loads, pickle.dumps(Calling(os.system, f"touch {trace}"))),
    ],
)
def test_malicious_pickles_are_refused_and_leave_no_trace(tmp_path: Path, attack: Any) -> None:
    trace, place = tmp_path / "trace", tmp_path / "place"
    place.mkdir()
    torch.save({**TENSORS, "extra": attack(trace)}, place / "bad.pt")
    with pytest.raises((UnsupportedFormat, CorruptCheckpoint), match=r"bad.pt (is not converted: it wants to run|cannot be read)"):
        convert(place / "bad.pt", place / "new.safetensors")
    assert not trace.exists()
    assert [file.name for file in place.iterdir()] == ["bad.pt"]


def test_a_model_folder_keeps_its_companions_and_shards(bert: Path, tmp_path: Path) -> None:
    import json

    from transformers import AutoModel

    old, tensors = tmp_path / "old", load_file(bert / "model.safetensors")
    old.mkdir()
    for companion in ("config.json", "tokenizer.json", "tokenizer_config.json"):
        (old / companion).write_bytes((bert / companion).read_bytes())
    names = sorted(tensors)
    torch.save({name: tensors[name] for name in names[:5]}, old / "pytorch_model-1.bin")
    torch.save({name: tensors[name] for name in names[5:]}, old / "pytorch_model-2.bin")
    weight_map = {name: f"pytorch_model-{1 if place < 5 else 2}.bin" for place, name in enumerate(names)}
    (old / "pytorch_model.bin.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    convert(old, tmp_path / "new")
    new = open_checkpoint(tmp_path / "new")
    assert len(new.files) == 2
    assert all(torch.equal(new[name], tensors[name]) for name in names)
    state = AutoModel.from_pretrained(tmp_path / "new").state_dict()
    assert all(torch.equal(state[name], tensors[name]) for name in names)
    manifest = read_manifest(tmp_path / "new")
    assert manifest is not None
    assert len(manifest.inputs) == 2
    with pytest.raises(OutputExists):
        convert(old, tmp_path / "new")


def test_a_place_of_ones_own(tmp_path: Path) -> None:
    torch.save({"ema": {"net": TENSORS}, "raw": {"x": 1}}, tmp_path / "old.ckpt")
    with pytest.raises(UnsupportedFormat, match=r"holds no tensors; name the place of them with --key, one of 'ema', 'raw'"):
        convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors")
    with pytest.raises(UnsupportedFormat, match=r"there is no 'nets' in it; it holds 'net'"):
        convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors", "ema.nets")
    convert(tmp_path / "old.ckpt", tmp_path / "new.safetensors", "ema.net")
    assert same(tmp_path / "new.safetensors", TENSORS)


def test_tensors_beside_tensors_are_not_guessed_at(tmp_path: Path) -> None:
    torch.save({"state_dict": TENSORS, "best": torch.tensor(0.5)}, tmp_path / "old.pt")
    with pytest.raises(UnsupportedFormat, match=r"holds tensors, and more of them within 'state_dict': name the place of yours with --key"):
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert convert(tmp_path / "old.pt", tmp_path / "new.safetensors", "state_dict").tensors == 3


def test_no_advice_is_repeated_to_run_what_is_in_a_file(tmp_path: Path) -> None:
    torch.save(nn.Linear(2, 2), tmp_path / "old.pt", _use_new_zipfile_serialization=False)
    with pytest.raises(
        CorruptCheckpoint, match=r"old.pt cannot be read: UnpicklingError: Only persistent_load of storage is allowed"
    ) as caught:
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert "weights_only" not in str(caught.value)


def test_what_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "junk.pt").write_bytes(b"not a pickle at all")
    with pytest.raises(CorruptCheckpoint, match=r"junk.pt cannot be read"):
        convert(tmp_path / "junk.pt", tmp_path / "new.safetensors")
    with pytest.raises(CheckpointNotFound, match="no such pickle"):
        convert(tmp_path / "nothing.pt", tmp_path / "new.safetensors")
    (tmp_path / "table.npy").touch()
    with pytest.raises(UnsupportedFormat, match="expected a file that ends in"):
        convert(tmp_path / "table.npy", tmp_path / "x")
    torch.save([1, 2], tmp_path / "list.pt")
    with pytest.raises(UnsupportedFormat, match="no tensors by name, but list"):
        convert(tmp_path / "list.pt", tmp_path / "new.safetensors")
    torch.save({"z": torch.ones(2, dtype=torch.complex64)}, tmp_path / "complex.pt")
    with pytest.raises(UnsupportedFormat, match=r"'z' is torch.complex64"):
        convert(tmp_path / "complex.pt", tmp_path / "new.safetensors")
    assert not (tmp_path / "new.safetensors").exists()


@pytest.mark.fault(9)
def test_a_zip_bomb_is_refused_before_it_is_read(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "bomb.pt", "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("archive/data.pkl", b"\0" * 50_000_000)
    with pytest.raises(UnsupportedFormat, match=r"its parts claim 50,000,000 bytes, more than the file has"):
        convert(tmp_path / "bomb.pt", tmp_path / "new.safetensors")


@pytest.mark.fault(9)
def test_limits_hold_what_declares_little_and_becomes_much(tmp_path: Path) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 25)}, tmp_path / "old.pt")  # one number, seen 2²⁵ times
    with pytest.raises(CorruptCheckpoint, match=r"old\.pt cannot be read: OSError: File too large"):
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
    assert [file.name for file in tmp_path.iterdir()] == ["old.pt"]


@pytest.mark.fault(26)
@pytest.mark.parametrize("out", ["new.safetensors", "new"])
def test_a_disk_that_is_too_small_is_the_outputs_fault(tmp_path: Path, out: str) -> None:
    torch.save({"w": torch.zeros(1).expand(1 << 50)}, tmp_path / "old.pt")
    with pytest.raises(OutputError, match=r"cannot write .*new.*: No space left on device: [0-9,]{21} bytes are needed for .*, and"):
        convert(tmp_path / "old.pt", tmp_path / out)
    assert [file.name for file in tmp_path.iterdir()] == ["old.pt"]


@pytest.mark.fault(7, 8)
def test_the_confined_process_opens_nothing_else(tmp_path: Path) -> None:
    """Even code that did run there could neither write nor read elsewhere, nor start a process."""
    program = f"""
import sys
from pathlib import Path
from suture.checkpoints import unpickling
unpickling._confine(Path({str(tmp_path / "source")!r}), Path({str(tmp_path / "target")!r}))
import os, socket, sqlite3, subprocess
for attempt in (
    lambda: open({str(tmp_path / "other")!r}, "w"),
    lambda: open("/etc/hostname"),
    lambda: os.system("true"),
    lambda: subprocess.run(["true"]),
    lambda: os.remove({str(tmp_path / "kept")!r}),
    lambda: socket.create_connection(("127.0.0.1", 9)),
    lambda: sqlite3.connect({str(tmp_path / "other")!r}),
):
    try:
        attempt()
    except unpickling.RefusedError:
        print("refused")
open({str(tmp_path / "target")!r}, "w").write("fine")
"""
    (tmp_path / "kept").write_text("kept")
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split() == ["refused"] * 7
    assert (tmp_path / "target").read_text() == "fine"
    assert (tmp_path / "kept").exists()


def test_several_shards_do_not_go_into_one_file(tmp_path: Path) -> None:
    for name in ("a", "b"):
        torch.save({name: torch.ones(1)}, tmp_path / f"{name}.bin")
    index = tmp_path / "pytorch_model.bin.index.json"
    index.write_text('{"weight_map": {"a": "a.bin", "b": "b.bin"}}')
    with pytest.raises(UnsupportedFormat, match="has 2 shards: give a folder to write to"):
        convert(tmp_path, tmp_path / "new.safetensors")
    (tmp_path / "b.bin").unlink()
    with pytest.raises(CorruptCheckpoint, match=r"index\.json names shards that are not there: b\.bin$"):
        convert(tmp_path, tmp_path / "new")
    index.unlink()
    (tmp_path / "a.bin").rename(tmp_path / "pytorch_model.bin")
    assert convert(tmp_path, tmp_path / "new").tensors == 1
    assert open_checkpoint(tmp_path / "new")["a"].tolist() == [1.0]


@pytest.mark.fault(7)
@pytest.mark.parametrize(("program", "told"), [("echo lost >&2; exit 3", "lost"), ("exit 3", "code 3")])
def test_a_process_that_ends_without_an_answer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, program: str, told: str) -> None:
    (tmp_path / "python").write_text(f"#!/bin/sh\n{program}\n")
    (tmp_path / "python").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    (tmp_path / "old.pt").touch()
    with pytest.raises(CorruptCheckpoint, match=rf"old\.pt cannot be read: the process that read it ended with {told}$"):
        convert(tmp_path / "old.pt", tmp_path / "new.safetensors")
