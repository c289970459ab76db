"""What the documentation site has beside the files of docs/: MkDocs calls the functions whose names begin with ``on_``.

The tutorial is made of its notebook; the list of results of the folder docs/results, so that a new file shows by itself; the papers of
the project (CHANGELOG and the like) of the files beside README.md. Links stand in the sources as files lie in the repository; here they
lead to the pages made of them. Formulas become MathML, which browsers draw themselves. The built pages are searched for anything that a
browser would load from elsewhere.
"""

import html
import posixpath
import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nbformat
from latex2mathml.converter import convert
from mkdocs.config.defaults import MkDocsConfig
from mkdocs.exceptions import PluginError
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page
from nbconvert import MarkdownExporter

ROOT = Path(__file__).resolve().parents[1]
DOCS = ROOT / "docs"
RESULTS = DOCS / "results"
NOTEBOOK = DOCS / "tutorial.ipynb"
MADE = {NOTEBOOK: "tutorial.md", RESULTS: "results/index.md"}
"""Pages that are made of a notebook, and of a folder."""

ALONE = ("index.md", MADE[NOTEBOOK])
"""Pages that are the only ones of their part: they need no list of its pages beside them."""

PAPERS = {
    "What may go wrong": "docs/faults.md",
    "Security": "SECURITY.md",
    "Contributing": "CONTRIBUTING.md",
    "Changes": "CHANGELOG.md",
}
"""Pages of the project by title; those that are there."""

README = "README.md"
KINDS = {"nlp8": "Eight text tasks", "vision8": "Eight image tasks", "clip8": "The papers' own suite", "benchmark": "Time and memory"}
"""What results are about, by the first word of their files' names."""

LINK = re.compile(r"\[((?:[^\[\]]|\[[^\[\]]*\])*)\]\(([^)\s#:]+)(#[^)\s]*)?\)")
MATH = re.compile(r'<(span|div) class="arithmatex">\\([(\[])(.*?)\\[)\]]</\1>', re.DOTALL)
LOADED = re.compile(
    r"<(?:script|img|iframe|audio|video|source|embed|object|link)\b[^>]*?"
    r"""\b(?:src|srcset|data|href)\s*=\s*["']?(?:https?:)?//"""
)
STYLED = re.compile(r"""(?:url\(\s*["']?|@import\s+["'])(?:https?:)?//""")


def on_config(config: MkDocsConfig) -> MkDocsConfig:
    """Put the pages of results and of the project, as many as there are, into the navigation."""
    nav: list[dict[str, Any]] = config.nav or []
    (results,) = (part["Results"] for part in nav if "Results" in part)
    results += [{title: [in_navigation(page) for page in pages]} for title, pages in results_by_kind()]
    (project,) = (part["Project"] for part in nav if "Project" in part)
    project += [{title: Path(name).name} for title, name in PAPERS.items() if (ROOT / name).is_file()]
    return config


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages that are no files of docs/."""
    exporter = MarkdownExporter()
    text, resources = exporter.from_notebook_node(nbformat.read(NOTEBOOK, as_version=4))
    added: dict[str, str | bytes] = {MADE[NOTEBOOK]: text, MADE[RESULTS]: index_of_results(), **resources["outputs"]}
    papers = [ROOT / name for name in PAPERS.values() if (ROOT / name).parent == ROOT and (ROOT / name).is_file()]
    added |= {paper.name: paper.read_text(encoding="utf-8") for paper in papers}
    for name, content in added.items():
        files.append(File.generated(config, name, content=content))
    return files


def on_page_markdown(markdown: str, page: Page, **_: object) -> str:
    """Turn links to files into links to pages."""
    name = page.file.src_uri
    if name in ALONE:
        page.meta["hide"] = ["navigation"]
    source = ROOT if name in PAPERS.values() else (DOCS / name).parent
    return LINK.sub(lambda found: with_target(source, name, found), markdown)


def with_target(source: Path, name: str, link: re.Match[str]) -> str:
    """Return a link of a page with the place that it leads to on the site; of one to the package's source, say, its text alone."""
    target = (source / link[2]).resolve()
    if not target.exists():
        return link[0]  # a picture of the notebook, or a mistake, of which MkDocs complains
    within = MADE.get(target, "")
    if not within and target.is_relative_to(DOCS):
        within = target.relative_to(DOCS).as_posix()
    elif not within and target.relative_to(ROOT).as_posix() in PAPERS.values():
        within = target.name
    return f"[{link[1]}]({posixpath.relpath(within, posixpath.dirname(name))}{link[3] or ''})" if within else link[1]


def on_page_content(content: str, **_: object) -> str:
    """Turn the formulas of a page into MathML."""
    return MATH.sub(as_mathml, content)


def as_mathml(formula: re.Match[str]) -> str:
    """Return a formula in TeX, in a line or on lines of its own, as MathML; refuse one with a command that has no counterpart there."""
    inline = formula[2] == "("
    drawn = convert(html.unescape(formula[3]).strip(), display="inline" if inline else "block")
    if "\\" in drawn:
        raise PluginError(f"not all of this formula is understood: {formula[3]}")
    return drawn if inline else f'<div class="formula">{drawn}</div>'


def on_post_build(config: MkDocsConfig) -> None:
    """Refuse a site that would load something from elsewhere."""
    if foreign := list(loaded_from_elsewhere(Path(config.site_dir))):
        raise PluginError("the site loads from elsewhere: " + "; ".join(foreign))


def loaded_from_elsewhere(site: Path) -> Iterator[str]:
    """Yield what in the pages and styles of a site a browser would fetch from another place, with the file it is in."""
    for file in sorted(site.rglob("*")):
        if file.suffix in {".html", ".css", ".svg"}:
            text = file.read_text(encoding="utf-8")
            found = [match[0] for match in LOADED.finditer(text) if 'rel="canonical"' not in match[0]] if file.suffix == ".html" else []
            yield from (f"{file.relative_to(site)}: {each}" for each in [*found, *(match[0] for match in STYLED.finditer(text))])


def results_by_kind() -> Iterator[tuple[str, list[Path]]]:
    """Yield what results are about, and the pages of them; of a folder with a README that page alone, which leads to the others."""
    pages = [page for page in sorted(RESULTS.rglob("*.md")) if not of_a_readme(page)]
    for kind in [*KINDS, ""]:
        if found := [page for page in pages if kind_of(page) == kind]:
            yield KINDS.get(kind, "Others"), found


def of_a_readme(page: Path) -> bool:
    """Whether a page of results lies in a folder, or in one of a folder's folders, whose README leads to it."""
    folders = page.relative_to(RESULTS).parents
    return any((RESULTS / folder / README).is_file() and RESULTS / folder / README != page for folder in folders if folder != Path())


def in_navigation(page: Path) -> dict[str, Any]:
    """Return the entry of a page of results; a README has those of its folder's folders below it."""
    place, below = page.relative_to(DOCS).as_posix(), sorted(page.parent.glob(f"*/{README}")) if page.name == README else []
    return {title_of(page): [place, *map(in_navigation, below)] if below else place}


def kind_of(page: Path) -> str:
    """Return what a page of results is about: a key of KINDS, or nothing."""
    words = [part.partition("-")[0] for part in page.relative_to(RESULTS).with_suffix("").parts]
    return next((word for word in words if word in KINDS), "")


def index_of_results() -> str:
    """Return the page that lists all results: by kind, each with its title."""
    lines = [
        "# Results",
        "",
        "What is said to be measured, on this site and in the README, stands in one of these tables; scripts wrote them.",
    ]
    for title, pages in results_by_kind():
        lines += ["", f"## {title}", ""]
        lines += [f"- [{title_of(page)}]({page.relative_to(RESULTS).as_posix()})" for page in pages]
    return "\n".join([*lines, ""])


def title_of(page: Path) -> str:
    """Return a page's first heading, or its file's name where that says no more than "Results"."""
    found = re.search(r"^# (.+)$", page.read_text(encoding="utf-8"), re.MULTILINE)
    return found[1] if found and found[1] != "Results" else page.stem
