"""Plain modules as backbones: anything that takes a tensor of inputs and can be asked for representations."""

import hashlib
import inspect
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass, replace
from functools import cached_property, partial
from importlib import import_module
from importlib.metadata import version
from operator import call
from pathlib import Path
from typing import Any
from uuid import uuid4

import numpy as np
import torch
from jaxtyping import Float
from torch import Tensor, nn

from suture.backbones.backbone import Backbone
from suture.backbones.batching import WHOLE
from suture.backbones.families import Kind, block_names
from suture.checkpoints import sha256_of
from suture.errors import DataError, SutureError
from suture.inputs import Input, opened_image

INPUTS = "inputs"
"""What a batch for a plain module is called."""

PLACE = r"[\w.]+:\w+"
"""What the place of a function looks like that makes a network: ``package.module:function``."""

PREFIXES = ("", "model.", "module.", "module.model.")
"""What trainers put before the names of a network's tensors."""


@dataclass(frozen=True)
class Network:
    """A plain module, and what Suture must know of it to use it as a backbone.

    >>> linear = Network(nn.Linear(4, 2), transform=lambda text: torch.ones(4) * len(text), kind="text")
    >>> linear.represent(linear.model, linear.transform("ab")[None]).shape
    torch.Size([1, 2])
    """

    model: nn.Module
    """With any weights: those of checkpoints are put in by name."""
    transform: Callable[[Any], Tensor]
    """Makes of one input (an image comes as one of Pillow, in RGB) a tensor; tensors of several inputs are stacked, so of one shape."""
    represent: Callable[[Any, Tensor], Tensor] = call
    """Takes the model and stacked inputs to representations, shape (n, k); without, what the model itself answers."""
    blocks: str = ""
    """A pattern of the names of the modules that are its blocks, in forward order; without, the members of its longest ``ModuleList``."""
    leads: str = ""
    """A pattern of modules that run before the block which follows them, as what reduces maps between two stages."""
    kind: Kind = "image"
    classifier: str = ""
    """The name of a linear layer that takes the representation, if checkpoints have one; the module itself need not."""
    classes: tuple[str, ...] = ()
    """The names of its classes."""
    identity: tuple[str, ...] = ()
    """What decides the representations beside weights and source files: settings that come from elsewhere, versions of libraries."""


@dataclass(frozen=True)
class NetworkBackbone(Backbone):
    """A backbone made of a plain module: ``make`` returns a fresh one, ``name`` says which it is."""

    make: Callable[[], Network]
    name: str

    @cached_property
    def network(self) -> Network:
        """The module with weights of no meaning, and what belongs to it."""
        return self._fresh()

    def _fresh(self) -> Network:
        with torch.random.fork_rng(devices=[]), _faults_of(self.name):  # the weights that a module starts with are drawn
            network: object = self.make()
        if not isinstance(network, Network):
            raise DataError(f"backbone.network: {self.name} returned {type(network).__name__}, not a suture.Network")
        # A function may return one and the same module time and again, and weights are put into ours.
        return replace(network, model=deepcopy(network.model))

    @property
    def kind(self) -> Kind:
        """What it takes."""
        return self.network.kind

    @property
    def architecture(self) -> str:
        """Its name."""
        return self.name

    @cached_property
    def digest(self) -> str:
        """The sha256 of everything that decides the representations."""
        network = self.network
        code = [_source_of(part) for part in (self.make, type(network.model), network.transform, network.represent)]
        identity = [self.weights.digest, self.name, code, *network.identity, version("torch")]
        return hashlib.sha256(json.dumps(identity).encode()).hexdigest()

    @property
    def sample(self) -> Input:
        """Some input."""
        return "a" if self.kind == "text" else np.zeros((8, 8, 3), dtype=np.uint8)

    def prepare(self, inputs: Sequence[Input]) -> list[Input]:
        """Return inputs as they are; raises :class:`DataError` for a text where images are taken, or an image where texts are."""
        if wrong := [type(each).__name__ for each in inputs if isinstance(each, str) != (self.kind == "text")]:
            raise DataError(f"{self.name} takes {self.kind}s, not {wrong[0]}")
        return list(inputs)

    def length(self, prepared: Input) -> int:  # noqa: ARG002
        """Return what an input counts for in a batch: all count the same."""
        return WHOLE

    def collate(self, prepared: Sequence[Input]) -> Mapping[str, Tensor]:
        """Return inputs as the network takes them, stacked."""
        opened = [self._opened(each) for each in prepared]
        with _faults_of(self.name):
            return {INPUTS: torch.stack([self.network.transform(each) for each in opened])}

    def _opened(self, given: Input) -> Any:
        return given if isinstance(given, str) else opened_image(given)

    def pooled(self, batch: Mapping[str, Tensor], stand_ins: Mapping[str, Tensor] | None = None) -> Float[Tensor, "n k"]:
        """Return the representations of a batch; ``stand_ins`` replace parameters, by their names in the model."""
        own = {f"model.{name}": tensor for name, tensor in (stand_ins or {}).items()}
        representing = _Representing(self.model, self.network.represent)
        with _faults_of(self.name):
            answer: Tensor = torch.func.functional_call(representing, own, (batch[INPUTS],))
        if not isinstance(answer, Tensor) or answer.dim() != 2 or len(answer) != len(batch[INPUTS]):
            found = tuple(answer.shape) if isinstance(answer, Tensor) else type(answer).__name__
            raise DataError(f"backbone.network: {self.name} represents {len(batch[INPUTS])} inputs by {found}, not by a tensor of (n, k)")
        return answer

    @cached_property
    def block_names(self) -> list[list[str]]:
        """The names of the modules of its blocks, in forward order."""
        return block_names(self.model, self.network.blocks, self.network.leads)

    @property
    def classifier(self) -> str:
        """The name on disk of the linear layer behind the representation; raises :class:`DataError` where none is known."""
        if not self.network.classifier:
            raise DataError(f"{self.weights.path}: {self.name} names no linear layer that takes its representation")
        layer = self.network.classifier
        return next((f"{prefix}{layer}" for prefix in PREFIXES if f"{prefix}{layer}.weight" in self.weights), layer)

    @property
    def classes(self) -> tuple[str, ...]:
        """The names of that layer's classes."""
        return self.network.classes

    def _load(self, tensors: dict[str, Tensor]) -> tuple[nn.Module, set[str]]:
        model = self._fresh().model
        own = model.state_dict()
        prefix = max(PREFIXES, key=lambda each: sum(f"{each}{name}" in tensors for name in own))
        given = {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
        # No representation reads the classifier, and an expert's may have classes of its own.
        given = {name: tensor for name, tensor in given.items() if not self._classifies(name)}
        try:
            missing = model.load_state_dict(given, strict=False).missing_keys
        except RuntimeError as error:  # tensors of other shapes
            raise self._unfilled(" ".join(str(error).split())) from error
        # A parameter that goes by two names is saved by one of them.
        tensors_of = model.state_dict(keep_vars=True)
        filled = {id(tensor) for name, tensor in tensors_of.items() if name not in missing}
        absent = {name for name in missing if id(tensors_of[name]) not in filled}
        return model.float().eval().requires_grad_(False), absent

    def _lacking(self, missing: set[str]) -> list[str]:
        # Buffers of integers, such as counts of batches, are as the module makes them; the classifier is not read.
        own = self.network.model.state_dict()
        return sorted(name for name in missing if own[name].is_floating_point() and not self._classifies(name))

    def _classifies(self, name: str) -> bool:
        """Say whether a tensor, by its name in the model, is the classifier's."""
        return self.network.classifier != "" and name.startswith(f"{self.network.classifier}.")


class _Representing(nn.Module):
    """A module whose answer is another's representation."""

    def __init__(self, model: nn.Module, represent: Callable[[Any, Tensor], Tensor]) -> None:
        super().__init__()
        self.model, self.represent = model, represent

    def forward(self, inputs: Tensor) -> Tensor:
        return self.represent(self.model, inputs)


def made_by(place: str) -> Callable[[], Network]:
    """Return the function that a recipe names, as ``package.module:function``; raises :class:`DataError` when there is none."""
    module, _, name = place.partition(":")
    try:
        function: object = getattr(import_module(module), name)
    except Exception as error:  # whatever a module does when it is imported
        raise DataError(
            f"backbone.network: {place!r} cannot be imported ({error}); expected package.module:function, of a module that is installed "
            "or on PYTHONPATH"
        ) from error
    if not callable(function):
        raise DataError(f"backbone.network: {place!r} is no function, but {type(function).__name__}")
    return function


def _source_of(part: Any) -> str:
    """Return what tells a piece of code: its name, its source file's sha256, and the values that were bound to it.

    Where those cannot be told, as of a function inside a function, it is like no other, so that nothing is taken for its result.
    """
    inner, bound = (part.func, repr((part.args, sorted(part.keywords.items())))) if isinstance(part, partial) else (part, "")
    if getattr(inner, "__closure__", None):
        return uuid4().hex
    code = inner if hasattr(inner, "__qualname__") else type(inner)
    try:
        file = inspect.getsourcefile(code)
    except TypeError:  # built in
        file = None
    named = f"{code.__module__}:{code.__qualname__} {bound}"
    return f"{named} {sha256_of(Path(file))}" if file else named


@contextmanager
def _faults_of(name: str) -> Iterator[None]:
    """Say whose code it was that failed."""
    try:
        yield
    except SutureError:
        raise
    except Exception as error:
        told = " ".join(f"{type(error).__name__}: {error}".split())[:300]
        raise DataError(f"backbone.network: {name} failed with {told}") from error
