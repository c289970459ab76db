"""The driver: folders out of core, and what it refuses."""

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from merging.network import Network
from suture.checkpoints import open_checkpoint, read_manifest
from suture.errors import IncompatibleExperts, NonFiniteTensor, OutputError, OutputExists, SutureWarning, UsageError
from suture.merging import AdaMerging, MergingMethod, TaskArithmetic, Ties, WeightAveraging, merge_tensors, merge_to_folder
from suture.types import Progress


def test_a_merged_folder_loads_in_transformers(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel, AutoTokenizer

    base = open_checkpoint(bert)
    merge_to_folder(WeightAveraging(), base, [open_checkpoint(path) for path in experts.values()], tmp_path / "out")
    state = AutoModel.from_pretrained(tmp_path / "out").state_dict()
    tensors = [load_file(path / "model.safetensors") for path in experts.values()]
    for name in base:
        torch.testing.assert_close(state[name], torch.stack([t[name] for t in tensors]).mean(dim=0))
    assert AutoTokenizer.from_pretrained(tmp_path / "out")("red")["input_ids"] == AutoTokenizer.from_pretrained(bert)("red")["input_ids"]
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.inputs[str(bert)] == f"fingerprint:{base.fingerprint}"
    assert manifest.settings["method"] == "weight_averaging(as_published=False)"


def test_shards_come_out_as_they_went_in(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    from transformers import AutoModel

    AutoModel.from_pretrained(bert).save_pretrained(tmp_path / "sharded", max_shard_size="10KB")
    base = open_checkpoint(tmp_path / "sharded")
    assert len(base.files) > 2
    sources = [open_checkpoint(path) for path in experts.values()]
    merge_to_folder(TaskArithmetic(), base, sources, tmp_path / "out")
    out = open_checkpoint(tmp_path / "out")
    assert {name: file.name for name, file in out.file_of.items()} == {name: file.name for name, file in base.file_of.items()}
    for name, tensor in merge_tensors(TaskArithmetic(), open_checkpoint(bert), sources):
        assert torch.equal(out[name], tensor)
    assert AutoModel.from_pretrained(tmp_path / "out").state_dict().keys() == AutoModel.from_pretrained(bert).state_dict().keys()


@pytest.mark.parametrize("method", [TaskArithmetic(), Ties()])
def test_progress_adds_up_to_the_elements(bert: Path, experts: dict[str, Path], method: MergingMethod) -> None:
    base, announced, seen = open_checkpoint(bert), list[tuple[str, int]](), list[int]()

    @contextmanager
    def stage(name: str, units: int) -> Iterator[Progress]:
        announced.append((name, units))
        yield seen.append

    list(merge_tensors(method, base, [open_checkpoint(experts["pets"])], stage=stage))
    assert announced == [(f"Merging: {method.name}", base.elements * method.passes)]
    assert sum(seen) == base.elements * method.passes


def test_no_experts(bert: Path) -> None:
    with pytest.raises(UsageError, match="at least one expert"):
        list(merge_tensors(TaskArithmetic(), open_checkpoint(bert), []))


@pytest.mark.fault(11)
def test_the_whole_difference_is_named(bert: Path, make_expert: Callable[..., Path], tmp_path: Path) -> None:
    expert = make_expert("odd", 1)
    tensors = load_file(expert / "model.safetensors")
    save_file({name: t for name, t in tensors.items() if "layer.1" not in name} | {"new": torch.ones(1)}, expert / "model.safetensors")
    with pytest.raises(IncompatibleExperts) as caught:
        merge_to_folder(TaskArithmetic(), open_checkpoint(bert), [open_checkpoint(expert)], tmp_path / "out")
    assert str(caught.value).count("missing tensor") == 8
    assert "and 9 more, which --debug lists" in str(caught.value)
    (whole,) = caught.value.__notes__
    assert (whole.count("missing tensor"), whole.count("extra tensor 'new'")) == (16, 1)


@pytest.mark.fault(13)
def test_another_dtype_is_a_difference(bert: Path, make_expert: Callable[..., Path]) -> None:
    expert = make_expert("half", 1)
    tensors = load_file(expert / "model.safetensors")
    save_file({name: tensor.half() for name, tensor in tensors.items()}, expert / "model.safetensors")
    with pytest.raises(IncompatibleExperts, match=r"expected \[.*\] float32, found \[.*\] float16"):
        list(merge_tensors(TaskArithmetic(), open_checkpoint(bert), [open_checkpoint(expert)]))


@pytest.mark.fault(13)
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
def test_mixed_dtypes_merge_into_the_dtype_that_is_asked_for(
    bert: Path, make_expert: Callable[..., Path], tmp_path: Path, dtype: torch.dtype
) -> None:
    whole, half = (make_expert(name, seed) for seed, name in enumerate(("whole", "half")))
    tensors = load_file(half / "model.safetensors")
    save_file({name: tensor.bfloat16() for name, tensor in tensors.items()}, half / "model.safetensors")
    base = open_checkpoint(bert)
    merge_to_folder(WeightAveraging(), base, [open_checkpoint(whole), open_checkpoint(half)], tmp_path / "out", dtype=dtype)
    out, first, second = (load_file(path / "model.safetensors") for path in (tmp_path / "out", whole, half))
    for name in base:
        assert out[name].dtype == dtype
        torch.testing.assert_close(out[name], ((first[name] + second[name].float()) / 2).to(dtype), rtol=1e-2, atol=1e-6)


def test_a_buffer_that_an_expert_lacks_is_the_bases(tmp_path: Path) -> None:
    save_file({"w": torch.ones(2), "ids": torch.arange(2)}, tmp_path / "base.safetensors")
    save_file({"w": torch.zeros(2)}, tmp_path / "expert.safetensors")
    base, expert = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert"))
    merged = dict(merge_tensors(WeightAveraging(), base, [expert]))
    assert merged["ids"].tolist() == [0, 1]
    assert merged["w"].tolist() == [0.0, 0.0]


@pytest.mark.fault(16)
def test_buffers_that_differ_are_refused(tmp_path: Path) -> None:
    for name, ids in (("base", [0, 1]), ("expert", [0, 2])):
        save_file({"w": torch.ones(2) * ids[1], "ids": torch.tensor(ids)}, tmp_path / f"{name}.safetensors")
    base, expert = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert"))
    with pytest.raises(IncompatibleExperts, match="'ids' differs from the base"):
        list(merge_tensors(TaskArithmetic(), base, [expert]))


@pytest.mark.fault(14, 15)
def test_not_finite_in_overflow_out(tmp_path: Path) -> None:
    for name, value in (("base", 0.0), ("nan", torch.nan), ("inf", -torch.inf), ("big", 3e4)):
        save_file({"w": torch.tensor([[1.0, value]]).half()}, tmp_path / f"{name}.safetensors")
    opened = {name: open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "nan", "inf", "big")}
    for name in ("nan", "inf"):
        with pytest.raises(NonFiniteTensor, match=rf"{name}\.safetensors: tensor 'w' holds 1 NaN or Inf, the first at index \(0, 1\)"):
            list(merge_tensors(TaskArithmetic(), opened["base"], [opened[name]]))
    with pytest.raises(NonFiniteTensor, match="more than"):
        list(merge_tensors(TaskArithmetic(scale=3.0), opened["base"], [opened["big"]]))


def test_a_folder_is_replaced_when_asked_for_and_its_manifest_tells_all(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    base, expert = open_checkpoint(bert), open_checkpoint(experts["pets"])
    merge_to_folder(TaskArithmetic(), base, [expert], tmp_path / "out")
    with pytest.raises(OutputExists):
        merge_to_folder(Ties(), base, [expert], tmp_path / "out")
    merge_to_folder(Ties(), base, [expert], tmp_path / "out", dtype=torch.bfloat16, batch_norm="base", about={"by": "hand"}, replace=True)
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.settings == {
        "method": str(Ties()),
        "base": str(bert),
        "experts": [str(expert.path)],
        "by": "hand",
        "batch_norm": "base",
        "dtype": "torch.bfloat16",
    }
    assert manifest.inputs == {str(each.path): f"fingerprint:{each.fingerprint}" for each in (base, expert)}


@pytest.mark.fault(25)
def test_shards_that_a_killed_merge_has_left_are_swept(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    (tmp_path / ".out.shards" / "0").mkdir(parents=True)
    base, *rest = (open_checkpoint(place) for place in (bert, *experts.values()))
    merge_to_folder(WeightAveraging(), base, rest, tmp_path / "out")
    assert sorted(file.name for file in tmp_path.iterdir()) == ["experts", "out"]


def test_an_output_that_is_an_input_is_refused(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    base, expert = open_checkpoint(bert), open_checkpoint(experts["pets"])
    merge_to_folder(TaskArithmetic(), base, [expert], tmp_path / "out")
    for taken in (merge_to_folder(TaskArithmetic(), base, [expert], tmp_path / "again"), tmp_path / "out"):
        with pytest.raises(OutputError, match="input"):
            merge_to_folder(TaskArithmetic(), base, [open_checkpoint(taken)], taken, replace=True)


def test_the_manifest_is_json_with_digests(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    merge_to_folder(TaskArithmetic(), open_checkpoint(bert), [open_checkpoint(experts["pets"])], tmp_path / "out")
    content = json.loads((tmp_path / "out" / "manifest.json").read_text())
    assert content["writer"] == "suture"
    assert all(len(digest) == 64 for digest in content["files"].values())


@pytest.mark.fault(15)
@pytest.mark.parametrize("value", [3e38, 1e6])
def test_what_overflows_is_refused_before_anything_is_at_the_output(tmp_path: Path, value: float) -> None:
    for name, factor in (("base", 0.0), ("expert", 1.0)):
        save_file({"w": factor * torch.tensor([[1.0, value]])}, tmp_path / f"{name}.safetensors")
    base, expert = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert"))
    with pytest.raises(NonFiniteTensor, match=r"'w'.*more than (torch\.)?float16 can hold"):
        merge_to_folder(TaskArithmetic(scale=0.5), base, [expert], tmp_path / "out", dtype=torch.float16)
    assert sorted(path.name for path in tmp_path.iterdir()) == ["base.safetensors", "expert.safetensors"]


HOSTILE = "\x1b[2J\x1b]0;owned\x07../../\N{RIGHT-TO-LEFT OVERRIDE}/etc/passwd\0"


@pytest.mark.fault(4)
def test_hostile_names_of_tensors_are_names_and_nothing_else(tmp_path: Path) -> None:
    for name, value in (("base", 0.0), ("expert", 1.0)):
        save_file({HOSTILE: torch.full((2,), value)}, tmp_path / f"{name}.safetensors")
    save_file({f"{HOSTILE}x": torch.ones(2)}, tmp_path / "odd.safetensors")
    base, expert, odd = (open_checkpoint(tmp_path / f"{name}.safetensors") for name in ("base", "expert", "odd"))
    merge_to_folder(TaskArithmetic(scale=1.0), base, [expert], tmp_path / "out")
    assert load_file(tmp_path / "out" / "model.safetensors")[HOSTILE].tolist() == [1.0, 1.0]
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "model.safetensors"]
    with pytest.raises(IncompatibleExperts) as caught:
        list(merge_tensors(TaskArithmetic(), base, [odd]))
    assert r"missing tensor '\x1b[2J\x1b]0;owned\x07../../\u202e/etc/passwd\x00'" in str(caught.value)


@pytest.mark.fault(19)
def test_an_expert_of_another_base_is_refused_where_its_manifest_tells(
    bert: Path, make_expert: Callable[..., Path], experts: dict[str, Path], tmp_path: Path
) -> None:
    base, other = open_checkpoint(bert), open_checkpoint(make_expert("other", 7))
    sources = [open_checkpoint(path) for path in experts.values()]
    merged = open_checkpoint(merge_to_folder(TaskArithmetic(), other, sources, tmp_path / "merged"))
    with pytest.raises(
        IncompatibleExperts, match=r"merged is not an expert of .*: its manifest says that it was made of another base \(fing"
    ):
        list(merge_tensors(TaskArithmetic(), base, [merged]))
    assert list(merge_tensors(TaskArithmetic(), other, [merged]))


@pytest.mark.fault(19)
def test_an_expert_that_is_the_base_is_told(bert: Path, experts: dict[str, Path], tmp_path: Path) -> None:
    base, expert = open_checkpoint(bert), open_checkpoint(experts["pets"])
    save_file(load_file(bert / "model.safetensors"), tmp_path / "copy.safetensors")  # another header, the same weights
    with pytest.warns(SutureWarning, match=r"copy\.safetensors is the base .* again: its task vector is zero") as told:
        list(merge_tensors(TaskArithmetic(), base, [expert, open_checkpoint(tmp_path / "copy.safetensors")]))
    assert len(told) == 1


def test_a_cache_that_cannot_be_written_is_told(
    bert: Path, experts: dict[str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SUTURE_CACHE", str(tmp_path / "file"))
    base, expert = open_checkpoint(bert), open_checkpoint(experts["pets"])
    with pytest.raises(OutputError, match=r"which cannot be written: .*; set SUTURE_CACHE"):
        list(merge_tensors(AdaMerging(), base, [expert], calibration=Network(base, ["pets"])))
    with pytest.raises(UsageError, match="learns from unlabelled inputs"):
        list(merge_tensors(AdaMerging(), base, [expert]))
    with pytest.raises(UsageError, match="1 experts, but calibration inputs of 2 tasks"):
        list(merge_tensors(AdaMerging(), base, [expert], calibration=Network(base, ["pets", "cars"])))
