"""The one driver of every merging method: out of core, tensor by tensor, in the order of the disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from suture.checkpoints import (
    AlignedExpert,
    Checkpoint,
    Manifest,
    Weights,
    clear_away,
    scratch_folder,
    staged_folder,
    write_like,
    writing_to,
)
from suture.errors import NonFiniteTensor, UsageError
from suture.merging.batch_norm import BatchNorm, check_variances, merged_statistics, method_for, recalibrates
from suture.merging.calibration import Calibration
from suture.merging.matching import check_buffer, check_experts, check_finite, warn_of_copies
from suture.merging.method import Block, DataDrivenMethod, MergingMethod, Statistics, WeighedMethod
from suture.merging.streaming import Sources, Streamed, restore
from suture.merging.tying import tied_names
from suture.types import Stage, silent


def merge_tensors(
    method: MergingMethod,
    base: Weights,
    experts: Sequence[Weights],
    *,
    calibration: Calibration | None = None,
    dtype: torch.dtype | None = None,
    batch_norm: BatchNorm = "mean",
    stage: Stage = silent,
) -> Iterator[tuple[str, Tensor]]:
    """Yield the merged tensors by name, each of the base's shape and dtype, in the base's order.

    With an output ``dtype`` floating-point tensors come out in that, and experts may be of other precisions than the base; sums run in
    at least float32 either way. Running statistics of norms over batches are merged as ``batch_norm`` says, whatever the method; to be
    recalibrated they take a whole network, and :func:`merge_to_folder`.

    Memory holds a few segments of every expert, the tensor being yielded, and those being made behind it; for methods that need whole
    tensors, a few tensors times the number of experts. Data-driven methods learn from a ``calibration``, whose tasks stand in the order
    of the experts, and hold what their docstrings say. ``stage`` is told of each piece of work.

    Raises :class:`IncompatibleExperts`, :class:`NonFiniteTensor`, or :class:`UsageError` for a data-driven method without calibration.

    >>> from suture.merging import WeightAveraging
    >>> merged = dict(merge_tensors(WeightAveraging(), base, experts))
    >>> bool(torch.allclose(merged["layers.0.0.bias"], sum(expert["layers.0.0.bias"] for expert in experts) / 2))
    True
    """
    check_experts(base, experts, any_dtype=dtype is not None)
    if recalibrates(batch_norm, base):
        raise UsageError("batch_norm: recalibrate takes a whole merged network: use merge_to_folder")
    check_variances(base, experts)
    warn_of_copies(base, experts)
    sources = Sources(base, experts, dtype)
    tied = tied_names(base, experts, frozenset() if calibration is None else calibration.parameters)
    with (
        _estimated(method, sources, calibration, batch_norm, stage) as found,
        stage(f"Merging: {method.name}", base.elements * method.passes) as progress,
    ):
        statistics = method.scan(Streamed(sources, progress)) if found is None else found
        for name, tensor in merge_names(base, method, sources, statistics, batch_norm, tied):
            progress(tensor.numel())
            yield name, tensor


def merge_to_folder(
    method: MergingMethod,
    base: Checkpoint,
    experts: Sequence[Weights],
    out: str | Path,
    *,
    calibration: Calibration | None = None,
    dtype: torch.dtype | None = None,
    batch_norm: BatchNorm = "mean",
    about: Mapping[str, Any] | None = None,
    replace: bool = False,
    stage: Stage = silent,
) -> Path:
    """Merge into a folder with the base's own layout: the same shards, configuration and tokenizer beside them.

    ``calibration``, ``dtype``, ``batch_norm`` and ``stage`` as in :func:`merge_tensors`; ``about`` goes to the manifest's settings.

    Raises what :func:`merge_tensors` and :func:`suture.checkpoints.staged_folder` raise; then nothing is left at ``out``.

    >>> from suture.merging import TaskArithmetic
    >>> sorted(file.name for file in merge_to_folder(TaskArithmetic(), base, experts, folder / "merged").iterdir())
    ['manifest.json', 'model.safetensors']
    """
    check_experts(base, experts, any_dtype=dtype is not None)
    manifest = manifest_of(method, base, experts, dtype, batch_norm, about)
    files = [file for weights in (base, *experts) for file in weights.files]
    out = Path(out)
    with writing_to(out):
        with staged_folder(out, manifest, replace=replace, inputs=files) as folder:
            anew = recalibrates(batch_norm, base)
            policy: BatchNorm = "mean" if anew else batch_norm
            merged = merge_tensors(method, base, experts, calibration=calibration, dtype=dtype, batch_norm=policy, stage=stage)
            if anew:
                merged = _recalibrated(base, merged, calibration, dtype, stage)
            manifest.files = write_like(base, folder, merged, dtype)
        clear_away(shards_beside(out), out)  # of a merge by shards that was killed
    return out


def shards_beside(out: Path) -> Path:
    """Return the folder in which a merge by shards (:func:`suture.merging.merge_by_shards`) keeps them until its output is whole."""
    return out.with_name(f".{out.name}.shards")


def manifest_of(
    method: MergingMethod,
    base: Checkpoint,
    experts: Sequence[Weights],
    dtype: torch.dtype | None,
    batch_norm: BatchNorm,
    about: Mapping[str, Any] | None,
) -> Manifest:
    """Return what a merged folder says of itself; the digests of its files come later."""
    settings = {"method": str(method), "base": str(base.path), "experts": [str(expert.path) for expert in experts], **(about or {})}
    settings |= {"batch_norm": batch_norm, "dtype": None if dtype is None else str(dtype)}
    if left_out := {str(expert.path): expert.left_out for expert in experts if isinstance(expert, AlignedExpert) and expert.left_out}:
        settings["left_out"] = left_out
    inputs = {str(weights.path): f"fingerprint:{weights.fingerprint}" for weights in (base, *experts)}
    return Manifest(inputs=inputs, settings=settings)


def _recalibrated(
    base: Checkpoint, merged: Iterator[tuple[str, Tensor]], calibration: Calibration | None, dtype: torch.dtype | None, stage: Stage
) -> Iterator[tuple[str, Tensor]]:
    """Yield merged tensors, their running statistics measured in the merged network; it goes to disk for that, and back."""
    if calibration is None:
        raise UsageError("batch_norm: recalibrate measures statistics on unlabelled inputs of every task: give --recipe, or a calibration")
    with scratch_folder() as scratch:
        write_like(base, scratch, merged, dtype)
        plain = Checkpoint(scratch, [scratch / file for file in sorted({file.name for file in scratch.glob("*.safetensors")})])
        with stage("Recalibrating norms", 1) as progress:
            measured = calibration.statistics(plain)
            progress(1)
        for name in base:
            tensor = measured[name].to(plain[name].dtype) if name in measured else plain[name]
            if name in measured and not bool(tensor.isfinite().all()):
                raise NonFiniteTensor(f"tensor {name!r}, measured anew, holds NaN or Inf as {tensor.dtype}")
            yield name, tensor


@contextmanager
def _estimated(
    method: MergingMethod, sources: Sources, calibration: Calibration | None, batch_norm: BatchNorm, stage: Stage
) -> Iterator[Statistics | None]:
    """Yield what a data-driven method learns; its files last as long as the block. For others, yield None."""
    if not isinstance(method, DataDrivenMethod):
        yield None
        return
    if calibration is None:
        raise UsageError(
            f"{method.name} learns from unlabelled inputs of every task: name it in a recipe, give one to `suture merge` (--recipe), "
            "or a calibration to merge_to_folder"
        )
    if len(calibration.tasks) != len(sources.experts):
        raise UsageError(f"{len(sources.experts)} experts, but calibration inputs of {len(calibration.tasks)} tasks")
    survey = Streamed(sources)
    if settled := merged_statistics(survey, batch_norm):
        calibration = calibration.settled(settled)
    with scratch_folder() as scratch:
        with stage(f"Estimating: {method.name}", method.effort(calibration)) as progress:
            found = method.estimate(survey, calibration, scratch, progress)
        yield found


def merge_names(
    names: Iterable[str], method: MergingMethod, sources: Sources, statistics: Statistics, policy: BatchNorm, tied: Mapping[str, str]
) -> Iterator[tuple[str, Tensor]]:
    """Cut every tensor into pieces of work, and yield it when its last piece is done; what is tied is merged under one name."""
    chosen = ((name, method_for(name, method, policy)) for name in names)
    pieces = ((name, *piece) for name, own in chosen for piece in _pieces(own, tied.get(name, name), sources, statistics))
    done = sources.in_order(_bound(*piece) for piece in pieces)
    for name, tensor, last in done:
        if last:
            yield name, tensor


def _bound(name: str, tensor: Tensor, work: Callable[[], None], last: bool) -> Callable[[], tuple[str, Tensor, bool]]:
    def run() -> tuple[str, Tensor, bool]:
        work()
        return name, tensor, last

    return run


def _pieces(
    method: MergingMethod, name: str, sources: Sources, statistics: Statistics
) -> Iterator[tuple[Tensor, Callable[[], None], bool]]:
    """Yield a tensor to fill, the work that fills a part of it, and whether that is its last part."""
    base = sources.base[name]
    if not base.is_floating_point():
        yield base, lambda: check_buffer(name, sources.base, sources.experts), True
        return
    merged = torch.empty(base.shape, dtype=sources.dtype or base.dtype)
    if not (method.elementwise and base.numel()):
        yield merged, lambda: _fill(merged, method, sources.whole(name), sources, statistics), True
        return
    segments = sources.segments(name)
    for start, stop in segments:
        yield merged, _segment(method, name, start, stop, merged.reshape(-1), sources, statistics), (start, stop) == segments[-1]


def _segment(
    method: MergingMethod, name: str, start: int, stop: int, flat: Tensor, sources: Sources, statistics: Statistics
) -> Callable[[], None]:
    def run() -> None:
        if isinstance(method, WeighedMethod):
            for first, base, merged in sources.weighed(name, start, stop, method.weights(len(sources.experts))):
                _restore(flat[first : first + len(base)], name, base, merged, sources)
            return
        for block in sources.blocks(name, start, stop):
            _fill(flat[block.start : block.start + block.base.numel()], method, block, sources, statistics)

    return run


def _fill(target: Tensor, method: MergingMethod, block: Block, sources: Sources, statistics: Statistics) -> None:
    """Merge one block into its place."""
    if not method.linear:
        check_finite(block.name, block.task_vectors, sources.base, sources.experts)
    _restore(target, block.name, block.base, method.combine(block, statistics), sources)


def _restore(target: Tensor, name: str, base: Tensor, merged: Tensor, sources: Sources) -> None:
    """Put a merged task vector on its base, and into its place."""
    restore(base, merged, target)
    check_finite(name, target, sources.base, sources.experts)
