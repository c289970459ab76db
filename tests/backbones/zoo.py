"""A tiny random model of every family, saved as transformers saves it, with what prepares its inputs."""

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from safetensors.torch import load_file, save_file

WORDS = ["<pad>", "<s>", "</s>", "<unk>", "the", "a", "is", "it", "very", "not", "so", "red", "blue"]
TEXTS = ["the red", "a very very blue is it not", "so", "it is not the blue"]
SMALL: dict[str, Any] = {"hidden_size": 16, "num_hidden_layers": 3, "num_attention_heads": 2, "intermediate_size": 24}
IMAGE: dict[str, Any] = {"image_size": 32, "patch_size": 8}
TEXT: dict[str, Any] = {"vocab_size": len(WORDS), "pad_token_id": 0, "bos_token_id": 1, "eos_token_id": 2}
DECODER = SMALL | TEXT | {"num_key_value_heads": 1}
STAGED: dict[str, Any] = {"hidden_sizes": [8, 12], "depths": [2, 3]}
PAIRS: dict[str, Any] = {"depths": [2, 2], "num_heads": [2, 2]}

MODELS: Mapping[str, tuple[str, str, dict[str, Any]]] = {
    "clip": (
        "CLIPModel",
        "CLIPConfig",
        {"vision_config": SMALL | IMAGE, "text_config": SMALL | TEXT, "projection_dim": 6},
    ),
    "clip_vision_model": ("CLIPVisionModelWithProjection", "CLIPVisionConfig", SMALL | IMAGE | {"projection_dim": 6}),
    "vit": ("ViTModel", "ViTConfig", SMALL | IMAGE),
    "deit": ("DeiTModel", "DeiTConfig", SMALL | IMAGE),
    "dinov2": ("Dinov2Model", "Dinov2Config", SMALL | IMAGE),
    "swin": (
        "SwinModel",
        "SwinConfig",
        {"image_size": 32, "patch_size": 2, "embed_dim": 8, "depths": [2, 2], "num_heads": [2, 2], "window_size": 4},
    ),
    "convnext": ("ConvNextModel", "ConvNextConfig", STAGED | {"num_stages": 2}),
    "resnet": ("ResNetModel", "ResNetConfig", STAGED | {"embedding_size": 8}),
    "efficientnet": (
        "EfficientNetModel",
        "EfficientNetConfig",
        {"image_size": 32, "width_coefficient": 0.25, "depth_coefficient": 0.3, "hidden_dim": 320},
    ),
    "bert": ("BertModel", "BertConfig", SMALL | TEXT),
    "roberta": ("RobertaModel", "RobertaConfig", SMALL | TEXT | {"max_position_embeddings": 16}),
    "deberta-v2": (
        "DebertaV2Model",
        "DebertaV2Config",
        SMALL | TEXT | {"relative_attention": True, "pos_att_type": ["p2c", "c2p"], "position_biased_input": False},
    ),
    "modernbert": ("ModernBertModel", "ModernBertConfig", SMALL | TEXT | {"cls_token_id": 1, "sep_token_id": 2}),
    "distilbert": ("DistilBertModel", "DistilBertConfig", TEXT | {"dim": 16, "n_layers": 3, "n_heads": 2, "hidden_dim": 24}),
    "mpnet": ("MPNetModel", "MPNetConfig", SMALL | TEXT | {"max_position_embeddings": 16}),
    "t5": ("T5EncoderModel", "T5Config", TEXT | {"d_model": 16, "d_kv": 8, "d_ff": 24, "num_layers": 3, "num_heads": 2}),
    "gpt2": ("GPT2Model", "GPT2Config", TEXT | {"n_embd": 16, "n_layer": 3, "n_head": 2, "n_positions": 32}),
    "llama": ("LlamaModel", "LlamaConfig", DECODER),
    "mistral": ("MistralModel", "MistralConfig", DECODER),
    "qwen2": ("Qwen2Model", "Qwen2Config", DECODER),
    "qwen3": ("Qwen3Model", "Qwen3Config", DECODER | {"head_dim": 8}),
}


def images(count: int = 5, seed: int = 0) -> list[np.ndarray]:
    noise = np.random.default_rng(seed)
    return [noise.integers(0, 256, (20 + place, 28, 3), dtype=np.uint8) for place in range(count)]


def make(name: str, folder: Path) -> Path:
    """Save the tiny model of a family; weights are large enough for every layer to matter."""
    import transformers

    model_class, config_class, settings = MODELS[name]
    config = getattr(transformers, config_class)(**settings)
    torch.manual_seed(0)
    model = getattr(transformers, model_class)(config)
    noise = torch.Generator().manual_seed(1)
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(0.1 * torch.randn(parameter.shape, generator=noise))
        for buffer_name, buffer in model.named_buffers():
            if buffer_name.endswith("running_var"):
                buffer.uniform_(0.5, 1.5, generator=noise)
    model.save_pretrained(folder)
    prepare_texts(folder) if "vocab_size" in settings else prepare_images(folder, name)
    return folder


def prepare_texts(folder: Path) -> None:
    from tokenizers import Tokenizer, models, pre_tokenizers, processors
    from transformers import PreTrainedTokenizerFast

    tokenizer = Tokenizer(models.WordLevel({word: place for place, word in enumerate(WORDS)}, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Whitespace()
    tokenizer.post_processor = processors.TemplateProcessing("<s> $A </s>", special_tokens=[("<s>", 1), ("</s>", 2)])
    named = {"pad_token": "<pad>", "bos_token": "<s>", "eos_token": "</s>", "unk_token": "<unk>"}
    PreTrainedTokenizerFast(tokenizer_object=tokenizer, **named).save_pretrained(folder)


def prepare_images(folder: Path, name: str) -> None:
    from transformers import CLIPImageProcessor, ViTImageProcessor

    size = {"height": 32, "width": 32}
    clip = name.startswith("clip")
    processor = CLIPImageProcessor(size={"shortest_edge": 32}, crop_size=size) if clip else ViTImageProcessor(size=size)
    processor.save_pretrained(folder)


def make_expert(base: Path, folder: Path, seed: int, size: float = 0.05) -> Path:
    """Save an expert: the base and a seeded change of every floating-point tensor; variances stay positive."""
    noise = torch.Generator().manual_seed(seed)
    folder.mkdir(parents=True)
    tensors = load_file(base / "model.safetensors")

    def moved(name: str, tensor: torch.Tensor) -> torch.Tensor:
        if not tensor.is_floating_point():
            return tensor
        change = size * torch.randn(tensor.shape, generator=noise)
        return tensor + (change.abs() if name.endswith("running_var") else change)

    save_file({name: moved(name, tensor) for name, tensor in tensors.items()}, folder / "model.safetensors", metadata={"format": "pt"})
    for companion in base.glob("*.json"):
        (folder / companion.name).write_bytes(companion.read_bytes())
    return folder


def library_representation(name: str) -> Callable[[Any], torch.Tensor]:
    """Return what the documentation says that the family's representation is, of one input that is not padded."""
    if name.startswith("clip"):
        return lambda answer: answer.image_embeds
    if name in {"vit", "deit", "dinov2"}:
        return lambda answer: answer.last_hidden_state[:, 0]
    if name in {"swin", "convnext", "resnet", "efficientnet"}:
        return lambda answer: answer.pooler_output.flatten(1)
    if name in {"gpt2", "llama", "mistral", "qwen2", "qwen3"}:
        return lambda answer: answer.last_hidden_state[:, -1]
    return lambda answer: answer.last_hidden_state.mean(dim=1)
