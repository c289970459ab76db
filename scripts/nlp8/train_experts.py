"""Fine-tune the experts of nlp8 from MiniLM-L6 and pack their task vectors into the package.

Every encoder block is trained (embeddings and the unused pooler stay), against frozen prototypes: 1e-4, three epochs over the training
split in batches of 16, dropout as configured in the base.

    python scripts/nlp8/train_experts.py                # all eight tasks, about two minutes each on one thread
    python scripts/nlp8/train_experts.py movies spam    # some of them
"""

import sys
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from experts import Kit, Training, arguments, make_experts
from suture.backbones import TextBackbone
from suture.tasks.suites import nlp8
from suture.tasks.suites.suite import read_tasks

if __name__ == "__main__":
    base = nlp8.open_base()
    training = Training(epochs=3, batch=16, rate=1e-4, trained=lambda name: name.startswith("encoder."))
    kit = Kit(base, lambda: TextBackbone.open(base.path, max_length=nlp8.MAX_LENGTH), nlp8.HEAD_SCALE, training, nlp8.HERE / "experts")
    make_experts(read_tasks(nlp8.HERE / "data"), kit, arguments(__doc__).parse_args())
