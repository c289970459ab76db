"""Which task an input is of, read off the merged model's representation: no labels, no task id."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import torch
from jaxtyping import Bool, Float, Float64, Int
from torch import Tensor
from torch.nn.functional import cross_entropy, normalize

from suture.errors import DataError
from suture.factoring import eigh
from suture.gram import gram

SHRINKAGES = (1e-7, 1e-6, 1e-5, 1e-4, 1e-3, 1e-2, 0.1, 0.3)
FOLDS = 5
DIRECTIONS = 64
"""How many directions of the covariance are kept to tell what is of no task."""
STRANGE = 0.05
"""The share of a task's own calibration inputs that would be taken for inputs of none."""
TEMPERATURES = torch.logspace(-1.5, 1.5, 61, dtype=torch.float64)


@dataclass(frozen=True)
class Router:
    """Each task's unlabelled inputs as a Gaussian around their mean, on representations of length one, all of one covariance Σ.

    An input is of the task with the highest s_t(z) = zᵀΣ⁻¹μ_t − ½ μ_tᵀΣ⁻¹μ_t (linear discriminant analysis: Fisher, 1936, with tasks for
    classes), and softmax(s / ``temperature``) is how sure that is. It is of none where it is further from that task than nearly all of the
    task's own inputs were: the distance is Mahalanobis' with Σ as a few directions and noise in all others, the principal components
    of Tipping and Bishop (1999), so that T·k numbers decide on the task, and 64·k on "none of these".
    """

    tasks: tuple[str, ...]
    weight: Float[Tensor, "t k"]
    """Σ⁻¹μ_t."""
    offset: Float[Tensor, " t"]
    """−½ μ_tᵀΣ⁻¹μ_t."""
    temperature: float
    means: Float[Tensor, "t k"]
    directions: Float[Tensor, "d k"]
    variances: Float[Tensor, " d"]
    noise: float
    """The variance in every other direction."""
    reach: Float[Tensor, " t"]
    """The squared distance from a task's mean at which an input is of no task."""

    def __call__(self, z: Float[Tensor, "n k"]) -> tuple[Float[Tensor, "n t"], Bool[Tensor, " n"]]:
        """Return how probable each task is for each input, and which inputs are of none of them.

        Raises :class:`DataError` for representations of another width.
        """
        if z.shape[1] != self.weight.shape[1]:
            raise DataError(f"the router takes representations of width {self.weight.shape[1]}, not {z.shape[1]}")
        unit = normalize(z.to(self.weight.dtype), dim=1)
        scores = unit @ self.weight.T + self.offset
        found = scores.argmax(dim=1)
        distance = _distance(unit - self.means[found], self.directions, self.variances, self.noise)
        return (scores / self.temperature).softmax(dim=1), distance > self.reach[found]

    def without(self, task: str) -> "Router":
        """Return the router of the other tasks; what it knows of their common shape stays."""
        kept = [place for place, name in enumerate(self.tasks) if name != task]
        rows = {name: getattr(self, name)[kept] for name in ("weight", "offset", "means", "reach")}
        return replace(self, tasks=tuple(self.tasks[place] for place in kept), **rows)

    @property
    def parameters(self) -> int:
        """How many numbers it holds."""
        parts = (self.weight, self.offset, self.means, self.directions, self.variances, self.reach)
        return sum(part.numel() for part in parts) + 2


def fit_router(representations: Mapping[str, Float[Tensor, "n k"]]) -> Router:
    """Fit a router to the merged model's representations of each task's calibration inputs.

    How far Σ is shrunk towards a multiple of the identity is chosen by cross-validation, and so are the temperature and, per task, the
    distance that all but 5 % of its own inputs stay within: every input is judged by a fit that has not seen it. Deterministic, float64.

    Raises :class:`DataError` for fewer than two tasks, or a task of fewer than five inputs.

    >>> generator = torch.Generator().manual_seed(0)
    >>> noise = [0.1 * torch.randn(40, 3, generator=generator) for _ in range(2)]
    >>> router = fit_router({"left": torch.tensor([-1.0, 0, 0]) + noise[0], "right": torch.tensor([1.0, 0, 0]) + noise[1]})
    >>> probable, strange = router(torch.tensor([[2.0, 0.1, 0.0], [0.0, 0.0, 3.0]]))
    >>> router.tasks[int(probable[0].argmax())], strange.tolist()
    ('right', [False, True])
    """
    if len(representations) < 2:
        raise DataError(f"a router tells tasks apart, and there is only one: {', '.join(representations) or 'none'}")
    if short := [task for task, z in representations.items() if len(z) < FOLDS]:
        raise DataError(f"a router needs {FOLDS} calibration inputs of every task; there are fewer of {', '.join(short)}")
    units = [normalize(z.double(), dim=1) for z in representations.values()]
    labels = torch.repeat_interleave(torch.arange(len(units)), torch.tensor([len(unit) for unit in units]))
    scores, reach = _left_out(units)
    right = {shrinkage: (given.argmax(dim=1) == labels).double().mean().item() for shrinkage, given in scores.items()}
    best = max(SHRINKAGES, key=lambda shrinkage: (right[shrinkage], shrinkage))
    shape = _Shape.of(units)
    kept = [part.float().contiguous() for part in (*shape.discriminant(best), shape.means, *shape.leading, reach)]
    temperature = _temperature(scores[best], labels)
    return Router(tuple(representations), kept[0], kept[1], temperature, kept[2], kept[3], kept[4], shape.noise, kept[5])


@dataclass(frozen=True)
class _Shape:
    """The tasks' means, and the covariance around them by its directions, the widest first; all tasks count the same."""

    means: Float64[Tensor, "t k"]
    directions: Float64[Tensor, "k k"]
    variances: Float64[Tensor, " k"]

    @classmethod
    def of(cls, units: Sequence[Tensor]) -> "_Shape":
        means = torch.stack([unit.mean(dim=0) for unit in units])
        around = [unit - mean for unit, mean in zip(units, means, strict=True)]
        within = torch.stack([gram(each) / len(each) for each in around]).mean(dim=0)
        variances, directions = eigh(within)
        floor = variances[-1].clamp(min=1e-12) * 1e-9
        return cls(means, directions.T.flip(0), variances.flip(0).clamp(min=floor))

    def discriminant(self, shrinkage: float) -> tuple[Float64[Tensor, "t k"], Float64[Tensor, " t"]]:
        """Return Σ⁻¹μ and −½ μᵀΣ⁻¹μ, Σ shrunk by a share towards the multiple of the identity that has its trace."""
        shrunk = (1 - shrinkage) * self.variances + shrinkage * self.variances.mean()
        weight = (self.means @ self.directions.T / shrunk) @ self.directions
        return weight, -0.5 * (weight * self.means).sum(dim=1)

    @property
    def leading(self) -> tuple[Float64[Tensor, "d k"], Float64[Tensor, " d"]]:
        """The directions that are kept to measure distances, and their variances."""
        kept = min(DIRECTIONS, len(self.variances) - 1)
        return self.directions[:kept], self.variances[:kept]

    @property
    def noise(self) -> float:
        """The mean variance of the others."""
        return float(self.variances[len(self.leading[1]) :].mean())


def _left_out(units: Sequence[Tensor]) -> tuple[dict[float, Float64[Tensor, "n t"]], Float64[Tensor, " t"]]:
    """Judge every fifth input by the others: the scores under every shrinkage, and the distance that nearly all of a task stay within."""
    folds = [torch.arange(len(unit)) % FOLDS for unit in units]
    whole = torch.cat(folds)
    scores = {shrinkage: torch.empty(len(whole), len(units), dtype=torch.float64) for shrinkage in SHRINKAGES}
    distances: list[list[Tensor]] = [[] for _ in units]
    for fold in range(FOLDS):
        shape = _Shape.of([unit[own != fold] for unit, own in zip(units, folds, strict=True)])
        rest = [unit[own == fold] for unit, own in zip(units, folds, strict=True)]
        for shrinkage, given in scores.items():
            weight, offset = shape.discriminant(shrinkage)
            given[whole == fold] = torch.cat(rest) @ weight.T + offset
        for own, inputs, mean in zip(distances, rest, shape.means, strict=True):
            own.append(_distance(inputs - mean, *shape.leading, shape.noise))
    return scores, torch.stack([torch.cat(own).quantile(1 - STRANGE) for own in distances])


def _temperature(scores: Float64[Tensor, "n t"], labels: Int[Tensor, " n"]) -> float:
    """Return the temperature under which the left-out inputs' tasks are most probable (Guo et al., 2017, arXiv 1706.04599)."""
    losses = [cross_entropy(scores / temperature, labels).item() for temperature in TEMPERATURES]
    return float(TEMPERATURES[torch.tensor(losses).argmin()])


def _distance(offsets: Float[Tensor, "n k"], directions: Tensor, variances: Tensor, noise: float) -> Float[Tensor, " n"]:
    """Return the squared Mahalanobis distance of each row from 0."""
    along = offsets @ directions.T
    rest = (offsets.square().sum(dim=1) - along.square().sum(dim=1)).clamp(min=0)
    return (along.square() / variances).sum(dim=1) + rest / noise
