"""What `suture paper` wrote is kept in the documentation, and nothing else is touched."""

import json
import shutil
import zipfile
from pathlib import Path

import pytest

from docs.pages import script

KEEPING = script("keep_paper")


@pytest.fixture
def out(tmp_path: Path) -> Path:
    folder = tmp_path / "out"
    (folder / "rank").mkdir(parents=True)
    (folder / "report.json").write_text(json.dumps({"title": "Ranks", "summary": "Higher is better.", "notes": ["One seed."]}))
    for name in ("README.md", "rank.csv", "rank.png", "rank.pdf"):
        (folder / "rank" / name).write_text(name)
    return folder


def listed(folder: Path) -> list[str]:
    return sorted(file.relative_to(folder).as_posix() for file in folder.rglob("*") if file.is_file())


def test_text_and_pictures_are_kept_and_again(out: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs" / "nlp8"
    assert KEEPING.keep(out, docs) == []
    assert listed(docs) == ["README.md", "rank/README.md", "rank/rank.csv", "rank/rank.png"]
    assert "- [rank](rank/README.md)" in (docs / "README.md").read_text()
    shutil.copytree(out / "rank", out / "data")
    KEEPING.keep(out, docs)
    assert {"data/rank.csv", "rank/rank.csv"} < set(listed(docs))
    assert "measured.zip" not in (docs / "README.md").read_text()
    KEEPING.keep(out, docs, measured=True)
    assert "[measured.zip](measured.zip)" in (docs / "README.md").read_text()


def test_what_is_not_its_own_stays(out: Path, tmp_path: Path) -> None:
    docs = tmp_path / "checkout"
    docs.mkdir()
    for text, message in ((None, "was not made by this script"), ("# Mine", "does not end with")):
        if text is not None:
            (docs / "README.md").write_text(text)
        (docs / "code.py").write_text("pass")
        with pytest.raises(SystemExit, match=message):
            KEEPING.keep(out, docs)
        assert (docs / "code.py").is_file()


def test_an_output_without_items_is_refused_before_anything_goes(out: Path, tmp_path: Path) -> None:
    docs = tmp_path / "docs"
    KEEPING.keep(out, docs)
    before = listed(docs)
    shutil.rmtree(out / "rank")
    with pytest.raises(SystemExit, match="has no items"):
        KEEPING.keep(out, docs)
    assert listed(docs) == before


def test_measurements_are_the_same_archive_for_the_same_store(tmp_path: Path) -> None:
    archives = []
    for store in ("one", "two"):
        place = tmp_path / store / "measured" / "ab"
        place.mkdir(parents=True)
        (place / "abcd.json").write_text('{"title": "x"}')
        archives.append(tmp_path / f"{store}.zip")
        KEEPING.keep_measured(tmp_path / store, archives[-1])
    assert archives[0].read_bytes() == archives[1].read_bytes()
    assert zipfile.ZipFile(archives[0]).namelist() == ["ab/abcd.json"]
