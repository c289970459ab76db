"""Where gates write: in memory, as they write much and nothing of it is kept."""

import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

MEMORY = Path("/dev/shm")


@pytest.fixture
def room(tmp_path: Path) -> Iterator[Path]:
    """A folder in memory, where the system has such."""
    if not MEMORY.is_dir():
        yield tmp_path
        return
    folder = Path(tempfile.mkdtemp(prefix="suture-gates-", dir=MEMORY))
    yield folder
    shutil.rmtree(folder, ignore_errors=True)
