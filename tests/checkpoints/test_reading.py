"""Lazy reading: what is read, and what is refused."""

import json
import pickle
import tracemalloc
from pathlib import Path

import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from safetensors import SafetensorError
from safetensors.torch import save_file

from suture.checkpoints import TensorSpec, open_checkpoint, sha256_of
from suture.checkpoints.converting import pickles_of
from suture.errors import CheckpointError, CheckpointNotFound, CorruptCheckpoint, UnsafePath, UnsupportedFormat

TENSORS = {"b.weight": torch.arange(6.0).reshape(2, 3), "a": torch.tensor(2.0), "ids": torch.arange(3), "half": torch.ones(2).bfloat16()}


def write_shards(folder: Path, weight_map: dict[str, str] | None = None) -> Path:
    folder.mkdir()
    names = list(TENSORS)
    shards = {"model-00001-of-00002.safetensors": names[:2], "model-00002-of-00002.safetensors": names[2:]}
    for file, held in shards.items():
        save_file({name: TENSORS[name] for name in held}, folder / file)
    weight_map = weight_map or {name: file for file, held in shards.items() for name in held}
    (folder / "model.safetensors.index.json").write_text(json.dumps({"metadata": {}, "weight_map": weight_map}))
    return folder


def test_a_file_reads_as_a_mapping(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    save_file(TENSORS, file)
    for path in (file, tmp_path):
        checkpoint = open_checkpoint(path)
        assert set(checkpoint) == set(TENSORS)
        assert len(checkpoint) == 4
        for name, tensor in TENSORS.items():
            assert torch.equal(checkpoint[name], tensor)
            assert checkpoint.specs[name] == TensorSpec(tuple(tensor.shape), tensor.dtype)
        assert checkpoint.elements == 6 + 1 + 3 + 2
        assert checkpoint.digest == sha256_of(file)


def test_order_is_that_of_the_disk(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    raw = (tmp_path / "model.safetensors").read_bytes()
    header = json.loads(raw[8 : 8 + int.from_bytes(raw[:8], "little")])
    on_disk = sorted((name for name in header if name != "__metadata__"), key=lambda name: header[name]["data_offsets"])
    assert list(open_checkpoint(tmp_path)) == on_disk


def test_shards_read_as_one_checkpoint(tmp_path: Path) -> None:
    checkpoint = open_checkpoint(write_shards(tmp_path / "model"))
    assert {name: tensor.tolist() for name, tensor in checkpoint.items()} == {name: tensor.tolist() for name, tensor in TENSORS.items()}
    assert len(checkpoint.files) == 2


def test_writing_to_a_tensor_leaves_the_file_alone(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    open_checkpoint(tmp_path)["b.weight"].zero_()
    assert torch.equal(open_checkpoint(tmp_path)["b.weight"], TENSORS["b.weight"])


LEAVING = [
    "../outside.safetensors",
    "/etc/passwd",
    "sub/x.safetensors",
    "..",
    "",
    r"\\server\share\x.safetensors",
    "//server/share/x.safetensors",
    r"..\outside.safetensors",
    "C:x.safetensors",
    "x\0.safetensors",
    "x" * 256,
    "\ud800",
    3,
    ["x.safetensors"],
    None,
]


@pytest.mark.fault(5)
@pytest.mark.parametrize("name", LEAVING, ids=repr)
def test_an_index_that_leaves_its_folder_is_refused(tmp_path: Path, name: object) -> None:
    save_file(TENSORS, tmp_path / "outside.safetensors")
    folder = write_shards(tmp_path / "model", {"a": name})  # type: ignore[dict-item]
    with pytest.raises(UnsafePath, match=r"index\.json names the shard .*, which is not a plain file name in .*model"):
        open_checkpoint(folder)
    (folder / "model.safetensors.index.json").rename(folder / "pytorch_model.bin.index.json")
    with pytest.raises(UnsafePath, match=r"index\.json names the shard .*, which is not a plain file name in .*model"):
        pickles_of(folder)


@pytest.mark.fault(5)
def test_a_link_out_of_the_folder_is_refused(tmp_path: Path) -> None:
    save_file({"a": TENSORS["a"]}, tmp_path / "outside.safetensors")
    folder = write_shards(tmp_path / "model", {"a": "link.safetensors"})
    (folder / "link.safetensors").symlink_to(tmp_path / "outside.safetensors")
    with pytest.raises(UnsafePath, match=r"names the shard 'link\.safetensors', which is not a plain file name in .*model"):
        open_checkpoint(folder)


@pytest.mark.fault(6)
def test_an_index_that_disagrees_with_its_shards_is_refused(tmp_path: Path) -> None:
    first, second = "model-00001-of-00002.safetensors", "model-00002-of-00002.safetensors"
    whole = {"b.weight": first, "a": first, "ids": second, "half": second}
    for number, (changed, message) in enumerate(
        [
            ({"a": "gone.safetensors"}, "gone.safetensors"),
            ({"ghost": first}, "ghost"),
            ({"a": second}, "'a'"),
        ]
    ):
        with pytest.raises(CorruptCheckpoint, match=message):
            open_checkpoint(write_shards(tmp_path / str(number), whole | changed))
    with pytest.raises(CorruptCheckpoint, match="half"):
        open_checkpoint(write_shards(tmp_path / "stray", {name: file for name, file in whole.items() if name != "half"}))


@pytest.mark.fault(3)
def test_one_name_in_two_shards_is_refused(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    save_file({"ids": TENSORS["ids"], "half": TENSORS["half"], "a": TENSORS["a"]}, folder / "model-00002-of-00002.safetensors")
    with pytest.raises(CorruptCheckpoint, match="'a' stands in"):
        open_checkpoint(folder)


def with_header(file: Path, header: str, data: bytes = bytes(8)) -> Path:
    file.write_bytes(len(header).to_bytes(8, "little") + header.encode() + data)
    return file


def entry(start: int, end: int) -> str:
    return f'{{"dtype":"F32","shape":[{(end - start) // 4}],"data_offsets":[{start},{end}]}}'


@pytest.mark.fault(3)
def test_a_name_that_stands_twice_is_refused(tmp_path: Path) -> None:
    for content in (f'{{"a":{entry(0, 8)},"a":{entry(0, 8)}}}', f'{{"a":{entry(0, 8)},"\\u0061":{entry(0, 8)}}}'):
        with pytest.raises(
            CorruptCheckpoint, match=r"a\.safetensors is not a whole safetensors file: ValueError: the name 'a' stands twice"
        ):
            open_checkpoint(with_header(tmp_path / "a.safetensors", content))
    file = with_header(tmp_path / "b.safetensors", f'{{"__metadata__":{{"x":"1","x":"2"}},"a":{entry(0, 8)}}}')
    with pytest.raises(CorruptCheckpoint, match="the name 'x' stands twice"):
        open_checkpoint(file)
    folder = write_shards(tmp_path / "model")
    (folder / "model.safetensors.index.json").write_text('{"weight_map": {"a": "x.safetensors", "a": "y.safetensors"}}')
    with pytest.raises(CorruptCheckpoint, match=r"index\.json is not an index with a weight_map: ValueError: the name 'a' stands twice"):
        open_checkpoint(folder)


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"\x07",
        b"\xff" * 8,
        (10**8 + 1).to_bytes(8, "little") + b"{",
        (2).to_bytes(8, "little") + b"[]",
        (4).to_bytes(8, "little") + b"{}",
    ],
)
def test_headers_that_are_none_are_refused_in_little_memory(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "model.safetensors").write_bytes(content)
    tracemalloc.start()
    try:
        with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors is not a whole safetensors file: "):
            open_checkpoint(tmp_path)
        assert tracemalloc.get_traced_memory()[1] < 1 << 20
    finally:
        tracemalloc.stop()


@pytest.mark.fault(1)
@pytest.mark.parametrize(
    "header",
    [
        f'{{"a":{entry(0, 4)},"b":{entry(0, 8)}}}',  # they overlap
        f'{{"a":{entry(0, 4)}}}',  # bytes of none
        f'{{"a":{entry(4, 8)}}}',  # a hole
        f'{{"a":{entry(0, 12)}}}',  # more than there is
        f'{{"a":{entry(8, 0)}}}',
        '{"a":{"dtype":"F32","shape":[4294967296,4294967296],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"F32","shape":[-2],"data_offsets":[0,8]}}',
        '{"a":{"dtype":"what","shape":[2],"data_offsets":[0,8]}}',
    ],
)
def test_entries_that_are_not_those_of_the_data_are_refused(tmp_path: Path, header: str) -> None:
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors is not a whole safetensors file: "):
        open_checkpoint(with_header(tmp_path / "model.safetensors", header))


@pytest.mark.fault(7)
def test_pickles_are_refused_and_never_opened(tmp_path: Path) -> None:
    class Bomb:
        def __reduce__(self) -> tuple[object, tuple[str]]:
            return exec, (f"open({str(tmp_path / 'exploded')!r}, 'w')",)

    for name in ("model.bin", "model.pt", "model.ckpt"):
        (tmp_path / name).write_bytes(pickle.dumps(Bomb()))
        with pytest.raises(UnsupportedFormat, match="runs code"):
            open_checkpoint(tmp_path / name)
    with pytest.raises(UnsupportedFormat, match="only pickles"):
        open_checkpoint(tmp_path)
    assert not (tmp_path / "exploded").exists()


def test_nothing_there(tmp_path: Path) -> None:
    with pytest.raises(CheckpointNotFound, match="no such file or folder"):
        open_checkpoint(tmp_path / "absent")
    with pytest.raises(CheckpointNotFound, match="neither"):
        open_checkpoint(tmp_path)


@pytest.mark.fault(1)
@settings(max_examples=200, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(place=st.integers(0, 200), value=st.integers(0, 255), cut=st.integers(0, 400))
def test_spoilt_headers_raise_our_errors_or_read(tmp_path: Path, place: int, value: int, cut: int) -> None:
    file = tmp_path / "spoilt.safetensors"
    save_file(TENSORS, file)
    raw = bytearray(file.read_bytes())
    raw[place] = value
    file.write_bytes(raw[: len(raw) - cut])
    try:
        checkpoint = open_checkpoint(file)
        assert all(isinstance(checkpoint[name], torch.Tensor) for name in checkpoint.specs)
    except CheckpointError as error:
        assert str(file) in str(error)  # noqa: PT017


def test_a_fingerprint_tells_models_apart(tmp_path: Path) -> None:
    def fingerprint(name: str, tensors: dict[str, torch.Tensor]) -> str:
        save_file(tensors, tmp_path / name)
        return open_checkpoint(tmp_path / name).fingerprint

    large = torch.zeros(3000)
    changed, late = large.clone(), large.clone()
    changed[1000], late[2000] = 1, 1  # 4 KiB hold 1024 float32
    first = fingerprint("a.safetensors", TENSORS | {"large": large})
    assert first == fingerprint("b.safetensors", TENSORS | {"large": large})
    others = [
        fingerprint("c.safetensors", TENSORS | {"large": changed}),
        fingerprint("d.safetensors", TENSORS | {"a": torch.tensor(3.0), "large": large}),
        fingerprint("e.safetensors", TENSORS | {"larger": large}),
        fingerprint("f.safetensors", TENSORS | {"large": large[:2999]}),
    ]
    assert len({first, *others}) == 5
    assert first == fingerprint("g.safetensors", TENSORS | {"large": late}), "the price of being cheap: only the digest tells"
    assert open_checkpoint(tmp_path / "a.safetensors").digest != open_checkpoint(tmp_path / "g.safetensors").digest


def test_a_fingerprint_covers_every_shard(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    first = open_checkpoint(folder)
    save_file({name: TENSORS[name] + 1 for name in list(TENSORS)[2:]}, folder / "model-00002-of-00002.safetensors")
    assert first.fingerprint == open_checkpoint(folder).fingerprint != open_checkpoint(write_shards(tmp_path / "other")).fingerprint


def test_a_fingerprint_of_a_file_spoilt_or_removed_since(tmp_path: Path) -> None:
    file = tmp_path / "model.safetensors"
    for raw in (b"", b"\xff" * 100, b"\x02" + bytes(7) + b"[]"):
        save_file(TENSORS, file)
        checkpoint = open_checkpoint(file)
        file.unlink()  # the mapping holds the old file: never write into it
        file.write_bytes(raw)
        with pytest.raises(CorruptCheckpoint, match="is not the safetensors file that was opened any longer"):
            _ = checkpoint.fingerprint
    file.unlink()
    with pytest.raises(CheckpointNotFound, match="cannot be read"):
        _ = checkpoint.fingerprint


def test_a_digest_is_computed_once(tmp_path: Path) -> None:
    save_file(TENSORS, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    digest = checkpoint.digest
    (tmp_path / "model.safetensors").unlink()
    assert checkpoint.digest == digest


def test_a_checkpoint_says_where_it_lies_and_how_large_it_is(tmp_path: Path) -> None:
    folder = write_shards(tmp_path / "model")
    assert repr(open_checkpoint(folder)) == f"Checkpoint({str(folder)!r}, 4 tensors in 2 file(s))"


def test_a_dtype_that_is_not_read_is_named(tmp_path: Path) -> None:
    header = json.dumps({"w": {"dtype": "C64", "shape": [1], "data_offsets": [0, 8]}})
    checkpoint = open_checkpoint(with_header(tmp_path / "model.safetensors", header))
    with pytest.raises(UnsupportedFormat, match=r"model\.safetensors: tensor 'w' is stored as C64, which Suture does not read"):
        checkpoint.specs  # noqa: B018


@pytest.mark.fault(2)
def test_a_tensor_that_the_library_cannot_read_is_named(tmp_path: Path) -> None:
    class Spoilt:
        def get_tensor(self, name: str) -> None:
            raise SafetensorError("gone since")

    save_file({"w": torch.ones(1)}, tmp_path / "model.safetensors")
    checkpoint = open_checkpoint(tmp_path)
    checkpoint._handles[tmp_path / "model.safetensors"] = Spoilt()
    with pytest.raises(CorruptCheckpoint, match=r"model\.safetensors: tensor 'w' cannot be read: gone since"):
        checkpoint["w"]
