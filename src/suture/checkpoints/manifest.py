"""What an output folder holds and what it was made from; the mark by which Suture knows its own folders."""

import hashlib
import re
from importlib.metadata import version
from pathlib import Path
from typing import Any

from pydantic import BaseModel, ConfigDict

from suture.checkpoints.header import text_of
from suture.checkpoints.writing import BLANK, write_text
from suture.errors import CheckpointNotFound, CorruptCheckpoint, reading

MANIFEST = "manifest.json"
LOOKED_AT, ALIKE = 1 << 20, 3
"""How many bytes of a file that does not read as a manifest of ours are looked at, and how many of our fields make it one."""
SEAL = re.compile(rb'"digest": "([0-9a-f]{64})"\n\}\n\Z')


class Manifest(BaseModel):
    """What an output folder holds and what it was made from.

    ``files`` maps each file's path in the folder to its sha256; ``inputs`` maps each input's path to its sha256 or, where reading
    everything once more would cost as much as the work itself, to its ``fingerprint:``, which proves nothing of most of its bytes.
    ``digest`` is the sha256 of the manifest's own text with zeros in the digest's place; folders of earlier versions have none.
    """

    model_config = ConfigDict(extra="forbid")

    writer: str = "suture"
    version: str = version("suture")
    libraries: dict[str, str] = {}
    settings: dict[str, Any] = {}
    inputs: dict[str, str] = {}
    files: dict[str, str] = {}
    digest: str = ""

    def text(self) -> str:
        """Return the manifest as it is written, with its digest."""
        blank = self.model_copy(update={"digest": BLANK}).model_dump_json(indent=2) + "\n"
        start, _, end = blank.rpartition(BLANK)  # the digest is the last field
        return start + hashlib.sha256(blank.encode()).hexdigest() + end


def write_manifest(folder: Path, manifest: Manifest) -> None:
    """Write the manifest of a folder that nobody sees yet."""
    write_text(folder / MANIFEST, manifest.text())


def open_manifest(folder: Path) -> Manifest:
    """Return the manifest of a folder that Suture wrote.

    Raises :class:`CheckpointNotFound` when there is none, and :class:`CorruptCheckpoint` for one that is not as it was written, or is
    another program's.
    """
    file = folder / MANIFEST
    if not file.is_file():
        raise CheckpointNotFound(f"{folder} has no {MANIFEST}")
    with reading(file, "a manifest of Suture's, or is not as it was written"):
        content = text_of(file).encode()
        manifest = Manifest.model_validate_json(content)
    if manifest.writer != "suture":
        raise CorruptCheckpoint(f"{file} is not a manifest of Suture's, but of {manifest.writer!r}")
    if manifest.digest and not _sealed(content):
        raise CorruptCheckpoint(f"{file} is not as it was written: its digest is not that of its text")
    return manifest


def looks_ours(folder: Path) -> bool:
    """Tell whether a folder has a manifest that Suture wrote, damaged or not, by the names of fields in it; others' have few of them."""
    try:
        with (folder / MANIFEST).open("rb") as stream:
            start = stream.read(LOOKED_AT)
    except OSError:
        return False
    return sum(f'"{name}":'.encode() in start for name in Manifest.model_fields) >= ALIKE


def read_manifest(folder: Path) -> Manifest | None:
    """Return the manifest of a folder that Suture wrote, else None."""
    try:
        return open_manifest(folder)
    except (CheckpointNotFound, CorruptCheckpoint):
        return None


def _sealed(content: bytes) -> bool:
    seal = SEAL.search(content)
    if seal is None:
        return False
    blank = content[: seal.start(1)] + BLANK.encode() + content[seal.end(1) :]
    return hashlib.sha256(blank).hexdigest().encode() == seal[1]
