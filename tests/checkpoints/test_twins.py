"""Embeddings that a configuration ties, and matrices that only look alike."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from suture.checkpoints import open_checkpoint, same_matrices, ties_embeddings

NAMES = ["lm_head.weight", "model.embed_tokens.weight"]


@pytest.mark.parametrize(
    ("content", "tied"),
    [(None, False), ("{", False), ("[]", False), ("{}", True), ('{"tie_word_embeddings": false}', False)],
)
def test_embeddings_are_tied_unless_the_configuration_says_otherwise_or_there_is_none(
    tmp_path: Path, content: str | None, tied: bool
) -> None:
    if content is not None:
        (tmp_path / "config.json").write_text(content)
    assert ties_embeddings(tmp_path, NAMES) is tied
    assert not ties_embeddings(tmp_path, [*NAMES, "layers.0.weight"])


def test_matrices_of_one_number_or_none_are_no_twins(tmp_path: Path) -> None:
    some, empty = torch.arange(6.0).reshape(2, 3), torch.zeros(0, 3)
    late = torch.arange(200.0).reshape(2, 100)
    other = late.clone()
    other[1, 99] = 7.0  # behind what most tensors are told apart by
    tensors = {"a": some, "b": some.clone(), "c": torch.ones(2, 3), "d": torch.ones(2, 3), "e": empty, "f": empty.clone()}
    save_file(tensors | {"g": late, "h": other, "i": torch.ones(4), "j": torch.ones(4)}, tmp_path / "model.safetensors")
    assert same_matrices(open_checkpoint(tmp_path)) == [["a", "b"]]
