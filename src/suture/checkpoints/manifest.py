"""What an output folder holds and what it was made from; the mark by which Suture knows its own folders."""

from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict, ValidationError

MANIFEST = "manifest.json"


class Manifest(BaseModel):
    """What an output folder holds and what it was made from.

    ``files`` maps each file's path in the folder to its sha256; ``inputs`` maps each input's path to its sha256 or, where reading
    everything once more would cost as much as the work itself, to its ``fingerprint:``.
    """

    model_config = ConfigDict(extra="forbid")

    writer: str = "suture"
    version: str = version("suture")
    libraries: dict[str, str] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    files: dict[str, str] = {}


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder that Suture wrote, else None."""
    try:
        manifest = Manifest.model_validate_json((folder / MANIFEST).read_bytes())
    except (OSError, ValidationError):
        return None
    return manifest if manifest.writer == "suture" else None
