"""Independent float64 NumPy versions of concrete subspace learning, with gradients by hand, for the network of ``merging.network``."""

import numpy as np
import torch

from merging.learning_oracles import Adam, Matrix, Model, Oracle, batches, entropy_gradient, task_vectors
from merging.network import PARAMETERS
from suture.randomness import generator_for


class Mask:
    """One tensor's logits and its last draw."""

    def __init__(self, name: str, shape: tuple[int, ...], temperature: float, seed: int, rate: float) -> None:
        self.logits, self.shape, self.temperature, self.adam = np.zeros(int(np.prod(shape))), shape, temperature, Adam(rate)
        self.generator = generator_for(seed, name, "mask")

    def draw(self) -> Matrix:
        u = torch.rand(self.logits.size, generator=self.generator).double().numpy()
        self.raw = 1 / (1 + np.exp(-(self.logits + np.log(u) - np.log(1 - u)) / self.temperature))
        return (self.raw / self.raw.mean()).reshape(self.shape)

    def step(self, gradient: Matrix) -> None:
        """Move against the gradient in the normalised mask, through the Jacobian of m / mean(m) as a whole matrix."""
        mean = self.raw.mean()
        jacobian = np.eye(self.raw.size) / mean - np.outer(self.raw, np.ones(self.raw.size)) / (self.raw.size * mean**2)
        self.logits = self.adam.step(self.logits, (jacobian.T @ gradient.ravel()) * self.raw * (1 - self.raw) / self.temperature)


def masks_of(base: Model, temperature: float, seed: int, rate: float) -> dict[str, Mask]:
    return {name: Mask(name, base[name].shape, temperature, seed, rate) for name in PARAMETERS}


def combined(base: Model, vectors: list[Model], weights: dict[str, Matrix], drawn: dict[str, Matrix]) -> Model:
    """θ_0 + m ⊙ Σ_t λ_t τ_t."""
    moved = {name: sum(c * own[name] for c, own in zip(weights[name], vectors, strict=True)) for name in base}
    return {name: value + drawn.get(name, 1.0) * moved[name] for name, value in base.items()}


def concrete_arithmetic(scale: float, steps: int, batch: int, rate: float, temperature: float, seed: int) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        vectors, masks = task_vectors(base, experts), masks_of(base, temperature, seed, rate)
        rows, weights = {task: batches(task, batch, seed) for task in names}, dict.fromkeys(base, np.full(len(names), scale))
        for _ in range(steps):
            drawn = {name: mask.draw() for name, mask in masks.items()}
            gradient = entropy_gradient(combined(base, vectors, weights, drawn), {task: next(own) for task, own in rows.items()})
            for name, mask in masks.items():
                mask.step(gradient[name] * scale * sum(own[name] for own in vectors))
        return combined(base, vectors, weights, {name: mask.draw() for name, mask in masks.items()})

    return merge


def concrete_adaptive(
    task_wise: bool, initial: float, steps: tuple[int, int], batch: int, rates: tuple[float, float, float], temperature: float, seed: int
) -> Oracle:
    def merge(base: Model, experts: list[Model], names: list[str]) -> Model:
        vectors, masks = task_vectors(base, experts), masks_of(base, temperature, seed, rates[0])
        rows = {task: batches(task, batch, seed) for task in names}

        def gradient_at(weights: dict[str, Matrix], drawn: dict[str, Matrix]) -> Model:
            return entropy_gradient(combined(base, vectors, weights, drawn), {task: next(own) for task, own in rows.items()})

        def stepped(raw: Matrix, adam: Adam, gradient: Model, drawn: dict[str, Matrix]) -> Matrix:
            by_layer = np.array([[(gradient[name] * drawn[name] * own[name]).sum() for own in vectors] for name in PARAMETERS])
            return adam.step(raw, by_layer.sum(axis=0, keepdims=True) if task_wise else by_layer)

        def used(raw: Matrix) -> dict[str, Matrix]:
            of = {name: np.clip(raw[0 if task_wise else place], 0, 1) for place, name in enumerate(PARAMETERS)}
            return {name: of.get(name, np.full(len(names), initial)) for name in base}

        start = np.full((1 if task_wise else len(PARAMETERS), len(names)), initial)
        inner = Adam(rates[1])
        for _ in range(steps[0]):
            drawn = {name: mask.draw() for name, mask in masks.items()}
            adapted = used(stepped(start, inner, gradient_at(used(start), drawn), drawn))
            gradient = gradient_at(adapted, drawn)
            for name, mask in masks.items():
                mask.step(gradient[name] * sum(c * own[name] for c, own in zip(adapted[name], vectors, strict=True)))
        drawn, raw, adam = {name: mask.draw() for name, mask in masks.items()}, start, Adam(rates[2])
        for _ in range(steps[1]):
            raw = stepped(raw, adam, gradient_at(used(raw), drawn), drawn)
        return combined(base, vectors, used(raw), drawn)

    return merge
