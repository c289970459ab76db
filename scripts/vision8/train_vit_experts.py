"""Fine-tune the experts of vision8's tasks from the small ViT that pretrain_vit.py distils.

Every parameter is trained as in train_experts.py: 3e-4, twenty epochs, batches of 32, the same views. Task vectors go to the base's
folder.

They are not shipped: from a base of 30 epochs (a cosine loss of 0.46) the experts of clothing and digits reach 72.8 and 69.6 % on the
calibration split, those from EfficientNet-Lite0 88.2 and 98.6 %. ImageNet is what is missing: 7,310 images are too few to distil it.

    python scripts/vision8/train_vit_experts.py --base FOLDER             # all eight tasks, a few minutes each on one thread
    python scripts/vision8/train_vit_experts.py --base FOLDER digits      # one of them
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from experts import Kit, Training, arguments, make_experts
from suture.backbones import Backbone, open_backbone
from suture.checkpoints import open_checkpoint
from suture.tasks.suites import vision8
from suture.tasks.suites.suite import read_tasks
from vision8.train_experts import changed

if __name__ == "__main__":
    parser = arguments(__doc__)
    parser.add_argument("--base", type=Path, required=True)
    chosen = parser.parse_args()

    def fresh() -> Backbone:
        """Return the ViT with weights to be trained."""
        return open_backbone(chosen.base, open_checkpoint(chosen.base))

    training = Training(epochs=20, batch=32, rate=3e-4, trained=lambda name: not name.startswith("pooler."), changed=changed)
    kit = Kit(open_checkpoint(chosen.base), fresh, vision8.HEAD_SCALE, training, chosen.base / "experts")
    make_experts(read_tasks(vision8.HERE / "data"), kit, chosen)
