"""Representations handed over in files."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from suture.errors import CorruptCheckpoint, DataError
from suture.surgery import Features, gathered, load_features, save_features


def features(task: str, seed: int = 0, backbone: str = "b" * 64, calibration: str = "held-out", width: int = 4) -> Features:
    generator = torch.Generator().manual_seed(seed)
    return Features(task, *(torch.randn(6, width, generator=generator) for _ in range(2)), backbone, calibration, 3)


def test_there_and_back(tmp_path: Path) -> None:
    for task in ("a", "b"):
        save_features(tmp_path / f"{task}.safetensors", features(task, ord(task)))
    assert load_features(tmp_path / "a.safetensors").task == "a"
    pairs, origin = gathered([tmp_path / "a.safetensors", tmp_path / "b.safetensors"])
    assert torch.equal(pairs["b"][1], features("b", ord("b")).expert)
    assert (origin.calibration, origin.samples, origin.seed, origin.backbone) == ("held-out", 6, 3, "b" * 64)


@pytest.mark.parametrize(
    ("second", "told"),
    [
        (features("a"), "two files of features of a"),
        (features("b", backbone="c" * 64), "different merged weights"),
        (features("b", calibration="transductive"), "different calibrations: held-out, transductive"),
        (features("b", width=5), "one width"),
    ],
)
def test_what_does_not_belong_together(tmp_path: Path, second: Features, told: str) -> None:
    save_features(tmp_path / "1.safetensors", features("a"))
    save_features(tmp_path / "2.safetensors", second)
    with pytest.raises(DataError, match=told):
        gathered([tmp_path / "1.safetensors", tmp_path / "2.safetensors"])


def test_what_is_none(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="no files"):
        gathered([])
    with pytest.raises(DataError, match="the same inputs"):
        Features("a", torch.ones(3, 2), torch.ones(4, 2), "b", "held-out")
    with pytest.raises(DataError, match="NaN"):
        Features("a", torch.ones(3, 2), torch.full((3, 2), torch.nan), "b", "held-out")
    save_file({"merged": torch.ones(3, 2), "expert": torch.ones(3, 2)}, tmp_path / "bare.safetensors")
    with pytest.raises(CorruptCheckpoint, match="not a whole file of features"):
        load_features(tmp_path / "bare.safetensors")
    save_file({"merged": torch.arange(6).reshape(3, 2), "expert": torch.ones(3, 2)}, tmp_path / "whole.safetensors", {"suture": "features"})
    with pytest.raises(CorruptCheckpoint, match="not a whole file of features"):
        load_features(tmp_path / "whole.safetensors")
    save_file({"merged": torch.ones(3, 2)}, tmp_path / "half.safetensors", metadata={"suture": "features"})
    with pytest.raises(CorruptCheckpoint, match="not a whole file of features"):
        load_features(tmp_path / "half.safetensors")
    for number, (merged, expert) in enumerate([((3, 2), (4, 2)), ((3, 2), (3, 1)), ((3,), (3,)), ((3, 2, 1), (3, 2, 1))]):
        told = {"suture": "features", "task": "a", "backbone": "b", "calibration": "held-out", "seed": "0"}
        save_file({"merged": torch.ones(merged), "expert": torch.ones(expert)}, tmp_path / f"{number}.safetensors", metadata=told)
        with pytest.raises(CorruptCheckpoint, match="not a whole file of features"):
            load_features(tmp_path / f"{number}.safetensors")


@pytest.mark.fault(14, 23)
@pytest.mark.parametrize(
    ("merged", "told"),
    [
        (torch.tensor([[1.0, float("nan")]]), "representations hold NaN or Inf"),
        (torch.ones(0, 2), "expected the same inputs, at least one"),
    ],
)
def test_a_file_without_rows_or_with_nan_is_named(tmp_path: Path, merged: torch.Tensor, told: str) -> None:
    about = {"suture": "features", "task": "a", "backbone": "b" * 64, "calibration": "held-out", "seed": "0"}
    save_file({"merged": merged, "expert": torch.ones_like(merged)}, tmp_path / "a.safetensors", about)
    with pytest.raises(DataError, match=rf"a\.safetensors: task 'a': .*{told}"):
        load_features(tmp_path / "a.safetensors")
