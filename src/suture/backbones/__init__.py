"""Floor 2: backbones (inputs to representations) and heads (representations to logits)."""

from suture.backbones.heads import Head, load_heads, prototype_head, save_heads
from suture.backbones.text import Pooling, TextBackbone

__all__ = ["Head", "Pooling", "TextBackbone", "load_heads", "prototype_head", "save_heads"]
