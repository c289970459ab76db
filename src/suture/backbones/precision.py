"""Forward passes in half precision."""

from collections.abc import Iterator
from contextlib import contextmanager

import torch
from torch.nn.attention import SDPBackend, sdpa_kernel


@contextmanager
def in_precision(precision: torch.dtype) -> Iterator[None]:
    """Cast matrix products to ``precision`` (autocast); weights, gradients and losses stay as they are. float32 casts nothing.

    >>> with in_precision(torch.bfloat16):
    ...     (torch.ones(2, 2) @ torch.ones(2, 2)).dtype
    torch.bfloat16
    """
    if precision == torch.float32:
        yield
        return
    # The processor's fused attention is several times slower than plain products in half precision.
    with torch.autocast("cpu", precision), sdpa_kernel(SDPBackend.MATH):
        yield
