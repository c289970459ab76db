"""Five hash seeds and two orders of keys: one digest."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from gates import determined
from gates.figures import Figure

FIGURE = Figure("determinism: hash seeds x orders of keys", suite=5, soak=5)


@pytest.mark.fault(30)
def test_hash_seeds_and_orders_of_keys_do_not_show(tmp_path: Path) -> None:
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
    assert len(digests) == 10
