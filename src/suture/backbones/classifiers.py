"""Heads that were saved with a checkpoint: the linear layer of a library's own classifier."""

import torch

from suture.backbones.families import FAMILIES
from suture.backbones.heads import Head
from suture.backbones.opening import Backbone
from suture.errors import DataError


def saved_head(backbone: Backbone) -> Head:
    """Return the linear head that lies beside a backbone's weights, with the classes that its configuration names.

    Raises :class:`DataError` where the family's classifiers are more than one linear layer, the checkpoint has none, or the backbone
    makes other representations than those that the layer takes.

    The result of a ``…ForImageClassification`` is that of the head on the backbone's representations:
    ``saved_head(backbone)(encode(backbone, images))``.
    """
    family, weights = backbone.family, backbone.weights
    if not family.classifier:
        known = ", ".join(sorted(name for name, own in FAMILIES.items() if own.classifier))
        raise DataError(f"{weights.path}: classifiers of type {backbone.config.model_type!r} are no linear layers; those of {known} are")
    name = f"{family.classifier}.weight"
    if name not in weights:
        raise DataError(f"{weights.path} has no classifier: there is no tensor {name!r}")
    if backbone.pooled_by != family.classified_by:
        raise DataError(
            f"{weights.path}: the classifier takes the representation {family.classified_by!r}, not {backbone.pooled_by!r}; "
            f"set backbone.pooling: {family.classified_by}"
        )
    weight = weights[name].float().clone()
    bias = weights[f"{family.classifier}.bias"].float().clone() if f"{family.classifier}.bias" in weights else torch.zeros(len(weight))
    named = {int(place): str(title) for place, title in backbone.config.id2label.items()}
    told = len(named) == len(weight) and any(title != f"LABEL_{place}" for place, title in named.items())
    return Head(weight, bias, classes=tuple(named[place] for place in sorted(named)) if told else ())
