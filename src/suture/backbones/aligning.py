"""Experts that were saved with a head, or by another class than their base: their backbones in the base's layout."""

import re
import warnings
from collections.abc import Callable
from pathlib import Path

from suture.backbones.backbone import Backbone
from suture.backbones.networks import Network, NetworkBackbone
from suture.backbones.opening import open_backbone
from suture.checkpoints import AlignedExpert, Checkpoint, Weights, open_expert, same_matrices, ties_embeddings
from suture.errors import CheckpointError, SutureWarning

HEAD = re.compile(
    r"^((pre_|cls_|distillation_)?classifier|classification_head|cls|decoder|head|lm_head|lm_predictions|mask_predictions|qa_outputs|score|"
    r"vocab_\w+)\."
)
"""The names, on disk, of what libraries put behind a backbone."""

BEHIND = re.compile(r"(^|\.)(pooler|visual_projection)\.")


def open_aligned(base: Checkpoint, path: str | Path, network: str | Callable[[], Network] = "") -> Weights:
    """Open an expert of ``base`` (:func:`suture.checkpoints.open_expert`), in the base's layout where its own is another.

    The same network may be saved with a classifier, a language model's head or nothing behind it, and then its tensors' names differ
    too (``bert.encoder…``, ``encoder…``). Which are the same is seen by loading both with the library, not guessed from names. What no
    representation reads is left: of the expert it is left out, with a :class:`SutureWarning` that names it, and of the base it stays. Only
    heads may be left out, by the names that libraries give them.

    ``network`` is that of :func:`open_backbone`, for networks of one's own.

    Experts that hold other tensors for another reason come back as they are, for whoever compares them with the base to refuse.

    >>> list(open_aligned(base, experts[0].path, make)) == list(base)
    True
    """
    expert = open_expert(base, path)
    if not isinstance(expert, Checkpoint) or _alike(base, expert) or not (network or (base.described and expert.described)):
        return expert
    try:
        return _aligned(base, expert, *(open_backbone(weights.folder, weights, network=network) for weights in (base, expert)))
    except CheckpointError:  # it does not even fill its own model, or is of no family that is known
        return expert


def _aligned(base: Checkpoint, expert: Checkpoint, ours: Backbone, theirs: Backbone) -> Weights:
    if ours.architecture != theirs.architecture:
        return expert
    # Poolers and CLIP's projection stand behind the last block, and are not saved by every class. A pooler that is not the expert's is
    # refused where representations are made by it; a projection that was not trained along is the base's.
    if not {name for name in ours.names if not BEHIND.search(name)} <= theirs.names.keys():
        return expert
    placed = {source: theirs.names[name] for name, source in ours.names.items() if name in theirs.names}
    # What the base's configuration ties may stand in the base twice, and in the expert once.
    for twins in same_matrices(base):
        if ties_embeddings(base.folder, twins) and (own := next((placed[name] for name in twins if name in placed), None)):
            placed |= {name: name if name in expert else own for name in twins if name not in placed}
    aligned = AlignedExpert(base, expert, placed)
    poolers = any("pooler" in name for name in base)
    if not all(_is_head(name, theirs) or ("pooler" in name and not poolers) for name in aligned.left_out):
        return expert
    if aligned.left_out:
        told = ", ".join(aligned.left_out)
        warnings.warn(f"{expert.path}: left out, as the base's backbone has no such tensor: {told}", SutureWarning, stacklevel=3)
    if filled := [source for source in ours.names.values() if source not in aligned.names and "pooler" not in source]:
        warnings.warn(f"{expert.path} has no {', '.join(filled)}: the base's are taken", SutureWarning, stacklevel=3)
    return aligned


def _is_head(name: str, network: Backbone) -> bool:
    """Say whether a tensor, by its name on disk, stands behind the representation."""
    named = isinstance(network, NetworkBackbone) and network.network.classifier
    return bool(HEAD.search(name)) or (bool(named) and name.startswith(f"{network.classifier}."))


def _alike(base: Checkpoint, expert: Checkpoint) -> bool:
    ours, theirs = ({name: spec.shape for name, spec in own.specs.items() if spec.dtype.is_floating_point} for own in (base, expert))
    return ours == theirs
