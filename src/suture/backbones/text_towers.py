"""CLIP's other half: the tower that represents texts in the space of its images."""

from dataclasses import dataclass
from functools import partial

from suture.backbones.backbone import Backbone
from suture.backbones.families import Family
from suture.backbones.images import ImageBackbone
from suture.backbones.networks import NetworkBackbone
from suture.backbones.open_clip_networks import open_clip_texts
from suture.backbones.text import TextBackbone
from suture.checkpoints import OPEN_CLIP
from suture.errors import DataError

TEXTS = Family("CLIP, texts", "text", "projection", "CLIPTextModelWithProjection", "text_config")
LOGIT_SCALE = "logit_scale"
USUAL_SCALE = 100.0
"""What CLIP's temperature was trained to, and is held at."""


@dataclass(frozen=True)
class ClipTexts(TextBackbone):
    """The text tower of a CLIP of transformers; what represents a text is its embedding after the projection, not normalised."""

    @property
    def family(self) -> Family:
        """That of its texts."""
        return TEXTS


def text_tower(backbone: Backbone) -> Backbone:
    """Return the tower that represents texts where a CLIP represents images, with the same weights.

    Raises :class:`DataError` for a network that has none.
    """
    if isinstance(backbone, ImageBackbone) and backbone.config.model_type == "clip":
        return ClipTexts(backbone.folder, backbone.weights)
    if isinstance(backbone, NetworkBackbone) and (backbone.folder / OPEN_CLIP).is_file():
        return NetworkBackbone(backbone.folder, backbone.weights, partial(open_clip_texts, backbone.folder), f"{backbone.name}, texts")
    raise DataError(f"{backbone.folder} has no text tower, and zero-shot heads are made by one: the base must be a whole CLIP")


def logit_scale(backbone: Backbone) -> float:
    """Return what CLIP multiplies cosines by: the number in its weights, else the usual one."""
    if LOGIT_SCALE not in backbone.weights:
        return USUAL_SCALE
    return float(backbone.weights[LOGIT_SCALE].float().exp())
