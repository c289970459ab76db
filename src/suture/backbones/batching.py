"""Inputs of like length go through a network together."""

from collections.abc import Iterator, Sequence

TOKENS_PER_BATCH = 4096
"""Padded tokens per forward pass: enough to keep the matrix products busy, few enough for a processor's cache."""

WHOLE = TOKENS_PER_BATCH // 32
"""What an input without tokens of its own, as an image, counts for in a batch: so that 32 of them go together."""


def batches_of_like_length(lengths: Sequence[int], most_tokens: int) -> Iterator[list[int]]:
    """Yield the places of inputs, the shortest first, in batches of at most ``most_tokens`` padded tokens (one input at least).

    >>> list(batches_of_like_length([5, 1, 2, 9], 10))
    [[1, 2], [0], [3]]
    """
    batch: list[int] = []
    for place in sorted(range(len(lengths)), key=lambda i: lengths[i]):
        if batch and (len(batch) + 1) * lengths[place] > most_tokens:
            yield batch
            batch = []
        batch.append(place)
    if batch:
        yield batch
