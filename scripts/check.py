"""All of CI: lint, types, tests with doctests and shape checks, the documentation, and the wheel, installed elsewhere, doing the main job.

python scripts/check.py               # everything
python scripts/check.py lint types    # some steps
python scripts/check.py coverage      # the tests once more, with what they run: not part of everything
"""

import csv
import os
import runpy
import shutil
import subprocess
import sys
import tarfile
import tempfile
import time
import tomllib
import venv
import zipfile
from pathlib import Path

from coverage import CoverageData
from coverage.exceptions import CoverageException
from packaging.metadata import Metadata

ROOT = Path(__file__).resolve().parents[1]
PYTHON = sys.executable
EXTRAS = ROOT / ".venv" / "extras"
"""Where torchvision and what needs it are installed (see Makefile)."""
FULLY_COVERED, COVERED = 2, 95
"""The highest floor of which tests run every line and branch, and how many per cent of all they run."""


def call(*command: str | Path, folder: Path = ROOT, **environment: str) -> None:
    """Run a command; stop at the first that fails."""
    print("$", " ".join(map(str, command)), flush=True)
    subprocess.run(list(map(str, command)), cwd=folder, check=True, env=os.environ | environment)


def lint() -> None:
    """Check style and format."""
    call(PYTHON, "-m", "ruff", "check", ".")
    call(PYTHON, "-m", "ruff", "format", "--check", ".")


def types() -> None:
    """Check types."""
    call(PYTHON, "-m", "mypy")


def tests() -> None:
    """Run tests and doctests, shapes checked, one worker per core."""
    run_tests()


def run_tests(*options: str) -> None:
    """Run pytest twice, with these options."""
    call(PYTHON, "-m", "pytest", "-n", "2", *options, OMP_NUM_THREADS="1", TOKENIZERS_PARALLELISM="false")
    if not (EXTRAS / "timm").is_dir():
        sys.exit(f"check: {EXTRAS} has no timm: make installs it there")
    # In a process of its own: with torchvision there, transformers behaves otherwise.
    call(PYTHON, "-m", "pytest", "-n", "2", "tests/extras", *options, OMP_NUM_THREADS="1", PYTHONPATH=str(EXTRAS))


def coverage() -> None:
    """Run the tests and see which lines and branches they run: all of those of floors 0 to 2, and nearly all of the rest."""
    kept = ROOT / "out" / "coverage"
    shutil.rmtree(kept, ignore_errors=True)
    run_tests("--cov", "--cov-append", "--cov-report=")
    for part in kept.glob("data.*"):
        try:
            CoverageData(str(part)).read()
        except CoverageException:  # its process was killed while it wrote
            part.unlink()
    if list(kept.glob("data.*")):  # of processes that ended after the tests that had started them
        call(PYTHON, "-m", "coverage", "combine", "--append", "--quiet")
    floors: dict[str, int] = runpy.run_path(str(ROOT / "tests" / "test_floors.py"))["FLOORS"]
    low = ",".join(f"src/suture/{name}{end}" for name, floor in floors.items() if floor <= FULLY_COVERED for end in (".py", "/*"))
    call(PYTHON, "-m", "coverage", "report", f"--fail-under={COVERED}")
    call(PYTHON, "-m", "coverage", "report", f"--include={low}", "--fail-under=100")


def docs() -> None:
    """Build the documentation site; whatever it complains of is an error."""
    call(PYTHON, "-m", "mkdocs", "build", "--strict", "--quiet", NO_MKDOCS_2_WARNING="1")
    print("check: the site is at out/site/index.html; to search in it: python -m http.server --directory out/site")


def main_job_done(out: Path) -> None:
    """Stop unless surgery brought every merged model of a finished run closer to the experts, in accuracy and in bias."""
    values: dict[tuple[str, str, str], list[float]] = {}
    with (out / "results.csv").open(encoding="utf-8") as stream:
        for row in csv.DictReader(stream):
            values.setdefault((row["merge"], row["surgery"], row["metric"]), []).append(float(row["value"]))
    mean = {key: sum(found) / len(found) for key, found in values.items()}
    operated = {merge for merge, surgery, _ in mean if surgery != "none"}
    if not operated:
        sys.exit("check: the main job measured no surgery")
    for merge in operated:
        better = mean[merge, "none", "accuracy"] < mean[merge, "surgery", "accuracy"] < mean["individual", "none", "accuracy"]
        if not (better and mean[merge, "surgery", "bias_l1"] < mean[merge, "none", "bias_l1"]):
            sys.exit(f"check: surgery did not help {merge}: {mean}")
    if not (out / "report.html").is_file():
        sys.exit("check: the main job wrote no page")
    print(f"check: surgery helps {', '.join(sorted(operated))}")


def check_metadata(built: Path) -> None:
    """Stop unless what a wheel or an sdist tells of itself is valid (PyPI refuses it otherwise), and this project's."""
    if built.suffix == ".whl":
        with zipfile.ZipFile(built) as archive:
            (name,) = (each for each in archive.namelist() if each.endswith(".dist-info/METADATA"))
            content = archive.read(name)
    else:
        with tarfile.open(built) as archive:
            member = archive.extractfile(f"{built.name.removesuffix('.tar.gz')}/PKG-INFO")
            content = member.read() if member else b""
    told = Metadata.from_email(content, validate=True)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"]
    if (told.name, str(told.version), told.description_content_type) != (project["name"], project["version"], "text/markdown"):
        sys.exit(f"check: {built.name} tells of {told.name} {told.version}, described in {told.description_content_type}")


def wheel() -> None:
    """Build the sdist and from that the wheel, install this in a fresh environment outside the checkout, and run the main job there."""
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        call(PYTHON, "-m", "build", "--no-isolation", "--outdir", folder, ROOT)
        (built,), (source,) = folder.glob("*.whl"), folder.glob("*.tar.gz")
        for each in (source, built):
            check_metadata(each)
        venv.create(folder / "venv", with_pip=True)
        python, suture = (folder / "venv" / "bin" / name for name in ("python", "suture"))
        pip = (python, "-m", "pip", "install", "--quiet", "--disable-pip-version-check")
        call(*pip, "--constraint", ROOT / "constraints.txt", f"{built}[nlp8,report]")
        call(suture, "demo", "--out", folder / "out", folder=folder, SUTURE_CACHE=str(folder / "cache"))
        main_job_done(folder / "out")


STEPS = {"lint": lint, "types": types, "tests": tests, "docs": docs, "wheel": wheel}
ASKED_FOR = {"coverage": coverage}
"""What runs only when it is named."""


def main() -> None:
    """Run the steps named on the command line, or all of CI."""
    for name in sys.argv[1:] or STEPS:
        started = time.perf_counter()
        try:
            (STEPS | ASKED_FOR)[name]()
        except subprocess.CalledProcessError as error:
            sys.exit(f"check: {name} failed with exit code {error.returncode}")
        print(f"check: {name} passed in {time.perf_counter() - started:.0f} s", flush=True)


if __name__ == "__main__":
    main()
