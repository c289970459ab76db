"""The router: a linear discriminant on directions, checked against scikit-learn's, and a distance checked against the plain formula."""

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.discriminant_analysis import LinearDiscriminantAnalysis

from suture.errors import CorruptCheckpoint, DataError
from suture.multitask import fit_router
from suture.multitask.router import DIRECTIONS, SHRINKAGES, _Shape
from suture.multitask.router_files import load_router, save_router


def clouds(width: int = 12, tasks: int = 3, samples: int = 60, seed: int = 0, spread: float = 0.4) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    shape = torch.randn(width, width, generator=generator) / width**0.5
    centres = torch.randn(tasks, width, generator=generator)
    return {f"task{t}": centres[t] + spread * torch.randn(samples, width, generator=generator) @ shape for t in range(tasks)}


@pytest.mark.parametrize("shrinkage", [1e-3, 0.1])
def test_the_discriminant_is_scikit_learns(shrinkage: float) -> None:
    units = [torch.nn.functional.normalize(z.double(), dim=1) for z in clouds().values()]
    weight, offset = _Shape.of(units).discriminant(shrinkage)
    labels = np.repeat(np.arange(3), 60)
    theirs = LinearDiscriminantAnalysis(solver="lsqr", shrinkage=shrinkage, priors=[1 / 3] * 3).fit(torch.cat(units).numpy(), labels)
    # scikit-learn standardises features before it shrinks, unless they are standardised; ours is compared where nothing is shrunk away.
    within = np.mean([np.cov(unit.numpy().T, bias=True) for unit in units], axis=0)
    shrunk = (1 - shrinkage) * within + shrinkage * np.trace(within) / 12 * np.eye(12)
    means = np.stack([unit.mean(dim=0).numpy() for unit in units])
    assert_allclose(weight.numpy(), np.linalg.solve(shrunk, means.T).T, rtol=1e-8)
    assert_allclose(offset.numpy(), [-0.5 * mean @ np.linalg.solve(shrunk, mean) for mean in means], rtol=1e-8)
    found = (torch.cat(units) @ weight.T + offset).argmax(dim=1).numpy()
    assert (found == theirs.predict(torch.cat(units).numpy())).mean() > 0.98


def test_the_distance_is_that_of_mahalanobis_where_all_directions_are_kept() -> None:
    data = clouds(width=DIRECTIONS // 4)
    router = fit_router(data)
    units = [torch.nn.functional.normalize(z.double(), dim=1).numpy() for z in data.values()]
    within = np.mean([np.cov(unit.T, bias=True) for unit in units], axis=0)
    # All directions but the last are kept, and the last is the noise: together they are the covariance.
    z = units[1][:5] - units[1].mean(axis=0)
    expected = np.einsum("ij,jk,ik->i", z, np.linalg.inv(within), z)
    offsets = torch.tensor(z)
    along = offsets @ router.directions.double().T
    rest = offsets.square().sum(dim=1) - along.square().sum(dim=1)
    assert_allclose((along.square() / router.variances.double()).sum(dim=1) + rest / router.noise, expected, rtol=1e-3)


def test_tasks_are_told_apart_and_strangers_seen() -> None:
    data = clouds(width=16, tasks=4, samples=200)
    router = fit_router({task: z[:100] for task, z in data.items()})
    for place, z in enumerate(data.values()):
        probable, strange = router(z[100:])
        assert (probable.argmax(dim=1) == place).double().mean() > 0.95
        assert strange.double().mean() < 0.25
        torch.testing.assert_close(probable.sum(dim=1), torch.ones(100))
    left_out = fit_router({task: z for task, z in data.items() if task != "task3"})
    assert left_out(data["task3"])[1].double().mean() > 0.9


@settings(max_examples=20, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(0.01, 100))
def test_laws(seed: int, scale: float) -> None:
    """Lengths do not matter, nor does the order of tasks."""
    data, z = clouds(seed=seed, samples=20), clouds(seed=seed + 1, samples=8)["task0"]
    router, turned = fit_router(data), fit_router(dict(reversed(data.items())))
    probable, strange = router(z)
    scaled = router(scale * z)
    torch.testing.assert_close(probable, scaled[0], atol=1e-4, rtol=1e-3)
    torch.testing.assert_close(probable, turned(z)[0].flip(1), atol=1e-4, rtol=1e-3)
    assert turned(z)[1].tolist() == strange.tolist()


def test_how_sure_it_is_has_a_meaning() -> None:
    """Of inputs that it is sure of to 70 %, about as many are told right."""
    data = clouds(width=8, tasks=3, samples=2000, spread=1.5)
    router = fit_router({task: z[:1000] for task, z in data.items()})
    sure, right = [], []
    for place, z in enumerate(data.values()):
        confidence, found = router(z[1000:])[0].max(dim=1)
        sure.append(confidence)
        right.append((found == place).float())
    assert abs(torch.cat(sure).mean() - torch.cat(right).mean()) < 0.03


def test_it_fits_the_same_bits_twice() -> None:
    first, second = fit_router(clouds()), fit_router(clouds())
    assert torch.equal(first.weight, second.weight)
    assert first.temperature == second.temperature
    assert max(SHRINKAGES) < 1


def test_degenerate_inputs() -> None:
    same = {"a": torch.ones(8, 3), "b": torch.tensor([[1.0, -1.0, 0.0]]).repeat(8, 1)}
    probable, _ = fit_router(same)(torch.ones(1, 3))
    assert probable.isfinite().all()
    assert int(probable.argmax()) == 0
    with pytest.raises(DataError, match="only one: a"):
        fit_router({"a": torch.ones(8, 3)})
    with pytest.raises(DataError, match="fewer of b"):
        fit_router({"a": torch.ones(8, 3), "b": torch.ones(4, 3)})
    with pytest.raises(DataError, match="width 3, not 2"):
        fit_router(same)(torch.ones(1, 2))


def test_a_router_on_disk(tmp_path) -> None:
    router = fit_router(clouds())
    save_router(tmp_path / "router.safetensors", router)
    back = load_router(tmp_path / "router.safetensors")
    z = clouds(seed=5)["task1"]
    assert torch.equal(router(z)[0], back(z)[0])
    assert router(z)[1].tolist() == back(z)[1].tolist()
    assert back.parameters == router.parameters
    from safetensors.torch import load_file, save_file

    tensors = load_file(tmp_path / "router.safetensors")
    save_file(tensors, tmp_path / "bare.safetensors")
    with pytest.raises(CorruptCheckpoint, match="not a whole router"):
        load_router(tmp_path / "bare.safetensors")
    told = {"tasks": '["task0", "task1"]', "temperature": "1.0", "noise": "1.0"}
    save_file(tensors, tmp_path / "other.safetensors", metadata=told)
    with pytest.raises(CorruptCheckpoint, match="not of 2 tasks"):
        load_router(tmp_path / "other.safetensors")
