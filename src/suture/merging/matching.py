"""What must hold between a base and its experts before a single weight is merged."""

import re
import warnings
from collections.abc import Mapping, Sequence

import torch
from torch import Tensor

from suture.checkpoints import TensorSpec, Weights, read_manifest
from suture.checkpoints.manifest import looks_ours
from suture.errors import IncompatibleExperts, NonFiniteTensor, SutureWarning, UsageError

LISTED = 8
"""How many differences a message names; its note has all."""
SAMPLE = 64
"""How many elements of a tensor are looked at first."""
COUNT = re.compile(r"(^|\.)num_batches_tracked$")


def check_experts(base: Weights, experts: Sequence[Weights], *, any_dtype: bool = False) -> None:
    """Raise :class:`IncompatibleExperts`, with the whole difference, unless all hold the same tensors as the base.

    Integer and boolean buffers that an expert lacks are the base's: libraries stop and start to save them. With ``any_dtype``
    floating-point tensors may be of another precision. An output of Suture's that tells of another base is no expert of this one.
    Raises :class:`UsageError` when there is no expert at all.
    """
    if not experts:
        raise UsageError("there is nothing to merge: give at least one expert")
    for expert in experts:
        if differences := _differences(base.specs, expert.specs, any_dtype):
            shown = "; ".join(differences[:LISTED])
            more = f"; … and {len(differences) - LISTED} more, which --debug lists" if len(differences) > LISTED else ""
            error = IncompatibleExperts(f"{expert.path} is not an expert of {base.path}: {shown}{more}")
            error.add_note("\n".join(differences))
            raise error
        if (told := _base_told(expert)) not in (None, f"fingerprint:{base.fingerprint}"):
            raise IncompatibleExperts(
                f"{expert.path} is not an expert of {base.path}: its manifest says that it was made of another base ({told:.24}…)"
            )


def warn_of_copies(base: Weights, experts: Sequence[Weights]) -> None:
    """Warn with a :class:`SutureWarning` of experts that are the base itself: their task vectors are zero, and a path may be wrong."""
    for expert in experts:
        if _is_copy(base, expert):
            warnings.warn(f"{expert.path} is the base {base.path} again: its task vector is zero", SutureWarning, stacklevel=3)


def _is_copy(base: Weights, expert: Weights) -> bool:
    names = [name for name, spec in base.specs.items() if spec.dtype.is_floating_point and spec == expert.specs[name]]
    if len(names) < sum(spec.dtype.is_floating_point for spec in base.specs.values()):
        return False
    # A few elements tell nearly all experts from their base.
    return bool(names) and all(
        torch.equal(base[name].reshape(-1)[:part], expert[name].reshape(-1)[:part]) for part in (SAMPLE, None) for name in names
    )


def _base_told(expert: Weights) -> str | None:
    """Return what the manifest of an output of ours tells of the base that it was merged from; None where there is none."""
    folder = expert.path if expert.path.is_dir() else expert.path.parent
    manifest = read_manifest(folder)
    if manifest is None and looks_ours(folder):
        message = f"the manifest of {folder} is damaged: of which base {expert.path} was made is not compared; `suture verify` says more"
        warnings.warn(message, SutureWarning, stacklevel=4)
    told = None if manifest is None else manifest.inputs.get(str(manifest.settings.get("base")))
    return told if told is not None and told.startswith("fingerprint:") else None


def check_finite(name: str, block: Tensor, base: Weights, experts: Sequence[Weights]) -> None:
    """Raise :class:`NonFiniteTensor`, naming file, tensor, first index and count, if a block of task vectors holds NaN or Inf."""
    # A sum is finite only if every term is, and costs a fraction of testing them one by one.
    if bool(block.sum().isfinite()) or bool(block.isfinite().all()):
        return
    for weights in (base, *experts):
        bad = ~weights[name].isfinite()
        if bad.any():
            first = tuple(bad.nonzero()[0].tolist())
            raise NonFiniteTensor(f"{weights.path}: tensor {name!r} holds {int(bad.sum())} NaN or Inf, the first at index {first}")
    raise NonFiniteTensor(
        f"tensor {name!r}: what is merged is more than {block.dtype} can hold; merge less of it (a smaller scale), or into a wider dtype"
    )


def check_buffer(name: str, base: Weights, experts: Sequence[Weights]) -> None:
    """Raise :class:`IncompatibleExperts` when an integer or boolean tensor, which cannot be averaged, is not the same everywhere.

    How many batches a norm has seen is the base's: no result depends on it.
    """
    if COUNT.search(name):
        return
    for expert in experts:
        if name in expert and not torch.equal(base[name], expert[name]):
            raise IncompatibleExperts(
                f"{expert.path}: the {base.specs[name].dtype} tensor {name!r} differs from the base, and cannot be merged"
            )


def _differences(base: Mapping[str, TensorSpec], expert: Mapping[str, TensorSpec], any_dtype: bool) -> list[str]:
    missing = [f"missing tensor {name!r}" for name, spec in base.items() if name not in expert and spec.dtype.is_floating_point]
    extra = [f"extra tensor {name!r}" for name in expert if name not in base]
    other = [
        f"tensor {name!r}: expected {_show(spec)}, found {_show(expert[name])}{_hint(spec, expert[name])}"
        for name, spec in base.items()
        if name in expert and not _alike(spec, expert[name], any_dtype)
    ]
    return missing + extra + other


def _hint(base: TensorSpec, expert: TensorSpec) -> str:
    return " (give an output dtype to merge mixed precisions)" if _alike(base, expert, any_dtype=True) else ""


def _alike(base: TensorSpec, expert: TensorSpec, any_dtype: bool) -> bool:
    floating = base.dtype.is_floating_point and expert.dtype.is_floating_point
    return base.shape == expert.shape and (base.dtype == expert.dtype or (any_dtype and floating))


def _show(spec: TensorSpec) -> str:
    return f"{list(spec.shape)} {str(spec.dtype).removeprefix('torch.')}"
