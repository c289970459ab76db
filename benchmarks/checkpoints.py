"""Checkpoints of the shape of BERT, with random weights and experts near the base, to time merging on.

python benchmarks/checkpoints.py FOLDER --experts 8 --width 768 --layers 12 --dtype float32
"""

import argparse
from collections.abc import Iterator
from pathlib import Path

import torch
from safetensors.torch import save_file
from torch import Tensor

VOCABULARY, POSITIONS = 30522, 512


def shapes(width: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield BERT's tensors: 109 million elements for width 768 and 12 layers."""
    for name, rows in (("word", VOCABULARY), ("position", POSITIONS), ("token_type", 2)):
        yield f"embeddings.{name}_embeddings.weight", (rows, width)
    yield from _norm("embeddings.LayerNorm", width)
    for layer in range(layers):
        prefix = f"encoder.layer.{layer}"
        for part in ("attention.self.query", "attention.self.key", "attention.self.value", "attention.output.dense"):
            yield from _linear(f"{prefix}.{part}", width, width)
        yield from _linear(f"{prefix}.intermediate.dense", 4 * width, width)
        yield from _linear(f"{prefix}.output.dense", width, 4 * width)
        yield from _norm(f"{prefix}.attention.output.LayerNorm", width)
        yield from _norm(f"{prefix}.output.LayerNorm", width)
    yield from _linear("pooler.dense", width, width)


def make(folder: Path, experts: int, width: int = 768, layers: int = 12, dtype: torch.dtype = torch.float32) -> tuple[Path, list[Path]]:
    """Write a base and its experts, unless they are there already, and return their files."""
    folder.mkdir(parents=True, exist_ok=True)
    base, files = folder / "base.safetensors", [folder / f"expert{number}.safetensors" for number in range(experts)]
    tensors = _random(0, dict(shapes(width, layers)), 0.02)
    _save(base, tensors, dtype)
    for number, file in enumerate(files, 1):
        if not file.exists():
            moved = _random(number, {name: tuple(tensor.shape) for name, tensor in tensors.items()}, 0.002)
            _save(file, {name: tensor + moved[name] for name, tensor in tensors.items()}, dtype)
    return base, files


def _random(seed: int, wanted: dict[str, tuple[int, ...]], scale: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in wanted.items()}


def _save(file: Path, tensors: dict[str, Tensor], dtype: torch.dtype) -> None:
    if not file.exists():
        save_file({name: tensor.to(dtype) for name, tensor in tensors.items()}, file, metadata={"format": "pt"})


def _linear(name: str, out: int, into: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (out, into)
    yield f"{name}.bias", (out,)


def _norm(name: str, width: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    yield f"{name}.weight", (width,)
    yield f"{name}.bias", (width,)


def main() -> None:
    """Make the checkpoints that the command line asks for."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--experts", type=int, default=8)
    parser.add_argument("--width", type=int, default=768)
    parser.add_argument("--layers", type=int, default=12)
    parser.add_argument("--dtype", choices=["float32", "bfloat16", "float16"], default="float32")
    options = parser.parse_args()
    make(options.folder, options.experts, options.width, options.layers, getattr(torch, options.dtype))


if __name__ == "__main__":
    main()
