"""Networks block by block: in at the first block, through one block at a time, out at the representation."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from itertools import accumulate
from typing import Any, Protocol, runtime_checkable

import torch
from jaxtyping import Bool
from torch import Tensor, nn

from suture.backbones.hooks import first_of, hooked, lasting, replaced
from suture.backbones.tokens import on_tokens, tokens_of
from suture.errors import UnsupportedFormat


@runtime_checkable
class BlockwiseBackbone(Protocol):
    """What deep surgery asks of a backbone: its blocks, and batches that they take."""

    @property
    def blocks(self) -> "Blocks":
        """The blocks; after each, hidden states have the shape (n, tokens, k) or, in a convolutional network, (n, k, height, width)."""
        ...

    def batches(self, inputs: Sequence[Any]) -> Iterator[tuple[list[int], Any]]:
        """Cut inputs into batches: the places of the inputs in each, and what the blocks take. Every input comes once."""
        ...

    def real(self, batch: Any) -> Bool[Tensor, "n tokens"] | None:
        """Return which tokens of a batch stand for something: padding does not. None where all do, as the places of images."""
        ...


Answer = Callable[[int, tuple[Any, ...], Mapping[str, Any]], Any]
"""What a stub says for a module: its place, and the arguments; a tensor, or the whole of what the module would answer."""

Block = nn.Module | Sequence[nn.Module]
"""One module, or several that run one after another."""

CLOSE = 1e-3
"""How far, as a share, a network may differ from its blocks run one by one: half precision rounds; a lost argument changes far more."""

PUSH = 0.1
"""By how much, as a share of what it is, the check moves what stands behind every block."""


@dataclass(frozen=True)
class Passage:
    """A batch on its way: what came out of the last block (or what enters the first), and what the modules are given beside it."""

    inputs: Any
    hidden: Tensor
    """Shape (n, tokens, k) in a transformer, (n, k, height, width) in a convolutional network; whatever the blocks hand on."""
    calls: Sequence[tuple[tuple[Any, ...], Mapping[str, Any]]]
    """Each module's other arguments: attention masks, position encodings."""

    @property
    def tokens(self) -> Tensor:
        """What the batch has come to as tokens, shape (n, tokens, k): the places of a map are tokens."""
        return tokens_of(self.hidden)

    def moved(self, hidden: Tensor) -> "Passage":
        """Return the passage with something else in the place of ``hidden``."""
        return replace(self, hidden=hidden)

    def corrected(self, correct: Callable[[Tensor], Tensor]) -> "Passage":
        """Return the passage with its tokens corrected."""
        return self.moved(on_tokens(correct, self.hidden))


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

    members: Sequence[Block]
    run: Callable[[Any], Tensor]

    @property
    def depth(self) -> int:
        """How many blocks there are."""
        return len(self.members)

    @cached_property
    def chain(self) -> list[nn.Module]:
        """All modules of the blocks, in the order in which they run."""
        return [module for member in self.members for module in _modules_of(member)]

    @cached_property
    def ends(self) -> list[int]:
        """Where in the chain each block ends, after a 0."""
        return list(accumulate((len(_modules_of(member)) for member in self.members), initial=0))

    @property
    def hands_on(self) -> bool:
        """Whether the first block makes something that the others are given; known once a batch has entered."""
        return self._known.hands_on

    def enter(self, inputs: Any) -> Passage:
        """Return what enters the first block.

        Raises :class:`UnsupportedFormat` when the network does not run its blocks one by one. Checked once, on two of the first inputs,
        with something added behind every block: raises it too when running the blocks one by one gives another result then, as where
        they hand on more than hidden states from one to the next.
        """
        self.check(inputs)
        return self._recorded(inputs)

    def check(self, inputs: Any) -> None:
        """Check, once, that the network is its blocks run one by one; raises :class:`UnsupportedFormat` as :meth:`enter` does."""
        if self.chain and not self._known.checked:
            self._check(_two_of(inputs))

    @contextmanager
    def corrected(self, corrections: Sequence[Callable[[Tensor], Tensor]]) -> Iterator[None]:
        """Correct the tokens behind every block whenever the whole network runs, for as long as this lasts."""
        last = [self.chain[end - 1] for end in self.ends[1:]]
        with hooked({module: partial(on_tokens, correct) for module, correct in zip(last, corrections, strict=True)}):
            yield

    def step(self, number: int, passage: Passage) -> Passage:
        """Return what comes out of a block."""
        for place in range(self.ends[number], self.ends[number + 1]):
            args, kwargs = passage.calls[place]
            passage = passage.moved(first_of(self.chain[place](passage.hidden, *args, **kwargs)))
        return passage

    def leave(self, passage: Passage) -> Tensor:
        """Return the representation, after the last block."""
        stand_in = self._standing_in(passage.inputs)

        def finish(place: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Tensor:
            return passage.hidden if place == len(self.chain) - 1 else stand_in(place, _split(args, kwargs)[0])

        with self._stubs(finish):
            return self.run(passage.inputs)

    def _recorded(self, inputs: Any) -> Passage:
        """Return a passage with arguments of its own: networks with a cache of keys and values change theirs on the way."""
        calls: list[tuple[tuple[Any, ...], Mapping[str, Any]]] = []
        entering, answered, handed = list[Tensor](), list[Tensor](), list[Any]()
        stand_in, own = self._standing_in(inputs), self.chain[0].forward if self.chain else None

        def record(place: int, args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Any:
            if place != len(calls):
                raise UnsupportedFormat("the network does not run its blocks once each, in order")
            hidden, others, named = _split(args, kwargs)
            if answered and hidden is not answered[-1]:
                raise UnsupportedFormat("the network does something between its blocks, so they cannot be run one by one")
            entering.append(hidden)
            calls.append((others, named))
            if place == 0 and own is not None and self._known.hands_on:
                hidden, *handed[:] = own(*args, **kwargs)
                answered.append(hidden)
            else:
                answered.append(stand_in(place, hidden))
            return (answered[-1], *handed) if handed else answered[-1]

        with self._stubs(record):
            self.run(inputs)
        if len(calls) != len(self.chain):
            raise UnsupportedFormat("the network does not run its blocks once each, in order")
        return Passage(inputs, entering[0] if entering else torch.empty(0), calls)

    def _standing_in(self, inputs: Any) -> Callable[[int, Tensor], Tensor]:
        """Return what stands for a module's answer: what it is given or, where shapes change on the way, nothing of the right shape."""
        form = _form(inputs)
        if self.chain and form not in self._known.shapes and not self._known.steady:
            self._look(inputs)
        shapes = self._known.shapes.get(form, [])
        return lambda place, hidden: hidden if self._known.steady else hidden.new_zeros(()).expand(shapes[place])

    @contextmanager
    def _stubs(self, answer: Answer) -> Iterator[None]:
        """Let the modules give an answer in the form of their own."""

        def stub_of(place: int) -> Callable[..., Any]:
            def stub(*args: Any, **kwargs: Any) -> Any:
                found, length = answer(place, args, kwargs), self._known.lengths[place]
                return found if length == 0 or isinstance(found, tuple) else (found, *[None] * (length - 1))

            return stub

        with replaced({module: stub_of(place) for place, module in enumerate(self.chain)}):
            yield

    @torch.no_grad()
    def _look(self, inputs: Any, push: Callable[[Tensor], Tensor] | None = None) -> Tensor:
        """Run the whole network; note what its modules answer, and with ``push`` change what stands behind every block."""
        known, entered, shapes, lengths = self._known, list[tuple[int, ...]](), list[tuple[int, ...]](), list[int]()

        def look(_module: nn.Module, args: tuple[Any, ...], kwargs: Mapping[str, Any], found: Any) -> Any:
            entered.append(tuple(_split(args, kwargs)[0].shape))
            shapes.append(tuple(first_of(found).shape))
            lengths.append(len(found) if isinstance(found, tuple) else 0)
            known.more |= len(lengths) == 1 and isinstance(found, tuple) and any(each is not None for each in found[1:])
            if push is None or len(shapes) not in self.ends:
                return None
            moved = push(first_of(found))
            return (moved, *found[1:]) if isinstance(found, tuple) else moved

        with lasting([module.register_forward_hook(look, with_kwargs=True) for module in self.chain]):
            whole = self.run(inputs)
        if len(shapes) != len(self.chain):
            raise UnsupportedFormat("the network does not run its blocks once each, in order")
        known.shapes[_form(inputs)], known.lengths, known.steady = shapes, lengths, shapes == entered and len(set(shapes)) == 1
        return whole

    @torch.no_grad()
    def _check(self, inputs: Any) -> None:
        """Compare what the network says of some inputs with what comes out block by block, something being added behind each."""
        whole = self._look(inputs, _pushed)
        scale = float(whole.nan_to_num(0, 0, 0).abs().max())
        # Over a single token attention is the same whatever it is given, so what is handed on is tried first.
        for hands_on in (True, False) if self._known.more else (False,):
            self._known.hands_on = hands_on
            try:
                passage = self._recorded(inputs)
                for number in range(self.depth):
                    passage = self.step(number, passage)
                    passage = passage.moved(_pushed(passage.hidden))
            except TypeError:  # a block that misses what the first would have handed on
                continue
            if torch.allclose(self.leave(passage), whole, rtol=CLOSE, atol=CLOSE * scale, equal_nan=True):
                self._known.checked = True
                return
        raise UnsupportedFormat("the blocks of this network hand on more than hidden states, so they cannot be run one by one")

    @cached_property
    def _known(self) -> "_Known":
        return _Known()


@dataclass
class _Known:
    """What the first inputs have told of a network's modules."""

    lengths: list[int] = field(default_factory=list)
    """The length of the tuple that each answers, 0 for a plain tensor."""
    shapes: dict[tuple[tuple[int, ...], ...], list[tuple[int, ...]]] = field(default_factory=dict)
    """The shapes of what they answer, by those of the inputs."""
    steady: bool = False
    """Whether all answer the shape that they are given."""
    more: bool = False
    """Whether the first answers more than hidden states."""
    hands_on: bool = False
    """Whether the first answers something, as T5's attention bias, that the others are given: then it runs wherever one enters."""
    checked: bool = False


def _modules_of(block: Block) -> Sequence[nn.Module]:
    return [block] if isinstance(block, nn.Module) else block


def _form(inputs: Any) -> tuple[tuple[int, ...], ...]:
    """Return the shapes of a batch's tensors."""
    parts = inputs.values() if isinstance(inputs, Mapping) else [inputs]
    return tuple(tuple(part.shape) for part in parts if isinstance(part, Tensor))


def _two_of(inputs: Any) -> Any:
    """Return the first and the last of a batch, in length the furthest apart where it is sorted; all of what has no such rows."""
    parts = inputs if isinstance(inputs, Mapping) else {"": inputs}
    if not all(isinstance(part, Tensor) and part.ndim for part in parts.values()) or len({len(part) for part in parts.values()}) != 1:
        return inputs
    two = {name: part[:: max(1, len(part) - 1)] for name, part in parts.items()}
    return two if isinstance(inputs, Mapping) else two[""]


def _pushed(hidden: Tensor) -> Tensor:
    """Return hidden states with something added that no norm takes out."""
    wave = torch.arange(hidden.shape[-1], device=hidden.device).cos().to(hidden.dtype)
    return hidden + PUSH * hidden.abs().mean() * wave


def _split(args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> tuple[Tensor, tuple[Any, ...], Mapping[str, Any]]:
    """Return the tensor that a block works on, and its other arguments."""
    if args:
        return args[0], args[1:], kwargs
    name = next(iter(kwargs))
    return kwargs[name], (), {key: value for key, value in kwargs.items() if key != name}
