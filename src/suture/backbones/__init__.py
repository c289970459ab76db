"""Floor 2: backbones (inputs to representations), heads (representations to logits), and both with inputs of several tasks."""

from suture.backbones.aligning import open_aligned
from suture.backbones.backbone import Backbone
from suture.backbones.batch_norm import NORMS
from suture.backbones.batching import batches_of_like_length
from suture.backbones.blocks import Blocks, BlockwiseBackbone, Passage
from suture.backbones.calibration import TaskCalibration
from suture.backbones.classifiers import saved_head
from suture.backbones.families import FAMILIES, POOLINGS, Family, Pooling
from suture.backbones.heads import Head, load_heads, prototype_head, save_heads
from suture.backbones.huggingface import HuggingFaceBackbone
from suture.backbones.images import ImageBackbone
from suture.backbones.networks import PLACE, Network, NetworkBackbone
from suture.backbones.opening import open_backbone
from suture.backbones.precision import in_precision
from suture.backbones.text import TextBackbone
from suture.backbones.text_towers import logit_scale, text_tower
from suture.backbones.tokens import mean_of_real, on_tokens, rows_of, tokens_of

__all__ = [
    "FAMILIES",
    "NORMS",
    "PLACE",
    "POOLINGS",
    "Backbone",
    "Blocks",
    "BlockwiseBackbone",
    "Family",
    "Head",
    "HuggingFaceBackbone",
    "ImageBackbone",
    "Network",
    "NetworkBackbone",
    "Passage",
    "Pooling",
    "TaskCalibration",
    "TextBackbone",
    "batches_of_like_length",
    "in_precision",
    "load_heads",
    "logit_scale",
    "mean_of_real",
    "on_tokens",
    "open_aligned",
    "open_backbone",
    "prototype_head",
    "rows_of",
    "save_heads",
    "saved_head",
    "text_tower",
    "tokens_of",
]
