"""Distil EfficientNet-Lite0 into a small ViT on vision8's training images, without labels: a base of the papers' own kind.

The student (six layers, 192 wide, 64 tokens of 8 px) learns what the teacher makes of the same views: images turned, cut, recoloured and
mixed with one another (Beyer et al., 2022, arXiv 2106.05237: the same view for both, mixup, patience). Its first token, through a linear
map that is thrown away, is to point where the teacher's centred and scaled features do. Nothing but training splits is looked at.

    python scripts/vision8/pretrain_vit.py FOLDER                # over an hour on one thread; the base goes to FOLDER
    python scripts/vision8/pretrain_vit.py FOLDER --epochs 1     # to see that it runs
"""

import argparse
import math
import sys
from pathlib import Path

import torch
from torch import Tensor, nn
from torch.nn.functional import cosine_similarity
from transformers import ViTConfig, ViTImageProcessor, ViTModel

sys.path.append(str(Path(__file__).resolve().parents[1]))  # what the suites share stands one folder up
from suture.backbones import Backbone, open_backbone
from suture.tasks.suites import vision8
from suture.tasks.suites.suite import read_tasks
from views import Views

WIDTH, LAYERS, HEADS, PATCH, SIDE = 192, 6, 3, 8, 64
BATCH, RATE, DECAY, WARMUP = 64, 1e-3, 0.05, 0.05


def stacked_images(teacher: Backbone) -> Tensor:
    """Return the training images of all tasks as the teacher takes them, shape (n, 3, 64, 64)."""
    inputs = [image for task in read_tasks(vision8.HERE / "data") for image in task.split("train").inputs]
    return torch.cat([teacher.collate(inputs[start : start + BATCH])["inputs"] for start in range(0, len(inputs), BATCH)])


def taught(teacher: Backbone, pixels: Tensor) -> Tensor:
    """Return the teacher's features."""
    with torch.no_grad(), torch.autocast("cpu", torch.bfloat16):
        return teacher.pooled({"inputs": pixels}).float()


def distil(student: ViTModel, teacher: Backbone, epochs: int, seed: int) -> None:
    """Train the student in place."""
    generator, pixels, views = torch.Generator().manual_seed(seed), stacked_images(teacher), Views(mixed=0.5)
    features = torch.cat([taught(teacher, part) for part in pixels.split(BATCH)])
    centre, scale = features.mean(dim=0), features.std(dim=0).clamp(min=1e-3)
    readout = nn.Linear(WIDTH, features.shape[1])
    parameters = [*student.parameters(), *readout.parameters()]
    optimizer = torch.optim.AdamW(parameters, lr=RATE, weight_decay=DECAY)
    steps = epochs * -(-len(pixels) // BATCH)
    pace = torch.optim.lr_scheduler.LambdaLR(
        optimizer, lambda step: min((step + 1) / (WARMUP * steps), 0.5 + 0.5 * math.cos(math.pi * step / steps))
    )
    student.train()
    for epoch in range(epochs):
        total = 0.0
        for rows in torch.randperm(len(pixels), generator=generator).split(BATCH):
            seen = views(pixels[rows], generator)
            goal = (taught(teacher, seen) - centre) / scale
            with torch.autocast("cpu", torch.bfloat16):
                read = readout(student(seen).last_hidden_state[:, 0])
            loss = 1 - cosine_similarity(read.float(), goal).mean()
            optimizer.zero_grad()
            loss.backward()
            nn.utils.clip_grad_norm_(parameters, 1.0)
            optimizer.step()
            pace.step()
            total += loss.item() * len(rows)
        print(f"epoch {epoch + 1}: {total / len(pixels):.4f}", flush=True)
    student.eval()


def main() -> None:
    """Distil, and write the base as transformers does."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("folder", type=Path)
    parser.add_argument("--epochs", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--threads", type=int, default=1)
    chosen = parser.parse_args()
    torch.set_num_threads(chosen.threads)
    torch.manual_seed(chosen.seed)  # the student's start is drawn from the global generator
    base = vision8.open_base()
    config = ViTConfig(
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        image_size=SIDE,
        patch_size=PATCH,
        attn_implementation="eager",  # twice as fast to train as the fused kernel, at 65 tokens on a CPU
    )
    student = ViTModel(config, add_pooling_layer=False)
    distil(student, open_backbone(base.folder, base, network=vision8.NETWORK), chosen.epochs, chosen.seed)
    student.save_pretrained(chosen.folder)
    size = {"height": SIDE, "width": SIDE}
    ViTImageProcessor(size=size, resample=3, image_mean=[0.5] * 3, image_std=[0.5] * 3).save_pretrained(chosen.folder)


if __name__ == "__main__":
    main()
