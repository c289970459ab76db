"""Fine-tune the experts of vision8 from EfficientNet-Lite0 and pack their task vectors into the package.

Every parameter in front of the classifier is trained, against frozen prototypes: 3e-4, eight epochs over the training split in batches of
32. Norms over batches keep ImageNet's statistics, so that all task vectors start at one place; there is no dropout.

    python scripts/vision8/train_experts.py                 # all eight tasks, about a minute each on one thread
    python scripts/vision8/train_experts.py digits emoji    # some of them
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from experts import Kit, Training, make_experts
from suture.backbones import Backbone, open_backbone
from suture.checkpoints import open_checkpoint
from suture.tasks.suites import vision8
from suture.tasks.suites.suite import read_image_tasks


def fresh() -> Backbone:
    """Return the network with weights to be trained: those of another opening than the base's own."""
    weights = open_checkpoint(vision8.open_base().path)
    return open_backbone(weights.folder, weights, network=vision8.NETWORK)


if __name__ == "__main__":
    training = Training(epochs=8, batch=32, rate=3e-4, trained=lambda name: not name.startswith("_fc."))
    kit = Kit(vision8.open_base(), fresh, vision8.HEAD_SCALE, training, vision8.HERE / "experts")
    make_experts(__doc__, read_image_tasks(vision8.HERE / "data"), kit)
