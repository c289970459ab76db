"""Prompts: names and templates, from Suture or from files."""

import json
from pathlib import Path

import pytest

from suture.errors import DataError
from suture.tasks.prompts import HERE, KNOWN, Prompts, read_prompts


def test_those_that_come_with_suture() -> None:
    assert sorted(KNOWN) == sorted(file.stem for file in HERE.iterdir())
    found = read_prompts("eurosat")
    assert len(found.classes) == 10
    assert found.texts[0][0] == f"a centered satellite photo of {found.classes[0]}."


def test_a_file(tmp_path: Path) -> None:
    (tmp_path / "p.json").write_text(json.dumps({"classes": ["a", "b"], "templates": ["{}!", "the {}"]}))
    assert read_prompts(tmp_path / "p.json").texts == [["a!", "the a"], ["b!", "the b"]]


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("{", "JSON with the keys"),
        ("[]", "JSON with the keys"),
        ('{"classes": ["a"]}', "JSON with the keys"),
        ('{"classes": "ab", "templates": ["{}"]}', "each a list of texts"),
        ('{"classes": [1], "templates": ["{}"]}', "each a list of texts"),
        ('{"classes": ["a", "a"], "templates": ["{}"]}', "at least one class, each once"),
        ('{"classes": [], "templates": ["{}"]}', "at least one class, each once"),
        ('{"classes": ["a"], "templates": ["a photo"]}', r"one \{\} for the name of a class; found 'a photo'"),
        ('{"classes": ["a"], "templates": ["{} {}"]}', r"one \{\} for the name of a class"),
    ],
)
def test_what_is_refused(tmp_path: Path, content: str, message: str) -> None:
    (tmp_path / "p.json").write_text(content)
    with pytest.raises(DataError, match=rf"p\.json.*{message}"):
        read_prompts(tmp_path / "p.json")
    with pytest.raises(DataError, match="cannot be read"):
        read_prompts(tmp_path / "absent.json")


def test_braces_in_a_name_are_no_place() -> None:
    assert Prompts(["{x}"], ["a {}"]).texts == [["a {x}"]]
