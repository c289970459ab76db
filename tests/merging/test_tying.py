"""Tied weights: merged under one name and the same again; ties that disagree are refused."""

import json
from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from merging.network import Network
from merging.test_contract import model, on_disk
from suture.checkpoints import Checkpoint, open_checkpoint
from suture.errors import IncompatibleExperts
from suture.merging import Dare, MergingMethod, RegMean, TaskArithmetic, Ties, TsvM, merge_tensors
from suture.merging.tying import tied_names

EMBED, HEAD = "model.embed_tokens.weight", "lm_head.weight"


def save(folder: Path, seed: int, *, tied: bool = True, config: dict[str, object] | None = None) -> Checkpoint:
    folder.mkdir()
    draw = torch.Generator().manual_seed(seed)
    embed = torch.randn(12, 4, generator=draw)
    tensors: dict[str, Tensor] = {
        "norm": torch.ones(4),
        "other_norm": torch.ones(4),
        "zeros.a": torch.zeros(12, 4),
        "zeros.b": torch.zeros(12, 4),
        "layer": torch.randn(12, 4, generator=draw),
        EMBED: embed,
        HEAD: embed.clone() if tied else torch.randn(12, 4, generator=draw),
    }
    save_file(tensors, folder / "model.safetensors")
    (folder / "config.json").write_text(json.dumps(config or {}))
    return open_checkpoint(folder)


@pytest.mark.fault(18)
@pytest.mark.parametrize("method", [TaskArithmetic(), Ties(), Dare(drop=0.5), TsvM()])
def test_what_is_tied_is_tied_again(tmp_path: Path, method: MergingMethod) -> None:
    base, experts = save(tmp_path / "base", 0), [save(tmp_path / f"e{seed}", seed) for seed in (1, 2)]
    merged = dict(merge_tensors(method, base, experts))
    assert torch.equal(merged[EMBED], merged[HEAD])
    assert not torch.equal(merged[EMBED], base[EMBED])
    assert list(merged) == list(base)


def test_one_name_stands_for_both_and_constants_are_not_tied(tmp_path: Path) -> None:
    base, expert = save(tmp_path / "base", 0), save(tmp_path / "e", 1)
    first = min(EMBED, HEAD, key=list(base).index)
    assert tied_names(base, [expert]) == {EMBED: first, HEAD: first}
    assert set(tied_names(base, [expert], frozenset({EMBED})).values()) == {EMBED}


@pytest.mark.fault(18)
def test_ties_that_disagree_are_refused(tmp_path: Path) -> None:
    base, expert = save(tmp_path / "base", 0), save(tmp_path / "apart", 1, tied=False)
    with pytest.raises(
        IncompatibleExperts, match=r"apart: the tensors '.*lm_head\.weight.* whose configuration ties them, but not in this"
    ):
        list(merge_tensors(TaskArithmetic(), base, [save(tmp_path / "e", 2), expert]))


def test_what_only_starts_alike_is_two(tmp_path: Path) -> None:
    base = save(tmp_path / "base", 0, config={"tie_word_embeddings": False})
    expert = save(tmp_path / "apart", 1, tied=False)
    merged = dict(merge_tensors(TaskArithmetic(scale=1.0), base, [expert]))
    torch.testing.assert_close(merged[HEAD], expert[HEAD])
    torch.testing.assert_close(merged[EMBED], expert[EMBED])


def test_a_tie_is_merged_by_the_name_that_the_network_reads(tmp_path: Path) -> None:
    found = []
    for twin in (False, True):
        (folder := tmp_path / f"twin {twin}").mkdir()
        tensors = [model(seed) for seed in range(3)]
        for own in tensors if twin else []:
            own["again"] = own["matrix"].clone()  # stands first on disk, and no network has such a name
        base, *experts = (on_disk(folder, f"model{seed}", own) for seed, own in enumerate(tensors))
        found.append(dict(merge_tensors(RegMean(), base, experts, calibration=Network(base, ["a", "b"]))))
    assert torch.equal(found[1]["matrix"], found[0]["matrix"])
    assert torch.equal(found[1]["again"], found[1]["matrix"])
