"""Keep what `suture paper` wrote in the documentation: text and PNG pictures, not the page, vector pictures or weights.

suture paper all --suite nlp8 --jobs 2 --store out/store --out out/paper-nlp8
python scripts/keep_paper.py out/paper-nlp8 docs/results/paper/nlp8 --store out/store

With --store every single measurement is kept too, in one archive. Whoever unpacks it into a store of their own measures none of them again:

python -m zipfile -e docs/results/paper/nlp8/measured.zip out/store/measured
"""

import argparse
import json
import shutil
import zipfile
from pathlib import Path

KEPT = {".md", ".csv", ".tex", ".png"}
LARGEST = 200_000
"""Bytes of a file that is worth a word."""
FIRST = "README.md"
MADE = "Made by `scripts/keep_paper.py` of what `suture paper` wrote."
"""What tells a folder of this script's from any other."""


MEASURED = "measured.zip"
TOLD = f"Every single measurement is in [{MEASURED}]({MEASURED}): unpacked into the folder `measured` of a `--store`, none is made again."


def keep(out: Path, docs: Path, *, measured: bool = False) -> list[Path]:
    """Copy an output folder's items in the place of those kept before, and return what is large; ``measured`` says what lies beside them.

    Raises ``SystemExit`` for an output without items, and for a folder that was not made by this script, which is left as it is.
    """
    if docs.exists() and not (docs / FIRST).is_file():
        raise SystemExit(f"{docs} was not made by this script")
    if docs.exists() and MADE not in (docs / FIRST).read_text(encoding="utf-8"):
        raise SystemExit(f"{docs} was not made by this script: its {FIRST} does not end with {MADE!r}")
    report = json.loads((out / "report.json").read_text(encoding="utf-8"))
    files = sorted(file for file in out.glob("*/*") if file.suffix in KEPT)
    items = sorted(file.parent.name for file in files if file.name == FIRST)
    if not items:
        raise SystemExit(f"{out} has no items of `suture paper`")
    shutil.rmtree(docs, ignore_errors=True)
    for file in files:
        target = docs / file.relative_to(out)
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.copyfile(file, target)
    lines = [f"# {report['title']}", "", report["summary"], "", *(f"- {note}" for note in report["notes"]), ""]
    lines += [*(f"- [{item}]({item}/README.md)" for item in items), "", *([TOLD, ""] if measured else []), MADE, ""]
    (docs / FIRST).write_text("\n".join(lines), encoding="utf-8")
    return [file for file in files if file.stat().st_size > LARGEST]


def keep_measured(store: Path, archive: Path) -> None:
    """Put a store's measurements into an archive, the same bytes for the same measurements."""
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_LZMA) as packed:
        for file in sorted((store / "measured").glob("*/*.json")):
            packed.writestr(zipfile.ZipInfo(f"{file.parent.name}/{file.name}"), file.read_bytes(), zipfile.ZIP_LZMA)


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    parser.add_argument("docs", type=Path)
    parser.add_argument("--store", type=Path, help="keep its measurements as measured.zip")
    chosen = parser.parse_args()
    for file in keep(chosen.out, chosen.docs, measured=chosen.store is not None):
        print(f"{file.stat().st_size:,} bytes: {file}")
    if chosen.store:
        keep_measured(chosen.store, chosen.docs / MEASURED)


if __name__ == "__main__":
    main()
