"""Blocks of all experts' task vectors, made by worker threads and handed over in order, with a bounded number in flight."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass
from functools import cached_property
from math import ceil
from typing import TypeVar

import torch
from torch import Tensor

from suture.checkpoints import Weights
from suture.merging.matching import check_finite
from suture.merging.method import Block
from suture.task_vector import stack_task_vectors, weigh_task_vectors
from suture.types import Progress, no_progress

BLOCK = 1 << 17
"""Elements per expert in one block: small enough for a processor's caches, large enough that Python's part of the work is small."""

SEGMENT = 1 << 20
"""Elements that one worker takes at a time: large enough that handing them over costs nothing."""

IN_FLIGHT = 8
"""Pieces of work handed out beyond the one that is waited for: reading, arithmetic and writing overlap."""

Made = TypeVar("Made")
Found = TypeVar("Found")


@dataclass(frozen=True)
class Sources:
    """A base and its experts, and the dtype to write (None: the base's)."""

    base: Weights
    experts: Sequence[Weights]
    dtype: torch.dtype | None = None

    @cached_property
    def identities(self) -> tuple[str, ...]:
        """What tells the experts apart wherever they stand on disk."""
        return tuple(expert.fingerprint for expert in self.experts)

    def whole(self, name: str) -> Block:
        """Return a tensor's block, uncut."""
        tensor = self.base[name]
        return Block(name, 0, tensor, stack_task_vectors(tensor, [expert[name] for expert in self.experts]), self.identities)

    def blocks(self, name: str, start: int, stop: int, share: float = 1.0) -> Iterator[Block]:
        """Yield the elements ``start`` … ``stop`` of a flattened tensor in blocks."""
        for first, base, experts in self._parts(name, start, stop, share):
            yield Block(name, first, base, stack_task_vectors(base, experts), self.identities)

    def weighed(self, name: str, start: int, stop: int, weights: Sequence[float]) -> Iterator[tuple[int, Tensor, Tensor]]:
        """Yield the elements ``start`` … ``stop`` of a flattened tensor in runs: the place of the first, the base's, and Σ_t w_t τ_t."""
        for first, base, experts in self._parts(name, start, stop):
            yield first, base, weigh_task_vectors(base, experts, weights)

    def _parts(self, name: str, start: int, stop: int, share: float = 1.0) -> Iterator[tuple[int, Tensor, list[Tensor]]]:
        base, experts = self.base[name].reshape(-1), [expert[name].reshape(-1) for expert in self.experts]
        for first in range(start, stop, BLOCK):
            size = min(BLOCK, stop - first)
            part = slice(first, first + (size if share == 1 else ceil(share * size)))
            yield first, base[part], [expert[part] for expert in experts]

    def segments(self, name: str) -> list[tuple[int, int]]:
        """Return the bounds of a tensor's segments."""
        size = torch.Size(self.base.specs[name].shape).numel()
        return [(start, min(size, start + SEGMENT)) for start in range(0, size, SEGMENT)]

    def in_order(self, work: Iterable[Callable[[], Made]]) -> Iterator[Made]:
        """Run pieces of work on one thread per processor and yield their results in order, a bounded number ahead."""
        waiting: deque[Future[Made]] = deque()
        with workers() as pool:
            for piece in work:
                waiting.append(pool.submit(piece))
                if len(waiting) > IN_FLIGHT:
                    yield waiting.popleft().result()
            while waiting:
                yield waiting.popleft().result()


@dataclass
class Streamed:
    """A :class:`suture.merging.method.Survey` over sources; refuses NaN and Inf on the way. ``progress`` counts elements."""

    sources: Sources
    progress: Progress = no_progress

    def __post_init__(self) -> None:
        self.base, self.experts = self.sources.base, self.sources.experts
        self.names = [name for name, spec in self.base.specs.items() if spec.dtype.is_floating_point]
        self.size = sum(torch.Size(self.base.specs[name].shape).numel() for name in self.names)

    def whole(self, name: str) -> Block:
        """Return one tensor, uncut."""
        block = self.sources.whole(name)
        check_finite(name, block.task_vectors, self.base, self.experts)
        return block

    def each(self, function: Callable[[Block], Found], share: float = 1.0) -> Iterator[Found]:
        """Yield the function's result for every block, in order."""

        def of(name: str, start: int, stop: int) -> Callable[[], tuple[list[Found], int]]:
            def run() -> tuple[list[Found], int]:
                found = []
                for block in self.sources.blocks(name, start, stop, share):
                    check_finite(name, block.task_vectors, self.base, self.experts)
                    found.append(function(block))
                return found, stop - start

            return run

        work = (of(name, *bounds) for name in self.names for bounds in self.sources.segments(name))
        for found, size in self.sources.in_order(work):
            yield from found
            if share == 1:
                self.progress(size)
        if share == 1:
            self.progress(self.base.elements - self.size)  # other tensors are announced too, and there is nothing to do for them
            # A pass that has to be repeated is not counted again.
            self.progress = no_progress


@contextmanager
def workers() -> Iterator[ThreadPoolExecutor]:
    """Yield one thread per processor; torch works on one thread in each, as blocks are too small to share."""
    threads = torch.get_num_threads()
    pool = ThreadPoolExecutor(min(threads, os.cpu_count() or 1), "merging", initializer=torch.set_num_threads, initargs=(1,))
    try:
        yield pool
    finally:
        pool.shutdown(cancel_futures=True)
        torch.set_num_threads(threads)


def restore(base: Tensor, delta: Tensor, target: Tensor) -> None:
    """Set ``target`` to base plus merged task vector, in its own dtype; where nothing changed the base's bits stay, signs of zeros too."""
    if target.dtype == delta.dtype == base.dtype:
        torch.add(base, delta, out=target)
    else:
        target.copy_(torch.add(base, delta))
    # In the sum a zero may have lost its sign; there are rarely zeros, and one look finds that out.
    if int(target.count_nonzero()) < target.numel():
        target.copy_(torch.where(delta == 0, base.to(target.dtype), target))
