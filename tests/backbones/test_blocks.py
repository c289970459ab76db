"""Networks block by block: whole runs are their oracle, and nothing of the way stays behind."""

from collections.abc import Callable

import pytest
import torch
from torch import Tensor, nn
from transformers import GPT2Config, GPT2Model

from suture.backbones import Blocks
from suture.errors import UnsupportedFormat


class Answering(nn.Module):
    """A block that takes a scale by name and answers a tuple, or a tensor."""

    def __init__(self, width: int, *, tuples: bool) -> None:
        super().__init__()
        self.inner, self.tuples = nn.Linear(width, width), tuples

    def forward(self, hidden: Tensor, *, scale: float) -> Tensor | tuple[Tensor, None]:
        found = hidden + scale * self.inner(hidden).tanh()
        return (found, None) if self.tuples else found


class Whole(nn.Module):
    def __init__(self, *, tuples: bool = False, between: Callable[[Tensor], Tensor] | None = None, twice: bool = False) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.first, self.last, self.between, self.twice = nn.Linear(3, 4), nn.Linear(4, 2), between, twice
        self.layers = nn.ModuleList(Answering(4, tuples=tuples) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden = self.first(x)
        for number, layer in enumerate([*self.layers, *(self.layers[:1] if self.twice else [])]):
            found = layer(hidden, scale=0.5 + number)
            hidden = found[0] if isinstance(found, tuple) else found
            if self.between is not None:
                hidden = self.between(hidden)
        return self.last(hidden)


def blocks_of(network: Whole) -> Blocks:
    return Blocks(list(network.layers), network)


@pytest.mark.parametrize("tuples", [False, True])
def test_block_by_block_is_the_whole(tuples: bool) -> None:
    network, x = Whole(tuples=tuples), torch.randn(5, 3, generator=torch.Generator().manual_seed(1))
    blocks = blocks_of(network)
    passage = blocks.enter(x)
    assert torch.equal(passage.hidden, network.first(x))
    for number in range(blocks.depth):
        passage = blocks.step(number, passage)
    assert torch.equal(blocks.leave(passage), network(x))


def test_the_first_and_the_last_of_a_batch_are_enough_to_check_and_are_checked_once() -> None:
    network, met = Whole(), list[Tensor]()
    blocks, x = blocks_of(network), torch.arange(15.0).reshape(5, 3)
    network.first.register_forward_hook(lambda _module, args, _found: met.append(args[0]))
    blocks.check(x)
    assert met
    assert all(torch.equal(each, x[[0, 4]]) for each in met)
    met.clear()
    blocks.check(x)
    blocks.enter(x)
    assert len(met) == 1
    assert torch.equal(met[0], x)


@pytest.mark.parametrize("x", [torch.ones(1, 3), torch.ones(2, 3)])
def test_small_batches_are_checked_whole(x: Tensor) -> None:
    network, met = Whole(), list[Tensor]()
    network.first.register_forward_hook(lambda _module, args, _found: met.append(args[0]))
    blocks_of(network).check(x)
    assert met
    assert all(torch.equal(each, x) for each in met)


def test_what_is_changed_on_the_way_arrives() -> None:
    network, x = Whole(), torch.ones(1, 3)
    blocks = blocks_of(network)
    passage = blocks.enter(x).moved(torch.zeros(1, 4))
    assert torch.equal(blocks.leave(passage), network.last(torch.zeros(1, 4)))


@pytest.mark.parametrize(
    ("faults", "message"), [({"between": lambda x: 2 * x}, "between its blocks"), ({"twice": True}, "once each, in order")]
)
def test_networks_that_do_not_run_block_by_block_are_refused(faults: dict[str, object], message: str) -> None:
    network = Whole(**faults)  # type: ignore[arg-type]
    with pytest.raises(UnsupportedFormat, match=message):
        blocks_of(network).enter(torch.ones(1, 3))
    assert not any("forward" in vars(module) for module in network.modules())


class Handing(nn.Module):
    """A network whose first block answers what the others need as well, as T5's does; with ``moving`` each has its own."""

    class Block(nn.Module):
        def __init__(self, *, moving: bool) -> None:
            super().__init__()
            self.moving = moving

        def forward(self, hidden: Tensor, bias: Tensor | None) -> tuple[Tensor, Tensor]:
            bias = hidden.mean(dim=1, keepdim=True) if bias is None or self.moving else bias
            return (hidden + bias).tanh(), bias

    def __init__(self, *, moving: bool = False) -> None:
        super().__init__()
        self.layers = nn.ModuleList(self.Block(moving=moving) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden, bias = x, None
        for layer in self.layers:
            hidden, bias = layer(hidden, bias)
        return hidden


@pytest.mark.parametrize("moving", [False, True])
def test_what_the_first_block_hands_on_goes_to_the_others(moving: bool) -> None:
    network, x = Handing(moving=moving), torch.rand(2, 3, generator=torch.Generator().manual_seed(0))
    assert torch.allclose(through(Blocks(list(network.layers), network), x), network(x))


class Residual(nn.Module):
    """Blocks that answer two streams, both of which go on."""

    class Block(nn.Module):
        def forward(self, hidden: Tensor, other: Tensor) -> tuple[Tensor, Tensor]:
            return (hidden + other).tanh(), other * hidden

    def __init__(self) -> None:
        super().__init__()
        self.layers = nn.ModuleList(self.Block() for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        hidden, other = x, 1 - x
        for layer in self.layers:
            hidden, other = layer(hidden, other)
        return hidden


def test_blocks_that_hand_on_more_than_hidden_states_are_refused() -> None:
    network = Residual()
    with pytest.raises(UnsupportedFormat, match="more than hidden states"):
        Blocks(list(network.layers), network).enter(torch.rand(2, 3, generator=torch.Generator().manual_seed(0)))


def through(blocks: Blocks, x: Tensor) -> Tensor:
    passage = blocks.enter(x)
    for number in range(blocks.depth):
        passage = blocks.step(number, passage)
    return blocks.leave(passage)


@pytest.mark.parametrize("size", [8, 10])
def test_maps_go_through_and_are_corrected_as_tokens(size: int) -> None:
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv2d(3, 4, 3), nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.Conv2d(4, 6, 2, stride=2), nn.Flatten(2)).eval()
    x = torch.randn(2, 3, size, size, generator=torch.Generator().manual_seed(1))
    blocks = Blocks([network[1], list(network[2:4])], network)
    torch.testing.assert_close(through(blocks, x), network(x))
    torch.testing.assert_close(through(blocks, x[:1]), network(x[:1]))
    passage = blocks.step(0, blocks.enter(x))
    assert passage.tokens.shape == (2, (size - 4) ** 2, 4)
    weight = torch.randn(4, 4, generator=torch.Generator().manual_seed(2))
    corrected = blocks.leave(blocks.step(1, passage.corrected(lambda tokens: tokens @ weight)))
    changed = nn.functional.conv2d(network[1](network[0](x)), weight.T[:, :, None, None])
    torch.testing.assert_close(corrected, network[2:](changed), rtol=1e-4, atol=1e-5)


def test_a_network_that_keeps_a_cache_is_taken_apart_too() -> None:
    torch.manual_seed(0)
    gpt = GPT2Model(GPT2Config(n_embd=8, n_layer=2, n_head=2, vocab_size=11, n_positions=9)).eval().requires_grad_(False)
    tokens = torch.tensor([[1, 2, 3], [4, 5, 6]])
    blocks = Blocks(list(gpt.h), lambda x: gpt(x).last_hidden_state)
    for _ in range(2):
        torch.testing.assert_close(through(blocks, tokens), gpt(tokens).last_hidden_state)


def test_values_that_are_not_finite_pass_through() -> None:
    network, x = Whole(), torch.full((2, 3), torch.nan)
    blocks = blocks_of(network)
    passage = blocks.enter(x)
    for number in range(blocks.depth):
        passage = blocks.step(number, passage)
    assert blocks.leave(passage).isnan().all()


def test_nothing_stays_behind_and_what_others_put_there_does() -> None:
    network, x = Whole(), torch.ones(2, 3)
    own = network.layers[1].forward
    network.layers[1].forward = lambda hidden, *, scale: own(hidden, scale=scale) + 1  # type: ignore[method-assign]
    expected, blocks = network(x), blocks_of(network)
    passage = blocks.enter(x)
    for number in range(blocks.depth):
        passage = blocks.step(number, passage)
    assert torch.equal(blocks.leave(passage), expected)
    assert torch.equal(network(x), expected)
    assert ["forward" in vars(layer) for layer in network.layers] == [False, True, False]
    assert not any(module._forward_hooks for module in network.modules())
    with pytest.raises(RuntimeError):
        blocks.enter(torch.ones(2, 7))
    assert ["forward" in vars(layer) for layer in network.layers] == [False, True, False]


class Ordered(nn.Module):
    """Runs its blocks in an order that inputs may decide, all arguments by name where asked to."""

    def __init__(self, order: Callable[[Tensor], list[int]], *, named: bool = False) -> None:
        super().__init__()
        self.order, self.named = order, named
        self.layers = nn.ModuleList(nn.Linear(3, 3) for _ in range(3))

    def forward(self, x: Tensor) -> Tensor:
        for number in self.order(x):
            x = self.layers[number](input=x) if self.named else self.layers[number](x)
        return x


def test_blocks_that_take_all_by_name_are_run_one_by_one() -> None:
    network, x = Ordered(lambda _: [0, 1, 2], named=True), torch.rand(2, 3)
    blocks = Blocks(list(network.layers), network)
    assert torch.equal(blocks.enter(x).hidden, x)
    assert torch.equal(blocks.leave(blocks.enter(x).moved(2 * x)), 2 * x)


def test_blocks_out_of_order_or_left_out_for_some_inputs_are_refused() -> None:
    turned = Ordered(lambda _: [1, 0, 2])
    with pytest.raises(UnsupportedFormat, match="once each, in order"):
        Blocks(list(turned.layers), turned).enter(torch.rand(2, 3))
    network = Ordered(lambda x: [0, 1, 2] if len(x) > 1 else [0, 1])
    blocks = Blocks(list(network.layers), network)
    assert len(blocks.enter(torch.rand(2, 3)).calls) == 3
    with pytest.raises(UnsupportedFormat, match="once each, in order"):
        blocks.enter(torch.rand(1, 3))
