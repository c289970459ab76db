"""Independent float64 NumPy versions of the merging methods, over whole models."""

import hashlib
from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from merging.concrete_oracles import concrete_adaptive, concrete_arithmetic
from merging.learning_oracles import ada_merging, feat_cal, fisher, regmean, task_vectors, trimmed
from suture.merging import (
    AdaMerging,
    AdaMergingPlusPlus,
    ConcreteAdaMerging,
    ConcreteTaskArithmetic,
    Dare,
    DareTies,
    FeatCal,
    Fisher,
    IsoC,
    MergingMethod,
    RegMean,
    RegMeanPlusPlus,
    TaskArithmetic,
    Ties,
    TsvM,
    WeightAveraging,
)

Matrix = NDArray[np.float64]
Model = dict[str, Matrix]
Oracle = Callable[[Model, list[Model], list[str]], Model]
"""Of a base, its experts, and what tells the experts apart: fingerprints, or names of tasks for data-driven methods."""


def average(base: Model, experts: list[Model], _: list[str]) -> Model:
    return {name: np.mean([expert[name] for expert in experts], axis=0) for name in base}


def arithmetic(scale: float) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
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

    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
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


def thin(base: Model, experts: list[Model], names: list[str], drop: float, seed: int) -> list[Model]:
    """Drop and rescale, drawing the 32-bit numbers of a keyed Philox one element after the other."""
    thinned = []
    for expert, identity in zip(experts, names, strict=True):
        own = {}
        for name, value in base.items():
            key = np.frombuffer(hashlib.sha256(f"{seed}\0{identity}\0{name}".encode()).digest()[:16], dtype=np.uint64)
            draws = np.random.Philox(key=key).random_raw(value.size // 2 + 1)
            numbers = np.array([(int(draws[i // 2]) >> 32 * (i % 2)) & 0xFFFFFFFF for i in range(value.size)], dtype=np.float64)
            keep = (numbers >= round(drop * 2**32)).reshape(value.shape)
            own[name] = value + np.where(keep, (expert[name] - value) / (1 - drop), 0)
        thinned.append(own)
    return thinned


def dare(drop: float, seed: int, then: Oracle) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        return then(base, thin(base, experts, names, drop, seed), names)

    return merge


def by_matrix(merge_matrix: Callable[[list[Matrix]], Matrix]) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        merged = average(base, experts, names)
        for name, value in base.items():
            if value.ndim == 2 and value.size:
                merged[name] = value + merge_matrix([expert[name] - value for expert in experts])
        return merged

    return merge


def singular_vectors(scale: float) -> Oracle:
    """Solve TSV-M's Procrustes problems by the inverse square root of the Gram matrices."""

    def whiten(matrix: Matrix) -> Matrix:
        values, vectors = np.linalg.eigh(matrix @ matrix.T)
        inverse = np.where(values > 1e-12 * values.max(), 1 / np.sqrt(np.maximum(values, 1e-300)), 0)
        return np.asarray((vectors * inverse) @ vectors.T @ matrix)

    def merge_matrix(vectors: list[Matrix]) -> Matrix:
        parts = [np.linalg.svd(vector, full_matrices=False) for vector in vectors]
        share = max(1, min(vectors[0].shape) // len(vectors))
        left = np.concatenate([u[:, :share] for u, _, _ in parts], axis=1)
        right = np.concatenate([v[:share] for _, _, v in parts], axis=0)
        values = np.concatenate([s[:share] for _, s, _ in parts])
        return np.asarray(scale * whiten(left) @ np.diag(values) @ whiten(right.T).T)

    return by_matrix(merge_matrix)


def isotropic(scale: float) -> Oracle:
    """Flatten the spectrum by the inverse square root of the Gram matrix."""

    def merge_matrix(vectors: list[Matrix]) -> Matrix:
        total = np.sum(vectors, axis=0)
        values, directions = np.linalg.eigh(total.T @ total)
        spectrum = np.sqrt(np.maximum(values, 0))
        real = spectrum > 1e-6 * spectrum.max()
        inverse = np.where(real, 1 / np.where(real, spectrum, 1), 0)
        mean = np.linalg.norm(total, "nuc") / min(total.shape)
        return np.asarray(scale * mean * total @ (directions * inverse) @ directions.T)

    return by_matrix(merge_matrix)


CASES: list[tuple[MergingMethod, Oracle]] = [
    (WeightAveraging(), average),
    (TaskArithmetic(), arithmetic(0.3)),
    (TaskArithmetic(scale=-1.5), arithmetic(-1.5)),
    (Ties(), ties(0.2, 0.3, "model", "sum")),
    (Ties(density=0.5, scale=1.0, merge_rule="mean"), ties(0.5, 1.0, "model", "mean")),
    (Ties(density=0.3, scope="tensor"), ties(0.3, 0.3, "tensor", "sum")),
    (Ties(density=1.0, scope="tensor", merge_rule="mean"), ties(1.0, 0.3, "tensor", "mean")),
    (Dare(drop=0.4, seed=3), dare(0.4, 3, average)),
    (DareTies(drop=0.3, seed=1), dare(0.3, 1, ties(1.0, 0.3, "model", "sum"))),
    (DareTies(drop=0.3, density=0.2, scale=1.0, merge_rule="mean"), dare(0.3, 0, ties(0.2, 1.0, "model", "mean"))),
    (TsvM(), singular_vectors(1.0)),
    (IsoC(scale=1.3), isotropic(1.3)),
    (Fisher(), fisher(256, 1e-6, 0)),
    (Fisher(samples=3, floor=0.02, seed=2), fisher(3, 0.02, 2)),
    (RegMean(), regmean(256, 0.9, 0, merged_inputs=False)),
    (RegMean(samples=8, alpha=1.0, seed=1), regmean(8, 1.0, 1, merged_inputs=False)),
    (RegMean(samples=2, alpha=0.0), regmean(2, 0.0, 0, merged_inputs=False)),
    (RegMeanPlusPlus(), regmean(256, 0.9, 0, merged_inputs=True)),
    (RegMeanPlusPlus(samples=8, alpha=0.5, seed=1), regmean(8, 0.5, 1, merged_inputs=True)),
    (FeatCal(), feat_cal(arithmetic(0.3), 256, 0.05, 2.0, 0.3, 0)),
    (
        FeatCal(start=Ties(density=0.5), samples=4, ridge=0.2, anchor=1.5, blend=0.7, seed=1),
        feat_cal(ties(0.5, 0.3, "model", "sum"), 4, 0.2, 1.5, 0.7, 1),
    ),
    (FeatCal(start=WeightAveraging(), ridge=1e-3, blend=0.0), feat_cal(average, 256, 1e-3, 2.0, 0.0, 0)),
    (AdaMerging(steps=3, batch_size=4, learning_rate=0.1), ada_merging(task_vectors, False, 0.3, 3, 4, 0.1, 0)),
    (AdaMerging(scope="task", initial=0.5, steps=3, batch_size=9, seed=1), ada_merging(task_vectors, True, 0.5, 3, 9, 1e-3, 1)),
    (AdaMergingPlusPlus(density=0.4, steps=3, batch_size=4, learning_rate=0.1), ada_merging(trimmed(0.4), False, 0.3, 3, 4, 0.1, 0)),
    (AdaMergingPlusPlus(scope="task", steps=3, seed=2), ada_merging(trimmed(0.2), True, 0.3, 3, 16, 1e-3, 2)),
    (ConcreteTaskArithmetic(steps=3, batch_size=4, learning_rate=0.01), concrete_arithmetic(0.3, 3, 4, 0.01, 0.5, 0)),
    (ConcreteTaskArithmetic(scale=0.5, steps=2, temperature=1.0, seed=2), concrete_arithmetic(0.5, 2, 16, 1e-3, 1.0, 2)),
    (
        ConcreteAdaMerging(steps=2, coefficient_steps=3, batch_size=4, learning_rate=0.01, inner_learning_rate=0.05),
        concrete_adaptive(False, 0.3, (2, 3), 4, (0.01, 0.05, 1e-3), 0.5, 0),
    ),
    (
        ConcreteAdaMerging(scope="task", steps=2, coefficient_steps=2, batch_size=4, coefficient_learning_rate=0.1, seed=1),
        concrete_adaptive(True, 0.3, (2, 2), 4, (1e-3, 1.0, 0.1), 0.5, 1),
    ),
]
"""Every method, with its oracle: a new method joins the contract by a line here."""
