"""Surgery without an optimiser: reduced-rank ridge regression of what the merged network misses on what it has."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate
from operator import add

import torch
from jaxtyping import Float, Float64
from torch import Tensor

from suture.errors import InvalidHyperparameter
from suture.factoring import eigh
from suture.gram import gram
from suture.surgery.module import Correction, Surgery
from suture.surgery.pairs import Pair, check_pairs
from suture.surgery.threads import one_thread
from suture.types import Progress, no_progress

SHRINKAGES = (1e-3, 3e-3, 0.01, 0.03, 0.1, 0.3, 1.0, 3.0)
"""What cross-validation chooses from, as shares of the inputs' mean variance."""

ROUNDING = 1e-12

FEW = 0.5
"""Up to so many rows a feature it takes less time to find the directions in which they vary first."""


@dataclass(frozen=True)
class ClosedForm:
    """What a closed form is told: the highest rank, and the shrinkages and folds of its cross-validation.

    Rank 0 only moves the mean. A single shrinkage is taken as it is.
    Raises :class:`InvalidHyperparameter` for a negative rank, shrinkages that are not positive, or fewer than two folds.

    >>> ClosedForm(rank=4, shrinkages=[0.1]).folds
    4
    """

    rank: int = 16
    shrinkages: Sequence[float] = SHRINKAGES
    folds: int = 4

    def __post_init__(self) -> None:
        if self.rank < 0:
            raise InvalidHyperparameter(f"rank must be at least 0, not {self.rank}")
        if not self.shrinkages or not all(math.isfinite(value) and value > 0 for value in self.shrinkages):
            raise InvalidHyperparameter(f"shrinkages must be positive numbers, at least one, not {list(self.shrinkages)}")
        if self.folds < 2:
            raise InvalidHyperparameter(f"folds must be at least 2, not {self.folds}")


@dataclass(frozen=True)
class Moments:
    """First and second moments of rows X (merged) and Y (expert), both (n, k), as sums in float64; rows come in any portions.

    Memory: 2k² numbers, whatever n. Of YᵀY nothing is needed.
    """

    count: int
    x: Float64[Tensor, " k"]
    y: Float64[Tensor, " k"]
    xx: Float64[Tensor, "k k"]
    xy: Float64[Tensor, "k k"]

    @classmethod
    def of(cls, x: Float[Tensor, "n k"], y: Float[Tensor, "n k"]) -> "Moments":
        """Return the moments of some rows."""
        x, y = x.double(), y.double()
        return cls(len(x), x.sum(dim=0), y.sum(dim=0), gram(x), x.T @ y)

    @classmethod
    def zero(cls, width: int) -> "Moments":
        """Return the moments of no rows."""
        return cls.of(*torch.zeros(2, 0, width))

    def __add__(self, other: "Moments") -> "Moments":
        return Moments(self.count + other.count, self.x + other.x, self.y + other.y, self.xx + other.xx, self.xy + other.xy)

    def __sub__(self, other: "Moments") -> "Moments":
        return Moments(self.count - other.count, self.x - other.x, self.y - other.y, self.xx - other.xx, self.xy - other.xy)

    @property
    def means(self) -> tuple[Float64[Tensor, " k"], Float64[Tensor, " k"]]:
        """The means μ of X and ν of Y."""
        return self.x / self.count, self.y / self.count

    @property
    def covariances(self) -> tuple[Float64[Tensor, "k k"], Float64[Tensor, "k k"]]:
        """The covariance of X, and that of X with the residual R = Y − X."""
        mu, nu = self.means
        xx = self.xx / self.count - torch.outer(mu, mu)
        return xx, self.xy / self.count - torch.outer(mu, nu) - xx

    @property
    def variances(self) -> Float64[Tensor, " k"]:
        """The variances of X: the diagonal of its covariance."""
        return self.xx.diagonal() / self.count - self.means[0].square()

    def covariances_along(self, span: Float64[Tensor, "k s"]) -> tuple[Float64[Tensor, "s s"], Float64[Tensor, "s k"]]:
        """Return the covariance of X along directions, and that of X along them with R; nothing of k × k numbers is made on the way."""
        mu, nu = self.means
        at, xx, xy = span.T @ mu, span.T @ self.xx / self.count, span.T @ self.xy / self.count
        return xx @ span - torch.outer(at, at), xy - xx - torch.outer(at, nu - mu)

    def shift_gain(self, others: "Moments") -> float:
        """Return by how much moving the mean by ν − μ of these rows lowers the mean squared error on other rows."""
        (mu, nu), (other_mu, other_nu) = self.means, others.means
        wanted = other_nu - other_mu
        return float(wanted.square().sum() - (wanted - nu + mu).square().sum())


@dataclass(frozen=True)
class Regression:
    """ŷ = ν + (x − μ)(I + P Vᵀ), P = B V: its columns go from the component that explains most to the one that explains least.

    B is the ridge regression of R on X; V, orthonormal, are the leading eigenvectors of Bᵀ (C + λI) B, C the covariance of X: of all
    matrices of that rank, B V Vᵀ is the best for the penalised objective (reduced-rank regression, Izenman, 1975).
    """

    mu: Float64[Tensor, " k"]
    nu: Float64[Tensor, " k"]
    P: Float64[Tensor, "k r"]
    V: Float64[Tensor, "k r"]

    @classmethod
    def identity(cls, width: int) -> "Regression":
        """Return the one that leaves everything as it is."""
        nothing = torch.zeros(width, dtype=torch.float64)
        return cls(nothing, nothing, *torch.zeros(2, width, 0, dtype=torch.float64))

    def correction(self) -> Correction:
        """Return it as a correction in float32: X̂ = X − (X W_downᵀ) W_upᵀ + b with W_down = Pᵀ, W_up = −V, b = ν − μ − V Pᵀ μ."""
        shift = self.nu - self.mu - self.V @ (self.P.T @ self.mu)
        return Correction(self.P.T.float().contiguous(), -self.V.float(), shift.float(), activation="none")

    def gains(self, moments: Moments) -> Float64[Tensor, " r"]:
        """Return by how much each component lowers the mean squared error on other rows than those it was fitted on.

        V is orthonormal, so the error is a sum over components: any lower rank is judged at once.
        """
        mu, nu = moments.means
        # The covariances' products, without the covariances: of many regressions these would take the longest.
        x_p, x_v, y_v = (sums @ own / moments.count for sums, own in ((moments.xx, self.P), (moments.xx, self.V), (moments.xy, self.V)))
        both = 2 * (y_v - x_v) - x_p - torch.outer(mu, 2 * (nu - mu) @ self.V - mu @ self.P)
        missing = (nu - self.nu - mu + self.mu) @ self.V
        given = (mu - self.mu) @ self.P
        return (self.P * both).sum(dim=0) + missing.square() - (missing - given).square()


def regressions(
    moments: Moments, rank: int, shrinkages: Sequence[float], span: Float64[Tensor, "k s"] | None = None
) -> Iterator[Regression]:
    """Yield the reduced-rank ridge regression for every shrinkage: λ is that share of the mean variance of X.

    ``span``, orthonormal, are directions outside of which the rows are known not to vary (:func:`_span`).
    """
    (mu, nu), least = moments.means, _least(moments)
    xx, xr = moments.covariances if span is None else moments.covariances_along(span)
    variances, axes = eigh(xx)
    mean = moments.variances.mean().clamp(min=0)
    # Fewer rows than features vary in fewer directions, and nothing is regressed on the others.
    varying = variances > least
    variances, axes = variances[varying], axes[:, varying]
    basis, rotated = axes if span is None else span @ axes, axes.T @ xr
    products = rotated @ rotated.T if len(rotated) < len(mu) else None
    for shrinkage in shrinkages:
        scale = variances + (shrinkage * mean).clamp(min=least)
        V = _leading(rotated, scale.rsqrt(), rank, products)
        yield Regression(mu, nu, basis @ (rotated / scale[:, None] @ V), V)


def _least(moments: Moments) -> Float64[Tensor, ""]:
    """Return what a variance must be above: one so far below the second moment is rounding.

    Where nothing varies at all any λ will do, but for zero.
    """
    return (ROUNDING * moments.xx.diagonal().mean() / moments.count).clamp(min=torch.finfo(torch.float64).tiny)


def _span(moments: Moments) -> Float64[Tensor, "k s"] | None:
    """Return an orthonormal basis of the directions in which rows vary, those of any part of them too; None where they are not few.

    They are one fewer than the rows, and found by that many steps of a pivoted Cholesky decomposition. All eigenvectors of the
    covariance, most of them of zeros, would take far longer.
    """
    if moments.count > FEW * len(moments.x):
        return None
    mu, left = moments.means[0], moments.variances
    factor = left.new_zeros(moments.count - 1, len(left))
    most = float(_least(moments) / len(left))  # what is left over varies by no more than all of its diagonal
    for place, row in enumerate(factor):
        pivot = int(left.argmax())
        if float(left[pivot]) <= most:
            factor = factor[:place]
            break
        covariance = moments.xx[pivot] / moments.count - mu[pivot] * mu
        row.copy_((covariance - factor[:place, pivot] @ factor[:place]) / left[pivot].sqrt())
        left -= row.square()
    span: Tensor = torch.linalg.qr(factor.T)[0]
    return span


def _leading(
    rotated: Float64[Tensor, "m k"], weights: Float64[Tensor, " m"], rank: int, products: Float64[Tensor, "m m"] | None = None
) -> Float64[Tensor, "k r"]:
    """Return the leading right singular vectors of weighted rows; zeros where there are no more.

    Fewer rows than columns come with their ``products`` by each other, and are solved by these.
    """
    whitened = rotated * weights[:, None]
    if products is None:
        right: Tensor = eigh(gram(whitened))[1].flip(1)[:, :rank]
        return right
    squares, left = eigh(products * torch.outer(weights, weights))
    squares, left = squares.flip(0)[:rank], left.flip(1)[:, :rank]
    there = squares > ROUNDING * squares[:1].clamp(min=torch.finfo(torch.float64).tiny)
    found = torch.zeros(rotated.shape[1], rank, dtype=rotated.dtype)
    found[:, : int(there.sum())] = whitened.T @ left[:, there] / squares[there].sqrt()
    return found


@dataclass(frozen=True)
class Solution:
    """What cross-validation chose: the regression on all rows, its shrinkage, and what each component was worth.

    ``gains`` says by how much the components of that shrinkage, chosen or not, lowered the mean squared error of all folds in turn, as
    a share of the mean variance of X; it is empty where nothing was tried.
    """

    regression: Regression
    shrinkage: float
    gains: Float64[Tensor, " r"]


@one_thread()
def solve(folds: Sequence[Moments], settings: ClosedForm) -> Solution:
    """Return the regression on all folds together, its shrinkage and rank, up to ``settings.rank``, as cross-validation says.

    Where not even moving the mean would have helped on other folds, or there is no other fold to tell, nothing is moved. A single
    shrinkage is taken as it is.
    """
    filled = [fold for fold in folds if fold.count]
    *_, total = accumulate(filled, add)
    rank, shrinkages = min(settings.rank, len(total.x)), settings.shrinkages
    gains, shift_gain, span = torch.zeros(len(shrinkages), rank + 1, dtype=torch.float64), 0.0, _span(total)
    if len(shrinkages) == 1:
        return Solution(next(regressions(total, rank, shrinkages, span)), shrinkages[0], gains[0, 1:1])
    for fold in filled if len(filled) > 1 else []:
        rest = total - fold
        shift_gain += fold.count * rest.shift_gain(fold)
        for place, found in enumerate(regressions(rest, rank, shrinkages, span)):
            gains[place, 1:] += fold.count * found.gains(fold)
    sums = gains.cumsum(dim=1)
    place, best = divmod(int(sums.argmax()), rank + 1)
    shares = gains[place, 1:] / (total.count * total.variances.sum()).clamp(min=torch.finfo(torch.float64).tiny)
    if shift_gain + float(sums[place, best]) <= 0:
        return Solution(Regression.identity(len(total.x)), shrinkages[place], shares)
    return Solution(next(regressions(total, best, [shrinkages[place]], span)), shrinkages[place], shares)


def fit_closed_form(calibration: Mapping[str, Pair], settings: ClosedForm | None = None, progress: Progress = no_progress) -> Surgery:
    """Return the corrections that bring the merged representations to the experts' in the sense of least squares.

    ``calibration`` maps each task to its representations under the merged backbone and under the expert, row by row of the same
    unlabelled inputs; every fourth row (``settings.folds``) is a fold of the cross-validation. There is no learning rate, no start and
    no seed. ``progress`` counts tasks.

    Raises :class:`suture.errors.DataError` for no samples, or representations that do not belong together.

    >>> z = torch.randn(64, 8, generator=torch.Generator().manual_seed(0))
    >>> surgery = fit_closed_form({"half": (z, 0.5 * z + 1)}, ClosedForm(rank=8))
    >>> bool((surgery("half", z) - 0.5 * z - 1).abs().mean() < 0.01)
    True
    """
    check_pairs(calibration)
    settings, final = settings or ClosedForm(), {}
    for task, (merged, expert) in calibration.items():
        folds = [Moments.of(merged[first :: settings.folds], expert[first :: settings.folds]) for first in range(settings.folds)]
        final[task] = solve(folds, settings).regression.correction()
        progress(1)
    return Surgery(final)
