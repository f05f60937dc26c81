"""The pages as text: what is on them, what is escaped, what they never hold."""

from __future__ import annotations

import io
import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from report_factory import full_record, record_fields, small_record
from rich.console import Console

from ebbtide.errors import EbbtideError
from ebbtide.report import BuildRecord, load_record, render_html, render_markdown, summary_table, write_report

EVIL = '<script>alert("1")</script>'
PALETTE = Path(__file__).parents[3] / "pipeline" / "ebbtide" / "report" / "palette.css.j2"


class Page(HTMLParser):
    """Collects tags and text, and notices a tag that is closed out of order."""

    VOID = frozenset({"meta", "link", "input", "br"})

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.words = ""
        self._open: list[str] = []
        self.feed(text)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in self.VOID:
            self._open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self._open.pop() == tag, f"</{tag}> closes nothing that is open"

    def handle_data(self, data: str) -> None:
        self.words += data


def evil_record() -> BuildRecord:
    fields = record_fields(names=(EVIL, "a|b", "*c*", "`d`", "[e](javascript:1)", "f", "g", "h", "i", "j"))
    fields["name"] = f"digits {EVIL}"
    fields["recipe"] = f"name: x # {EVIL}\n```\n# end"
    fields["devices"][0]["bundle"] = f"bundles/{EVIL}"
    fields["notices"][2]["text"] = EVIL
    fields["configurations"][0]["reason"] = EVIL
    fields["controls"][0]["name"] = EVIL
    fields["provenance"]["versions"][EVIL] = EVIL
    return BuildRecord.model_validate(fields)


@pytest.mark.parametrize("record", [full_record(), small_record(), evil_record()], ids=["full", "small", "evil"])
def test_page_is_well_formed_and_asks_nothing_of_anyone(record: BuildRecord) -> None:
    page = Page(render_html(record))
    names = {tag for tag, _ in page.tags}
    assert not names & {"script", "iframe", "object", "img", "form"}
    for tag, attributes in page.tags:
        assert not [name for name in attributes if name.startswith("on")]
        for name in ("src", "href", "action", "xlink:href"):
            value = attributes.get(name)
            assert value is None or value.startswith("#") or (tag, value) == ("link", "data:,")
    style = render_html(record).partition("<style>")[2].partition("</style>")[0]
    assert "url(" not in style
    assert "@import" not in style


def test_page_forbids_requests_and_scripts_by_policy() -> None:
    policy = next(a["content"] for tag, a in Page(render_html(full_record())).tags if a.get("http-equiv"))
    assert policy is not None
    assert policy.startswith("default-src 'none'")
    assert "script-src" not in policy


def test_names_from_the_data_are_shown_and_not_obeyed() -> None:
    text = render_html(evil_record())
    assert "<script" not in text
    assert Page(text).words.count(EVIL) >= 6


def test_ids_are_unique_and_links_lead_somewhere() -> None:
    page = Page(render_html(full_record()))
    ids = [attributes["id"] for _, attributes in page.tags if "id" in attributes]
    assert len(ids) == len(set(ids))
    links = [str(attributes["href"])[1:] for tag, attributes in page.tags if tag == "a"]
    assert links
    assert set(links) <= set(ids)


def test_every_table_is_named_and_every_picture_described() -> None:
    page = Page(render_html(full_record()))
    for tag, attributes in page.tags:
        if tag == "svg":
            assert attributes.get("aria-labelledby") or attributes.get("aria-hidden") == "true"
        if tag == "th":
            assert attributes.get("scope") in ("row", "col")


def test_page_shows_the_record() -> None:
    words = " ".join(Page(render_html(full_record())).words.replace("\u00a0", " ").split())
    for expected in (
        "tier 1 reaches 97.4 % accuracy",
        "94.7 to 98.7 %",
        "98 / 141 µs",
        "exit0 > 98.40 %",
        "1.034×",
        "executorch",
        "bundles/any-android",
        "2.1e-05",
        "log-sum-exp",
        "exit0 on test: off by",
        "Promise kept (−0.7 points)",
        "14,641",
        "factory: digits_net.py:digits_net",
    ):
        assert expected in words, expected


def test_page_is_equal_bytes_when_the_record_is_equal() -> None:
    assert render_html(full_record()) == render_html(BuildRecord.from_json(full_record().to_json()))


def test_page_marks_a_missed_promise() -> None:
    fields = record_fields()
    assert 'class="main missed"' not in render_html(BuildRecord.model_validate(fields))
    fields["configurations"][2]["test"] = {"accuracy": 0.9, "n": 270}
    text = render_html(BuildRecord.model_validate(fields))
    assert 'class="main missed"' in text
    assert "Tier 2 was measured below the promise" in text


def test_worst_classes_come_first_and_all_are_there_when_there_are_many() -> None:
    names = tuple(f"class-{index:03d}" for index in range(100))
    fields = record_fields(names=names)
    worst = dict.fromkeys(("c0", "c1", "c2", "c3"), 0.1)
    fields["classes"][77] = {**fields["classes"][77], "accuracy": worst}
    words = Page(render_html(BuildRecord.model_validate(fields))).words
    assert all(words.count(name) == 1 for name in names)
    assert words.index("class-077") < min(words.index(name) for name in names if name != "class-077")
    assert "The other 76 classes" in words


def test_configurations_without_a_tier_are_listed() -> None:
    fields = record_fields()
    fields["configurations"][3] = {**fields["configurations"][3], "tier": None, "id": "c3"}
    assert "1 more configuration in the bundle" in render_html(BuildRecord.model_validate(fields))


def _luminance(colour: str) -> float:
    digits = colour.lstrip("#")
    digits = "".join(one * 2 for one in digits) if len(digits) == 3 else digits
    parts = [int(digits[index : index + 2], 16) / 255 for index in (0, 2, 4)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_words_contrast_with_their_ground(theme: str) -> None:
    text = PALETTE.read_text().partition(f"macro {theme}()")[2].partition("endmacro")[0]
    colours = dict(re.findall(r"--([a-z0-9-]+):(#[0-9a-fA-F]{3,6})", text))
    pairs = [("ink", "paper"), ("ink", "panel"), ("muted", "paper"), ("muted", "panel"), ("tide", "paper")]
    pairs += [("dense", "paper"), ("warn", "paper"), ("ink", "warn-panel"), ("tide-ink", "tide"), ("head-ink", "head")]
    pairs += [(f"s{index}-ink", f"s{index}") for index in range(5)]
    for front, ground in pairs:
        light, dark = sorted((_luminance(colours[front]), _luminance(colours[ground])), reverse=True)
        assert (light + 0.05) / (dark + 0.05) >= 4.5, (front, ground)  # WCAG 2.1, 1.4.3


def test_markdown_tables_have_equal_columns_whatever_the_names() -> None:
    text = render_markdown(evil_record())
    block: list[int] = []
    for line in [*text.split("\n"), ""]:
        if line.startswith("|"):
            block.append(len(re.findall(r"(?<!\\)\|", line)))
        elif block:
            assert len(set(block)) == 1, block
            block = []


def test_markdown_escapes_names_and_outlasts_fences_in_the_recipe() -> None:
    text = render_markdown(evil_record())
    outside, _, recipe = text.partition("## Recipe")
    assert "<script" not in outside
    assert "\\[e\\](javascript:1)" in outside
    assert recipe.strip().startswith("````yaml")
    assert recipe.strip().endswith("\n````")


def test_markdown_holds_the_headline_and_no_blank_parts_when_little_is_known() -> None:
    text = render_markdown(small_record())
    assert "| c0 | 98.3\u00a0% | – |" in text
    for absent in ("## Exits", "## Bundles", "## Gate", "## Classes", "None"):
        assert absent not in text


def test_terminal_table_fits_eighty_columns_with_every_figure() -> None:
    console = Console(width=80, record=True, file=io.StringIO(), color_system=None)
    console.print(summary_table(full_record()))
    lines = console.export_text().replace("\u00a0", " ").split("\n")
    assert max(map(len, lines)) <= 80
    row = next(line for line in lines if line.lstrip().startswith("tier 1"))
    assert row.split() == ["tier", "1", "98.2", "%", "97.4", "%", "522", "k", "98", "/", "141", "µs", "312,448"]
    assert any(line.lstrip().startswith("dense model") for line in lines)


def test_terminal_shows_markup_in_a_name_as_text() -> None:
    fields = record_fields()
    only = {**fields["configurations"][0], "tier": None, "id": "[red]x[/red]"}
    record = BuildRecord.model_validate({**fields, "configurations": [only], "classes": []})
    console = Console(width=80, record=True, file=io.StringIO())
    console.print(summary_table(record))
    assert "[red]x[/red]" in console.export_text()


def test_written_files_are_whole_and_the_record_comes_back(tmp_path: Path) -> None:
    files = write_report(full_record(), tmp_path / "report")
    assert load_record(files.json) == full_record()
    assert files.html.read_text(encoding="utf-8") == render_html(full_record())
    assert files.markdown.read_text(encoding="utf-8") == render_markdown(full_record())
    assert files.picture.read_text(encoding="utf-8").startswith("<svg ")
    assert sorted(path.name for path in files.html.parent.iterdir()) == [
        f"report.{kind}" for kind in ("html", "json", "md", "svg")
    ]


def test_nothing_half_written_is_left_when_the_disk_is_full(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = tmp_path / "report"
    before = write_report(full_record(), folder).html.read_bytes()

    def full(_: int) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("os.fsync", full)
    with pytest.raises(EbbtideError) as caught:
        write_report(small_record(), folder)
    assert caught.value.code == "steps.disk_full"
    assert (folder / "report.html").read_bytes() == before
    assert not list(folder.glob(".*"))
