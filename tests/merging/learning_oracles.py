"""Independent float64 NumPy versions of the data-driven methods, with gradients by hand, for the network of ``merging.network``.

Here the experts are told apart by the names of their tasks.
"""

from collections.abc import Callable, Iterator

import numpy as np
import torch
from numpy.typing import NDArray

from merging.network import PARAMETERS, head_of, inputs_of
from suture.randomness import generator_for

Matrix = NDArray[np.float64]
Model = dict[str, Matrix]
Oracle = Callable[[Model, list[Model], list[str]], Model]


def forward(model: Model, x: Matrix) -> tuple[Matrix, Matrix]:
    hidden = np.tanh(x @ model["matrix"].T)
    return hidden, hidden @ model["second"].T + model["vector"]


def backward(model: Model, x: Matrix, hidden: Matrix, dz: Matrix) -> Model:
    """The gradient of a sum over rows, from that of the representations."""
    before = (dz @ model["second"]) * (1 - hidden**2)
    return {"matrix": before.T @ x, "second": dz.T @ hidden, "vector": dz.sum(axis=0)}


def log_softmax(logits: Matrix) -> Matrix:
    shifted = logits - logits.max(axis=1, keepdims=True)
    return np.asarray(shifted - np.log(np.exp(shifted).sum(axis=1, keepdims=True)))


def average(base: Model, experts: list[Model]) -> Model:
    return {name: np.mean([expert[name] for expert in experts], axis=0) for name in base}


def drawn(task: str, samples: int, seed: int) -> Matrix:
    x = inputs_of(task).numpy()
    return np.asarray(x[torch.randperm(len(x), generator=generator_for(seed, task, "merging")).numpy()[:samples]])


def fisher_of(model: Model, x: Matrix, head: Matrix) -> Model:
    total = {name: np.zeros_like(model[name]) for name in PARAMETERS}
    for row in x:
        hidden, z = forward(model, row[None])
        p = np.exp(log_softmax(z @ head.T))[0]
        for label, probability in enumerate(p):
            score = (np.eye(len(p))[label] - p)[None]
            for name, gradient in backward(model, row[None], hidden, score @ head).items():
                total[name] += probability * gradient**2 / len(x)
    return total


def fisher(samples: int, floor: float, seed: int) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        weights = []
        for expert, task in zip(experts, names, strict=True):
            own = fisher_of(expert, drawn(task, samples, seed), head_of(task).numpy())
            norm = np.sqrt(sum((part**2).sum() for part in own.values()))
            weights.append({name: np.maximum(part / norm, floor) for name, part in own.items()})
        merged = average(base, experts)
        for name in PARAMETERS:
            total = sum(own[name] for own in weights)
            merged[name] = sum(own[name] * expert[name] for own, expert in zip(weights, experts, strict=True)) / total
        return merged

    return merge


def least_squares(inputs: list[Matrix], weights: list[Matrix], alpha: float) -> Matrix:
    """Shrinking the off-diagonal of XᵀX / n by α is to see, beside √α X, every feature alone with √(1 − α) of its power."""
    rows, targets = [], []
    for x, weight in zip(inputs, weights, strict=True):
        seen = np.concatenate([np.sqrt(alpha / len(x)) * x, np.diag(np.sqrt((1 - alpha) * (x**2).mean(axis=0)))])
        rows.append(seen)
        targets.append(seen @ weight.T)
    return np.asarray(np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0].T)


def regmean(samples: int, alpha: float, seed: int, merged_inputs: bool) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        inputs, merged = [drawn(task, samples, seed) for task in names], average(base, experts)
        merged["matrix"] = least_squares(inputs, [expert["matrix"] for expert in experts], alpha)
        before = [merged if merged_inputs else expert for expert in experts]
        hidden = [forward(model, x)[0] for model, x in zip(before, inputs, strict=True)]
        merged["second"] = least_squares(hidden, [expert["second"] for expert in experts], alpha)
        return merged

    return merge


def anchored_least_squares(
    own: list[Matrix], mixed: list[Matrix], weights: list[Matrix], anchor: Matrix, ridge: float, seen: int | None = None
) -> Matrix:
    """Rows divided by the root of ‖XᵀX‖, of the first ``seen`` columns, and √μ of the identity beside √μ of the anchor."""
    rows, targets = [np.sqrt(ridge) * np.eye(len(anchor))], [np.sqrt(ridge) * anchor]
    for x, better, weight in zip(own, mixed, weights, strict=True):
        norm = np.sqrt(np.linalg.norm(x[:, :seen].T @ x[:, :seen]))
        rows.append(x / norm)
        targets.append(better @ weight / norm)
    return np.asarray(np.linalg.lstsq(np.concatenate(rows), np.concatenate(targets), rcond=None)[0])


def feat_cal(start: Oracle, samples: int, ridge: float, anchor: float, blend: float, seed: int) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        inputs, merged = [drawn(task, samples, seed) for task in names], start(base, experts, names)
        pulled = {name: anchor * merged[name] + (1 - anchor) * base[name] for name in PARAMETERS}
        turned = [expert["matrix"].T for expert in experts]
        merged["matrix"] = anchored_least_squares(inputs, inputs, turned, pulled["matrix"].T, ridge).T

        def with_ones(model: Model, x: Matrix) -> Matrix:
            hidden = forward(model, x)[0]
            return np.concatenate([hidden, np.ones((len(hidden), 1))], axis=1)

        def with_bias(model: Model) -> Matrix:
            return np.concatenate([model["second"].T, model["vector"][None]])

        own = [with_ones(merged, x) for x in inputs]
        better = [with_ones(expert, x) for expert, x in zip(experts, inputs, strict=True)]
        mixed = [blend * b + (1 - blend) * a for a, b in zip(own, better, strict=True)]
        found = anchored_least_squares(own, mixed, [with_bias(expert) for expert in experts], with_bias(pulled), ridge, -1)
        merged["second"], merged["vector"] = found[:-1].T, found[-1]
        return merged

    return merge


def batches(task: str, size: int, seed: int) -> Iterator[Matrix]:
    x, generator = inputs_of(task).numpy(), generator_for(seed, task, "merging")
    queue: list[int] = []
    while True:
        while len(queue) < size:
            queue += torch.randperm(len(x), generator=generator).tolist()
        yield x[queue[:size]]
        queue = queue[size:]


def entropy_gradient(model: Model, batch: dict[str, Matrix]) -> Model:
    """Of Σ_t mean H: ∂H/∂logit_j = −p_j (log p_j + H)."""
    total = {name: np.zeros_like(model[name]) for name in PARAMETERS}
    for task, x in batch.items():
        head, (hidden, z) = head_of(task).numpy(), forward(model, x)
        log_p = log_softmax(z @ head.T)
        p = np.exp(log_p)
        entropy = -(p * log_p).sum(axis=1, keepdims=True)
        for name, gradient in backward(model, x, hidden, -p * (log_p + entropy) / len(x) @ head).items():
            total[name] += gradient
    return total


class Adam:
    def __init__(self, rate: float) -> None:
        self.rate, self.steps = rate, 0
        self.first: Matrix | float = 0.0
        self.second: Matrix | float = 0.0

    def step(self, value: Matrix, gradient: Matrix) -> Matrix:
        self.steps += 1
        self.first = 0.9 * self.first + 0.1 * gradient
        self.second = 0.999 * self.second + 0.001 * gradient**2
        first, second = self.first / (1 - 0.9**self.steps), self.second / (1 - 0.999**self.steps)
        return np.asarray(value - self.rate * first / (np.sqrt(second) + 1e-8))


Vectors = Callable[[Model, list[Model]], list[Model]]
"""Of a base and its experts: the task vectors that are weighed."""


def ada_merging(vectors_of: Vectors, task_wise: bool, initial: float, steps: int, batch: int, rate: float, seed: int) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        vectors = vectors_of(base, experts)
        rows = {task: batches(task, batch, seed) for task in names}
        weights, adam = np.full((1 if task_wise else len(PARAMETERS), len(names)), initial), Adam(rate)

        def merged() -> Model:
            of = {name: weights[0 if task_wise else place] for place, name in enumerate(PARAMETERS)}
            used = {name: np.clip(of.get(name, np.full(len(names), initial)), 0, 1) for name in base}
            return {name: value + sum(c * own[name] for c, own in zip(used[name], vectors, strict=True)) for name, value in base.items()}

        for _ in range(steps):
            gradient = entropy_gradient(merged(), {task: next(own) for task, own in rows.items()})
            by_layer = np.array([[(gradient[name] * own[name]).sum() for own in vectors] for name in PARAMETERS])
            weights = adam.step(weights, by_layer.sum(axis=0, keepdims=True) if task_wise else by_layer)
        return merged()

    return merge


def task_vectors(base: Model, experts: list[Model]) -> list[Model]:
    return [{name: expert[name] - base[name] for name in base} for expert in experts]


def trimmed(density: float) -> Vectors:
    """Ties' task vectors: the largest of the whole model, zero where they disagree with the sign of their sum."""

    def vectors_of(base: Model, experts: list[Model]) -> list[Model]:
        kept = []
        for vector in task_vectors(base, experts):
            sizes = np.sort(np.abs(np.concatenate([part.ravel() for part in vector.values()])))
            threshold = sizes[-max(1, int(density * sizes.size))]
            kept.append({name: np.where(np.abs(part) >= threshold, part, 0) for name, part in vector.items()})
        sign = {name: np.sign(sum(own[name] for own in kept)) for name in base}
        return [{name: np.where(np.sign(part) == sign[name], part, 0) for name, part in own.items()} for own in kept]

    return vectors_of
