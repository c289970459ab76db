"""Merges by every method that needs no data, of experts whose tensors come in one order or another, on one thread or two; prints a digest
of what is written.

As many threads load and merge as torch has; each computes on one. One matrix is cut into segments, which two threads take by turns, and is
large enough that its singular values come out in other bits where two threads compute them together; in float64 that shows.
"""

import hashlib
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from suture.checkpoints import Checkpoint, TensorSpec, open_checkpoint, sha256_of, write_safetensors
from suture.merging import METHODS, DataDrivenMethod, merge_to_folder, streaming

LARGE, SIZE = "wide.weight", 256
NAMES = [LARGE, *(f"layer.{number}.{part}" for number in range(3) for part in ("weight", "bias", "norm"))]
EXPERTS = 3
THREADS = (1, 2)


def tensors_of(seed: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a model."""
    random = torch.Generator().manual_seed(seed)
    shapes = {name: (12, 12) if name.endswith("weight") else (12,) for name in NAMES} | {LARGE: (SIZE, SIZE)}
    return {name: torch.randn(*shape, generator=random, dtype=torch.float64 if name == LARGE else None) for name, shape in shapes.items()}


def write_expert(file: Path, seed: int, *, reverse: bool) -> None:
    """Write an expert, the last tensor first where that is asked for."""
    tensors = tensors_of(seed)
    if reverse:
        tensors = dict(reversed(tensors.items()))
    write_safetensors(file, {name: TensorSpec(tuple(tensor.shape), tensor.dtype) for name, tensor in tensors.items()}, tensors.items())


def reorder_header(file: Path) -> None:
    """Turn the names of a header round, which leaves the tensors where they are."""
    raw = file.read_bytes()
    end = 8 + int.from_bytes(raw[:8], "little")
    import json

    header = json.loads(raw[8:end])
    turned = json.dumps(dict(reversed(header.items())), separators=(",", ":")).encode()
    file.write_bytes(raw[:8] + turned.ljust(end - 8) + raw[end:])
    with safe_open(file, framework="pt") as handle:
        assert list(handle.offset_keys()) == NAMES


def digest_of(models: list[Checkpoint], out: Path) -> str:
    """Merge a base and experts by every method, and return the digest of all that is written."""
    base, *experts = models
    total = hashlib.sha256()
    for name, method in METHODS.items():
        if not issubclass(method, DataDrivenMethod):
            merged = merge_to_folder(method(), base, experts, out / name)
            total.update(f"{name} {sha256_of(merged / 'model.safetensors')}\n".encode())
    return total.hexdigest()


def main(folder: Path) -> None:
    """Write and merge, and print a digest for each order and number of threads."""
    streaming.SEGMENT, streaming.BLOCK = 1 << 14, 1 << 12
    for reverse in (False, True):
        place = folder / ("reverse" if reverse else "forward")
        place.mkdir(parents=True)
        write_expert(place / "base.safetensors", 0, reverse=False)
        for seed in range(1, EXPERTS + 1):
            write_expert(place / f"expert{seed}.safetensors", seed, reverse=reverse)
        if reverse:
            reorder_header(place / "base.safetensors")
        models = [open_checkpoint(place / name) for name in ("base.safetensors", *(f"expert{n}.safetensors" for n in (1, 2, 3)))]
        for threads in THREADS:
            torch.set_num_threads(threads)
            sys.stdout.write(f"{digest_of(models, place / str(threads))}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
