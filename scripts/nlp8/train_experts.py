"""Fine-tune the experts of nlp8 from MiniLM-L6 and pack their task vectors into the package.

Every encoder block is trained (embeddings and the unused pooler stay), against a frozen head: cosine prototypes, under the base, of
the support split. AdamW, 1e-4 with linear warm-up and decay, three epochs over the training split, dropout as configured in the base.
The seed fixes order and dropout; results are the same on one machine and thread count, and close elsewhere.

    python scripts/nlp8/train_experts.py                # all eight tasks, about two minutes each on one thread
    python scripts/nlp8/train_experts.py movies spam    # some of them
"""

import argparse
import json
import time

import torch
from torch import Tensor
from torch.nn.functional import cross_entropy

from suture.backbones import Head, TextBackbone, prototype_head
from suture.evaluation import accuracy
from suture.representation import encode
from suture.task_vector import TaskVector
from suture.tasks import Task
from suture.tasks.suites import nlp8
from suture.tasks.suites.packing import pack_task_vector
from suture.tasks.suites.suite import read_tasks

EPOCHS, BATCH, RATE, WARMUP, CLIP = 3, 16, 1e-4, 0.1, 1.0
EXPERTS = nlp8.HERE / "experts"


def train(backbone: TextBackbone, head: Head, task: Task, seed: int) -> None:
    """Fine-tune the backbone's blocks in place on one task's training split."""
    split, generator = task.split("train"), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout inside the model draws from the global generator
    tokens, labels = backbone.prepare(split.inputs), split.known_labels()
    parameters = [p.requires_grad_() for name, p in backbone.model.named_parameters() if name.startswith("encoder.")]
    optimizer = torch.optim.AdamW(parameters, lr=RATE)
    steps = EPOCHS * -(-len(split) // BATCH)
    schedule = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min(1.0, (step + 1) / (WARMUP * steps), (steps - step) / ((1 - WARMUP) * steps))
    )
    backbone.model.train()
    for _ in range(EPOCHS):
        for rows in torch.randperm(len(split), generator=generator).split(BATCH):
            loss = cross_entropy(head(backbone.represent([tokens[i] for i in rows.tolist()])), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            torch.nn.utils.clip_grad_norm_(parameters, CLIP)
            optimizer.step()
            schedule.step()
    backbone.model.eval().requires_grad_(False)


def calibration_accuracy(backbone: TextBackbone, head: Head, task: Task) -> float:
    """Return the accuracy on the calibration split: the test split is not looked at here."""
    split = task.split("calibration")
    return accuracy(head(encode(backbone, split.inputs)), split.known_labels())


def make_expert(task: Task, seed: int) -> dict[str, float | int]:
    """Train one expert, pack its task vector, and return what the log keeps."""
    started, base = time.perf_counter(), nlp8.open_base()
    # Training works in place on the tensors that the backbone opened; the base is read through a mapping of its own.
    backbone = TextBackbone.open(base.path, max_length=nlp8.MAX_LENGTH)
    support = task.split("support")
    head = prototype_head(encode(backbone, support.inputs), support.known_labels(), len(task.classes), nlp8.HEAD_SCALE)
    before = calibration_accuracy(backbone, head, task)
    train(backbone, head, task, seed)
    trained: dict[str, Tensor] = {
        **base,
        **{name: p.detach() for name, p in backbone.model.state_dict().items() if name in base},
    }
    packed = pack_task_vector(TaskVector(base, trained))
    EXPERTS.mkdir(exist_ok=True)
    (EXPERTS / f"{task.name}.task_vector").write_bytes(packed)
    return {
        "seed": seed,
        "pretrained": round(before, 4),
        "trained": round(calibration_accuracy(backbone, head, task), 4),
        "bytes": len(packed),
        "seconds": round(time.perf_counter() - started),
    }


def main() -> None:
    """Train the experts named on the command line, or all."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="tasks to train; all when none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    for task in read_tasks(nlp8.HERE / "data"):
        if not chosen.tasks or task.name in chosen.tasks:
            entry = make_expert(task, chosen.seed)
            print(f"{task.name}: {json.dumps(entry)}", flush=True)
            (EXPERTS / f"{task.name}.json").write_text(json.dumps(entry) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
