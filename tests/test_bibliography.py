"""What is cited: every method and procedure has a paper, told once, and CITATION.cff tells the same."""

import re
from pathlib import Path

import pytest
import yaml

import suture
from suture import bibliography
from suture.bibliography import REPRESENTATION_SURGERY, SURGERY_V2, Paper
from suture.experiment.citing import SOFTWARE
from suture.experiment.procedures import PROCEDURES_BY_NAME
from suture.merging import METHODS

ROOT = Path(__file__).parents[1]
PAPERS = [value for value in vars(bibliography).values() if isinstance(value, Paper)]


def test_every_paper_is_told_once_and_whole() -> None:
    assert len({paper.key for paper in PAPERS}) == len({paper.title for paper in PAPERS}) == len(PAPERS)
    for paper in PAPERS:
        assert re.fullmatch(rf"[a-z]+{paper.year}[a-z0-9]+", paper.key)
        assert all(re.fullmatch(r"[^,]+, [^,]+", author) for author in paper.authors.split(" and ")), paper.key
        assert paper.arxiv or paper.venue, paper.key
        assert not paper.arxiv or re.fullmatch(r"\d{4}\.\d{5}", paper.arxiv), paper.key
        assert paper.bibtex.count("{") == paper.bibtex.count("}")


def test_every_method_has_a_paper_that_its_docstring_names() -> None:
    for name, kind in METHODS.items():
        assert kind().cited[0] is kind.paper
        assert all(paper in PAPERS for paper in kind().cited), name
        assert kind.__doc__ is not None
        assert kind.paper.arxiv in kind.__doc__, name


def test_every_procedure_has_papers() -> None:
    assert set(PROCEDURES_BY_NAME) >= {"surgery", "closed_form", "deep_closed_form", "surgery_v2", "best"}
    for name, kind in PROCEDURES_BY_NAME.items():
        assert kind.papers, name
        assert all(paper in PAPERS for paper in kind.papers), name


def test_a_method_cites_what_it_builds_on_and_starts_from() -> None:
    feat_cal = METHODS["feat_cal"](start=METHODS["dare_ties"]())
    assert [paper.key for paper in feat_cal.cited] == ["gu2026featcal", "yu2024language", "yadav2023ties"]


def test_a_paper_of_a_journal_is_an_article() -> None:
    assert bibliography.REDUCED_RANK.bibtex.startswith("@article{izenman1975reduced,")
    assert "journal = {Journal of Multivariate Analysis}" in bibliography.REDUCED_RANK.bibtex
    assert "archiveprefix" not in bibliography.REDUCED_RANK.bibtex


@pytest.fixture
def citation() -> dict[str, object]:
    content: dict[str, object] = yaml.safe_load((ROOT / "CITATION.cff").read_text(encoding="utf-8"))
    return content


def test_the_citation_file_is_of_this_version(citation: dict[str, object]) -> None:
    assert (citation["title"], citation["version"]) == (SOFTWARE["title"].strip("{}"), suture.__version__)
    assert citation["authors"] == [{"name": SOFTWARE["author"].strip("{}")}]


def test_the_citation_file_refers_to_the_papers_as_they_are_told(citation: dict[str, object]) -> None:
    references = citation["references"]
    assert isinstance(references, list)
    for reference, paper in zip(references, (REPRESENTATION_SURGERY, SURGERY_V2), strict=True):
        assert (reference["title"], reference["year"]) == (paper.title, paper.year)
        names = [f"{author['family-names']}, {author['given-names']}" for author in reference["authors"]]
        assert names == paper.authors.split(" and ")
        assert reference["identifiers"] == [{"type": "other", "value": f"arXiv:{paper.arxiv}"}]
        assert reference["url"] == f"https://arxiv.org/abs/{paper.arxiv}"
        assert reference.get("collection-title", "") == paper.venue
