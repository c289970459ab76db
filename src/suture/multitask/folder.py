"""A multi-task model as a folder, here or on the hub: a model of transformers as it is, and beside it what makes it do many tasks.

::

    config.json, model.safetensors, tokenizer …   the merged backbone: its own library loads the folder
    heads.safetensors                             every task's head, with the names of its classes
    surgery.safetensors                           what is done to the representations, or to the weights, of each task
    router.safetensors                            which task an input is of
    suture.json                                   tasks, preprocessing, digest of the backbone, surgery, recipe, measurements
    README.md                                     the model card
    manifest.json                                 the digest of every file
"""

import json
import shutil
import tempfile
from dataclasses import asdict
from pathlib import Path
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, ValidationError

from suture.backbones import Backbone, NetworkBackbone, Pooling, TextBackbone, load_heads, open_backbone, save_heads
from suture.checkpoints import Checkpoint, Manifest, local_copy, open_checkpoint, staged_folder
from suture.checkpoints.companions import copy_companions, copy_files
from suture.checkpoints.reading import OPEN_CLIP_WEIGHTS, SINGLE
from suture.checkpoints.writing import write_text
from suture.errors import CheckpointNotFound, CorruptCheckpoint, IncompatibleExperts, OutputError, UnsupportedFormat
from suture.multitask.card import Facts, model_card
from suture.multitask.model import MultiTaskModel
from suture.multitask.router_files import load_router, save_router
from suture.surgery import load_operation, read_origin, save_operation

DESCRIPTION, HEADS, SURGERY, ROUTER, CARD = "suture.json", "heads.safetensors", "surgery.safetensors", "router.safetensors", "README.md"
OUR_NETWORKS = "suture."
"""What the place of a network begins with that a folder may name itself: any other function is the user's to name."""


class Preprocessing(BaseModel):
    """How the backbone is opened, and what it must be."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    pooling: Pooling | None = None
    max_length: int = 128
    network: str = ""


class Description(BaseModel):
    """What ``suture.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    tasks: dict[str, list[str]]
    """The classes of each, in the order of its head."""
    backbone: Preprocessing
    surgery: dict[str, Any] | None = None
    """How it came about, as its file tells."""
    facts: Facts = Facts()


def save_pretrained(model: MultiTaskModel, out: str | Path, facts: Facts | None = None, *, replace: bool = False) -> None:
    """Write a model, whole or not at all, with a model card that tells the ``facts``.

    Raises :class:`suture.errors.OutputError` when the place cannot be written, :class:`IncompatibleExperts` for a backbone whose weights
    are an adapter's.
    """
    weights, facts = model.backbone.weights, facts or Facts()
    if not isinstance(weights, Checkpoint):
        raise IncompatibleExperts(f"{weights.path}: a model to ship has full weights, not an adapter's")
    described = Description(
        tasks={task: list(model.classes(task)) for task in model.tasks},
        backbone=_preprocessing(model.backbone),
        surgery=None if model.origin is None else {**asdict(model.origin), "parameters": _surgery_parameters(model)},
        facts=facts,
    )
    with staged_folder(out, Manifest(inputs={}), replace=replace, inputs=[weights.path]) as folder:
        _copy_backbone(model.backbone, weights, folder)
        save_heads(folder / HEADS, model.heads)
        if model.operation is not None:
            save_operation(folder / SURGERY, model.operation, model.origin)
        if model.router is not None:
            save_router(folder / ROUTER, model.router)
        write_text(folder / DESCRIPTION, json.dumps(described.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
        write_text(folder / CARD, model_card(model, facts, Path(out).name))


def _preprocessing(backbone: Backbone) -> Preprocessing:
    return Preprocessing(
        sha256=backbone.weights.digest,
        pooling=backbone.pooled_by,
        max_length=backbone.max_length if isinstance(backbone, TextBackbone) else 128,
        network=backbone.name if isinstance(backbone, NetworkBackbone) and ":" in backbone.name else "",
    )


def _surgery_parameters(model: MultiTaskModel) -> dict[str, int]:
    return {} if model.operation is None else {task: model.operation.parameters(task) for task in model.tasks}


def _copy_backbone(backbone: Backbone, weights: Checkpoint, folder: Path) -> None:
    """Copy weights, byte for byte, and what belongs to them."""
    for file in weights.files:
        kept = len(weights.files) > 1 or file.name == OPEN_CLIP_WEIGHTS
        shutil.copyfile(file, folder / (file.name if kept else SINGLE))
    if backbone.folder != weights.folder:
        copy_files(backbone.folder, folder)
    copy_companions(weights, folder)


def from_pretrained(place: str | Path, network: str = "") -> MultiTaskModel:
    """Load a model from a folder, or from the hub (``hf://owner/name``); nothing in it is executed.

    ``network`` names what makes the backbone where that is a network of one's own (``package.module:function``): a folder from elsewhere
    may name only those of Suture.

    Raises :class:`CheckpointNotFound` for a place without a multi-task model, :class:`CorruptCheckpoint` for one that is not whole,
    :class:`IncompatibleExperts` when backbone and surgery do not belong together, :class:`UnsupportedFormat` when the network is not said.
    """
    folder = local_copy(Path(place))
    told = read_description(folder)
    own = told.backbone.network
    if own and not network and not own.startswith(OUR_NETWORKS):
        raise UnsupportedFormat(f"{folder} names {own} as its network, which would be run: if you trust it, say so with network={own!r}")
    weights = open_checkpoint(folder)
    if weights.digest != told.backbone.sha256:
        raise CorruptCheckpoint(f"{folder} holds other weights (sha256 {weights.digest[:12]}…) than {DESCRIPTION} says")
    backbone = open_backbone(folder, weights, told.backbone.pooling, told.backbone.max_length, network or own)
    heads = load_heads(_file(folder, HEADS))
    if {task: list(head.classes) for task, head in heads.items() if head.classes} != _named(told, heads.keys()):
        raise CorruptCheckpoint(f"{folder}: the tasks and classes of {HEADS} are not those of {DESCRIPTION}")
    surgery, router = folder / SURGERY, folder / ROUTER
    if told.surgery is not None:
        _file(folder, SURGERY)
    return MultiTaskModel(
        backbone,
        {task: heads[task] for task in told.tasks},
        load_operation(surgery) if surgery.is_file() else None,
        read_origin(surgery) if surgery.is_file() else None,
        load_router(router) if router.is_file() else None,
    )


def _named(told: Description, tasks: Any) -> dict[str, list[str]]:
    """Return the classes that a heads file must name; numbers are what unnamed ones are called by."""
    if set(told.tasks) != set(tasks):
        return {"": []}
    return {task: classes for task, classes in told.tasks.items() if classes != [str(row) for row in range(len(classes))]}


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CorruptCheckpoint(f"{folder} is not a whole multi-task model: it has no {name}")
    return folder / name


def read_description(folder: Path) -> Description:
    """Read ``suture.json``; raises :class:`CheckpointNotFound` or :class:`CorruptCheckpoint`."""
    file = folder / DESCRIPTION
    if not file.is_file():
        raise CheckpointNotFound(f"{folder} holds no multi-task model (no {DESCRIPTION}); `suture build` makes one")
    try:
        return Description.model_validate_json(file.read_bytes())
    except (OSError, ValidationError) as error:
        raise CorruptCheckpoint(f"{file} does not describe a multi-task model: {' '.join(str(error).split())[:300]}") from error


def push_to_hub(model: MultiTaskModel, repository: str, facts: Facts | None = None, *, private: bool = True, message: str = "") -> str:
    """Upload a model to the hub, with the token that huggingface_hub knows, and return its address. It is private unless said otherwise.

    The recipe is left out: it names places on this machine.
    Raises :class:`OutputError` when the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    with tempfile.TemporaryDirectory(prefix="suture-") as temporary:
        folder = Path(temporary) / repository.rpartition("/")[2]
        save_pretrained(model, folder, (facts or Facts()).model_copy(update={"recipe": None}))
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message or "A multi-task model of Suture")
        except (HfHubHTTPError, HFValidationError, OSError, ValueError) as error:
            raise OutputError(f"{repository} was not uploaded: {' '.join(str(error).split())[:300]}") from error
    return str(done.commit_url)
