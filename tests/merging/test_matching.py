"""What must hold between a base and its experts: what is said when it does not, to the letter."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from suture.checkpoints import Checkpoint, Manifest, open_checkpoint
from suture.errors import IncompatibleExperts, NonFiniteTensor, SutureWarning, UsageError
from suture.merging.matching import LISTED, check_buffer, check_experts, check_finite

ONES = torch.ones(2, 3)


def saved(folder: Path, name: str, **tensors: Tensor) -> Checkpoint:
    save_file({key: tensor.clone() for key, tensor in tensors.items()}, folder / f"{name}.safetensors")
    return open_checkpoint(folder / f"{name}.safetensors")


def test_nothing_to_merge(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"\Athere is nothing to merge: give at least one expert\Z"):
        check_experts(saved(tmp_path, "base", w=ONES), [])


def test_every_kind_of_difference(tmp_path: Path) -> None:
    base = saved(tmp_path, "base", lost=ONES, ids=torch.arange(2), shape=ONES, half=ONES, kind=ONES)
    expert = saved(tmp_path, "expert", new=ONES, shape=ONES.T.contiguous(), half=ONES.half(), kind=ONES.int())
    differences = [
        "missing tensor 'lost'",
        "extra tensor 'new'",
        "tensor 'half': expected [2, 3] float32, found [2, 3] float16 (give an output dtype to merge mixed precisions)",
        "tensor 'kind': expected [2, 3] float32, found [2, 3] int32",
        "tensor 'shape': expected [2, 3] float32, found [3, 2] float32",
    ]
    for any_dtype in (False, True):
        with pytest.raises(IncompatibleExperts) as caught:
            check_experts(base, [base, expert], any_dtype=any_dtype)
        told = [each for each in differences if not (any_dtype and "'half'" in each)]
        start, _, rest = str(caught.value).partition(": ")
        assert start == f"{expert.path} is not an expert of {base.path}"
        assert sorted(rest.split("; ")) == sorted(told)


@pytest.mark.parametrize("missing", [LISTED, LISTED + 1, LISTED + 5])
def test_long_differences_are_cut(tmp_path: Path, missing: int) -> None:
    base = saved(tmp_path, "base", **{f"w{place:02}": ONES for place in range(missing)}, kept=ONES)
    with pytest.raises(IncompatibleExperts) as caught:
        check_experts(base, [saved(tmp_path, "expert", kept=ONES)])
    listed = "; ".join(f"missing tensor 'w{place:02}'" for place in range(LISTED))
    more = f"; … and {missing - LISTED} more, which --debug lists" if missing > LISTED else ""
    assert str(caught.value).endswith(f"base.safetensors: {listed}{more}")
    assert caught.value.__notes__ == ["\n".join(f"missing tensor 'w{place:02}'" for place in range(missing))]


def test_numbers_that_are_none_are_told_with_their_place(tmp_path: Path) -> None:
    spoilt = ONES.clone()
    spoilt[1, 0], spoilt[1, 2] = torch.inf, torch.nan
    base, expert, fine = saved(tmp_path, "base", w=ONES), saved(tmp_path, "expert", w=spoilt), saved(tmp_path, "fine", w=2 * ONES)
    with pytest.raises(NonFiniteTensor) as caught:
        check_finite("w", torch.stack([fine["w"] - base["w"], expert["w"] - base["w"]]), base, [fine, expert])
    assert str(caught.value) == f"{expert.path}: tensor 'w' holds 2 NaN or Inf, the first at index (1, 0)"
    with pytest.raises(NonFiniteTensor) as caught:
        check_finite("w", torch.tensor([torch.inf]).half(), base, [fine])
    assert str(caught.value) == (
        "tensor 'w': what is merged is more than torch.float16 can hold; merge less of it (a smaller scale), or into a wider dtype"
    )
    check_finite("w", torch.tensor([3e38, 3e38]), base, [fine])  # finite, though their sum is not


def test_buffers_are_the_same_everywhere_but_for_counts(tmp_path: Path) -> None:
    names = {"ids": 1, "norm.num_batches_tracked": 1, "num_batches_tracked": 1, "num_batches_tracked.ids": 1}
    base = saved(tmp_path, "base", **{name: torch.tensor([value]) for name, value in names.items()})
    other = saved(tmp_path, "other", **{name: torch.tensor([value + 1]) for name, value in names.items()})
    bare = saved(tmp_path, "bare", w=ONES)
    for name in ("norm.num_batches_tracked", "num_batches_tracked"):
        check_buffer(name, base, [other, bare])
    for name in ("ids", "num_batches_tracked.ids"):
        check_buffer(name, base, [base, bare])
        with pytest.raises(IncompatibleExperts) as caught:
            check_buffer(name, base, [bare, other])
        assert str(caught.value) == f"{other.path}: the torch.int64 tensor {name!r} differs from the base, and cannot be merged"


@pytest.mark.fault(10, 19)
def test_a_damaged_manifest_is_told_and_one_of_others_is_not_read(tmp_path: Path) -> None:
    base, expert = saved(tmp_path, "base", w=ONES), saved(tmp_path, "expert", w=ONES + 1)
    (tmp_path / "manifest.json").write_text('{"name": "app", "version": "1"}')
    check_experts(base, [expert])
    (tmp_path / "manifest.json").write_text(Manifest().text().replace("settings", "settinge"))
    with pytest.warns(SutureWarning, match=r"^the manifest of .* is damaged: of which base .*expert\.safetensors was made is not compared"):
        check_experts(base, [expert])
