"""Fine-tune the experts of vision8 from EfficientNet-Lite0 and pack their task vectors into the package.

Every parameter in front of the classifier is trained, against frozen prototypes: 3e-4, twenty epochs over the training split in batches
of 32, each image turned, shifted and scaled a little each time, and mirrored where that leaves it what it is. Norms over
batches keep ImageNet's statistics, so that all task vectors start at one place; there is no dropout.

    python scripts/vision8/train_experts.py                 # all eight tasks, about four minutes each on one thread
    python scripts/vision8/train_experts.py digits emoji    # some of them
"""

import sys
from collections.abc import Mapping
from pathlib import Path

import torch
from torch import Tensor

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from experts import Kit, Training, arguments, make_experts
from suture.backbones import Backbone, open_backbone
from suture.checkpoints import open_checkpoint
from suture.tasks.suites import vision8
from suture.tasks.suites.suite import read_tasks
from views import Views

MIRRORED = {"animals", "clothing", "land", "textile"}
"""Tasks whose images mean the same in a mirror."""


def changed(name: str, batch: Mapping[str, Tensor], generator: torch.Generator) -> Mapping[str, Tensor]:
    """Return views of a batch."""
    views = Views(turn=10, shift=0.1, smallest=0.85, largest=1.1, colour=0, mirrored=name in MIRRORED)
    return {key: views(pixels, generator) for key, pixels in batch.items()}


def fresh() -> Backbone:
    """Return the network with weights to be trained: those of another opening than the base's own."""
    weights = open_checkpoint(vision8.open_base().path)
    return open_backbone(weights.folder, weights, network=vision8.NETWORK)


if __name__ == "__main__":
    training = Training(epochs=20, batch=32, rate=3e-4, trained=lambda name: not name.startswith("_fc."), changed=changed)
    kit = Kit(vision8.open_base(), fresh, vision8.HEAD_SCALE, training, vision8.HERE / "experts")
    make_experts(read_tasks(vision8.HERE / "data"), kit, arguments(__doc__).parse_args())
