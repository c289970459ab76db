"""Networks from Hugging Face folders: inputs in, one representation each out."""

import hashlib
import json
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from copy import copy
from dataclasses import dataclass
from functools import cache, cached_property
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeVar

import torch
from jaxtyping import Float
from torch import Tensor, nn

from suture.backbones.backbone import Backbone
from suture.backbones.families import CLIPS, FAMILIES, Family, Pooling, block_names, family_of, pooled, unknown_family
from suture.checkpoints import AlignedExpert, open_checkpoint, sha256_of
from suture.errors import CheckpointNotFound, CorruptCheckpoint, DataError, in_short

COMPANION = re.compile(r"^config\.json$|token|vocab|merges|\.model$|sentencepiece|processor_config\.json$")
"""Files beside the weights that decide what an input becomes: configuration, and everything a tokenizer or image processor reads."""

Own = TypeVar("Own", bound="HuggingFaceBackbone")


@dataclass(frozen=True)
class HuggingFaceBackbone(Backbone):
    """A network of transformers, as :class:`Backbone` says; ``folder`` holds ``config.json`` and what prepares inputs.

    The representation, in float32, is what ``pooling`` says (:data:`suture.backbones.families.POOLINGS`); without, what is usual in its
    family.

    Raises :class:`CheckpointNotFound` when the folder lacks a file, :class:`UnsupportedFormat` for a family that is not known.
    """

    pooling: Pooling | None = None

    @classmethod
    def open(cls: type[Own], folder: str | Path, pooling: Pooling | None = None, *settings: Any, **named: Any) -> Own:
        """Return the network of a folder with the folder's own weights."""
        weights = open_checkpoint(folder)
        return cls(weights.folder, weights, pooling, *settings, **named)

    @cached_property
    def config(self) -> Any:
        """The configuration of the folder."""
        from transformers import AutoConfig

        return from_folder(AutoConfig, self.folder)

    @property
    def architecture(self) -> str:
        """The type of model that the configuration names; CLIP is one network with and without its text tower."""
        return "clip" if self.config.model_type in CLIPS else str(self.config.model_type)

    @cached_property
    def family(self) -> Family:
        """The family of the network; raises :class:`UnsupportedFormat` where it is not known, or takes something else."""
        family = family_of(self.config)
        if family is None or family.kind != self.kind:
            raise unknown_family(self.folder, self.config, self.kind)
        return family

    @property
    def pooled_by(self) -> Pooling:
        """How its representations are made."""
        return self.pooling or self.family.pooling

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the representations."""
        companions = sorted(file for file in self.folder.iterdir() if file.is_file() and COMPANION.search(file.name))
        named = [(file.name, sha256_of(file)) for file in companions]
        identity = [self.weights.digest, named, self.pooled_by, *self._settings(), *_libraries()]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    def _settings(self) -> list[object]:
        """Return the settings of its own that decide the representations."""
        return []

    @property
    def classifier(self) -> str:
        """The name on disk of the linear layer of the library's classifiers of its family, which takes its representations.

        Raises :class:`DataError` where those are more than one linear layer, or take other representations.
        """
        if not self.family.classifier:
            known = ", ".join(sorted(name for name, own in FAMILIES.items() if own.classifier))
            raise DataError(
                f"{self.weights.path}: classifiers of type {self.config.model_type!r} are no linear layers; those of {known} are"
            )
        if self.pooled_by != self.family.classified_by:
            raise DataError(
                f"{self.weights.path}: the classifier takes the representation {self.family.classified_by!r}, not {self.pooled_by!r}; "
                f"set backbone.pooling: {self.family.classified_by}"
            )
        return self.family.classifier

    @property
    def classes(self) -> tuple[str, ...]:
        """The names that the configuration gives to the classes, where it gives any."""
        named = {int(place): str(title) for place, title in self.config.id2label.items()}
        told = any(title != f"LABEL_{place}" for place, title in named.items())
        return tuple(named[place] for place in sorted(named)) if told else ()

    def _lacking(self, missing: set[str]) -> list[str]:
        # Networks bring poolers that not every checkpoint has; they matter only where they are used.
        if self.pooled_by != "pooler":
            return sorted(name for name in missing if "pooler" not in name)
        if isinstance(self.weights, AlignedExpert):
            own = self.weights.names
            missing = {*missing, *(source for name, source in self.names.items() if "pooler" in name and source not in own)}
        return sorted(missing)

    def _load(self, tensors: dict[str, Tensor]) -> tuple[nn.Module, set[str]]:
        import transformers

        config = self.config
        if self.family.part:
            config = copy(getattr(config, self.family.part))
            config.projection_dim = self.config.projection_dim  # the whole's, where both tell one
        loader = getattr(transformers, self.family.loader) if self.family.loader else transformers.MODEL_MAPPING[type(config)]
        # Files written by an old library may hold tensors that the model no longer has; missing ones would be random.
        with _quietly():
            try:
                told = {"output_loading_info": True, "ignore_mismatched_sizes": True}  # else it says in its log alone which they are
                model, info = loader.from_pretrained(None, config=config, state_dict=tensors, dtype=torch.float32, **told)
            except RuntimeError as error:  # tensors that it cannot join or cut as this model's are
                raise self._unfilled(" ".join(str(error).split())) from error
        if wrong := sorted(info["mismatched_keys"]):
            raise self._unfilled(", ".join(f"{name} is {tuple(found)}, not {tuple(expected)}" for name, found, expected in wrong))
        return model.eval().requires_grad_(False), set(info["missing_keys"])

    def pooled(self, batch: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of a batch; ``stand_ins`` replace parameters, by their names in the model."""
        answer = torch.func.functional_call(self.model, dict(stand_ins or {}), (), dict(batch))
        return pooled(answer, self.pooled_by, batch.get("attention_mask"))

    @cached_property
    def block_names(self) -> list[list[str]]:
        """The names of the modules of its blocks, in forward order."""
        return block_names(self.model, self.family.blocks, self.family.leads)


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep the library from drawing bars between ours, and from reporting on tensors, which we do."""
    from transformers.utils import logging

    shown, told = logging.is_progress_bar_enabled(), logging.get_verbosity()
    logging.disable_progress_bar()
    logging.set_verbosity_error()
    try:
        yield
    finally:
        logging.set_verbosity(told)
        if shown:
            logging.enable_progress_bar()


def from_folder(kind: Any, folder: Path, **settings: Any) -> Any:
    """Load a configuration, tokenizer or image processor from a local folder, and never from a hub or from code in the folder."""
    if not (folder / "config.json").is_file():
        raise CheckpointNotFound(f"{folder}: no config.json; expected a Hugging Face model folder")
    try:
        return kind.from_pretrained(str(folder), local_files_only=True, trust_remote_code=False, **settings)
    except Exception as error:  # of the library, and of those it reads with: one of them raises plain exceptions
        raise CorruptCheckpoint(f"{folder}: {kind.__name__} cannot be made from this folder: {in_short(error)}") from error


@cache
def _libraries() -> list[str]:
    """Return the versions of what computes representations; looked up once, as it takes as long as hashing a tokenizer."""
    return [version("torch"), version("transformers")]
