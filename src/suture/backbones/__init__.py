"""Floor 2: backbones (inputs to representations), heads (representations to logits), and both with texts of several tasks."""

from suture.backbones.blocks import Blocks, BlockwiseBackbone, Passage, mean_of_real
from suture.backbones.calibration import TextCalibration
from suture.backbones.heads import Head, load_heads, prototype_head, save_heads
from suture.backbones.precision import in_precision
from suture.backbones.text import Pooling, TextBackbone, batches_of_like_length

__all__ = [
    "Blocks",
    "BlockwiseBackbone",
    "Head",
    "Passage",
    "Pooling",
    "TextBackbone",
    "TextCalibration",
    "batches_of_like_length",
    "in_precision",
    "load_heads",
    "mean_of_real",
    "prototype_head",
    "save_heads",
]
