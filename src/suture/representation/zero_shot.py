"""Zero-shot heads: CLIP's own embeddings of the classes' names."""

from collections.abc import Sequence
from itertools import chain

from jaxtyping import Float
from torch import Tensor
from torch.nn.functional import normalize

from suture.backbones import Backbone, Head, logit_scale, text_tower
from suture.representation.extract import encode_cached
from suture.types import Progress, no_progress


def zero_shot_head(backbone: Backbone, texts: Sequence[Sequence[str]], progress: Progress = no_progress) -> Head:
    """Return the head of a CLIP whose row for a class is the mean direction of the class's texts; ``progress`` counts those.

    Each text's embedding is divided by its length, the mean over a class's texts is again, and cosines are multiplied by CLIP's own
    scale. Every class has as many texts: one per template.

    Source: Radford et al., 2021, *Learning transferable visual models from natural language supervision*, arXiv 2103.00020, section 3.1.4.

    Raises :class:`suture.errors.DataError` for a backbone without a text tower.
    """
    z = encode_cached(text_tower(backbone), list(chain.from_iterable(texts)), progress)
    return Head(directions(z.reshape(len(texts), -1, z.shape[1])), scale=logit_scale(backbone))


def directions(z: Float[Tensor, "c p k"]) -> Float[Tensor, "c k"]:
    """Return each class's mean direction over its p texts.

    >>> import torch
    >>> directions(torch.tensor([[[2.0, 0.0], [0.0, 1.0]]]))
    tensor([[0.7071, 0.7071]])
    """
    return normalize(normalize(z, dim=2).mean(dim=1), dim=1)
