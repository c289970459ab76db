"""Floor 1: weights on disk, read lazily and written whole or not at all."""

from pathlib import Path

from suture.checkpoints.adapter import is_adapter
from suture.checkpoints.aligned import AlignedExpert
from suture.checkpoints.cache import cache_folder
from suture.checkpoints.companions import copy_companions
from suture.checkpoints.converting import Converted, convert
from suture.checkpoints.hub import local_copy, on_hub
from suture.checkpoints.layout import name_in_folder, write_like, write_part
from suture.checkpoints.lora import LoraExpert
from suture.checkpoints.manifest import Manifest, open_manifest, read_manifest
from suture.checkpoints.reading import OPEN_CLIP, SINGLE, Checkpoint, TensorSpec, open_checkpoint, sha256_of
from suture.checkpoints.scratch import scratch_folder
from suture.checkpoints.sealed import KIND, open_sealed, write_sealed
from suture.checkpoints.staging import check_output, clear_away, staged_file, staged_folder, writing_to
from suture.checkpoints.twins import same_matrices, ties_embeddings
from suture.checkpoints.verifying import Verdict, verify
from suture.checkpoints.writing import write_safetensors

Weights = Checkpoint | LoraExpert | AlignedExpert
"""Full weights, or an adapter or an expert of another layout seen as such.

A mapping of names on disk to tensors, with files, specs, a digest and a fingerprint.
"""

__all__ = [
    "KIND",
    "OPEN_CLIP",
    "SINGLE",
    "AlignedExpert",
    "Checkpoint",
    "Converted",
    "LoraExpert",
    "Manifest",
    "TensorSpec",
    "Verdict",
    "Weights",
    "cache_folder",
    "check_output",
    "clear_away",
    "convert",
    "copy_companions",
    "is_adapter",
    "local_copy",
    "name_in_folder",
    "on_hub",
    "open_checkpoint",
    "open_expert",
    "open_manifest",
    "open_sealed",
    "read_manifest",
    "same_matrices",
    "scratch_folder",
    "sha256_of",
    "staged_file",
    "staged_folder",
    "ties_embeddings",
    "verify",
    "write_like",
    "write_part",
    "write_safetensors",
    "write_sealed",
    "writing_to",
]


def open_expert(base: Checkpoint, path: str | Path) -> Weights:
    """Open an expert of ``base``: full weights, or a PEFT LoRA adapter folder materialised tensor by tensor; from the hub too."""
    path = local_copy(Path(path))
    return LoraExpert(base, path) if is_adapter(path) else open_checkpoint(path)
