"""Heads."""

from pathlib import Path

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from suture.backbones import Head, load_heads, prototype_head, save_heads
from suture.errors import CorruptCheckpoint, DataError


def test_prototypes_are_mean_directions(generator: torch.Generator) -> None:
    z, labels = torch.randn(12, 5, generator=generator), torch.tensor([0, 1, 2] * 4)
    rows = z.double().numpy()
    rows = rows / np.linalg.norm(rows, axis=1, keepdims=True)
    means = np.stack([rows[labels.numpy() == c].mean(axis=0) for c in range(3)])
    means /= np.linalg.norm(means, axis=1, keepdims=True)
    np.testing.assert_allclose(prototype_head(z, labels, 3, 10.0)(z).numpy(), 10 * rows @ means.T, rtol=1e-5, atol=1e-5)


def test_a_cosine_head_does_not_see_lengths(generator: torch.Generator) -> None:
    head, z = Head(torch.randn(3, 5, generator=generator)), torch.randn(4, 5, generator=generator)
    torch.testing.assert_close(head(z), head(7 * z))


def test_a_linear_head_is_linear(generator: torch.Generator) -> None:
    weight, bias, z = (torch.randn(shape, generator=generator) for shape in ((3, 5), (3,), (4, 5)))
    torch.testing.assert_close(Head(weight, bias)(z), z @ weight.T + bias)


@pytest.mark.fault(4, 21)
def test_heads_round_trip_with_hostile_names(tmp_path: Path, generator: torch.Generator) -> None:
    heads = {
        "spam": Head(torch.randn(2, 5, generator=generator), scale=12.5),
        "../a.weight": Head(torch.randn(3, 5, generator=generator), torch.ones(3)),
    }
    save_heads(tmp_path / "heads.safetensors", heads)
    back = load_heads(tmp_path / "heads.safetensors")
    z = torch.randn(4, 5, generator=generator)
    assert back.keys() == heads.keys()
    assert all(torch.equal(back[task](z), head(z)) for task, head in heads.items())


def test_what_is_refused(tmp_path: Path, generator: torch.Generator) -> None:
    with pytest.raises(DataError, match="width 5, not 4"):
        Head(torch.ones(2, 5))(torch.ones(3, 4))
    with pytest.raises(DataError, match=r"\[2, 0\] per class"):
        prototype_head(torch.ones(2, 5), torch.tensor([0, 0]), 2)
    save_heads(tmp_path / "heads.safetensors", {"a": Head(torch.ones(2, 5))})
    save_file({"a.weight": load_file(tmp_path / "heads.safetensors")["a.weight"]}, tmp_path / "half.safetensors")
    with pytest.raises(CorruptCheckpoint, match=r"a\.scale"):
        load_heads(tmp_path / "half.safetensors")


def test_classes_are_kept_in_the_order_of_the_rows(tmp_path: Path) -> None:
    file = tmp_path / "heads.safetensors"
    save_heads(file, {"a": Head(torch.ones(2, 5), classes=("Ü", "b\n")), "b": Head(torch.ones(3, 5))})
    assert {task: head.classes for task, head in load_heads(file).items()} == {"a": ("Ü", "b\n"), "b": ()}
    with pytest.raises(DataError, match="a head of 2 rows cannot have 1 classes: x"):
        Head(torch.ones(2, 5), classes=("x",))


@pytest.mark.parametrize(
    ("classes", "error"),
    [("[", CorruptCheckpoint), ('{"a": [1, 2]}', CorruptCheckpoint), ("[3]", CorruptCheckpoint), ('{"a": ["x"]}', DataError)],
)
def test_classes_that_do_not_fit_are_refused(tmp_path: Path, classes: str, error: type[Exception]) -> None:
    file = tmp_path / "heads.safetensors"
    save_file({"a.weight": torch.ones(2, 5), "a.scale": torch.tensor(1.0)}, file, metadata={"classes": classes})
    with pytest.raises(error, match=r"heads\.safetensors"):
        load_heads(file)
