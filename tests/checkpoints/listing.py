"""What lies in a folder."""

from pathlib import Path


def listing(folder: Path) -> list[str]:
    """Return the names, in order."""
    return sorted(path.name for path in folder.iterdir())
