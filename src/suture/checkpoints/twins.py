"""Matrices that stand twice among the weights of a model: tied ones, which are one in the network."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

import torch
from torch import Tensor

from suture.checkpoints.header import parsed, text_of

if TYPE_CHECKING:
    from suture.checkpoints import Weights

SAMPLE = 64
"""How many elements tell most tensors apart."""

EMBEDDINGS = re.compile(r"(^|\.)(lm_head|embed_out|embed_tokens|word_embeddings|wte|shared|decoder)\.weight$")
"""The names of embeddings, and of what libraries tie to them."""


def same_matrices(weights: "Weights") -> list[list[str]]:
    """Return the groups of floating-point matrices that hold the same numbers, and not one number throughout."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, spec in weights.specs.items():
        if spec.dtype.is_floating_point and len(spec.shape) > 1:
            groups.setdefault((spec.shape, spec.dtype), []).append(name)
    found = []
    for names in groups.values():
        if len(names) > 1:
            found += [same for same in _same({name: weights[name] for name in names}) if len(same) > 1]
    return found


def ties_embeddings(folder: Path, names: list[str]) -> bool:
    """Tell whether tensors are embeddings that the configuration in a folder ties: libraries do unless it says otherwise."""
    try:
        content = parsed(text_of(folder / "config.json"))
        return bool(content.get("tie_word_embeddings", True)) and all(EMBEDDINGS.search(name) for name in names)
    except (OSError, ValueError, AttributeError):
        return False


def _same(tensors: Mapping[str, Tensor]) -> list[list[str]]:
    """Return the names, grouped by what the tensors hold."""
    groups: dict[tuple[float, ...], list[list[str]]] = {}
    for name, tensor in tensors.items():
        start = tuple(tensor.reshape(-1)[:SAMPLE].tolist())
        if not start or (len(set(start)) == 1 and bool((tensor == start[0]).all())):
            continue
        near = groups.setdefault(start, [])
        same = next((group for group in near if torch.equal(tensors[group[0]], tensor)), None)
        if same is None:
            near.append([name])
        else:
            same.append(name)
    return [group for near in groups.values() for group in near]
