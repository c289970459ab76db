"""A suite: a base, its experts and their tasks, ready to run."""

import io
import json
import lzma
import zipfile
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from PIL import Image

from suture.checkpoints import Checkpoint, cache_folder, open_checkpoint, sha256_of
from suture.errors import IncompatibleExperts, OutputExists
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
    """Read the tasks that a folder's ``provenance.json`` describes: texts from ``<task>.jsonl.xz``, images from ``<task>.zip``."""
    described = json.loads((folder / "provenance.json").read_text(encoding="utf-8"))["tasks"]
    return [_read_task(folder, task["name"], task["labels"]) for task in described]


def open_base_of(suite: str, place: Path, folder: Path, sha256: str) -> Checkpoint:
    """Open a suite's base; raises :class:`IncompatibleExperts`, which names its ``place``, when it is not the experts' own."""
    base = open_checkpoint(folder)
    if base.digest != sha256:
        raise IncompatibleExperts(f"{place} holds other weights than those that the experts of {suite} were fine-tuned from")
    return base


def unpack_experts(suite: Path, tasks: Sequence[Task], base: Checkpoint, progress: Progress = no_progress) -> dict[str, Path]:
    """Unpack the experts in a suite's folder into the cache, each once per packed file and base; ``progress`` counts experts."""
    experts = {}
    for task in tasks:
        file = suite / "experts" / f"{task.name}.task_vector"
        out = cache_folder() / "suites" / suite.name / f"{sha256_of(file)[:12]}-{base.digest[:12]}" / task.name
        if not out.is_dir():
            with suppress(OutputExists):  # another process was faster
                unpack_expert(file, base, out)
        experts[task.name] = out
        progress(1)
    return experts


def _read_task(folder: Path, name: str, classes: Sequence[str]) -> Task:
    images = folder / f"{name}.zip"
    splits = _read_images(images) if images.is_file() else _read_texts(folder / f"{name}.jsonl.xz")
    return Task(name, tuple(classes), splits)


def _read_texts(file: Path) -> dict[str, Split]:
    rows: dict[str, list[tuple[str, int]]] = {}
    with lzma.open(file, "rt", encoding="utf-8") as stream:
        for line in stream:
            row = json.loads(line)
            rows.setdefault(row["split"], []).append((row["text"], row["label"]))
    return {split: Split.of(found) for split, found in rows.items()}


def _read_images(file: Path) -> dict[str, Split]:
    """Read images named ``split/label/number.ending``; the numbers run through a split, and are its order."""
    rows: dict[str, list[tuple[int, int, ZippedPicture]]] = {}
    with zipfile.ZipFile(file) as archive:
        for member in archive.namelist():
            split, label, image = member.split("/")
            picture = ZippedPicture(f"{file}, {member}", archive.read(member))
            rows.setdefault(split, []).append((int(image.partition(".")[0]), int(label), picture))
    ordered = {split: sorted(found, key=lambda row: row[0]) for split, found in rows.items()}
    return {split: Split.of((picture, label) for _, label, picture in found) for split, found in ordered.items()}


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
