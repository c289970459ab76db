"""Whether outputs are still as they were written: every byte of every file, compared with digests taken while it was written."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from suture.checkpoints.hub import local_copy
from suture.checkpoints.manifest import MANIFEST, Manifest, looks_ours, open_manifest
from suture.checkpoints.names import inside
from suture.checkpoints.reading import open_checkpoint, root_of, sha256_of
from suture.checkpoints.sealed import KIND, check_seal, told_by
from suture.checkpoints.writing import SHA256
from suture.errors import CheckpointError, CheckpointNotFound, CorruptCheckpoint, reading
from suture.types import Progress, no_progress

SUFFIX = ".safetensors"


@dataclass(frozen=True)
class Verdict:
    """What was found of a folder or a file."""

    place: Path
    verified: list[str] = field(default_factory=list)
    """The files that are as they were written, by their paths in the folder."""
    unverified: list[str] = field(default_factory=list)
    """The files of which nothing tells how they were written."""
    faults: list[str] = field(default_factory=list)
    """What is wrong, a sentence for each file that has changed or is missing."""


def verify(place: str | Path, progress: Progress = no_progress) -> Verdict:
    """Compare every byte of an output with what was written; ``progress`` counts files.

    A folder's files are compared with the digests in its manifest, and the manifest with its own. A single file is compared with the
    digest in its metadata, which files of surgery, heads, routers, features and the like have, or else with that in the manifest of a
    folder above it. What has neither is unverified, and so is what was put into a folder later. Nothing is written.

    Raises :class:`CheckpointNotFound` when there is nothing at the place.

    >>> verify(Path(__file__)).unverified
    ['verifying.py']
    """
    place = local_copy(Path(place))
    if not place.exists():
        raise CheckpointNotFound(f"{place}: no such file or folder")
    verdict = Verdict(place)
    if place.is_file():
        with _noted(verdict):
            _verify_file(verdict, place)
        progress(1)
    elif (place / MANIFEST).exists():
        _verify_folder(verdict, progress)
    else:
        for name in files_in(place):
            with _noted(verdict):
                _verify_alone(verdict, place, name)
            progress(1)
    return verdict


def files_in(place: Path) -> list[str]:
    """Return the paths of all files in a folder; of a file, its name."""
    if not place.is_dir():
        return [place.name]
    return sorted(file.relative_to(place).as_posix() for file in place.rglob("*") if not file.is_dir())


@contextmanager
def _noted(verdict: Verdict) -> Iterator[None]:
    """Put down what is wrong with a file, and go on to the next."""
    try:
        yield
    except CheckpointError as error:
        verdict.faults.append(str(error))


def check_file(folder: Path, name: str, digest: str) -> None:
    """Raise :class:`CorruptCheckpoint` unless a file of a folder is there and has the digest that the folder's manifest tells.

    Raises :class:`UnsafePath` for a name that leaves the folder.
    """
    file = inside(folder, name, root_of(folder), f"{folder / MANIFEST}")
    if not file.is_file():
        raise CorruptCheckpoint(f"{file} is missing: {MANIFEST} tells of it")
    with reading(file, "readable", absent=CorruptCheckpoint):
        found = sha256_of(file)
    if found != digest:
        raise CorruptCheckpoint(f"{file} is not as it was written: its sha256 is {found[:12]}…, and {MANIFEST} says {digest[:12]}…")


def _verify_folder(verdict: Verdict, progress: Progress) -> None:
    folder = verdict.place
    manifest: Manifest | None = None
    with _noted(verdict):
        manifest = open_manifest(folder)
        (verdict.verified if manifest.digest else verdict.unverified).append(MANIFEST)
    progress(1)
    if manifest is None:
        return
    for name, digest in manifest.files.items():
        with _noted(verdict):
            check_file(folder, name, digest)
            verdict.verified.append(name)
        progress(1)
    verdict.unverified.extend(name for name in files_in(folder) if name not in manifest.files and name != MANIFEST)


def _verify_file(verdict: Verdict, file: Path) -> None:
    """Verify one file by its own digest, or that of a manifest above it."""
    damaged = Verdict(file)
    for folder in file.absolute().parents:
        if looks_ours(folder):
            name, manifest = file.absolute().relative_to(folder).as_posix(), Manifest()
            with _noted(damaged):
                manifest = open_manifest(folder)
            if name in manifest.files:
                check_file(folder, name, manifest.files[name])
                verdict.verified.append(file.name)
                return
    _verify_alone(verdict, file.parent, file.name)
    if not verdict.verified:  # a digest of its own would do
        verdict.faults.extend(damaged.faults)


def _verify_alone(verdict: Verdict, folder: Path, name: str) -> None:
    file, told = folder / name, dict[str, str]()
    if file.suffix == SUFFIX:
        open_checkpoint(file)
        told = told_by(file)
    if KIND in told or SHA256 in told:
        check_seal(file)
    (verdict.verified if SHA256 in told else verdict.unverified).append(name)
