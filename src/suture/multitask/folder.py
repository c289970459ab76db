"""A multi-task model as a folder, here or on the hub: a model of transformers as it is, and beside it what makes it do many tasks.

::

    config.json, model.safetensors, tokenizer …   the merged backbone: its own library loads the folder
    heads.safetensors                             every task's head, with the names of its classes
    surgery.safetensors                           what is done to the representations, or to the weights, of each task
    router.safetensors                            which task an input is of
    suture.json                                   tasks, preprocessing, digest of the backbone, recipe, measurements
    README.md                                     the model card
    manifest.json                                 the digest of every file
"""

import json
import re
from dataclasses import replace
from pathlib import Path
from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

from suture.backbones import PLACE, Backbone, NetworkBackbone, Pooling, TextBackbone, load_heads, open_backbone, save_heads
from suture.checkpoints import Checkpoint, Manifest, local_copy, open_checkpoint, open_manifest, scratch_folder, staged_folder
from suture.checkpoints.companions import copy_companions, copy_file, copy_files
from suture.checkpoints.header import text_of
from suture.checkpoints.layout import name_in_folder
from suture.checkpoints.verifying import check_file
from suture.checkpoints.writing import write_text
from suture.errors import CheckpointNotFound, CorruptCheckpoint, IncompatibleExperts, OutputError, UnsupportedFormat, in_short, reading
from suture.multitask.card import model_card
from suture.multitask.facts import Facts
from suture.multitask.model import MultiTaskModel, named_classes
from suture.multitask.router_files import load_router, save_router
from suture.surgery import Origin, load_operation, read_origin, save_operation

DESCRIPTION, HEADS, SURGERY, ROUTER, CARD = "suture.json", "heads.safetensors", "surgery.safetensors", "router.safetensors", "README.md"
OUR_NETWORKS = {"suture.backbones.efficientnet_lite:efficientnet_lite0"}
"""The networks that a folder may name itself: any other function is the user's to name."""
REPOSITORY = re.compile(r"[\w.-]+/[\w.-]+")


class Preprocessing(BaseModel):
    """How the backbone is opened, and what it must be."""

    model_config = ConfigDict(extra="forbid")

    sha256: str
    pooling: Pooling | None = None
    max_length: int = Field(128, ge=1)
    network: str = Field("", pattern=f"^({PLACE})?$")


class Description(BaseModel):
    """What ``suture.json`` holds."""

    model_config = ConfigDict(extra="forbid")

    format: Literal[1] = 1
    tasks: dict[str, list[str]]
    """The classes of each, in the order of its head."""
    backbone: Preprocessing
    facts: Facts = Facts()


def save_pretrained(model: MultiTaskModel, out: str | Path, *, replace: bool = False, place: str = "") -> None:
    """Write a model, whole or not at all, with a model card that tells its facts; ``place`` is what that says the model is loaded by.

    Raises :class:`suture.errors.OutputError` when the place cannot be written, :class:`IncompatibleExperts` for a backbone whose weights
    are an adapter's.
    """
    weights, origin = model.backbone.weights, model.origin
    if not isinstance(weights, Checkpoint):
        raise IncompatibleExperts(f"{weights.path}: a model to ship has full weights, not an adapter's")
    if model.operation is not None:
        origin = origin or Origin("unknown", 0, 0, weights.digest, "surgery", model.operation.rank)
    described = Description(
        tasks={task: list(model.classes(task)) for task in model.tasks},
        backbone=_preprocessing(model.backbone),
        facts=model.facts,
    )
    with staged_folder(out, Manifest(inputs={}), replace=replace, inputs=[weights.path]) as folder:
        _copy_backbone(model.backbone, weights, folder)
        save_heads(folder / HEADS, model.heads)
        if model.operation is not None:
            save_operation(folder / SURGERY, model.operation, origin)
        if model.router is not None:
            save_router(folder / ROUTER, model.router)
        write_text(folder / DESCRIPTION, json.dumps(described.model_dump(mode="json"), indent=1, ensure_ascii=False) + "\n")
        write_text(folder / CARD, model_card(model, place or Path(out).name))


def _preprocessing(backbone: Backbone) -> Preprocessing:
    """Return how the backbone is opened; networks of timm and open_clip have no place, and are found in the folder."""
    return Preprocessing(
        sha256=backbone.weights.digest,
        pooling=backbone.pooled_by,
        max_length=backbone.max_length if isinstance(backbone, TextBackbone) else 128,
        network=backbone.name if isinstance(backbone, NetworkBackbone) and re.fullmatch(PLACE, backbone.name) else "",
    )


def _copy_backbone(backbone: Backbone, weights: Checkpoint, folder: Path) -> None:
    """Copy weights, byte for byte, and what belongs to them."""
    for file in weights.files:
        copy_file(file, folder / name_in_folder(weights, file))
    if backbone.folder != weights.folder:
        copy_files(backbone.folder, folder)
    copy_companions(weights, folder)


def from_pretrained(place: str | Path, network: str = "") -> MultiTaskModel:
    """Load a model from a folder, or from the hub (``hf://owner/name``, or ``owner/name``); nothing in it is executed.

    Every file is compared with its digest. ``network`` names what makes the backbone where that is a network of one's own
    (``package.module:function``): a folder may name only Suture's.

    Raises :class:`CheckpointNotFound` for a place without a multi-task model, :class:`CorruptCheckpoint` for one that is not whole,
    :class:`IncompatibleExperts` when backbone and surgery do not belong together, :class:`UnsupportedFormat` when the network is not said.
    """
    folder = folder_of(place)
    told = read_description(folder)
    weights = open_checkpoint(folder)
    if weights.digest != told.backbone.sha256:
        raise CorruptCheckpoint(f"{folder} holds other weights (sha256 {weights.digest[:12]}…) than {DESCRIPTION} says")
    _verify(folder, {file.name for file in weights.files})
    named = trusted(folder, told.backbone.network, network)
    backbone = open_backbone(folder, weights, told.backbone.pooling, told.backbone.max_length, named)
    heads = load_heads(_file(folder, HEADS))
    if {task: list(named_classes(head)) for task, head in heads.items()} != told.tasks:
        raise CorruptCheckpoint(f"{folder}: the tasks and classes of {HEADS} are not those of {DESCRIPTION}")
    operation, origin, router = None, None, folder / ROUTER
    if (file := folder / SURGERY).is_file():  # where there is none, the manifest has none either
        operation, origin = load_operation(file), read_origin(file)
        if origin is None:
            raise CorruptCheckpoint(f"{file} does not say which backbone it was fitted on")
    ordered = {task: heads[task] for task in told.tasks}
    return MultiTaskModel(backbone, ordered, operation, origin, load_router(router) if router.is_file() else None, told.facts)


def folder_of(place: str | Path) -> Path:
    """Return the folder of a place: itself, or the local copy of a repository of the hub, fetched if it is not there."""
    if isinstance(place, str) and REPOSITORY.fullmatch(place) and not Path(place).exists():
        place = f"hf://{place}"
    return local_copy(Path(place))


def trusted(folder: Path, named: str, given: str) -> str:
    """Return the network to open a folder with; raises :class:`UnsupportedFormat` for one that the folder names and the user does not."""
    if named and not given and named not in OUR_NETWORKS:
        raise UnsupportedFormat(
            f"{folder} names {named} as its network, which would be run: if you trust it, say so with network={named!r}"
        )
    return given or named


def _verify(folder: Path, known: set[str]) -> None:
    """Compare files with their digests in the manifest, but for those that are known to be right, and the card, anybody's to edit."""
    try:
        manifest = open_manifest(folder)
    except CheckpointNotFound as error:
        raise CorruptCheckpoint(f"{folder} is not a whole multi-task model: it has no manifest of Suture's") from error
    for name, digest in manifest.files.items():
        if name != CARD and name not in known:
            check_file(folder, name, digest)


def _file(folder: Path, name: str) -> Path:
    if not (folder / name).is_file():
        raise CorruptCheckpoint(f"{folder} is not a whole multi-task model: it has no {name}")
    return folder / name


def read_description(folder: Path) -> Description:
    """Read ``suture.json``; raises :class:`CheckpointNotFound` or :class:`CorruptCheckpoint`."""
    file = folder / DESCRIPTION
    if not file.is_file():
        raise CheckpointNotFound(f"{folder} holds no multi-task model (no {DESCRIPTION}); `suture build` makes one")
    with reading(file, "the description of a multi-task model", absent=CorruptCheckpoint):
        return Description.model_validate_json(text_of(file))


def push_to_hub(model: MultiTaskModel, repository: str, *, private: bool = True, message: str = "") -> str:
    """Upload a model to the hub, with the token that huggingface_hub knows, and return its address. It is private unless said otherwise.

    The recipe is left out: it names places on this machine.
    Raises :class:`OutputError` when the hub cannot be reached, or refuses.
    """
    from huggingface_hub import HfApi

    with scratch_folder() as temporary:
        folder = temporary / repository.rpartition("/")[2]
        shared = replace(model, facts=model.facts.model_copy(update={"recipe": None}))
        save_pretrained(shared, folder, place=f"hf://{repository}")
        try:
            api = HfApi()
            api.create_repo(repository, private=private, exist_ok=True)
            done = api.upload_folder(repo_id=repository, folder_path=folder, commit_message=message or "A multi-task model of Suture")
        except Exception as error:  # of the library, of what it sends with, and of the system
            raise OutputError(f"{repository} was not uploaded: {in_short(error)}") from error
    return str(done.commit_url)
