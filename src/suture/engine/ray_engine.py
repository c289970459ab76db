"""A cluster: every step is a task of Ray, and results are files that all nodes see."""

import logging
import os
import socket
import warnings
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Any

from suture.engine.graph import Crew, counted
from suture.engine.outcome import Outcome, attempt
from suture.engine.processes import environment
from suture.engine.step import Resources, Step
from suture.errors import SutureError, SutureWarning, UsageError
from suture.types import Stage

QUIET = {"RAY_USAGE_STATS_ENABLED": "0"}
"""A cluster that is started here reports nothing to anybody."""

PASSED_ON = ("PYTHONPATH", "SUTURE_CACHE", "HF_HOME", "HF_HUB_CACHE", "HF_HUB_OFFLINE", "HF_ENDPOINT", "HF_TOKEN")
RETRIES = 3
"""How often a step is started again because its node or process died."""

PATIENCE = 10.0
"""Seconds that cancelled steps have to clean up."""


@dataclass(frozen=True)
class RayEngine:
    """Run steps on the nodes of a Ray cluster, each where its resources are free.

    ``address`` is that of the cluster (``host:6379``, ``ray://host:10001``, ``auto``); without one Ray takes ``RAY_ADDRESS``, or starts
    a cluster of this machine. The store, and what the steps read, must be at the same path on all nodes. Nodes may come and go: a step
    whose node dies is started again elsewhere, and what had been done by then is not done again, as its result is a file. Workers have
    the driver's ``PYTHONPATH`` and ``SUTURE_CACHE``. A session of Ray that there is already is used, and left as it is.

    Raises :class:`suture.errors.UsageError`, once there is something to run, when Ray is not installed or the cluster is out of reach.
    """

    address: str | None = None

    @contextmanager
    def crew(self, store: Path, total: int, stage: Stage) -> Iterator[Crew]:
        """Yield those who run steps."""
        ray = _import_ray()
        with _session(ray, self.address), counted(stage, total) as show:
            fleet = Fleet(ray, store.resolve(), show)
            try:
                yield fleet
            finally:
                fleet.dismiss()


def _import_ray() -> ModuleType:
    try:
        with environment(QUIET):
            import ray
    except ImportError as error:
        raise UsageError("the engine 'ray' needs Ray: pip install 'suture[ray]'") from error
    module: ModuleType = ray
    return module


@contextmanager
def _session(ray: ModuleType, address: str | None) -> Iterator[None]:
    """Connect to a cluster for the length of the block."""
    if ray.is_initialized():
        yield
        return
    try:
        _knock(address)
        with environment(QUIET):
            ray.init(address, include_dashboard=False, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:  # a refused connection is an OSError
        where = address or os.environ.get("RAY_ADDRESS") or "on this machine"
        reason = " ".join(str(error).split())
        raise UsageError(f"no Ray cluster can be reached or started {where!r}: {reason}; `ray status` shows whether one runs") from error
    try:
        yield
    finally:
        ray.shutdown()


def _knock(address: str | None) -> None:
    """Raise ``OSError`` when nobody listens at an address: Ray itself would go on trying for minutes."""
    host, colon, port = (address or "").removeprefix("ray://").rpartition(":")
    if colon and port.isdecimal():
        socket.create_connection((host, int(port)), timeout=PATIENCE).close()


@dataclass
class Fleet:
    """The nodes of a cluster."""

    ray: ModuleType
    store: Path
    show: Callable[[int, Sequence[Step]], None]
    _running: dict[Any, Step] = field(default_factory=dict)
    _shown: dict[Any, Any] = field(default_factory=dict)

    def takes(self, step: Step) -> bool:
        """As many steps as the nodes that are there now can run at once; more would only wait at the cluster."""
        if not self._running:
            return True
        there = self.ray.cluster_resources()
        asked = [each.resources for each in (*self._running.values(), step)]
        cpus, gpus = sum(each.cpus for each in asked), sum(each.gpus for each in asked)
        return bool(cpus <= there.get("CPU", 0) and gpus <= there.get("GPU", 0))

    def start(self, step: Step) -> None:
        """Hand a step to the cluster."""
        wanted = step.resources
        if not any(_fits(wanted, node["Resources"]) for node in self.ray.nodes() if node["Alive"]):
            message = f"no node of the cluster has {wanted.cpus} processors and {wanted.gpus} GPUs: {step.title!r} waits until one comes"
            warnings.warn(message, SutureWarning, stacklevel=2)
        variables = {name: os.environ[name] for name in PASSED_ON if name in os.environ}
        options = {"num_cpus": wanted.cpus, "num_gpus": wanted.gpus, "max_retries": RETRIES, "name": step.title}
        task = self.ray.remote(**options, runtime_env={"env_vars": variables})(attempt)
        self._running[task.remote(step, self.store)] = step
        self.show(0, list(self._running.values()))

    def wait(self) -> list[tuple[Step, Exception | None]]:
        """Wait for the first step that ends."""
        ended, _ = self.ray.wait(list(self._running))
        steps = [(reference, self._running.pop(reference)) for reference in ended]
        self.show(len(steps), list(self._running.values()))
        return [(step, self._ended(step, reference)) for reference, step in steps]

    def dismiss(self) -> None:
        """Stop what runs."""
        if not self._running:
            return
        for reference in self._running:
            with suppress(self.ray.exceptions.RayError):
                self.ray.cancel(reference)
        self.ray.wait(list(self._running), num_returns=len(self._running), timeout=PATIENCE)

    def _ended(self, step: Step, reference: Any) -> Exception | None:
        try:
            outcome: Outcome = self.ray.get(reference)
        except self.ray.exceptions.RayError as error:
            reason = " ".join(str(error).split())
            failure = SutureError(f"the step {step.title!r} could not be run on the cluster, and was started {RETRIES + 1} times: {reason}")
            failure.__cause__ = error
            return failure
        outcome.warn_again(self._shown)
        return outcome.error()


def _fits(wanted: Resources, there: dict[str, float]) -> bool:
    return wanted.cpus <= there.get("CPU", 0) and wanted.gpus <= there.get("GPU", 0)
