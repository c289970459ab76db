"""Text networks from Hugging Face folders: texts in, one representation each out."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from jaxtyping import Float
from torch import Tensor

from suture.backbones.families import Kind
from suture.backbones.huggingface import HuggingFaceBackbone, from_folder

TOKENS_PER_BATCH = 4096
"""Padded tokens per forward pass: enough to keep the matrix products busy, few enough for a processor's cache."""


@dataclass(frozen=True)
class TextBackbone(HuggingFaceBackbone):
    """A text encoder, or a decoder that is read at a text's last token; see :class:`HuggingFaceBackbone`.

    Texts are cut at ``max_length`` tokens, or at the number of positions that the model has, if that is less.
    """

    max_length: int = 128

    @property
    def kind(self) -> Kind:
        """It takes texts."""
        return "text"

    @property
    def sample(self) -> str:
        """Some text."""
        return "a"

    def _settings(self) -> list[object]:
        return [self.max_length]

    def identities(self, inputs: Sequence[str]) -> list[str]:
        """Return what tells each text from all others: itself."""
        return list(inputs)

    @cached_property
    def tokenizer(self) -> Any:
        """The tokenizer of the folder."""
        from transformers import AutoTokenizer

        tokenizer = from_folder(AutoTokenizer, self.folder)
        # The first token is read as position 0 whatever side a folder's generation settings pad on.
        tokenizer.padding_side = "right"
        if tokenizer.pad_token is None:  # as with decoders; the mask says what is padding
            tokenizer.pad_token = tokenizer.eos_token or tokenizer.unk_token
        return tokenizer

    @property
    def longest(self) -> int:
        """The most tokens that a text may have."""
        positions = getattr(self.model.config, "max_position_embeddings", None) or self.max_length
        # RoBERTa and its kin count positions from behind the padding's.
        tables = [module for name, module in self.model.named_modules() if name.endswith("position_embeddings")]
        first = max((table.padding_idx + 1 for table in tables if getattr(table, "padding_idx", None) is not None), default=0)
        return min(self.max_length, positions - first)

    def tokenize(self, texts: Sequence[str]) -> list[list[int]]:
        """Return each text's token numbers, at least one, cut where the model's positions or ``max_length`` end."""
        numbers: list[list[int]] = self.tokenizer(list(texts), truncation=True, max_length=self.longest)["input_ids"]
        return [each or [self.tokenizer.pad_token_id] for each in numbers]

    def represent(self, tokens: Sequence[list[int]], weights: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of tokenised texts, one forward pass.

        ``weights``, by their names on disk, stand in for the backbone's own; gradients flow to them.
        """
        given = weights or {}
        stand_ins = {name: given[source] for name, source in self.names.items() if source in given} if given else {}
        return self.pooled(self.pad(tokens), stand_ins)

    def batches(self, inputs: Sequence[str]) -> Iterator[tuple[list[int], Mapping[str, Tensor]]]:
        """Cut texts into padded batches of like length: the places of the texts in each, and what the network takes."""
        tokens = self.tokenize(inputs)
        for places in batches_of_like_length([len(each) for each in tokens], TOKENS_PER_BATCH):
            yield places, self.pad([tokens[place] for place in places])

    def pad(self, tokens: Sequence[list[int]]) -> Mapping[str, Tensor]:
        """Return tokenised texts as the model takes them: token numbers and mask of the real ones, shape (n, longest)."""
        padded = self.tokenizer.pad({"input_ids": list(tokens)}, return_tensors="pt")
        return {name: torch.as_tensor(padded[name]) for name in ("input_ids", "attention_mask")}


def batches_of_like_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of texts, the shortest first, in batches of at most ``most_tokens`` padded tokens (one text at least).

    >>> list(batches_of_like_length([5, 1, 2, 9], 10))
    [[1, 2], [0], [3]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[place] > most_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
