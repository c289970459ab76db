"""Hidden states as tokens: texts have them, of which some are padding; the places of a map are tokens too."""

from collections.abc import Callable

from jaxtyping import Bool, Float, Shaped
from torch import Tensor

MAP = 4
"""The dimensions of a convolutional network's maps."""


def tokens_of(hidden: Tensor) -> Tensor:
    """Return hidden states as tokens, shape (n, tokens, k): the places of a map (n, k, height, width) are tokens, row by row.

    >>> import torch
    >>> tokens_of(torch.zeros(2, 8, 5, 5)).shape
    torch.Size([2, 25, 8])
    """
    return hidden.permute(0, 2, 3, 1).flatten(1, 2) if hidden.dim() == MAP else hidden


def on_tokens(correct: Callable[[Tensor], Tensor], hidden: Tensor) -> Tensor:
    """Return hidden states, tokens or a map, with a function applied to their tokens; a map keeps its layout in memory."""
    found = correct(tokens_of(hidden))
    if hidden.dim() != MAP:
        return found
    placed: Tensor = found.unflatten(1, hidden.shape[2:]).permute(0, 3, 1, 2)
    return placed.contiguous() if hidden.is_contiguous() else placed


def mean_of_real(hidden: Float[Tensor, "n p k"], mask: Shaped[Tensor, "n p"] | None) -> Float[Tensor, "n k"]:
    """Return the mean over the real tokens of each input; zero where a text has none. Without a mask all are real.

    >>> import torch
    >>> mean_of_real(torch.tensor([[[1.0], [3.0], [9.0]]]), torch.tensor([[1, 1, 0]]))
    tensor([[2.]])
    """
    if mask is None:
        return hidden.mean(dim=1)
    real = mask.unsqueeze(-1).to(hidden.dtype)
    return (hidden * real).sum(dim=1) / real.sum(dim=1).clamp(min=1)


def rows_of(tokens: Shaped[Tensor, "n p k"], real: Bool[Tensor, "n p"] | None) -> Shaped[Tensor, "rows k"]:
    """Return the real tokens, input after input; all of them where ``real`` is None.

    >>> import torch
    >>> rows_of(torch.tensor([[[1.0], [3.0]], [[9.0], [8.0]]]), torch.tensor([[True, False], [True, True]])).flatten()
    tensor([1., 9., 8.])
    """
    return tokens.flatten(0, 1) if real is None else tokens[real]
