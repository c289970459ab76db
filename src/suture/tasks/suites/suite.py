"""A suite: a base, its experts and their tasks, ready to run."""

import io
import json
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from PIL import Image

from suture.checkpoints import Checkpoint, cache_folder, sha256_of, writing_to
from suture.inputs import StoredPicture
from suture.tasks.suites.packing import unpack_expert
from suture.tasks.task import Split, Task
from suture.types import Progress, no_progress

FORMATS = ("WEBP", "PNG", "JPEG")
"""Pillow's names of what images are stored as, the most likely first: it tries them in this order, and each trial takes time."""


@dataclass(frozen=True)
class Suite:
    """Tasks whose experts share a base; ``experts`` maps each task's name to its checkpoint folder, ``family`` says what they are.

    Heads are cosine prototypes, under the base, of the tasks' ``support`` splits, with ``head_scale`` as their logit scale.
    """

    name: str
    family: str
    base: Checkpoint
    experts: Mapping[str, Path]
    tasks: Sequence[Task]
    head_scale: float
    pooling: str | None = None
    """What represents an input, where the network is one of transformers."""
    max_length: int = 128
    network: str = ""
    """The place of the function that makes the network, where it is none of a library that Suture knows."""


def read_tasks(folder: Path) -> list[Task]:
    """Read the tasks that a folder's ``provenance.json`` describes, each from its ``<task>.jsonl.xz``."""
    described = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["tasks"]
    return [_read_task(folder / f"{task['name']}.jsonl.xz", task["name"], task["labels"]) for task in described]


def read_image_tasks(folder: Path) -> list[Task]:
    """Read the tasks that a folder's ``provenance.json`` describes, each from the images of its ``<task>.zip``."""
    described = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["tasks"]
    return [_read_image_task(folder / f"{task['name']}.zip", task["name"], task["labels"]) for task in described]


def unpack_experts(suite: str, packed: Mapping[str, Path], base: Checkpoint, progress: Progress = no_progress) -> dict[str, Path]:
    """Unpack experts into the cache, each once per packed file and base; ``progress`` counts experts."""
    experts = {}
    for task, file in packed.items():
        out = cache_folder() / "suites" / suite / f"{sha256_of(file)[:12]}-{base.digest[:12]}" / task
        if not out.is_dir():
            with writing_to(out, wait=True):
                if not out.is_dir():  # another process may have been faster
                    unpack_expert(file, base, out)
        experts[task] = out
        progress(1)
    return experts


def _read_task(file: Path, name: str, classes: Sequence[str]) -> Task:
    rows: dict[str, list[tuple[str, int]]] = {}
    with lzma.open(file, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            rows.setdefault(row["split"], []).append((row["text"], row["label"]))
    splits = {split: Split([text for text, _ in found], torch.tensor([label for _, label in found])) for split, found in rows.items()}
    return Task(name, tuple(classes), splits)


def _read_image_task(file: Path, name: str, classes: Sequence[str]) -> Task:
    """Read images named ``split/label/number.ending``; the numbers run through a split, and are its order."""
    rows: dict[str, list[tuple[int, int, ZippedPicture]]] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            split, label, image = member.split("/")
            picture = ZippedPicture(f"{file}, {member}", archive.read(member))
            rows.setdefault(split, []).append((int(image.partition(".")[0]), int(label), picture))
    splits = {}
    for split, found in rows.items():
        found.sort(key=lambda row: row[0])
        splits[split] = Split([picture for _, _, picture in found], torch.tensor([label for _, label, _ in found]))
    return Task(name, tuple(classes), splits)


@dataclass(frozen=True, eq=False)
class ZippedPicture(StoredPicture):
    """An image's file as it came out of an archive: a tenth of its pixels' size."""

    place: str
    content: bytes

    def open(self) -> Image.Image:
        """Return the image."""
        return Image.open(io.BytesIO(self.content), formats=FORMATS)

    def __str__(self) -> str:
        return self.place
