"""Experts that were saved with a head, or by another class than their base: their backbones in the base's layout."""

import warnings
from pathlib import Path

from suture.backbones.opening import open_backbone
from suture.checkpoints import AlignedExpert, Checkpoint, Weights, open_expert
from suture.errors import SutureWarning


def open_aligned(base: Checkpoint, path: str | Path) -> Weights:
    """Open an expert of ``base`` (:func:`suture.checkpoints.open_expert`), in the base's layout where its own is another.

    The same network may be saved with a classifier, a language model's head or nothing behind it, and then its tensors' names differ
    too (``bert.encoder…``, ``encoder…``). Which are the same is seen by loading both with the library, not guessed from names. What no
    representation reads is left: of the expert it is left out, with a :class:`SutureWarning` that names it, and of the base it stays.

    Experts that hold other tensors for another reason come back as they are, for whoever compares them with the base to refuse.
    """
    expert = open_expert(base, path)
    if not isinstance(expert, Checkpoint) or _alike(base, expert) or not (_described(base) and _described(expert)):
        return expert
    ours, theirs = (open_backbone(_folder(weights), weights) for weights in (base, expert))
    if ours.config.model_type != theirs.config.model_type:
        return expert
    # Networks bring poolers that a checkpoint may lack; where representations are made by them, loading says so.
    needed = {name for name in ours.names if "pooler" not in name}
    if not needed <= theirs.names.keys():
        return expert
    aligned = AlignedExpert(base, expert, {source: theirs.names[name] for name, source in ours.names.items() if name in theirs.names})
    if aligned.left_out:
        warnings.warn(f"{path}: left out, as the base's backbone has no such tensor: {', '.join(aligned.left_out)}", SutureWarning, 2)
    return aligned


def _alike(base: Checkpoint, expert: Checkpoint) -> bool:
    ours, theirs = ({name: spec.shape for name, spec in own.specs.items() if spec.dtype.is_floating_point} for own in (base, expert))
    return ours == theirs


def _folder(weights: Checkpoint) -> Path:
    return weights.path if weights.path.is_dir() else weights.path.parent


def _described(weights: Checkpoint) -> bool:
    return (_folder(weights) / "config.json").is_file()
