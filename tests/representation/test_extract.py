"""Encoding: once, in order, and safe to share."""

from collections.abc import Callable
from pathlib import Path

import pytest
import torch

from suture.backbones import TextBackbone
from suture.backbones import backbone as module
from suture.errors import DataError, SutureWarning
from suture.representation import encode, encode_cached

TEXTS = ["red " * (1 + place % 9) + "cat" * (place % 2) for place in range(40)]


def test_order_and_batches_do_not_show(bert: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    backbone, seen = TextBackbone.open(bert), list[int]()
    alone = torch.cat([encode(backbone, [text]) for text in TEXTS])
    for tokens in (1, 20, 4096):
        monkeypatch.setattr(module, "TOKENS_PER_BATCH", tokens)
        torch.testing.assert_close(encode(backbone, TEXTS, seen.append), alone, rtol=0, atol=1e-5)
    assert sum(seen) == 3 * len(TEXTS)


def test_the_same_weights_and_texts_are_encoded_once(
    bert: Path, make_expert: Callable[..., Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls: list[int] = []
    original = TextBackbone.pooled
    monkeypatch.setattr(TextBackbone, "pooled", lambda self, batch: calls.append(len(batch["input_ids"])) or original(self, batch))
    first = encode_cached(TextBackbone.open(bert), TEXTS, folder=tmp_path)
    assert sum(calls) == len(TEXTS)
    assert torch.equal(encode_cached(TextBackbone.open(bert), TEXTS, folder=tmp_path), first)
    assert sum(calls) == len(TEXTS)
    encode_cached(TextBackbone.open(bert), TEXTS[:-1], folder=tmp_path)
    encode_cached(TextBackbone.open(make_expert("e", 1)), TEXTS, folder=tmp_path)
    assert sum(calls) == 3 * len(TEXTS) - 1


def test_a_spoilt_cache_file_is_made_again(bert: Path, tmp_path: Path) -> None:
    first = encode_cached(TextBackbone.open(bert), TEXTS, folder=tmp_path)
    (file,) = tmp_path.rglob("*.safetensors")
    file.write_bytes(file.read_bytes()[:50])
    assert torch.equal(encode_cached(TextBackbone.open(bert), TEXTS, folder=tmp_path), first)
    assert file.stat().st_size > 50


def test_texts_cannot_imitate_one_another(bert: Path, tmp_path: Path) -> None:
    assert len(encode_cached(TextBackbone.open(bert), ["red", "cat"], folder=tmp_path)) == 2
    assert len(encode_cached(TextBackbone.open(bert), ["red\0cat"], folder=tmp_path)) == 1


def test_a_cache_that_cannot_be_written_is_done_without(bert: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.warns(SutureWarning, match="not kept"):
        assert len(encode_cached(TextBackbone.open(bert), ["red"], folder=tmp_path / "file")) == 1


@pytest.mark.fault(23)
def test_no_texts(bert: Path) -> None:
    with pytest.raises(DataError, match="no inputs"):
        encode(TextBackbone.open(bert), [])
