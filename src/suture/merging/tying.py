"""Tied weights: what is one tensor in the network, and stands on disk twice."""

import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path

import torch
from torch import Tensor

from suture.checkpoints import Checkpoint, Weights
from suture.errors import IncompatibleExperts

SAMPLE = 64
"""How many elements tell most tensors apart."""

EMBEDDINGS = re.compile(r"(^|\.)(lm_head|embed_out|embed_tokens|word_embeddings|wte|shared|decoder)\.weight$")
"""The names of embeddings, and of what libraries tie to them."""


def tied_names(base: Weights, experts: Sequence[Weights], preferred: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return, for every tensor that is tied to another, the name that both are merged under: a preferred one, else the first on disk.

    Matrices are tied where base and experts each hold the same numbers twice; merged under one name they come out the same, whatever a
    method draws by name. Matrices that are the same in the base alone, as two towers that start alike, are two.

    Raises :class:`IncompatibleExperts` when an expert's differ although the base's configuration ties embeddings, and they are such.
    """
    found: dict[str, str] = {}
    for names in _alike(base):
        apart = [expert for expert in experts if any(not torch.equal(expert[names[0]], expert[name]) for name in names[1:])]
        if not apart:
            leader = next((name for name in names if name in preferred), names[0])
            found |= dict.fromkeys(names, leader)
        elif all(EMBEDDINGS.search(name) for name in names) and _ties_embeddings(base):
            raise IncompatibleExperts(
                f"{apart[0].path}: the tensors {', '.join(map(repr, names))} are one in the base ({base.path}), whose configuration ties "
                "them, but not in this expert: it is of another architecture, or spoilt"
            )
    return found


def _alike(base: Weights) -> list[list[str]]:
    """Return the groups of floating-point matrices that hold the same numbers, and not one number throughout."""
    groups: dict[tuple[object, ...], list[str]] = {}
    for name, spec in base.specs.items():
        if spec.dtype.is_floating_point and len(spec.shape) > 1:
            groups.setdefault((spec.shape, spec.dtype), []).append(name)
    found = []
    for names in groups.values():
        if len(names) > 1:
            found += [same for same in _same({name: base[name] for name in names}) if len(same) > 1]
    return found


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


def _ties_embeddings(base: Weights) -> bool:
    """Tell whether the configuration beside a base ties embeddings: libraries do unless it says otherwise."""
    file = (base.folder if isinstance(base, Checkpoint) else Path()) / "config.json"
    try:
        return bool(json.loads(file.read_text(encoding="utf-8")).get("tie_word_embeddings", True))
    except (OSError, ValueError, AttributeError):
        return False
