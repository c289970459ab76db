"""Folders for a while."""

from pathlib import Path

import pytest

from checkpoints.listing import listing
from suture.checkpoints import scratch, scratch_folder


def test_a_scratch_folder_that_was_swept_before_it_was_locked_is_made_anew(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    locked, made = scratch._locked, list[Path]()

    def swept_once(descriptor: int) -> bool | None:
        if not made:
            made.extend(tmp_path.iterdir())
            made[0].rmdir()
        return locked(descriptor)

    monkeypatch.setattr(scratch, "_locked", swept_once)
    with scratch_folder(tmp_path) as ours:
        assert ours not in made
        assert listing(tmp_path) == [ours.name]
