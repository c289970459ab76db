"""Floor 2: backbones (inputs to representations), heads (representations to logits), and both with texts of several tasks."""

from suture.backbones.calibration import TextCalibration
from suture.backbones.heads import Head, load_heads, prototype_head, save_heads
from suture.backbones.text import Pooling, TextBackbone, batches_of_like_length

__all__ = [
    "Head",
    "Pooling",
    "TextBackbone",
    "TextCalibration",
    "batches_of_like_length",
    "load_heads",
    "prototype_head",
    "save_heads",
]
