"""Every public name stands on a page of the API, and has something to say there."""

import re

import griffe
import pytest

import suture
from docs.pages import DOCS, ROOT

API = DOCS / "api"


@pytest.fixture(scope="module")
def source() -> griffe.Module:
    loaded = griffe.load("suture", search_paths=[ROOT / "src"], resolve_aliases=True)
    assert isinstance(loaded, griffe.Module)
    return loaded


def documented() -> list[str]:
    return [name for page in API.glob("*.md") for name in re.findall(r"^::: (\S+)", page.read_text(encoding="utf-8"), re.MULTILINE)]


def test_every_public_name_is_on_a_page_once(source: griffe.Module) -> None:
    packages = [module for module in source.modules.values() if module.exports]
    assert len(packages) >= 14
    public = [f"{module.path}.{name}" for module in packages for name in module.exports or []]
    assert sorted(documented()) == sorted([*public, "suture.errors", "suture.bibliography.Paper"])


def test_every_public_name_has_a_docstring(source: griffe.Module) -> None:
    for name in documented():
        found = source[name.removeprefix("suture.")]
        target = found.final_target if isinstance(found, griffe.Alias) else found
        assert target.docstring, name


def test_the_names_of_suture_are_listed_with_their_pages() -> None:
    index = (API / "index.md").read_text(encoding="utf-8")
    listed = re.findall(r"\[`(\w+)`\]\((\w+)\.md#suture\.(\w+)\.(\w+)\)", index)
    homes = {name: home.removeprefix("suture.") for home, names in suture._HOMES.items() for name in names}
    assert {name: page for name, page, _, _ in listed} == homes
    assert all(page == package and name == anchor for name, page, package, anchor in listed)
