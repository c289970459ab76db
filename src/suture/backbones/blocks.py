"""Networks block by block: in at the first block, through one block at a time, out at the representation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool, Float, Shaped
from torch import Tensor, nn

from suture.errors import UnsupportedFormat


@runtime_checkable
class BlockwiseBackbone(Protocol):
    """What deep surgery asks of a backbone: its blocks, and batches that they take."""

    @property
    def blocks(self) -> "Blocks":
        """The blocks; after each, hidden states have the shape (n, tokens, k)."""
        ...

    def batches(self, inputs: Sequence[Any]) -> Iterator[tuple[list[int], Any]]:
        """Cut inputs into batches: the places of the inputs in each, and what the blocks take. Every input comes once."""
        ...

    def real(self, batch: Any) -> Bool[Tensor, "n tokens"]:
        """Return which tokens of a batch stand for something: padding does not."""
        ...


Stub = Callable[..., Any]

CLOSE = 1e-3
"""How far, as a share, a network may differ from its blocks run one by one: half precision rounds; a lost argument changes far more."""


@dataclass(frozen=True)
class Passage:
    """A batch on its way: what came out of the last block (or what enters the first), and what the blocks are given beside it."""

    inputs: Any
    hidden: Tensor
    """Shape (n, tokens, k) in a transformer; whatever the blocks hand on."""
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    """Each block's other arguments: attention masks, position encodings."""

    def moved(self, hidden: Tensor) -> "Passage":
        """Return the passage with something else in the place of ``hidden``."""
        return replace(self, hidden=hidden)


@dataclass(frozen=True)
class Blocks:
    """The blocks of a network, in forward order, and a function ``run`` that takes a batch through the whole of it.

    The network's own code makes what stands before the blocks, between their arguments, and after them: for a moment the blocks are
    replaced by stubs that hand on what they are given. So no model family is spelled out here, and no stub outlives a call.

    >>> network = nn.Sequential(nn.Linear(2, 2), nn.Linear(2, 2), nn.ReLU())
    >>> blocks, x = Blocks(list(network[:2]), network), torch.ones(1, 2)
    >>> passage = blocks.enter(x)
    >>> for number in range(blocks.depth):
    ...     passage = blocks.step(number, passage)
    >>> bool((blocks.leave(passage) == network(x)).all())
    True
    """

    members: Sequence[nn.Module]
    run: Callable[[Any], Tensor]

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        return len(self.members)

    def enter(self, inputs: Any) -> Passage:
        """Return what enters the first block.

        Raises :class:`UnsupportedFormat` when the network does not run its blocks one by one. Checked once, on the first inputs: raises
        it too when running the blocks one by one gives another result, as with T5's, which hand on more than hidden states.
        """
        if self.members and not self._known.checked:
            self._check(inputs)
        return self._recorded(inputs)

    def _recorded(self, inputs: Any) -> Passage:
        """Return a passage with arguments of its own: networks with a cache of keys and values change theirs on the way."""
        calls: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []
        first: list[Tensor] = []

        def record(number: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
            if number != len(calls):
                raise UnsupportedFormat("the network does not run its blocks once each, in order")
            hidden, others, named = _split(args, kwargs)
            first.append(hidden)
            calls.append((others, named))
            return hidden

        with self._stubs(inputs, record):
            self.run(inputs)
        if len(calls) != self.depth or any(hidden is not first[0] for hidden in first):
            raise UnsupportedFormat("the network does something between its blocks, so they cannot be run one by one")
        return Passage(inputs, first[0] if first else torch.empty(0), calls)

    def step(self, number: int, passage: Passage) -> Passage:
        """Return what comes out of a block."""
        args, kwargs = passage.calls[number]
        found = self.members[number](passage.hidden, *args, **kwargs)
        return passage.moved(found[0] if isinstance(found, tuple) else found)

    def leave(self, passage: Passage) -> Tensor:
        """Return the representation, after the last block."""

        def finish(number: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
            return passage.hidden if number == self.depth - 1 else _split(args, kwargs)[0]

        with self._stubs(passage.inputs, finish):
            return self.run(passage.inputs)

    @contextmanager
    def _stubs(self, inputs: Any, answer: Callable[[int, tuple[Any, ...], Mapping[str, Any]], Tensor]) -> Iterator[None]:
        """Let the blocks give an answer in the form of their own."""
        wrap = self._wrapping(inputs)

        def stub_of(number: int) -> Stub:
            return lambda *args, **kwargs: wrap(answer(number, args, kwargs))

        with _replaced({member: stub_of(number) for number, member in enumerate(self.members)}):
            yield

    def _wrapping(self, inputs: Any) -> Callable[[Tensor], Any]:
        """Return what makes of a tensor what the blocks answer: the tensor, or a tuple that begins with it."""
        if self.members and self._known.length is None:
            with torch.no_grad(), _hooked(self.members[0], self._known):
                self._known.whole = self.run(inputs)
        length = self._known.length or 0
        return lambda hidden: hidden if length == 0 else (hidden, *[None] * (length - 1))

    @torch.no_grad()
    def _check(self, inputs: Any) -> None:
        """Compare what the network says of its first inputs with what comes out block by block."""
        passage = self._recorded(inputs)
        for number in range(self.depth):
            passage = self.step(number, passage)
        found, whole = self.leave(passage), self._known.whole
        assert whole is not None  # noqa: S101  it was seen when the passage was recorded
        scale = float(whole.nan_to_num(0, 0, 0).abs().max())
        if not torch.allclose(found, whole, rtol=CLOSE, atol=CLOSE * scale, equal_nan=True):
            raise UnsupportedFormat("the blocks of this network hand on more than hidden states, so they cannot be run one by one")
        self._known.checked, self._known.whole = True, None

    @cached_property
    def _known(self) -> "_Known":
        return _Known()


@dataclass
class _Known:
    """What the first inputs have told of a network's blocks."""

    length: int | None = None
    """The length of the tuples that they answer, 0 for plain tensors."""
    whole: Tensor | None = None
    """What the network made of those inputs."""
    checked: bool = False


def block_names(model: nn.Module) -> list[str]:
    """Return the names of a network's blocks, in forward order: the members of its longest list of modules.

    >>> block_names(nn.ModuleDict({"layers": nn.ModuleList([nn.Linear(2, 2), nn.Linear(2, 2)]), "head": nn.Linear(2, 1)}))
    ['layers.0', 'layers.1']
    """
    lists = [(name, module) for name, module in model.named_modules() if isinstance(module, nn.ModuleList)]
    name, longest = max(lists, key=lambda item: len(item[1]), default=("", nn.ModuleList()))
    return [f"{name}.{number}" for number in range(len(longest))]


def mean_of_real(hidden: Float[Tensor, "n p k"], mask: Shaped[Tensor, "n p"]) -> Float[Tensor, "n k"]:
    """Return the mean over the real tokens of each text; zero where a text has none.

    >>> mean_of_real(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def _split(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Any, ...], Mapping[str, Any]]:
    """Return the tensor that a block works on, and its other arguments."""
    if args:
        return args[0], args[1:], kwargs
    name = next(iter(kwargs))
    return kwargs[name], (), {key: value for key, value in kwargs.items() if key != name}


@contextmanager
def _replaced(forwards: Mapping[nn.Module, Stub]) -> Iterator[None]:
    """Give modules other forward functions for a moment."""
    own = {module: vars(module).get("forward") for module in forwards}
    for module, forward in forwards.items():
        module.forward = forward
    try:
        yield
    finally:
        for module, before in own.items():
            if before is None:
                del module.forward
            else:  # one that somebody else had put there
                module.forward = before


@contextmanager
def _hooked(module: nn.Module, known: _Known) -> Iterator[None]:
    """Note how long the tuple is that a module answers."""

    def look(_module: nn.Module, _inputs: Any, found: Any) -> None:
        known.length = len(found) if isinstance(found, tuple) else 0

    hook = module.register_forward_hook(look)
    try:
        yield
    finally:
        hook.remove()
