"""The page in a real browser, where one is installed: what a reader sees in light, dark, print and on a phone."""

from __future__ import annotations

import io
from collections.abc import Iterator
from pathlib import Path

import pytest
from PIL import Image
from report_browser import Browser, find_browser
from report_factory import full_record, record_fields, small_record

from ebbtide.report import BuildRecord, write_report

EXECUTABLE = find_browser()
pytestmark = pytest.mark.skipif(EXECUTABLE is None, reason="no chromium or google-chrome on the PATH to look with")

EMPTY_BOXES = """[...document.querySelectorAll('svg.plot, svg.plot text, svg.plot circle, svg.plot rect')]
    .filter(one => !one.closest('details:not([open])'))
    .filter(one => { const box = one.getBoundingClientRect(); return box.width <= 0 || box.height <= 0 })
    .map(one => one.outerHTML.slice(0, 120))"""
TOO_WIDE = """[...document.querySelectorAll('body *')]
    .filter(one => !one.closest('.scroll') && !one.closest('.theme') && !one.closest('svg'))
    .filter(one => one.getBoundingClientRect().right > innerWidth + 0.5)
    .map(one => one.outerHTML.slice(0, 120))"""
GROUND = "getComputedStyle(document.body).backgroundColor"


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Browser]:
    assert EXECUTABLE is not None
    opened = Browser(EXECUTABLE, tmp_path_factory.mktemp("profile"))
    yield opened
    opened.close()


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> str:
    return write_report(full_record(), tmp_path_factory.mktemp("page")).html.as_uri()


@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("width", [1280, 820, 390])
def test_page_renders_without_complaint_request_or_overflow(
    browser: Browser, address: str, width: int, scheme: str
) -> None:
    browser.open(address, width=width, scheme=scheme)
    text = browser.evaluate("document.body.innerText").replace("\u00a0", " ")
    assert browser.complaints() == []
    assert browser.requests() == [address]
    assert "tier 1 reaches 97.4 % accuracy" in text
    assert "dense" in text
    assert browser.evaluate("document.querySelectorAll('svg.plot').length") >= 9
    assert browser.evaluate(EMPTY_BOXES) == []
    assert browser.evaluate("document.documentElement.scrollWidth") == width
    assert browser.evaluate("innerWidth") == width
    assert browser.evaluate(TOO_WIDE) == []


def test_first_screen_shows_verdict_table_and_picture(browser: Browser, address: str) -> None:
    browser.open(address, width=1280, height=900)
    bottom = browser.evaluate(
        "Math.max(...[...document.querySelectorAll('.pair svg')].map(x => x.getBoundingClientRect().bottom))"
    )
    assert 300 < bottom <= 900


def test_phone_keeps_letters_in_pictures_readable(browser: Browser, address: str) -> None:
    browser.open(address, width=390, height=844)
    heights = browser.evaluate(
        "[...document.querySelectorAll('.pair svg text')].map(x => x.getBoundingClientRect().height)"
    )
    assert min(heights) >= 10


def test_theme_follows_the_reader_and_the_switch(browser: Browser, address: str) -> None:
    browser.open(address, scheme="light")
    light = browser.evaluate(GROUND)
    browser.open(address, scheme="dark")
    dark = browser.evaluate(GROUND)
    assert light != dark
    browser.evaluate("document.querySelector('label[for=theme-light]').click()")
    assert browser.evaluate(GROUND) == light
    browser.evaluate("document.querySelector('label[for=theme-dark]').click()")
    assert browser.evaluate(GROUND) == dark


def test_print_is_dark_on_white_even_when_dark_was_chosen(browser: Browser, address: str, tmp_path: Path) -> None:
    browser.open(address, scheme="dark")
    browser.evaluate("document.querySelector('label[for=theme-dark]').click()")
    browser.call("Emulation.setEmulatedMedia", media="print")
    assert browser.evaluate(GROUND) == "rgb(255, 255, 255)"
    assert browser.evaluate("getComputedStyle(document.body).color") == "rgb(24, 33, 39)"
    browser.pdf(tmp_path / "report.pdf")
    browser.call("Emulation.setEmulatedMedia", media="")
    pages = (tmp_path / "report.pdf").read_bytes()
    assert pages.startswith(b"%PDF")
    assert 3 <= pages.count(b"/Type /Page\n") + pages.count(b"/Type /Page ") <= 8


def test_picture_of_the_plot_holds_the_colours_of_both_models(browser: Browser, address: str) -> None:
    browser.open(address)
    image = Image.open(io.BytesIO(browser.screenshot_bytes())).convert("RGB")
    colours = {colour for _, colour in image.getcolors(1 << 24) or []}
    assert (0x0A, 0x65, 0x83) in colours  # tiers
    assert (0xB0, 0x4A, 0x1F) in colours  # the dense model


def test_evil_names_and_little_knowledge_render_too(browser: Browser, tmp_path: Path) -> None:
    fields = record_fields(names=("<script>document.title='x'</script>", "W" * 300, *"23456789"))
    fields["name"] = "w" * 200
    for name, record in (("evil", BuildRecord.model_validate(fields)), ("small", small_record())):
        page = write_report(record, tmp_path / name).html.as_uri()
        browser.open(page, width=390)
        assert browser.complaints() == []
        assert browser.evaluate("document.title") != "x"
        assert browser.evaluate("document.documentElement.scrollWidth") == 390
        assert browser.evaluate(EMPTY_BOXES) == []
