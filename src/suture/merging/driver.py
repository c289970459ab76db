"""The one driver of every merging method: out of core, tensor by tensor, in the order of the disk."""

from collections.abc import Iterator, Sequence
from itertools import groupby
from pathlib import Path

import torch
from torch import Tensor

from suture.checkpoints import SINGLE, Checkpoint, Manifest, Weights, copy_companions, staged_folder, write_safetensors
from suture.merging.matching import check_buffer, check_experts, check_finite
from suture.merging.method import MergingMethod, Statistics
from suture.task_vector import stack_task_vectors
from suture.types import Progress, no_progress

BLOCK = 1 << 16
"""Elements per expert in one block: small enough that eight experts' blocks stay in a processor's cache."""


def merge_tensors(
    method: MergingMethod, base: Weights, experts: Sequence[Weights], progress: Progress = no_progress
) -> Iterator[tuple[str, Tensor]]:
    """Yield the merged tensors by name, each of the base's shape and dtype, in the base's order.

    At most one tensor (times the number of experts, for methods that need whole tensors) is in memory at a time. ``progress`` counts
    elements; a method with a first pass counts them twice.

    Raises :class:`IncompatibleExperts` or :class:`NonFiniteTensor`.
    """
    check_experts(base, experts)
    statistics = method.scan(lambda: _all_blocks(base, experts), _floating_size(base), len(experts))
    for name in base:
        tensor = base[name]
        if tensor.is_floating_point():
            yield name, _merge_tensor(method, name, base, experts, statistics)
        else:
            check_buffer(name, base, experts)
            yield name, tensor
        progress(tensor.numel())


def merge_to_folder(
    method: MergingMethod,
    base: Checkpoint,
    experts: Sequence[Weights],
    out: str | Path,
    *,
    replace: bool = False,
    progress: Progress = no_progress,
) -> Path:
    """Merge into a folder with the base's own layout: the same shards, configuration and tokenizer beside them.

    Raises what :func:`merge_tensors` and :func:`suture.checkpoints.staged_folder` raise; then nothing is left at ``out``.
    """
    check_experts(base, experts)
    inputs = {str(weights.path): weights.digest for weights in (base, *experts)}
    settings = {"method": str(method), "base": str(base.path), "experts": [str(expert.path) for expert in experts]}
    with staged_folder(out, Manifest(inputs=inputs, settings=settings), replace=replace) as stage:
        merged = merge_tensors(method, base, experts, progress)
        for file, tensors in groupby(merged, key=lambda item: base.file_of[item[0]]):
            specs = {name: spec for name, spec in base.specs.items() if base.file_of[name] == file}
            target = stage / (file.name if len(base.files) > 1 else SINGLE)
            write_safetensors(target, specs, tensors)
        copy_companions(base, stage)
    return Path(out)


def _merge_tensor(method: MergingMethod, name: str, base: Weights, experts: Sequence[Weights], statistics: Statistics) -> Tensor:
    tensor = base[name]
    sources = [expert[name] for expert in experts]
    if not method.elementwise:
        return _merge_block(method, name, tensor, sources, base, experts, statistics)
    flat, flat_sources = tensor.reshape(-1), [source.reshape(-1) for source in sources]
    merged = torch.empty_like(flat)
    for start in range(0, flat.numel(), BLOCK):
        part = slice(start, start + BLOCK)
        block = [source[part] for source in flat_sources]
        merged[part] = _merge_block(method, name, flat[part], block, base, experts, statistics)
    return merged.reshape(tensor.shape)


def _merge_block(
    method: MergingMethod,
    name: str,
    tensor: Tensor,
    sources: list[Tensor],
    base: Weights,
    experts: Sequence[Weights],
    statistics: Statistics,
) -> Tensor:
    task_vectors = stack_task_vectors(tensor, sources)
    check_finite(name, task_vectors, base, experts)
    delta = method.combine(task_vectors, statistics)
    # Where nothing changed the base's bits stay, the sign of zero included.
    merged = torch.where(delta == 0, tensor, (tensor.to(delta.dtype) + delta).to(tensor.dtype))
    check_finite(name, merged, base, experts)
    return merged


def _all_blocks(base: Weights, experts: Sequence[Weights]) -> Iterator[Tensor]:
    for name in base:
        tensor = base[name]
        if not tensor.is_floating_point():
            continue
        flat, sources = tensor.reshape(-1), [expert[name].reshape(-1) for expert in experts]
        for start in range(0, flat.numel(), BLOCK):
            part = slice(start, start + BLOCK)
            block = stack_task_vectors(flat[part], [source[part] for source in sources])
            check_finite(name, block, base, experts)
            yield block


def _floating_size(base: Weights) -> int:
    return sum(torch.Size(spec.shape).numel() for spec in base.specs.values() if spec.dtype.is_floating_point)
