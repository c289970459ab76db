"""Modules that answer otherwise for a moment: what they say is changed on its way, or said in their place."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

from torch import Tensor, nn
from torch.utils.hooks import RemovableHandle


def first_of(found: Any) -> Tensor:
    """Return the hidden states among what a module answers."""
    hidden: Tensor = found[0] if isinstance(found, tuple) else found
    return hidden


@contextmanager
def lasting(handles: Sequence[RemovableHandle]) -> Iterator[None]:
    """Take hooks out again when the block ends, however it does."""
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextmanager
def hooked(changes: Mapping[nn.Module, Callable[[Tensor], Tensor]]) -> Iterator[None]:
    """Change the hidden states that modules hand on; what they answer beside them stays.

    >>> import torch
    >>> linear = nn.Linear(1, 1)
    >>> with hooked({linear: torch.zeros_like}):
    ...     linear(torch.ones(1, 1)).item()
    0.0
    """

    def hook_of(change: Callable[[Tensor], Tensor]) -> Callable[[nn.Module, Any, Any], Any]:
        def hook(_module: nn.Module, _inputs: Any, found: Any) -> Any:
            changed = change(first_of(found))
            return (changed, *found[1:]) if isinstance(found, tuple) else changed

        return hook

    with lasting([module.register_forward_hook(hook_of(change)) for module, change in changes.items()]):
        yield


@contextmanager
def replaced(forwards: Mapping[nn.Module, Callable[..., Any]]) -> Iterator[None]:
    """Give modules other forward functions."""
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
