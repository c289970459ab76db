"""Representations in place of data: what an owner of an expert hands over when neither inputs nor weights may leave.

The owner runs the merged model and the expert over inputs of the task, and gives away what the two make of them, a number of vectors;
whoever fits surgery needs no more. Vectors are not anonymous: who has the network may learn something of the inputs from them.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from jaxtyping import Float
from torch import Tensor

from suture.checkpoints import open_sealed, write_sealed
from suture.errors import CorruptCheckpoint, DataError
from suture.surgery.files import Origin
from suture.surgery.pairs import Pair, check_pairs

KIND = "features"
MERGED, EXPERT = "merged", "expert"


@dataclass(frozen=True)
class Features:
    """One task's calibration inputs as the merged backbone of a digest represents them, and as the expert does.

    Raises :class:`DataError` unless both are of the same inputs, finite, of one width.
    """

    task: str
    merged: Float[Tensor, "_ _"]
    expert: Float[Tensor, "_ _"]
    """Both of shape (n, k)."""
    backbone: str
    """The digest of the merged weights."""
    calibration: str
    """What the inputs were: ``held-out``, ``transductive``, and whose."""
    seed: int = 0

    def __post_init__(self) -> None:
        check_pairs({self.task: (self.merged, self.expert)})


def save_features(file: Path, features: Features) -> None:
    """Write one task's features to a safetensors file.

    >>> import torch
    >>> z = torch.eye(2)
    >>> save_features(folder / "spam.safetensors", Features("spam", z, 2 * z, backbone="ab12", calibration="held-out"))
    >>> load_features(folder / "spam.safetensors").expert
    tensor([[2., 0.],
            [0., 2.]])
    """
    tensors = {MERGED: features.merged.contiguous(), EXPERT: features.expert.contiguous()}
    told = {"task": features.task, "backbone": features.backbone, "calibration": features.calibration, "seed": str(features.seed)}
    write_sealed(file, tensors, {"suture": KIND, **told})


def load_features(file: Path) -> Features:
    """Read what :func:`save_features` wrote, as the example there shows.

    Raises :class:`CorruptCheckpoint` when it is not whole, or something else, and :class:`DataError` for no rows, NaN or Inf.
    """
    tensors, told = open_sealed(file)
    found = [tensors.specs[name] for name in (MERGED, EXPERT) if name in tensors]
    shapes, floating = [spec.shape for spec in found], all(spec.dtype.is_floating_point for spec in found)
    wrong = CorruptCheckpoint(f"{file} is not a whole file of features: `suture features` writes such")
    if told.get("suture") != KIND or len(shapes) != 2 or shapes[0] != shapes[1] or len(shapes[0]) != 2 or not floating:
        raise wrong
    try:
        seed, named = int(told["seed"]), (told["backbone"], told["calibration"])
        return Features(told["task"], tensors[MERGED].clone(), tensors[EXPERT].clone(), *named, seed)
    except DataError as error:
        raise DataError(f"{file}: {error}") from error
    except (KeyError, ValueError) as error:
        raise wrong from error


def gathered(files: Sequence[Path]) -> tuple[dict[str, Pair], Origin]:
    """Return what surgery is fitted on, from files of one task each, and what there is to tell of its origin.

    Raises :class:`DataError` for two files of one task, files of different merged backbones or calibrations, and what
    :func:`load_features` raises.
    """
    found = [load_features(file) for file in files]
    if not found:
        raise DataError("there are no files of features")
    for what, values in (("merged weights", {each.backbone for each in found}), ("calibrations", {each.calibration for each in found})):
        if len(values) > 1:
            raise DataError(f"these features are of different {what}: {', '.join(sorted(value[:40] for value in values))}")
    tasks = [each.task for each in found]
    if twice := sorted({task for task in tasks if tasks.count(task) > 1}):
        raise DataError(f"there are two files of features of {', '.join(twice)}")
    pairs = {each.task: (each.merged, each.expert) for each in found}
    check_pairs(pairs)
    return pairs, Origin(found[0].calibration, max(len(each.merged) for each in found), found[0].seed, found[0].backbone)
