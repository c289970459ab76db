"""Text networks from Hugging Face folders: texts in, one representation each out."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import torch
from torch import Tensor

from suture.backbones.families import Kind
from suture.backbones.huggingface import HuggingFaceBackbone, from_folder
from suture.errors import DataError
from suture.inputs import Input


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

    def prepare(self, inputs: Sequence[Input]) -> list[list[int]]:
        """Return each text's token numbers, at least one, cut where the model's positions or ``max_length`` end.

        Raises :class:`DataError` for what is no text.
        """
        if wrong := [type(each).__name__ for each in inputs if not isinstance(each, str)]:
            raise DataError(f"{self.folder} takes texts, not {wrong[0]}")
        for each in inputs:
            if re.search("[\ud800-\udfff]", str(each)):
                raise DataError(f"half a surrogate pair, which is not text, in {str(each)[:40]!r}")
        _ = self.family  # a tokenizer of another kind of network would only confuse
        numbers: list[list[int]] = self.tokenizer(list(inputs), truncation=True, max_length=self.longest)["input_ids"]
        return [each or [self.tokenizer.pad_token_id] for each in numbers]

    def length(self, prepared: list[int]) -> int:
        """Return the number of a text's tokens."""
        return len(prepared)

    def collate(self, prepared: Sequence[list[int]]) -> Mapping[str, Tensor]:
        """Return tokenised texts as the model takes them: token numbers and mask of the real ones, shape (n, longest)."""
        padded = self.tokenizer.pad({"input_ids": list(prepared)}, return_tensors="pt")
        return {name: torch.as_tensor(padded[name]) for name in ("input_ids", "attention_mask")}
