"""Heads that were saved with a checkpoint: the linear layer of a library's own classifier."""

import torch

from suture.backbones.backbone import Backbone
from suture.backbones.heads import Head
from suture.errors import DataError


def saved_head(backbone: Backbone) -> Head:
    """Return the linear head that lies beside a backbone's weights, with the classes that its configuration names.

    Raises :class:`DataError` where the library's classifiers are more than one linear layer, the checkpoint has none, or the backbone
    makes other representations than those that the layer takes.

    The result of a ``…ForImageClassification`` is that of the head on the backbone's representations:
    ``saved_head(backbone)(encode(backbone, images))``.

    >>> from dataclasses import replace
    >>> from suture.backbones.opening import open_backbone
    >>> classified = open_backbone(folder, base, network=lambda: replace(make(), classifier="layers.1.0", classes=("a", "b", "c", "d")))
    >>> saved_head(classified).classes
    ('a', 'b', 'c', 'd')
    """
    weights, layer = backbone.weights, backbone.classifier
    if f"{layer}.weight" not in weights:
        raise DataError(f"{weights.path} has no classifier: there is no tensor '{layer}.weight'")
    weight = weights[f"{layer}.weight"].float().clone()
    if weight.shape[1] != backbone.width:
        raise DataError(
            f"{weights.path}: {layer!r} takes {weight.shape[1]} numbers, not the {backbone.width} that represent an input: "
            "the library puts something between them"
        )
    bias = weights[f"{layer}.bias"].float().clone() if f"{layer}.bias" in weights else torch.zeros(len(weight))
    return Head(weight, bias, classes=backbone.classes if len(backbone.classes) == len(weight) else ())
