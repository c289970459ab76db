"""Checkpoints of the shape of BERT or Llama, with random weights and experts near the base, to time merging on.

python benchmarks/checkpoints.py FOLDER --experts 8 --width 768 --layers 12 --dtype float32
"""

import argparse
import json
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

VOCABULARY, POSITIONS = 30522, 512
LLAMA: dict[str, Any] = {
    "architectures": ["LlamaForCausalLM"],
    "model_type": "llama",
    "dtype": "float32",
    "vocab_size": 32000,
    "hidden_size": 768,
    "intermediate_size": 2048,
    "num_hidden_layers": 12,
    "num_attention_heads": 12,
    "num_key_value_heads": 12,
    "max_position_embeddings": 2048,
    "rms_norm_eps": 1e-6,
    "tie_word_embeddings": True,
}


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
    write([base, *files], dict(shapes(width, layers)), dtype)
    return base, files


def llama_shapes(vocabulary: int, width: int, inner: int, layers: int) -> Iterator[tuple[str, tuple[int, ...]]]:
    """Yield Llama's tensors, with the output tied to the embeddings."""
    yield "model.embed_tokens.weight", (vocabulary, width)
    for layer in range(layers):
        prefix = f"model.layers.{layer}"
        for part in ("q_proj", "k_proj", "v_proj", "o_proj"):
            yield f"{prefix}.self_attn.{part}.weight", (width, width)
        for part in ("gate_proj", "up_proj"):
            yield f"{prefix}.mlp.{part}.weight", (inner, width)
        yield f"{prefix}.mlp.down_proj.weight", (width, inner)
        yield f"{prefix}.input_layernorm.weight", (width,)
        yield f"{prefix}.post_attention_layernorm.weight", (width,)
    yield "model.norm.weight", (width,)


def make_llama(folder: Path, experts: int) -> tuple[Path, list[Path]]:
    """Write a base and its experts as folders that transformers loads, of 109 million elements each, and return the folders."""
    folders = [folder / "base", *(folder / f"expert{number}" for number in range(experts))]
    for model in folders:
        model.mkdir(parents=True, exist_ok=True)
        (model / "config.json").write_text(json.dumps(LLAMA, indent=2), encoding="utf-8")
    sizes = (LLAMA["vocab_size"], LLAMA["hidden_size"], LLAMA["intermediate_size"], LLAMA["num_hidden_layers"])
    write([model / "model.safetensors" for model in folders], dict(llama_shapes(*sizes)), torch.float32)
    return folders[0], folders[1:]


def write(files: Sequence[Path], wanted: dict[str, tuple[int, ...]], dtype: torch.dtype) -> None:
    """Write a base, the first file, and experts near it, as far as they are not there."""
    absent = [number for number, file in enumerate(files) if not file.exists()]
    base = _random(0, wanted, 0.02) if absent else {}
    for number in absent:
        tensors = base if number == 0 else _random(number, wanted, 0.002)
        near = {name: (tensor if number == 0 else tensor.add_(base[name])).to(dtype) for name, tensor in tensors.items()}
        save_file(near, files[number], metadata={"format": "pt"})


def _random(seed: int, wanted: dict[str, tuple[int, ...]], scale: float) -> dict[str, Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {name: scale * torch.randn(shape, generator=generator) for name, shape in wanted.items()}


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
