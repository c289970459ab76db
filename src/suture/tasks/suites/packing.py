"""Experts as small files: their task vectors, quantised in groups and compressed.

Each group of 64 elements has one step Δ = 0.65 · rms (near the least squared error of seven levels for a normal distribution) and codes
round(τ / Δ) in −3 … 3. Two codes go into a byte, and deflate's Huffman code takes the rest of the redundancy out: about 2.8 bits per
element in all. What is unpacked *is* the expert: its accuracy is measured on that.
"""

import math
import zlib
from collections.abc import Mapping
from pathlib import Path

import torch
from jaxtyping import Float, Float16, UInt8
from safetensors.torch import load, save
from torch import Tensor

from suture.checkpoints import Checkpoint, Manifest, sha256_of, staged_folder, write_like
from suture.errors import CorruptCheckpoint, reading

GROUP = 64
LEVELS = 7
STEP = 0.65


def pack_task_vector(task_vector: Mapping[str, Tensor]) -> bytes:
    """Return the packed form of the tensors that changed; those of an all-zero task vector are left out."""
    tensors = {}
    for name, delta in task_vector.items():
        if bool((delta != 0).any()):
            tensors[f"{name}.codes"], tensors[f"{name}.steps"] = quantise(delta.reshape(-1))
    squeezer = zlib.compressobj(9, zlib.DEFLATED, 15, 9, zlib.Z_HUFFMAN_ONLY)
    return squeezer.compress(save(tensors)) + squeezer.flush()


def quantise(delta: Float[Tensor, " n"]) -> tuple[UInt8[Tensor, " b"], Float16[Tensor, " g"]]:
    """Return the codes, two to a byte, and the step of each group.

    >>> codes, steps = quantise(torch.ones(64))
    >>> dequantise(codes, steps, 64)[:2].allclose(torch.tensor([1.3, 1.3]), atol=1e-3)
    True
    """
    groups = math.ceil(delta.numel() / GROUP)
    padded = torch.zeros(groups * GROUP)
    padded[: delta.numel()] = delta
    rows = padded.reshape(groups, GROUP)
    filled = torch.full((groups,), GROUP)
    filled[-1:] -= groups * GROUP - delta.numel()
    steps = (STEP * (rows.square().sum(dim=1) / filled).sqrt()).to(torch.float16)
    reach = LEVELS // 2
    # Below float16's normal range a step is too coarse to divide by; such groups are rounding noise, and go to zero.
    codes = (rows / steps.float().clamp(min=torch.finfo(torch.float16).tiny)[:, None]).round().clamp(-reach, reach) + reach
    high, low = codes.to(torch.uint8).reshape(2, -1)
    return high * LEVELS + low, steps


def dequantise(codes: UInt8[Tensor, " b"], steps: Float16[Tensor, " g"], size: int) -> Float[Tensor, " n"]:
    """Return the first ``size`` elements that :func:`quantise` approximated."""
    unpacked = torch.stack([codes // LEVELS, codes % LEVELS]).reshape(len(steps), GROUP).float() - LEVELS // 2
    return (unpacked * steps.float()[:, None]).reshape(-1)[:size]


def unpack_expert(file: Path, base: Checkpoint, out: Path) -> None:
    """Write the expert that a packed task vector makes of its base, as an ordinary checkpoint folder.

    Raises :class:`CorruptCheckpoint` when the file does not unpack or is of another base.
    """
    with reading(file, "a packed task vector"):
        packed = load(zlib.decompress(file.read_bytes()))
    if strays := {name.rpartition(".")[0] for name in packed} - base.keys():
        raise CorruptCheckpoint(f"{file} changes tensors that {base.path} does not have: {', '.join(sorted(strays))}")

    inputs = {str(base.path): base.digest, str(file): sha256_of(file)}

    def expert(name: str) -> Tensor:
        weight = base[name]
        if f"{name}.codes" not in packed:
            return weight
        delta = dequantise(packed[f"{name}.codes"], packed[f"{name}.steps"], weight.numel())
        return weight + delta.reshape(weight.shape)

    with staged_folder(out, Manifest(inputs=inputs)) as stage:
        write_like(base, stage, ((name, expert(name)) for name in base))
