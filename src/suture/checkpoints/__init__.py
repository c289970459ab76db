"""Floor 1: weights on disk, read lazily and written whole or not at all."""

from pathlib import Path

from suture.checkpoints.cache import cache_folder
from suture.checkpoints.lora import LoraExpert, is_adapter
from suture.checkpoints.reading import SINGLE, Checkpoint, TensorSpec, open_checkpoint, sha256_of
from suture.checkpoints.writing import (
    Manifest,
    check_output,
    copy_companions,
    read_manifest,
    staged_folder,
    write_safetensors,
)

Weights = Checkpoint | LoraExpert
"""Full weights or an adapter seen as such: a mapping of names on disk to tensors, with files, specs and a digest."""

__all__ = [
    "SINGLE",
    "Checkpoint",
    "LoraExpert",
    "Manifest",
    "TensorSpec",
    "Weights",
    "cache_folder",
    "check_output",
    "copy_companions",
    "open_checkpoint",
    "open_expert",
    "read_manifest",
    "sha256_of",
    "staged_folder",
    "write_safetensors",
]


def open_expert(base: Checkpoint, path: str | Path) -> Weights:
    """Open an expert of ``base``: full weights, or a PEFT LoRA adapter folder materialised tensor by tensor."""
    path = Path(path)
    return LoraExpert(base, path) if is_adapter(path) else open_checkpoint(path)
