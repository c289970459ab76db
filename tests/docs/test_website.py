"""What the site has beside the files of docs/."""

import re
from pathlib import Path
from types import ModuleType

import pytest

from docs.pages import DOCS, ROOT, script


@pytest.fixture(scope="module")
def website() -> ModuleType:
    return script("website")


def test_every_page_of_results_is_listed(website: ModuleType) -> None:
    listed = {DOCS / "results" / name for name in re.findall(r"\]\((.+)\)", website.index_of_results())}
    assert {page for page in (DOCS / "results").rglob("*.md") if not website.of_a_readme(page)} == listed
    assert set((DOCS / "results").glob("*.md")) <= listed


def test_a_new_page_of_results_shows_by_itself(website: ModuleType, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "results" / "paper" / "nlp8"
    (folder / "rank").mkdir(parents=True)
    for file, title in ((folder / "README.md", "All"), (folder / "rank" / "README.md", "Rank"), (folder / "rank" / "rank.md", "Table")):
        file.write_text(f"# {title}\n")
    (tmp_path / "results" / "strange.md").write_text("# Results\n")
    monkeypatch.setattr(website, "DOCS", tmp_path)
    monkeypatch.setattr(website, "RESULTS", tmp_path / "results")
    page = website.index_of_results()
    assert page.endswith("\n## Eight text tasks\n\n- [All](paper/nlp8/README.md)\n\n## Others\n\n- [strange](strange.md)\n")
    place = "results/paper/nlp8"
    assert website.in_navigation(folder / "README.md") == {"All": [f"{place}/README.md", {"Rank": f"{place}/rank/README.md"}]}


@pytest.mark.parametrize(
    ("page", "link", "there"),
    [
        ("index.md", "[a](tutorial.ipynb)", "[a](tutorial.md)"),
        ("how/data.md", "[a [b]](../results)", "[a [b]](../results/index.md)"),
        ("how/data.md", "[a](../families.md#heads)", "[a](../families.md#heads)"),
        ("how/data.md", "[a](../../CONTRIBUTING.md)", "[a](../CONTRIBUTING.md)"),
        ("CHANGELOG.md", "[a](docs/scaling.md)", "[a](scaling.md)"),
        ("CHANGELOG.md", "[`a`](src/suture/errors.py)", "`a`"),
        ("index.md", "[a](absent.md)", "[a](absent.md)"),
    ],
)
def test_links_to_files_become_links_to_pages(website: ModuleType, page: str, link: str, there: str) -> None:
    source = ROOT if page == "CHANGELOG.md" else (DOCS / page).parent
    assert website.LINK.sub(lambda found: website.with_target(source, page, found), link) == there


def test_formulas_become_mathml(website: ModuleType) -> None:
    content = website.on_page_content(r'<p>Of <span class="arithmatex">\(a &lt; \frac{1}{2}\)</span>.</p>')
    assert re.fullmatch(r"<p>Of <math .*<mfrac>.*</math>\.</p>", content)
    assert "&#x0003C;" in content
    assert website.on_page_content(r'<div class="arithmatex">\[\frac12\]</div>').startswith('<div class="formula"><math')
    with pytest.raises(website.PluginError, match="understood"):
        website.on_page_content(r'<div class="arithmatex">\[\nonsense\]</div>')


def test_what_comes_from_elsewhere_is_found(website: ModuleType, tmp_path: Path) -> None:
    (tmp_path / "good.html").write_text(
        '<a href="https://example.org">x</a><img src="a.png"><link rel="canonical" href="https://example.org">'
    )
    (tmp_path / "style.css").write_text("@import 'a.css'; p { background: url(b.png) }")
    assert not list(website.loaded_from_elsewhere(tmp_path))
    (tmp_path / "bad.html").write_text('<script defer src="https://example.org/a.js"></script><img alt="" src=//example.org/a.png>')
    (tmp_path / "bad.css").write_text("p { background: url( 'http://example.org/a.png') }")
    assert len(list(website.loaded_from_elsewhere(tmp_path))) == 3


def test_docstrings_become_markdown() -> None:
    as_markdown = script("docstrings").as_markdown
    text = "Raises :class:`suture.errors.DataError`.\n\n>>> for x in [1]:\n...     x\n1\n\n>>> 2\n2\n\nEnd."
    assert as_markdown(text) == ("Raises `suture.errors.DataError`.\n\n```pycon\n>>> for x in [1]:\n...     x\n1\n\n>>> 2\n2\n```\n\nEnd.")
    assert as_markdown("A tree:\n\n::\n\n    a\n") == "A tree:\n\n\n\n    a"
