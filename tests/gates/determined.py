"""Merges by every method that needs no data, of experts whose tensors come in one order or another; prints a digest of what is written."""

import hashlib
import sys
from pathlib import Path

import torch
from safetensors import safe_open

from suture.checkpoints import TensorSpec, open_checkpoint, sha256_of, write_safetensors
from suture.merging import METHODS, DataDrivenMethod, merge_to_folder

NAMES = [f"layer.{number}.{part}" for number in range(3) for part in ("weight", "bias", "norm")]
EXPERTS = 3


def tensors_of(seed: int) -> dict[str, torch.Tensor]:
    """Return the tensors of a model."""
    random = torch.Generator().manual_seed(seed)
    return {name: torch.randn(*((12, 12) if name.endswith("weight") else (12,)), generator=random) for name in NAMES}


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


def main(folder: Path) -> None:
    """Write, merge, and print a line for each order: method and digest."""
    for reverse in (False, True):
        place = folder / ("reverse" if reverse else "forward")
        place.mkdir(parents=True)
        write_expert(place / "base.safetensors", 0, reverse=False)
        for seed in range(1, EXPERTS + 1):
            write_expert(place / f"expert{seed}.safetensors", seed, reverse=reverse)
        if reverse:
            reorder_header(place / "base.safetensors")
        base, *experts = (open_checkpoint(place / name) for name in ("base.safetensors", *(f"expert{n}.safetensors" for n in (1, 2, 3))))
        total = hashlib.sha256()
        for name, method in METHODS.items():
            if not issubclass(method, DataDrivenMethod):
                out = merge_to_folder(method(), base, experts, place / name)
                total.update(f"{name} {sha256_of(out / 'model.safetensors')}\n".encode())
        sys.stdout.write(f"{total.hexdigest()}\n")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
