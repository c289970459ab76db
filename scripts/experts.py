"""How a suite's experts are made: fine-tuned from its base against a frozen head, and packed as task vectors.

The head is cosine prototypes, under the base, of the support split. AdamW with linear warm-up and decay; gradients are clipped. The seed
fixes order and dropout; results are the same on one machine and thread count, and close elsewhere.
"""

import argparse
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

from suture.backbones import NORMS, Backbone, Head, prototype_head
from suture.checkpoints import Checkpoint
from suture.evaluation import accuracy
from suture.representation import encode
from suture.task_vector import TaskVector
from suture.tasks import Task
from suture.tasks.suites.packing import pack_task_vector


@dataclass(frozen=True)
class Training:
    """How long, and how fast; ``trained`` says of a parameter, by its name in the model, whether it is.

    ``changed`` makes of a batch what the network is to see, at random, given the task's name.
    """

    epochs: int
    batch: int
    rate: float
    trained: Callable[[str], bool]
    changed: Callable[[str, Mapping[str, Tensor], torch.Generator], Mapping[str, Tensor]] | None = None
    warmup: float = 0.1
    clip: float = 1.0

    def pace(self, step: int, steps: int) -> float:
        """Return the share of the rate at a step."""
        return min(1.0, (step + 1) / (self.warmup * steps), (steps - step) / ((1 - self.warmup) * steps))


@dataclass(frozen=True)
class Kit:
    """What a suite's experts are made of, and where they go; ``open`` returns a network with weights of its own, which are trained."""

    base: Checkpoint
    open: Callable[[], Backbone]
    head_scale: float
    training: Training
    folder: Path


def train(backbone: Backbone, head: Head, task: Task, training: Training, seed: int) -> None:
    """Fine-tune a network in place on one task's training split; norms over batches keep their statistics."""
    split, generator = task.split("train"), torch.Generator().manual_seed(seed)
    torch.manual_seed(seed)  # dropout inside the model draws from the global generator
    inputs, labels = backbone.prepare(split.inputs), split.known_labels()
    parameters = [p.requires_grad_() for name, p in backbone.model.named_parameters() if training.trained(name)]
    optimizer = torch.optim.AdamW(parameters, lr=training.rate)
    steps = training.epochs * -(-len(split) // training.batch)
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, lambda step: training.pace(step, steps))
    backbone.model.train()
    for module in backbone.model.modules():
        if isinstance(module, NORMS):
            module.eval()
    for _ in range(training.epochs):
        for rows in torch.randperm(len(split), generator=generator).split(training.batch):
            batch = backbone.collate([inputs[i] for i in rows.tolist()])
            if training.changed is not None:
                batch = training.changed(task.name, batch, generator)
            loss = cross_entropy(head(backbone.pooled(batch)), labels[rows])
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, training.clip)
            optimizer.step()
            schedule.step()
    backbone.model.eval().requires_grad_(False)


def calibration_accuracy(backbone: Backbone, head: Head, task: Task) -> float:
    """Return the accuracy on the calibration split: the test split is not looked at here."""
    split = task.split("calibration")
    return accuracy(head(encode(backbone, split.inputs)), split.known_labels())


def make_expert(task: Task, kit: Kit, seed: int) -> dict[str, float | int]:
    """Train one expert, pack its task vector, and return what the log keeps."""
    started, backbone = time.perf_counter(), kit.open()
    support = task.split("support")
    head = prototype_head(encode(backbone, support.inputs), support.known_labels(), len(task.classes), kit.head_scale)
    before = calibration_accuracy(backbone, head, task)
    train(backbone, head, task, kit.training, seed)
    found = {source: backbone.model.state_dict()[name].detach() for name, source in backbone.names.items()}
    trained: dict[str, Tensor] = {**kit.base, **found}
    packed = pack_task_vector(TaskVector(kit.base, trained))
    kit.folder.mkdir(exist_ok=True)
    (kit.folder / f"{task.name}.task_vector").write_bytes(packed)
    return {
        "seed": seed,
        "pretrained": round(before, 4),
        "trained": round(calibration_accuracy(backbone, head, task), 4),
        "bytes": len(packed),
        "seconds": round(time.perf_counter() - started),
    }


def arguments(told: str | None) -> argparse.ArgumentParser:
    """Return what the command lines of all suites take; ``told`` is a script's own help."""
    parser = argparse.ArgumentParser(description=told, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("tasks", nargs="*", help="tasks to train; all when none is named")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    return parser


def make_experts(tasks: Sequence[Task], kit: Kit, chosen: argparse.Namespace) -> None:
    """Train the experts named on the command line, or all."""
    torch.set_num_threads(chosen.threads)
    for task in tasks:
        if not chosen.tasks or task.name in chosen.tasks:
            entry = make_expert(task, kit, chosen.seed)
            print(f"{task.name}: {json.dumps(entry)}", flush=True)
            (kit.folder / f"{task.name}.json").write_text(json.dumps(entry) + "\n", encoding="utf-8")
