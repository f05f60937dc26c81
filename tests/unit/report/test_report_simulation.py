"""The page of a simulation: as text, and in a real browser where one is installed."""

from __future__ import annotations

import re
from collections.abc import Iterator
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_browser import Browser, find_browser

from ebbtide.bundle import DEFAULT_POLICY
from ebbtide.report import render_simulation, render_simulation_picture, write_simulation
from ebbtide.simulation import LABEL, Comparison, draw_scenario, load_assumptions, load_phone, policy_kinds
from ebbtide.simulation.comparison import compare
from ebbtide.simulation.tiers import TierFacts

EXECUTABLE = find_browser()
in_browser = pytest.mark.skipif(EXECUTABLE is None, reason="no chromium or google-chrome on the PATH to look with")
EVIL = '<script>document.title="x"</script>'

EMPTY_BOXES = """[...document.querySelectorAll('svg.plot, svg.plot text, svg.plot circle, svg.plot rect')]
    .filter(one => { const box = one.getBoundingClientRect(); return box.width <= 0 || box.height <= 0 })
    .map(one => one.outerHTML.slice(0, 120))"""
TOO_WIDE = """[...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll, .over-time, .theme, svg'))
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
    .map(one => one.outerHTML.slice(0, 120))"""


class Named:
    """What `compare` reads of a manifest."""

    def __init__(self, name: str) -> None:
        self.name, self.sequence, self.policy = name, 3, DEFAULT_POLICY
        self.device = type("Device", (), {"profile": "host"})()


def made(
    name: str = "digits", phone: str = "pixel-8", *, policies: tuple[str, ...] = (), hours: float = 0.5
) -> Comparison:
    tiers = tuple(
        TierFacts(
            f"c{index}", accuracy, "test", 10**6 // (index + 1), 300.0 / (index + 1), "measured on host", watts, "cpu"
        )
        for index, (accuracy, watts) in enumerate(((0.99, 3.4), (0.985, 2.5), (0.97, 1.8), (0.94, 1.1)))
    )
    assumed = load_assumptions()
    scenario = draw_scenario(seeds=range(3), air_c=(26.0, 34.0), hours=hours, load=assumed.load)
    kinds = policy_kinds(4, DEFAULT_POLICY, policies)
    return compare(
        Named(name),  # type: ignore[arg-type]
        phone=load_phone(phone),
        assumptions=assumed,
        tiers=tiers,
        kinds=kinds,
        scenario=scenario,
    )


@pytest.fixture(scope="module")
def record() -> Comparison:
    return made()


class Page(HTMLParser):
    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.figures: list[str] = []
        self.captions: list[str] = []
        self._inside: list[str] = []
        self._open: list[str] = []
        self.feed(text)
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag in ("figcaption", "caption"):
            self._inside = []
        if tag not in ("meta", "link", "input", "br"):
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag
        if tag == "figcaption":
            self.figures.append("".join(self._inside))
        if tag == "caption":
            self.captions.append("".join(self._inside))

    def handle_data(self, data: str) -> None:
        self._inside.append(data)


def test_page_is_well_formed_and_asks_nothing_of_anyone(record: Comparison) -> None:
    page = Page(render_simulation(record))
    assert not {tag for tag, _ in page.tags} & {"script", "iframe", "object", "img", "form"}
    for tag, attributes in page.tags:
        for name in ("src", "href", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or (tag, value) == ("link", "data:,")
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    assert {str(a["href"])[1:] for tag, a in page.tags if tag == "a"} <= set(ids)


def test_every_table_and_picture_says_that_it_is_simulated(record: Comparison) -> None:
    text = render_simulation(record)
    page = Page(text)
    assert len(page.figures) >= 7
    assert len(page.captions) == 4
    for words in page.figures + page.captions:
        assert "simulated" in words.lower() or "Nothing of it was measured" in words
    titles = re.findall(r"<title id=[^>]+>([^<]+)", text)
    assert len(titles) == len(page.figures)
    assert all(LABEL in title for title in titles)
    assert LABEL in text.partition("<title>")[2].partition("</title>")[0]


def test_page_shows_the_record(record: Comparison) -> None:
    words = render_simulation(record).replace("\u00a0", " ")
    ours = next(row for row in record.policies if row.name == "ours")
    for expected in (
        f"{100 * ours.quality.mean:.1f} %",
        f"{ours.changes_per_h.mean:.1f} changes of tier an hour",
        "3 runs of 0.5 hours, air 26 to 34 °C",
        "foreign_share",
        "(not verified)",
        "Therminator 2",
        "measured on host",
        "What is not known",
    ):
        assert expected in words


def test_equal_records_give_equal_bytes_and_the_data_can_be_read_back(record: Comparison, tmp_path: Path) -> None:
    files = write_simulation(record, tmp_path / "deep" / "here")
    again = Comparison.model_validate_json(files.json.read_bytes())
    assert again == record
    assert files.html.read_text() == render_simulation(again)
    assert sorted(path.name for path in files.html.parent.iterdir()) == ["simulation.html", "simulation.json"]


def test_names_are_shown_and_not_obeyed() -> None:
    text = render_simulation(made(EVIL, hours=0.1))
    assert "<script" not in text
    assert "&lt;script" in text


def test_phones_without_headroom_or_levels_have_pages_too() -> None:
    apple = render_simulation(made(phone="iphone-15-pro", hours=0.1))
    assert "plot-headroom" not in apple
    assert "At fair" in apple
    budget = render_simulation(made(phone="budget-6.6", hours=0.1))
    assert "At SEVERE" in budget
    assert "MODERATE" not in budget
    one = render_simulation(made(policies=("smallest",), hours=0.1))
    assert "always the last tier" in one
    assert "Rings" not in one


def test_picture_stands_alone(record: Comparison) -> None:
    picture = render_simulation_picture(record)
    assert picture.startswith("<svg xmlns=")
    assert "prefers-color-scheme:dark" in picture
    assert LABEL in picture
    assert ">largest<" not in picture
    assert ">ours<" in picture


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    opened = Browser(EXECUTABLE, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(record: Comparison, tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_simulation(record, tmp_path_factory.mktemp("page")).html.as_uri()


@in_browser
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820, 390])
def test_page_renders_without_complaint_request_or_overflow(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    browser.open(address, width=width, scheme=scheme)
    text = browser.evaluate("document.body.innerText")
    assert browser.complaints() == []
    assert browser.requests() == [address]
    assert LABEL in text
    assert browser.evaluate("document.querySelectorAll('svg.plot').length") >= 7
    assert browser.evaluate(EMPTY_BOXES) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate(TOO_WIDE) == []


@in_browser
def test_first_screen_shows_label_verdict_table_and_pictures(browser: Browser, address: str) -> None:
    browser.open(address, width=1280, height=900)
    bottom = browser.evaluate(
        "Math.max(...[...document.querySelectorAll('.pair svg')].map(x => x.getBoundingClientRect().bottom))"
    )
    assert 300 < bottom <= 900
    assert browser.evaluate("document.querySelector('.simulated').getBoundingClientRect().bottom") < 60


@in_browser
def test_every_policy_has_a_line_of_its_own_colour(browser: Browser, address: str) -> None:
    browser.open(address)
    found = browser.evaluate(
        """Object.fromEntries([...document.querySelectorAll('#plot-skin-title')].slice(0, 1)
        .flatMap(title => [...title.parentNode.querySelectorAll('polyline')])
        .map(line => [line.classList[1], getComputedStyle(line).stroke + getComputedStyle(line).strokeDasharray]))"""
    )
    assert set(found) == {"largest", "smallest", "games", "unreal", "unity", "ours"}
    assert len(set(found.values())) == 6
