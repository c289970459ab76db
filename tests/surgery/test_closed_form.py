"""The closed form: against scikit-learn and NumPy in float64, and its laws."""

from itertools import pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.linear_model import Ridge
from torch import Tensor

from suture.errors import DataError, InvalidHyperparameter
from suture.representation import representation_bias
from suture.surgery import ClosedForm, fit_closed_form
from suture.surgery.closed_form import Moments, Regression, _leading, _span, regressions, solve


def pair(seed: int, n: int = 60, width: int = 7, noise: float = 0.1) -> tuple[Tensor, Tensor]:
    """Make representations that differ by a matrix of rank two, a shift and noise."""
    generator = torch.Generator().manual_seed(seed)
    x = torch.randn(n, width, generator=generator, dtype=torch.float64) * torch.linspace(0.3, 2, width) + 1
    drift = torch.randn(width, 2, generator=generator).double() @ torch.randn(2, width, generator=generator).double()
    return x, x + 0.3 * x @ drift - 0.5 + noise * torch.randn(n, width, generator=generator)


def moments(x: Tensor, y: Tensor) -> Moments:
    return Moments.of(x, y)


def matrix(found: Regression) -> np.ndarray:
    return (found.P @ found.V.T).numpy()


@pytest.mark.parametrize("rank", [1, 2, 7])
@pytest.mark.parametrize("shrinkage", [0.01, 1.0])
def test_equal_to_ridge_and_then_a_truncated_svd(rank: int, shrinkage: float) -> None:
    x, y = (each.numpy() for each in pair(0))
    found = next(regressions(moments(*pair(0)), rank, [shrinkage]))
    penalty = shrinkage * x.var(axis=0).mean() * len(x)
    ridge = Ridge(alpha=penalty).fit(x, y - x)
    centred = np.vstack([x - x.mean(axis=0), np.sqrt(penalty) * np.eye(7)])
    _, _, right = np.linalg.svd(centred @ ridge.coef_.T, full_matrices=False)
    expected = ridge.coef_.T @ right[:rank].T @ right[:rank]
    np.testing.assert_allclose(matrix(found), expected, rtol=1e-8, atol=1e-10)
    correction = found.correction()
    at = y.mean(axis=0) + (x - x.mean(axis=0)) @ (np.eye(7) + expected)
    np.testing.assert_allclose(correction(torch.from_numpy(x).float()).numpy(), at, rtol=1e-4, atol=1e-4)
    assert (correction.rank, correction.activation) == (rank, "none")


@pytest.mark.parametrize("repeated", [1, 3])
@pytest.mark.parametrize("n", [1, 2, 9, 20])
def test_directions_of_few_rows_are_all_that_matters(n: int, repeated: int) -> None:
    x, y = (each.repeat(repeated, 1) for each in pair(4, n=n, width=120))
    total = moments(x, y)
    span = _span(total)
    assert span is not None
    assert span.shape[1] in range(n - 1, repeated * n)
    np.testing.assert_allclose(span.T @ span, np.eye(span.shape[1]), atol=1e-12)
    centred = (x - x.mean(dim=0)).numpy()
    np.testing.assert_allclose(centred @ span.numpy() @ span.numpy().T, centred, atol=1e-9)
    for part in (total, moments(x[::4], y[::4])):
        few, all_ = (next(regressions(part, 5, [0.03], own)) for own in (span, None))
        np.testing.assert_allclose(matrix(few), matrix(all_), atol=1e-10)


@pytest.mark.parametrize("n", [60, 61])
def test_directions_are_sought_of_few_rows_only(n: int) -> None:
    assert (_span(moments(*pair(4, n=n, width=120))) is None) == (n == 61)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 50), rank=st.integers(1, 4))
def test_no_other_of_its_rank_is_better(seed: int, rank: int) -> None:
    x, y = pair(seed)
    shrinkage = 0.1
    found = next(regressions(moments(x, y), rank, [shrinkage]))
    xc, rc = x - x.mean(dim=0), (y - x) - (y - x).mean(dim=0)
    penalty = shrinkage * float(x.var(dim=0, correction=0).mean())

    def objective(p: Tensor, v: Tensor) -> float:
        b = p @ v.T
        return float((rc - xc @ b).square().sum() / len(x) + penalty * b.square().sum())

    least, generator = objective(found.P, found.V), torch.Generator().manual_seed(seed)
    for _ in range(5):
        p, v = (each + 0.01 * torch.randn(each.shape, generator=generator) for each in (found.P, found.V))
        assert objective(p, v) >= least


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 50))
def test_gains_are_what_each_component_saves_on_other_rows(seed: int) -> None:
    x, y = pair(seed)
    found = next(regressions(moments(x[:40], y[:40]), 5, [0.1]))
    gains = found.gains(moments(x[40:], y[40:]))
    errors = []
    for rank in range(6):
        cut = Regression(found.mu, found.nu, found.P[:, :rank], found.V[:, :rank])
        estimate = cut.nu + (x[40:] - cut.mu) @ (torch.eye(7) + cut.P @ cut.V.T)
        errors.append(float((y[40:] - estimate).square().sum() / 20))
    np.testing.assert_allclose(gains.numpy(), -np.diff(errors), rtol=1e-6, atol=1e-9)


@settings(deadline=None, max_examples=30)
@given(seed=st.integers(0, 50), cuts=st.lists(st.integers(0, 60), max_size=4))
def test_moments_come_in_any_portions(seed: int, cuts: list[int]) -> None:
    x, y = pair(seed)
    edges = [0, *sorted(cuts), 60]
    total = Moments.zero(7)
    for start, end in pairwise(edges):
        total = total + moments(x[start:end], y[start:end])
    whole = moments(x, y)
    assert total.count == 60
    for one, other in zip((*total.means, *total.covariances), (*whole.means, *whole.covariances), strict=True):
        torch.testing.assert_close(one, other, rtol=1e-9, atol=1e-9)
    torch.testing.assert_close((whole - moments(x[:9], y[:9])).means, moments(x[9:], y[9:]).means)


def test_cross_validation_takes_what_is_best_on_the_folds() -> None:
    x, y = pair(3, n=24, noise=0.5)
    settings = ClosedForm(rank=3, shrinkages=(0.01, 0.1, 1.0, 10.0), folds=4)
    solution = solve([moments(x[f::4], y[f::4]) for f in range(4)], settings)
    errors = {}
    for candidate in settings.shrinkages:
        for rank in range(4):
            total = 0.0
            for fold in range(4):
                train = np.arange(24) % 4 != fold
                own = next(regressions(moments(x[train], y[train]), rank, [candidate]))
                rest, target = x[~train], y[~train]
                total += float((target - own.nu - (rest - own.mu) @ (torch.eye(7) + own.P @ own.V.T)).square().sum())
            errors[candidate, rank] = total
    assert (solution.shrinkage, solution.regression.V.shape[1]) == min(errors, key=lambda key: errors[key])


def test_rank_zero_moves_the_mean() -> None:
    x, y = (each.float() for each in pair(1))
    surgery = fit_closed_form({"a": (x, y)}, ClosedForm(rank=0))
    torch.testing.assert_close(surgery("a", x), x + (y - x).mean(dim=0))


@pytest.mark.parametrize("n", [1, 2, 3, 50])
def test_merged_equal_to_expert_is_left_alone(n: int) -> None:
    z = torch.randn(n, 7, generator=torch.Generator().manual_seed(0))
    torch.testing.assert_close(fit_closed_form({"a": (z, z)})("a", z), z, rtol=0, atol=1e-6)


@pytest.mark.parametrize("n", [1, 2, 3, 8, 200])
def test_it_helps_from_few_samples_and_more_from_many(n: int) -> None:
    x, y = (each.float() for each in pair(2, n=n + 100, noise=0.05))
    surgery = fit_closed_form({"a": (x[:n], y[:n])})
    before, after = representation_bias(x[n:], y[n:]).l1, representation_bias(surgery("a", x[n:]), y[n:]).l1
    if n <= 2:  # nothing, or next to nothing, tells whether it would help
        assert after <= before
    else:
        assert after < (0.1 if n == 200 else 1.0) * before


@pytest.mark.parametrize("n", [1, 2, 3, 4, 5])
def test_few_samples_of_a_wide_network(n: int) -> None:
    for seed in range(3):
        x, y = (each.float() for each in pair(seed, n=n, width=200))
        corrected = fit_closed_form({"a": (x, y)})("a", x)
        assert bool(corrected.isfinite().all())
        assert float((corrected - y).square().sum()) <= float((x - y).square().sum())


def test_what_would_not_help_is_left_undone() -> None:
    generator = torch.Generator().manual_seed(0)
    x = torch.randn(6, 50, generator=generator)
    surgery = fit_closed_form({"a": (x, x + torch.randn(6, 50, generator=generator))})
    assert torch.equal(surgery("a", x), x)
    assert surgery.final["a"].rank == 0


def test_tasks_are_apart_and_in_order() -> None:
    pairs = {task: tuple(each.float() for each in pair(seed)) for seed, task in enumerate("abc")}
    together = fit_closed_form(pairs)  # type: ignore[arg-type]
    turned = fit_closed_form({task: pairs[task] for task in "cab"})  # type: ignore[misc]
    assert turned.tasks == ("c", "a", "b")
    for task in pairs:
        assert torch.equal(together(task, pairs[task][0]), turned(task, pairs[task][0]))


def test_constant_representations_are_shifted() -> None:
    x, y = torch.ones(8, 3), torch.full((8, 3), 2.0)
    torch.testing.assert_close(fit_closed_form({"a": (x, y)})("a", x), y)


@pytest.mark.parametrize("settings", [{"rank": -1}, {"shrinkages": ()}, {"shrinkages": (0.1, 0.0)}, {"folds": 1}])
def test_settings_that_make_no_sense(settings: dict[str, object]) -> None:
    with pytest.raises(InvalidHyperparameter, match=next(iter(settings))):
        ClosedForm(**settings)  # type: ignore[arg-type]


def test_samples_that_do_not_belong_together() -> None:
    with pytest.raises(DataError, match="2 merged and 3 expert"):
        fit_closed_form({"a": (torch.ones(2, 3), torch.ones(3, 3))})


@pytest.mark.parametrize("shape", [(3, 6), (6, 6), (9, 6)])
@pytest.mark.parametrize("scale", [1e-9, 1.0, 1e9])
def test_leading_directions_are_those_of_the_svd_on_any_scale(shape: tuple[int, int], scale: float, generator: torch.Generator) -> None:
    rotated, weights = (scale * torch.randn(*each, generator=generator, dtype=torch.float64) for each in (shape, shape[:1]))
    products = rotated @ rotated.T if shape[0] < shape[1] else None
    found, whitened = _leading(rotated, weights, 5, products).numpy(), weights[:, None] * rotated
    _, _, right = np.linalg.svd(whitened.numpy(), full_matrices=False)
    there = min(5, *shape)
    np.testing.assert_allclose(np.abs(np.sum(found[:, :there] * right[:there].T, axis=0)), np.ones(there), rtol=1e-7)
    np.testing.assert_allclose(found.T @ found, np.diag([1.0] * there + [0.0] * (5 - there)), atol=1e-7)
