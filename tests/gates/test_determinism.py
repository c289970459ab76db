"""Five hash seeds, two orders of keys, and one thread or two: one digest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gates import determined
from gates.figures import Figure

FIGURE = Figure("determinism: hash seeds x orders of keys x threads", suite=20, soak=20)


@pytest.mark.fault(30)
def test_hash_seeds_orders_of_keys_and_threads_do_not_show(tmp_path: Path) -> None:
    digests = []
    with FIGURE.told() as tally:
        for seed in range(5):
            environment = os.environ | {"PYTHONHASHSEED": str(seed), "OMP_NUM_THREADS": "1"}
            command = [sys.executable, determined.__file__, tmp_path / str(seed)]
            done = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
            digests += done.stdout.split()
        tally.counts[f"{len(set(digests))} digest(s)"] += len(digests)
        tally.faults += [] if len(set(digests)) == 1 else [str(digests)]
    tally.check()
    assert len(digests) == FIGURE.suite
