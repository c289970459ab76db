"""Whether outputs are as they were written: every bit of them."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from suture.backbones import Head, load_heads, save_heads
from suture.checkpoints import KIND, Manifest, open_manifest, open_sealed, read_manifest, staged_folder, verify, write_sealed
from suture.checkpoints.verifying import SUFFIX
from suture.errors import CheckpointNotFound, CorruptCheckpoint, OutputExists
from suture.surgery import Correction, Surgery, load_operation, save_operation


def make(out: Path) -> Path:
    """An output with a file of ours in it, and others below."""
    with staged_folder(out, Manifest(settings={"digest": "0" * 64, 'with "digest": "': 1}, inputs={"base": "ab"})) as stage:
        save_file({"w": torch.ones(2)}, stage / "model.safetensors")
        save_heads(stage / "heads.safetensors", {"a": Head(torch.eye(2), classes=("x", "y"))})
        (stage / "merged" / "deep").mkdir(parents=True)
        (stage / "merged" / "deep" / "config.json").write_text("{}")
        (stage / "empty.txt").touch()
    return out


def surgery() -> Surgery:
    return Surgery({'a "sha256":"0': Correction(torch.zeros(1, 2), torch.ones(2, 1))})


def flips(content: bytes) -> "list[bytes]":
    """Every content that differs in one bit."""
    found = []
    for place in range(len(content)):
        for bit in range(8):
            changed = bytearray(content)
            changed[place] ^= 1 << bit
            found.append(bytes(changed))
    return found


@pytest.mark.fault(10)
def test_every_bit_of_a_manifest_counts(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = make(tmp_path / "out") / "manifest.json"
    content = file.read_bytes()
    assert open_manifest(tmp_path / "out").text().encode() == content
    for changed in flips(content):
        with monkeypatch.context() as patch:
            patch.setattr(Path, "read_bytes", lambda _, changed=changed: changed)
            with pytest.raises(CorruptCheckpoint, match=r"manifest\.json is not "):
                open_manifest(tmp_path / "out")
    file.write_bytes(changed)
    assert [fault for fault in verify(tmp_path / "out").faults if "manifest.json" in fault]
    with pytest.raises(OutputExists, match="was not written by Suture"), staged_folder(tmp_path / "out", Manifest(), replace=True):
        pytest.fail("what cannot be trusted is not replaced")


@pytest.mark.fault(10)
def test_every_bit_of_a_single_file_counts(tmp_path: Path) -> None:
    file = tmp_path / "surgery.safetensors"
    save_operation(file, surgery())
    whole = file.read_bytes()
    assert verify(file).verified == ["surgery.safetensors"]
    assert load_operation(file).tasks == surgery().tasks
    for changed in flips(whole):
        with file.open("r+b") as stream:  # in place: to cut a file and write it anew makes ext4 wait for the disk
            stream.write(changed)
        verdict = verify(file)
        assert not verdict.verified
        assert len(verdict.faults) == 1
        assert str(file) in verdict.faults[0]
    for changed in (whole[:-1], whole + b"\0", b""):
        file.write_bytes(changed)
        assert verify(file).faults


@pytest.mark.fault(10)
def test_a_bit_of_any_file_of_an_output_names_the_file(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    names = sorted(open_manifest(out).files)
    assert names == ["empty.txt", "heads.safetensors", "merged/deep/config.json", "model.safetensors"]
    assert verify(out).verified == ["manifest.json", *names]
    for name in names:
        whole = (out / name).read_bytes()
        (out / name).write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]) if whole else b"\0")
        for place in (out, out / name):
            (fault,) = verify(place).faults
            assert fault.startswith(f"{out.absolute() / name} is not as it was written: its sha256 is ")
        (out / name).unlink()
        assert verify(out).faults == [f"{out / name} is missing: manifest.json tells of it"]
        (out / name).write_bytes(whole)
    assert not verify(out).faults


@pytest.mark.fault(10)
def test_what_nobody_has_taken_a_digest_of_is_unverified(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    (out / "merged" / "notes.txt").write_text("mine")
    verdict = verify(out)
    assert (verdict.unverified, verdict.faults) == (["merged/notes.txt"], [])
    assert verify(out / "merged" / "notes.txt").unverified == ["notes.txt"]
    assert verify(out / "merged" / "deep" / "config.json").verified == ["config.json"]
    theirs = tmp_path / "theirs"
    theirs.mkdir()
    save_file({"w": torch.ones(2)}, theirs / "model.safetensors")
    write_sealed(theirs / "ours.safetensors", {"w": torch.ones(2)}, {KIND: "something"})
    verdict = verify(theirs)
    assert (verdict.verified, verdict.unverified, verdict.faults) == (["ours.safetensors"], ["model.safetensors"], [])
    save_file({"w": torch.ones(2)}, theirs / "lost.safetensors", {KIND: "surgery"})
    assert verify(theirs).faults == [
        f"{theirs / 'lost.safetensors'} is not as it was written: the digest of its own is gone from its metadata"
    ]
    with pytest.raises(CheckpointNotFound, match="nowhere: no such file or folder"):
        verify(tmp_path / "nowhere")


@pytest.mark.fault(10)
def test_a_manifest_above_a_file_counts_if_it_is_ours(tmp_path: Path) -> None:
    out = make(tmp_path / "above" / "out")
    sealed, plain = tmp_path / "above" / "heads.safetensors", tmp_path / "above" / "notes.txt"
    save_heads(sealed, {"a": Head(torch.eye(2))})
    plain.touch()
    for theirs in ('{"name": "app", "version": "1", "files": {}}', "not json", ""):
        (tmp_path / "manifest.json").write_text(theirs)
        assert (verify(sealed).verified, verify(sealed).faults) == (["heads.safetensors"], [])
        assert (verify(plain).unverified, verify(plain).faults) == (["notes.txt"], [])
    (tmp_path / "manifest.json").write_text((out / "manifest.json").read_text()[:-9])
    assert (verify(sealed).verified, verify(sealed).faults) == (["heads.safetensors"], [])
    (fault,) = verify(plain).faults
    assert fault.startswith(f"{tmp_path / 'manifest.json'} is not a manifest of Suture's, or is not as it was written: ")


@pytest.mark.fault(5)
@pytest.mark.parametrize("name", ["../outside", "/etc/hostname", "\\\\server\\share", "link", "a/../../outside", "C:\\x", ""])
def test_a_manifest_that_leaves_its_folder_is_refused(tmp_path: Path, name: str) -> None:
    out = make(tmp_path / "out")
    (tmp_path / "outside").write_text("outside")
    (out / "link").symlink_to(tmp_path / "outside")
    manifest = open_manifest(out)
    manifest.files[name] = "0" * 64
    (out / "manifest.json").write_text(manifest.text())
    assert verify(out).faults == [f"{out / 'manifest.json'} names {name!r}, which is outside of {out}"]


@pytest.mark.fault(10)
def test_what_is_read_is_compared_with_its_digest(tmp_path: Path) -> None:
    file = tmp_path / f"heads{SUFFIX}"
    save_heads(file, {"a": Head(torch.eye(2))})
    whole = file.read_bytes()
    file.write_bytes(whole[:-1] + bytes([whole[-1] ^ 1]))
    with pytest.raises(CorruptCheckpoint, match=r"heads\.safetensors is not as it was written: its digest is not the one"):
        load_heads(file)
    with pytest.raises(CorruptCheckpoint, match="is not as it was written"):
        open_sealed(file)


def test_folders_of_before_have_no_digest_and_files_of_before_none_of_their_own(tmp_path: Path) -> None:
    out = make(tmp_path / "out")
    content = json.loads((out / "manifest.json").read_text())
    del content["digest"]
    (out / "manifest.json").write_text(json.dumps(content))
    assert read_manifest(out) is not None
    assert verify(out).unverified == ["manifest.json"]
    assert not verify(out).faults
    save_file({"a.down": torch.zeros(1, 2), "a.up": torch.zeros(2, 1)}, tmp_path / "old.safetensors", {KIND: "surgery"})
    assert load_operation(tmp_path / "old.safetensors").tasks == ("a",)
