"""The page, in a browser: what it shows, what answers to pointer and keyboard, and that it stays by itself."""

import os
import shutil
import sys
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from playwright.sync_api import Browser, Page, sync_playwright

from report.reports import EACH, HOSTILE, TASKS, hardly_anything, lines, plane, report, table
from suture.checkpoints import Manifest, check_output, read_manifest, sha256_of, staged_folder
from suture.errors import DataError, OutputExists, UnsupportedFormat
from suture.report.exhibits import Bars, Cloud, Plane, Report, Series, Table
from suture.report.page import page, read_report, write_page, write_report

QUIET = ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run"]
QUIET += ["--disable-background-networking", "--disable-component-update", "--disable-sync"]
PHONE, DESK = (390, 844), (1280, 900)
DOTS, CROSSES = "#exhibit-tsne .layer_1_marks path", "#exhibit-tsne .layer_0_marks path"


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if not chromium and os.environ.get("SUTURE_WITHOUT_BROWSER"):
        pytest.skip("told that there is no Chromium")
    assert chromium, "these tests need Chromium on the path, or SUTURE_WITHOUT_BROWSER=1"
    with sync_playwright() as playwright:
        started = playwright.chromium.launch(executable_path=chromium, args=QUIET)
        yield started
        started.close()


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("out")
    write_report(folder, report())
    return write_page(folder)


class Visit:
    """A page that was opened, and what it did meanwhile."""

    def __init__(self, browser: Browser, file: Path, size: tuple[int, int], scheme: str) -> None:
        self.file, self.said, self.asked = file, list[str](), list[str]()
        context = browser.new_context(viewport={"width": size[0], "height": size[1]}, color_scheme=scheme)  # type: ignore[arg-type]
        self.page: Page = context.new_page()
        self.page.on("console", lambda message: self.said.append(message.text))
        self.page.on("pageerror", lambda error: self.said.append(str(error)))
        self.page.on("request", lambda request: self.asked.append(request.url))
        self.page.goto(file.as_uri())

    def drawn(self) -> "Visit":
        """Scroll to every picture, and wait until it is there."""
        for chart in self.page.locator("[data-chart]").all():
            chart.scroll_into_view_if_needed()
            chart.locator(".canvas svg").wait_for()
        return self

    def ask(self, question: str) -> object:
        answer: object = self.page.evaluate(question)
        return answer

    def count(self, selector: str) -> int:
        return self.page.locator(selector).count()

    def close(self) -> None:
        """Leave; nothing went wrong, nothing was run that was text, and nobody was asked for anything."""
        assert self.ask("window.broken") is None
        assert self.said == []
        assert self.asked == [self.file.as_uri()]
        self.page.context.close()


@pytest.fixture
def visit(browser: Browser, file: Path) -> Iterator[Visit]:
    opened = Visit(browser, file, DESK, "light")
    yield opened
    opened.close()


def test_everything_is_shown_and_text_stays_text(visit: Visit) -> None:
    assert visit.page.title() == f"Everything {HOSTILE}"
    assert visit.ask("document.documentElement.lang") == "en"
    visit.drawn()
    assert visit.count(".canvas svg") == 4
    assert visit.count("img") == 0
    text = visit.page.locator("body").inner_text()
    assert all(word in text for word in ("What was found", "first", "ties_2", "Drift", HOSTILE))
    assert HOSTILE in visit.page.locator("pre").text_content()  # type: ignore[operator]
    assert visit.page.locator("h2").all_inner_texts() == ["How to read it", "Results", "Drift", "Recipe", "Provenance"]
    for link in visit.page.locator("nav a").all():
        assert visit.count(str(link.get_attribute("href"))) == 1
    assert visit.file.stat().st_size < 5_000_000


def test_pictures_have_their_values(visit: Visit) -> None:
    visit.drawn()
    assert visit.count("#exhibit-bias .layer_0_marks path") == 2 * 3
    assert visit.count("#exhibit-bias .layer_1_marks line") == 3
    assert visit.count("#exhibit-ranks path[aria-roledescription]") == 0
    assert visit.count("#exhibit-ranks .mark-symbol.role-mark path") == 3 * 3
    shapes = visit.ask("new Set([...document.querySelectorAll('#exhibit-ranks .mark-symbol path')].map(p => p.getAttribute('d'))).size")
    assert shapes == 3


def test_dots_stand_between_their_baselines(visit: Visit) -> None:
    visit.drawn()
    marks = "#exhibit-merges .layer_{}_marks {}"
    assert visit.count(marks.format(0, "line")) == 3  # a line through every row's dots
    assert visit.count(marks.format(1, "path")) == 1  # the baseline
    assert visit.count(marks.format(2, "line")) == 1  # the one deviation
    assert visit.count(marks.format(3, "path")) == 2 + 3
    assert visit.page.locator("#exhibit-merges .key li").all_inner_texts() == ["╌pretrained", f"■{HOSTILE}", "▲ties_2"]


def first_column(visit: Visit) -> list[str]:
    return [text.strip()[:4] for text in visit.page.locator("#exhibit-cost tbody th").all_inner_texts()]


def test_tables_are_sorted_by_their_headers(visit: Visit) -> None:
    header = visit.page.locator("#exhibit-cost thead th")
    numbers = header.nth(1)
    assert numbers.get_attribute("aria-sort") == "none"
    numbers.get_by_role("button").click()
    assert (numbers.get_attribute("aria-sort"), first_column(visit)) == ("ascending", ["aver", "</sc", "ties", "dare"])
    numbers.get_by_role("button").press("Enter")
    assert (numbers.get_attribute("aria-sort"), first_column(visit)) == ("descending", ["ties", "</sc", "aver", "dare"])
    header.nth(0).get_by_role("button").press("Space")
    assert (numbers.get_attribute("aria-sort"), header.nth(0).get_attribute("aria-sort")) == ("none", "ascending")
    assert first_column(visit)[1:] == ["aver", "dare", "ties"]


def test_tasks_and_models_are_chosen(visit: Visit) -> None:
    visit.drawn()
    box = visit.page.locator("#exhibit-tsne input[type=checkbox]")
    assert (visit.count(DOTS), visit.count(CROSSES)) == (3 * EACH, 3 * EACH)
    box.nth(0).uncheck()
    assert (visit.count(DOTS), visit.count(CROSSES)) == (2 * EACH, 2 * EACH)
    visit.page.get_by_role("button", name="None").click()
    assert visit.count(DOTS) == 0
    visit.page.get_by_role("button", name="All").click()
    assert visit.count(DOTS) == 3 * EACH
    places = f"[...document.querySelectorAll('{DOTS}')].map(dot => dot.getAttribute('transform'))"
    before = visit.ask(places)
    visit.page.get_by_label("ties + surgery", exact=True).check()
    assert visit.count(DOTS) == 3 * EACH
    assert visit.ask(places) != before


def test_a_sample_tells_what_it_is(visit: Visit) -> None:
    visit.drawn()
    visit.page.locator(DOTS).nth(1).hover(force=True)
    tip = visit.page.locator("#tip")
    tip.wait_for()
    assert tip.inner_text().split("\n") == [f"{HOSTILE} 1", "", f"{TASKS[0]} · ties · classified wrong"]
    visit.page.keyboard.press("Escape")
    assert not tip.is_visible()


def test_the_keyboard_reaches_everything(visit: Visit) -> None:
    visit.drawn()
    visit.ask("scrollTo(0, 0)")
    reached: list[str] = []
    for _ in range(60):
        visit.page.keyboard.press("Tab")
        here = visit.ask("(({ tagName, type, textContent, className }) => `${tagName} ${type ?? ''} ${className}`)(document.activeElement)")
        reached.append(str(here).strip())
        if reached[0] in reached[1:] or reached[-1].startswith("BODY"):
            break
    assert reached[0] == "A  skip"
    kinds = [each.split()[:2] for each in reached]
    for control in (["BUTTON", "button"], ["INPUT", "radio"], ["INPUT", "checkbox"], ["SUMMARY"], ["DIV", "wide"]):
        assert control in kinds, control
    visit.page.locator("#exhibit-tsne input[type=checkbox]").first.focus()
    visit.page.keyboard.press("Space")
    assert visit.count(DOTS) == 2 * EACH
    visit.page.locator("#exhibit-tsne input[type=radio]").first.focus()
    visit.page.keyboard.press("ArrowRight")
    assert visit.page.get_by_label("ties + surgery", exact=True).is_checked()
    assert visit.ask("getComputedStyle(document.activeElement).outlineStyle") == "solid"
    assert visit.ask("document.querySelectorAll('main, nav, header, footer').length") == 4


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_a_phone_never_scrolls_sideways(browser: Browser, file: Path, scheme: str) -> None:
    visit = Visit(browser, file, PHONE, scheme).drawn()
    assert visit.ask("document.documentElement.scrollWidth <= innerWidth")
    assert visit.ask("getComputedStyle(document.querySelector('tbody th')).position") == "sticky"
    visit.close()


def test_dark_screens_get_a_dark_page(visit: Visit) -> None:
    visit.drawn()
    looks = "[getComputedStyle(document.documentElement).backgroundColor, document.querySelector('#exhibit-tsne .layer_1_marks path')"
    looks += ".getAttribute('stroke')]"
    light = visit.ask(looks)
    visit.page.locator("#exhibit-tsne input[type=checkbox]").nth(1).uncheck()
    visit.page.emulate_media(color_scheme="dark")
    visit.page.wait_for_function(f"({looks})[1] !== '{light[1]}'")  # type: ignore[index]
    dark = visit.ask(looks)
    assert light[0] == "rgb(255, 255, 255)"  # type: ignore[index]
    assert dark[0] == "rgb(21, 24, 28)"  # type: ignore[index]
    assert visit.count(DOTS) == 2 * EACH


def test_pictures_wait_to_be_near_but_not_on_paper(browser: Browser, tmp_path: Path) -> None:
    many = [lines().model_copy(update={"name": f"l{number}", "title": f"Line {number}"}) for number in range(30)]
    write_report(tmp_path, report().model_copy(update={"exhibits": [table(), *many, plane()]}))
    visit = Visit(browser, write_page(tmp_path), DESK, "dark")
    visit.page.locator("#exhibit-l0 svg").wait_for()
    assert visit.count(".canvas svg") < 20
    assert visit.count("details:not([open])") > 30
    visit.page.emulate_media(media="print", color_scheme="dark")
    visit.page.wait_for_function("document.querySelectorAll('.canvas svg').length === 31")
    assert visit.count("details:not([open])") == 0
    assert not visit.page.locator("nav").is_visible()
    assert not visit.page.get_by_role("button", name="None").is_visible()
    assert visit.ask("getComputedStyle(document.documentElement).backgroundColor") == "rgb(255, 255, 255)"
    visit.page.emulate_media(media="screen", color_scheme="dark")
    visit.page.wait_for_function("document.querySelectorAll('details:not([open])').length > 30")
    visit.close()


def test_hardly_anything_is_a_page_too(browser: Browser, tmp_path: Path) -> None:
    write_report(tmp_path, report().model_copy(update={"exhibits": hardly_anything(), "notes": [], "provenance": {}}))
    visit = Visit(browser, write_page(tmp_path), DESK, "light").drawn()
    assert visit.count(".canvas svg") == 1
    assert visit.page.locator("main").inner_text().count("Nothing was measured.") == 7
    visit.close()


class Tags(HTMLParser):
    """The tags of a page, and its title."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags, self.title = list[str](), ""
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)

    def handle_data(self, data: str) -> None:
        if self.tags and self.tags[-1] == "title" and not self.title:
            self.title = data


def said(text: str) -> Report:
    words = Report(title=text, summary=text, notes=[text], exhibits=[], recipe=text, provenance={text: text})
    series = [Series(label=text, mean=[1.0], deviation=[0.5])]
    cloud = Cloud(model=text, task=text, x=[0.0], y=[0.0], samples=[text], right=[True])
    shown = [
        Table(name="t", title=text, section=text, header=["a", text], rows=[[text, text]]),
        Bars(name="b", title=text, y=text, groups=[text], series=series),
        Plane(name="p", title=text, reference="individual", clouds=[cloud]),
    ]
    return words.model_copy(update={"exhibits": shown})


@settings(max_examples=30, deadline=None)
@given(st.text(st.characters(exclude_categories=("C", "Z")), min_size=1) | st.sampled_from([HOSTILE, "<!--", "]]>", "$title", "&lt;"]))
def test_no_text_is_a_tag(text: str) -> None:
    plainly, found = Tags(page(said("a"))), Tags(page(said(text)))
    known = [tag for tag in found.tags if tag != "wbr"]
    assert known == plainly.tags
    assert found.title == text


def test_the_same_report_is_the_same_page_and_its_manifest_agrees(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as folder:
        write_report(folder, report())
    assert read_report(tmp_path / "out") == report()
    first = write_page(tmp_path / "out").read_bytes()
    file = write_page(tmp_path / "out")
    assert file.read_bytes() == first == page(report()).encode()
    manifest = read_manifest(tmp_path / "out")
    assert manifest is not None
    assert manifest.files == {name: sha256_of(tmp_path / "out" / name) for name in ("report.html", "report.json")}
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["manifest.json", "report.html", "report.json"]


def test_a_page_hides_no_change_from_who_replaces_the_folder(tmp_path: Path) -> None:
    with staged_folder(tmp_path / "out", Manifest()) as folder:
        write_report(folder, report())
        (folder / "table.md").write_text("ours")
    write_page(tmp_path / "out")
    check_output(tmp_path / "out", replace=True)
    (tmp_path / "out" / "table.md").write_text("theirs")
    write_page(tmp_path / "out")
    with pytest.raises(OutputExists, match=r"did not write: table\.md \(changed since\); move that away"):
        check_output(tmp_path / "out", replace=True)


def test_what_is_no_report_is_told(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"report.json cannot be read: No such file .*`suture run` writes one"):
        write_page(tmp_path)
    for content in ("{", "[]", '{"title": 1}'):
        (tmp_path / "report.json").write_text(content)
        with pytest.raises(DataError, match="is not a report"):
            write_page(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == ["report.json"]


def test_exhibits_of_one_name_and_names_that_lead_elsewhere_are_refused() -> None:
    with pytest.raises(ValueError, match="two exhibits are called cost"):
        Report.model_validate(report().model_dump() | {"exhibits": [table(), table()]})
    for name in ("../cost", "a/b", "", "a\n"):
        with pytest.raises(ValueError, match="name"):
            table(name)


def test_without_the_library_the_way_to_it_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    from suture.report import page as pages

    monkeypatch.setitem(sys.modules, "vl_convert", None)
    pages._vega.cache_clear()
    with pytest.raises(UnsupportedFormat, match=r"pip install 'suture\[report\]'"):
        page(report())
