"""Tied weights: what is one tensor in the network, and stands on disk twice."""

from collections.abc import Sequence
from pathlib import Path

import torch

from suture.checkpoints import Checkpoint, Weights, same_matrices, ties_embeddings
from suture.errors import IncompatibleExperts


def tied_names(base: Weights, experts: Sequence[Weights], preferred: frozenset[str] = frozenset()) -> dict[str, str]:
    """Return, for every tensor that is tied to another, the name that both are merged under: a preferred one, else the first on disk.

    Matrices are tied where base and experts each hold the same numbers twice; merged under one name they come out the same, whatever a
    method draws by name. Matrices that are the same in the base alone, as two towers that start alike, are two.

    Raises :class:`IncompatibleExperts` when an expert's differ although the base's configuration ties embeddings, and they are such.
    """
    found: dict[str, str] = {}
    folder = base.folder if isinstance(base, Checkpoint) else Path()
    for names in same_matrices(base):
        apart = [expert for expert in experts if any(not torch.equal(expert[names[0]], expert[name]) for name in names[1:])]
        if not apart:
            leader = next((name for name in names if name in preferred), names[0])
            found |= dict.fromkeys(names, leader)
        elif ties_embeddings(folder, names):
            raise IncompatibleExperts(
                f"{apart[0].path}: the tensors {', '.join(map(repr, names))} are one in the base ({base.path}), whose configuration ties "
                "them, but not in this expert: it is of another architecture, or spoilt"
            )
    return found
