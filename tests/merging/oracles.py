"""Independent float64 NumPy versions of the merging methods, over whole models."""

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from suture.merging import MergingMethod, TaskArithmetic, Ties, WeightAveraging

Model = dict[str, NDArray[np.float64]]
Oracle = Callable[[Model, list[Model]], Model]


def average(base: Model, experts: list[Model]) -> Model:
    return {name: np.mean([expert[name] for expert in experts], axis=0) for name in base}


def arithmetic(scale: float) -> Oracle:
    def merge(base: Model, experts: list[Model]) -> Model:
        return {name: base[name] + scale * sum(expert[name] - base[name] for expert in experts) for name in base}

    return merge


def ties(density: float, scale: float, scope: str, rule: str) -> Oracle:
    def merge_vectors(vectors: NDArray[np.float64]) -> NDArray[np.float64]:
        kept = np.zeros_like(vectors)
        size = vectors.shape[1]
        if size == 0:
            return vectors[0]
        for row, vector in enumerate(vectors):
            threshold = np.sort(np.abs(vector))[-max(1, int(density * size))]
            kept[row] = np.where(np.abs(vector) >= threshold, vector, 0)
        sign = np.sign(kept.sum(axis=0))
        agree = (np.sign(kept) == sign) & (kept != 0)
        total = np.where(agree, kept, 0).sum(axis=0)
        if rule == "mean":
            total = total / np.maximum(agree.sum(axis=0), 1)
        return scale * total

    def merge(base: Model, experts: list[Model]) -> Model:
        names = [list(base)] if scope == "model" else [[name] for name in base]
        merged = {}
        for group in names:
            vectors = np.stack([np.concatenate([(e[name] - base[name]).ravel() for name in group]) for e in experts])
            delta, start = merge_vectors(vectors), 0
            for name in group:
                stop = start + base[name].size
                merged[name] = base[name] + delta[start:stop].reshape(base[name].shape)
                start = stop
        return merged

    return merge


CASES: list[tuple[MergingMethod, Oracle]] = [
    (WeightAveraging(), average),
    (TaskArithmetic(), arithmetic(0.3)),
    (TaskArithmetic(scale=-1.5), arithmetic(-1.5)),
    (Ties(), ties(0.2, 0.3, "model", "sum")),
    (Ties(density=0.5, scale=1.0, merge_rule="mean"), ties(0.5, 1.0, "model", "mean")),
    (Ties(density=0.3, scope="tensor"), ties(0.3, 0.3, "tensor", "sum")),
    (Ties(density=1.0, scope="tensor", merge_rule="mean"), ties(1.0, 0.3, "tensor", "mean")),
]
"""Every method, with its oracle: a new method joins the contract by a line here."""
