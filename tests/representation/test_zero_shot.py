"""Zero-shot heads: what CLIP's own text tower says of classes' names."""

from pathlib import Path

import numpy as np
import pytest
import torch

from backbones import zoo
from suture.backbones import ImageBackbone, TextBackbone, text_tower
from suture.errors import DataError
from suture.representation import encode, zero_shot_head

TEXTS = [["red is it", "a very red"], ["blue is it", "a very blue"], ["not is it", "a very not"]]


@pytest.fixture
def clip(tmp_path: Path) -> ImageBackbone:
    folder = zoo.make("clip", tmp_path / "clip")
    zoo.prepare_texts(folder)
    return ImageBackbone.open(folder)


def library_embeddings(folder: Path, texts: list[str]) -> np.ndarray:
    """Embed texts one by one, nothing padded, with the library's own model."""
    from transformers import AutoTokenizer, CLIPModel

    model, tokenizer = CLIPModel.from_pretrained(folder), AutoTokenizer.from_pretrained(folder)
    with torch.no_grad():
        rows = [model.get_text_features(**tokenizer(text, return_tensors="pt", return_token_type_ids=False)) for text in texts]
    return torch.cat([getattr(row, "pooler_output", row) for row in rows]).double().numpy()


def test_a_head_is_the_mean_direction_of_each_classs_texts(clip: ImageBackbone) -> None:
    head = zero_shot_head(clip, TEXTS)
    z = library_embeddings(clip.folder, [text for texts in TEXTS for text in texts]).reshape(3, 2, -1)
    z /= np.linalg.norm(z, axis=2, keepdims=True)
    mean = z.mean(axis=1)
    mean /= np.linalg.norm(mean, axis=1, keepdims=True)
    np.testing.assert_allclose(head.weight.numpy(), mean, rtol=1e-4, atol=1e-6)
    assert head.scale == pytest.approx(float(clip.weights["logit_scale"].exp()))

    images = zoo.images(4)
    found = head(encode(clip, images)).numpy()
    own = encode(clip, images).double().numpy()
    np.testing.assert_allclose(found, head.scale * own / np.linalg.norm(own, axis=1, keepdims=True) @ mean.T, rtol=1e-3, atol=1e-4)


def test_the_tower_shares_the_space_of_the_images(clip: ImageBackbone) -> None:
    assert text_tower(clip).width == clip.width
    assert text_tower(clip).digest != clip.digest


def test_networks_without_a_text_tower_are_refused(tmp_path: Path, bert: Path) -> None:
    alone = ImageBackbone.open(zoo.make("clip_vision_model", tmp_path / "alone"))
    for backbone in (alone, TextBackbone.open(bert)):
        with pytest.raises(DataError, match="has no text tower, and zero-shot heads are made by one: the base must be a whole CLIP"):
            zero_shot_head(backbone, TEXTS)
