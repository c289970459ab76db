"""Inputs on their way through a network, block by block, with weights that change on the way; what they have come to is on disk."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from suture.backbones.backbone import Backbone
from suture.backbones.blocks import Passage
from suture.backbones.hooks import lasting
from suture.backbones.precision import in_precision
from suture.backbones.tokens import tokens_of
from suture.errors import UnsupportedFormat


@dataclass
class BlockWalk:
    """Inputs before a block of a network; it fulfils :class:`suture.merging.Walk`.

    Memory: one batch, and the prepared inputs. What the batches have come to lies in ``folder``, a file each.
    """

    backbone: Backbone
    precision: torch.dtype
    folder: Path
    number: int = field(default=0, init=False)
    outside: Mapping[str, Tensor] = field(default_factory=dict, init=False)
    """The weights that inputs entered with."""
    batches: list[list[Any]] = field(default_factory=list, init=False)
    bare: list[Passage | None] = field(default_factory=list, init=False)
    """Each batch without its hidden states, where that is nothing, as with maps: it need not be made again."""

    def enter(self, weights: Mapping[str, Tensor], batches: Iterable[list[Any]]) -> "BlockWalk":
        """Take prepared inputs to the first block; raises :class:`UnsupportedFormat` for a network that does not run block by block."""
        self.folder.mkdir()
        self.outside = weights
        for prepared in batches:
            self.batches.append(prepared)
            with self._running(weights):
                batch = self.backbone.collate(prepared)
                passage = self.backbone.blocks.enter(batch)
            self._keep(len(self.batches) - 1, passage)
            self.bare.append(_bare(passage) if self.backbone.real(batch) is None else None)
        if self.backbone.blocks.hands_on:
            raise UnsupportedFormat(
                f"{self.backbone.folder}: the first block hands on what its own weights make, as T5's does: block by block with weights "
                "that change on the way this network cannot be run"
            )
        return self

    @property
    def names(self) -> list[str]:
        """The names on disk of all tensors of the block that it stands before."""
        block = tuple(f"{name}." for name in self.backbone.block_names[self.number])
        return [source for name, source in self.backbone.names.items() if name.startswith(block)]

    def inputs(self, weights: Mapping[str, Tensor], layer: str) -> Iterator[Tensor]:
        """Yield what enters a layer of the block, real tokens of batch after batch; the block runs no further."""
        module = layers_within(self.backbone, self.number)[layer]
        for place in range(len(self.batches)):
            passage, real = self._kept(place)
            try:
                with self._running(weights), watched({layer: module}, _stop):
                    self.backbone.blocks.step(self.number, passage)
            except _Entered as found:
                tokens = entering_rows(module, found.entering, real)
            else:
                raise UnsupportedFormat(f"the layer of {layer!r} runs for some inputs and not for others")
            yield nn.functional.layer_norm(tokens, module.normalized_shape, eps=module.eps) if isinstance(module, nn.LayerNorm) else tokens

    def step(self, weights: Mapping[str, Tensor]) -> None:
        """Go through the block."""
        for place in range(len(self.batches)):
            passage, _ = self._kept(place)
            with self._running(weights):
                self._keep(place, self.backbone.blocks.step(self.number, passage))
        self.number += 1

    def _keep(self, place: int, passage: Passage) -> None:
        np.save(self._file(place), passage.hidden.float().numpy())

    def _kept(self, place: int) -> tuple[Passage, Tensor | None]:
        """Return a batch where it stands, and which of its tokens are real."""
        hidden, bare = torch.from_numpy(np.load(self._file(place))), self.bare[place]
        if bare is not None:
            return bare.moved(hidden), None
        batch = self.backbone.collate(self.batches[place])
        # What the blocks are given beside the hidden states depends on weights outside of them, where positions are learnt.
        with self._running(self.outside):
            passage = self.backbone.blocks.enter(batch)
        return passage.moved(hidden), self.backbone.real(batch)

    def _file(self, place: int) -> Path:
        return self.folder / f"{place}.npy"

    @contextmanager
    def _running(self, weights: Mapping[str, Tensor]) -> Iterator[None]:
        """Put weights, by their names on disk, in the places of the encoder's own for a moment."""
        parameters = self.backbone.model.state_dict(keep_vars=True)
        given = {parameters[name]: weights[source] for name, source in self.backbone.names.items() if source in weights}
        own = {parameter: parameter.data for parameter in given}
        try:
            for parameter, weight in given.items():
                parameter.data = weight.detach().float()
            with torch.no_grad(), in_precision(self.precision):
                yield
        finally:
            for parameter, data in own.items():
                parameter.data = data


def stages_of(backbone: Backbone, prepared: Any) -> list[list[list[tuple[str, str | None]]]]:
    """Return the linear layers and norms, weight and bias, block by block, as they run; those that one tensor enters stand together."""
    biases = {source: backbone.names.get(f"{name.removesuffix('.weight')}.bias") for name, source in backbone.names.items()}
    found: list[list[list[tuple[str, str | None]]]] = []
    entered: list[Tensor] = []

    def show(source: str, _: nn.Module, entering: Tensor) -> None:
        if not entered or entered[-1] is not entering:
            found[-1].append([])
            entered.append(entering)
        found[-1][-1].append((source, biases[source]))

    with torch.no_grad():
        passage = backbone.blocks.enter(backbone.collate([prepared]))
        for number in range(backbone.blocks.depth):
            found.append([])
            entered.clear()
            with watched(layers_within(backbone, number), show):
                passage = backbone.blocks.step(number, passage)
    return found


def layers_within(backbone: Backbone, number: int) -> dict[str, nn.Module]:
    """Return the linear layers and norms of a block whose weights are on disk, by the names of those."""
    names, model = backbone.names, backbone.model
    inner = [pair for block in backbone.block_names[number] for pair in model.get_submodule(block).named_modules(prefix=block)]
    looked_into = [(n, layer) for n, layer in inner if is_linear(layer) or isinstance(layer, nn.LayerNorm)]
    return {names[f"{n}.weight"]: layer for n, layer in looked_into if f"{n}.weight" in names}


def is_linear(layer: nn.Module) -> bool:
    """Say whether a layer is a linear map of rows: a linear layer, or a convolution of one place, whose rows are the places of a map.

    >>> [is_linear(layer) for layer in (nn.Linear(4, 2), nn.Conv2d(4, 2, 1), nn.Conv2d(4, 2, 3), nn.Conv2d(4, 4, 1, groups=4))]
    [True, True, False, False]
    """
    if not isinstance(layer, nn.Conv2d):
        return isinstance(layer, nn.Linear)
    return layer.kernel_size == layer.stride == (1, 1) and layer.padding in ((0, 0), "valid", "same") and layer.groups == 1


@contextmanager
def watched(layers: Mapping[str, nn.Module], show: Callable[[str, nn.Module, Tensor], None]) -> Iterator[None]:
    """Show what enters layers, by the names of their weights; no hook outlives the block."""

    def look(source: str, layer: nn.Module, inputs: tuple[Tensor, ...]) -> None:
        show(source, layer, inputs[0])

    with lasting([layer.register_forward_pre_hook(partial(look, source)) for source, layer in layers.items()]):
        yield


def entering_rows(layer: nn.Module, entering: Tensor, real: Tensor | None) -> Tensor:
    """Return the rows that enter a layer, shape (n, in): real tokens, or the places of a map."""
    if isinstance(layer, nn.Conv2d):
        return tokens_of(entering).flatten(0, 1)
    # What does not run over the tokens, as a pooler, enters whole.
    over_tokens = real is not None and entering.dim() == 3 and entering.shape[:2] == real.shape
    return entering[real] if over_tokens else entering.reshape(-1, entering.shape[-1])


def _bare(passage: Passage) -> Passage | None:
    """Return a passage without inputs and hidden states; None where its modules are given more beside these than constants."""
    given = (each for args, kwargs in passage.calls for each in (*args, *kwargs.values()))
    if all(each is None or isinstance(each, (bool, int, float, str)) for each in given):
        return Passage(None, torch.empty(0), passage.calls)
    return None


class _Entered(Exception):
    """Stops a block where something enters the layer that is looked at."""

    def __init__(self, entering: Tensor) -> None:
        self.entering = entering


def _stop(_source: str, _layer: nn.Module, entering: Tensor) -> None:
    raise _Entered(entering)
