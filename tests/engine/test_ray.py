import socket
import sys
import threading
import time
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from engine.steps import Dying, Failing, Held, Noted, Warned, log, logged, result
from suture.engine import LocalEngine, RayEngine, Resources, ray_engine, run_steps
from suture.errors import SutureError, SutureWarning, UnknownName, UsageError

cluster_utils = pytest.importorskip("ray.cluster_utils")
STORE = 80 << 20
FAST = {"health_check_initial_delay_ms": 0, "health_check_period_ms": 500, "health_check_failure_threshold": 3}


@pytest.fixture(scope="module")
def cluster() -> Iterator[Any]:
    """Two nodes of one processor each, as processes of this machine."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("RAY_USAGE_STATS_ENABLED", "0")
        made = cluster_utils.Cluster()
        made.add_node(num_cpus=1, object_store_memory=STORE, include_dashboard=False, _system_config=FAST)
        made.add_node(num_cpus=1, object_store_memory=STORE)
        yield made
        made.shutdown()


@pytest.fixture(autouse=True)
def _importable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONPATH", ":".join([str(Path(__file__).parents[1]), *sys.path]))


def graph() -> list[Noted]:
    first = Noted("first")
    leaves = [Noted(f"leaf {i}", [first], seconds=0.1) for i in range(3)] + [Held(f"leaf {i}", [first]) for i in range(3, 7)]
    return [Noted("all", leaves)]


def results(store: Path, steps: list[Noted]) -> list[str]:
    return [result(store, step) for step in steps]


@pytest.fixture
def expected(tmp_path: Path) -> list[str]:
    """What one machine makes of the graph."""
    store = tmp_path / "here"
    log(store, "released", "released")
    run_steps(graph(), store, LocalEngine())
    return results(store, graph())


def test_a_cluster_gives_what_one_machine_gives(cluster: Any, tmp_path: Path, expected: list[str]) -> None:
    store = tmp_path / "there"
    log(store, "released", "released")
    with pytest.warns(SutureWarning, match="the ice is thin"):
        summary = run_steps([*graph(), Warned("w")], store, RayEngine(cluster.address))
    assert len(summary.ran) == 10
    assert results(store, graph()) == expected
    assert sorted(logged(store)) == sorted(["first", *(f"leaf {i}" for i in range(7)), "all", "w"])
    assert run_steps(graph(), store, RayEngine("nowhere:1")).ran == ()  # nothing to do: nobody is asked


def test_a_cluster_out_of_reach_is_an_error(tmp_path: Path) -> None:
    for address in ("127.0.0.1:1", "ray://127.0.0.1:1"):
        with pytest.raises(UsageError, match=rf"no Ray cluster can be reached .*{address}.*refused"):
            run_steps([Noted("a")], tmp_path, RayEngine(address))


def test_ray_that_is_not_installed_is_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "ray", None)
    with pytest.raises(UsageError, match=r"pip install 'suture\[ray\]'"):
        run_steps([Noted("a")], tmp_path, RayEngine())


@pytest.fixture(scope="module")
def session(cluster: Any) -> Iterator[Any]:
    """A session that is there already, for all tests that use it."""
    import ray

    ray.init(cluster.address, log_to_driver=False, logging_level="ERROR")
    yield cluster
    ray.shutdown()


def test_what_fails_there_fails_here(session: Any, tmp_path: Path) -> None:
    with pytest.raises(UnknownName, match="did you mean 'green'"):
        run_steps([Failing("bad")], tmp_path, RayEngine())
    with pytest.raises(SutureError, match="'Writing dead' could not be run on the cluster"):
        run_steps([Dying("dead")], tmp_path, RayEngine())
    assert logged(tmp_path, "start").count("dead") > 1


def test_a_node_that_dies_loses_nothing(session: Any, tmp_path: Path, expected: list[str]) -> None:
    store, before = tmp_path / "there", []

    def kill() -> None:
        # Two steps that are held: one on either node.
        while len(logged(store)) < 4 or len(logged(store, "held")) < 2:
            time.sleep(0.02)
        before.extend(logged(store))
        session.remove_node(next(iter(session.worker_nodes)), allow_graceful=False)
        while all(Path(f"/proc/{process}").exists() for process in logged(store, "held")):
            time.sleep(0.02)
        log(store, "released", "released")

    killer = threading.Thread(target=kill)
    killer.start()
    run_steps(graph(), store, RayEngine())
    killer.join()
    assert results(store, graph()) == expected
    started, ended = logged(store, "start"), logged(store)
    assert [started.count(name) for name in before] == [1] * 4
    assert len(started) == 10  # nine steps, and the one that ran on the dead node once more
    assert len(ended) == len(set(ended)) == 9


def test_a_step_that_fits_no_node_waits_for_one_and_says_so(session: Any, tmp_path: Path) -> None:
    large = Noted("large", resources=Resources(cpus=3))
    with pytest.warns(SutureWarning, match="no node of the cluster has 3 processors and 0 GPUs: 'Writing large' waits"):
        _run_while_a_node_comes(large, session, tmp_path)
    assert logged(tmp_path) == ["large"]


def _run_while_a_node_comes(step: Noted, session: Any, store: Path) -> None:
    run = threading.Thread(target=run_steps, args=([step], store, RayEngine()))
    run.start()
    time.sleep(1)
    assert logged(store, "start") == []
    session.add_node(num_cpus=3, object_store_memory=STORE)
    run.join(60)


def test_an_address_without_a_port_is_not_knocked_at(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: pytest.fail("nobody is there"))
    for address in (None, "auto", "local"):
        ray_engine._knock(address)


def test_what_runs_is_cancelled_and_waited_for(tmp_path: Path) -> None:
    """The calls of Ray are watched here, as what it does with them takes seconds."""

    class RayError(Exception):
        pass

    ray, cancelled, waited = types.ModuleType("ray"), list[str](), list[tuple[list[str], int]]()

    def cancel(reference: str) -> None:
        cancelled.append(reference)
        if reference == "gone":
            raise RayError("it has ended")

    def wait(references: list[str], num_returns: int, timeout: float) -> None:
        waited.append((references, num_returns))

    vars(ray).update(exceptions=types.SimpleNamespace(RayError=RayError), cancel=cancel, wait=wait)
    fleet = ray_engine.Fleet(ray, tmp_path, lambda *_: None)
    fleet.dismiss()
    assert waited == []
    fleet._running = {"gone": Noted("a"), "busy": Noted("b")}
    fleet.dismiss()
    assert cancelled == ["gone", "busy"]
    assert waited == [(["gone", "busy"], 2)]
