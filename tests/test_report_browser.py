"""A report in a real Chromium, from files: nothing is asked for, nothing is said, the keyboard reaches everything, and no text does anything."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Page

from browser import NARROW, WIDE, browser, opened
from report_facts import HARM, Site, many, small, spoiled_site

__all__ = ["browser", "opened"]
Open = Callable[..., Any]
KINDS = ("index.html", "models/troubleshooter.html", "datasets/errors.html")
SHOWN = "#table tbody tr:not([hidden])"
# All that Tab should reach, in the order of the page.
REACHABLE = "a[href], button, input, select, summary, [tabindex='0']"


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("site")
    small().write(folder)
    return folder


@pytest.fixture(scope="module")
def thousand(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return Site(catalog=many(1000), models=(), datasets=()).write(tmp_path_factory.mktemp("thousand"))


def names(page: Page) -> list[str]:
    return list(page.evaluate(f"[...document.querySelectorAll({f'{SHOWN} th a'!r})].map((one) => one.textContent)"))


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_every_page_loads_from_files_without_a_word_and_asks_for_nothing_else(site: Path, opened: Open, scheme: str) -> None:
    for path in sorted(site.rglob("*.html")):
        with opened(path, color_scheme=scheme) as one:
            one.page.wait_for_timeout(50)
            assert one.said == []
            assert one.asked
            assert [url for url in one.asked if not url.startswith(f"{site.as_uri()}/")] == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("scheme", ["light", "dark"])
@pytest.mark.parametrize("size", [WIDE, NARROW], ids=["wide", "narrow"])
def test_axe_finds_nothing(site: Path, opened: Open, kind: str, scheme: str, size: dict[str, int]) -> None:
    with opened(site / kind, color_scheme=scheme, viewport=size, reduced_motion="reduce") as one:
        one.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        found = Axe().run(one.page)
        assert found.response["violations"] == [], found.generate_report()


@pytest.mark.parametrize("kind", KINDS)
def test_a_phone_scrolls_no_page_sideways(site: Path, opened: Open, kind: str) -> None:
    with opened(site / kind, viewport=NARROW) as one:
        one.page.evaluate("for (const one of document.querySelectorAll('details')) one.open = true")
        assert one.page.evaluate("document.documentElement.scrollWidth") <= NARROW["width"]


def test_without_scripts_everything_is_there_to_be_read(site: Path, opened: Open) -> None:
    with opened(site / "index.html", java_script_enabled=False) as one:
        assert one.page.locator("#table tbody tr").count() == 3
        assert not one.page.locator("#filters").is_visible()
        assert one.page.get_by_text("2026-02-02 01:30").first.is_visible()
    with opened(site / "models/troubleshooter.html", java_script_enabled=False) as one:
        assert one.page.get_by_text("validate:errors will run").first.is_visible()
        assert not one.page.locator("#plots").is_visible()
        one.page.get_by_text("The numbers").click()
        assert one.page.get_by_role("region", name="Losses of the trainings").is_visible()
    with opened(site / "datasets/errors.html", java_script_enabled=False) as one:
        assert one.page.locator("svg.bars rect.bar.over").count() > 0
        assert one.page.locator("svg.rise polyline").is_visible()


def test_search_and_filters_show_what_is_meant_and_stand_in_the_address(thousand: Path, opened: Open) -> None:
    with opened(thousand) as one:
        page = one.page
        assert page.locator("#found").inner_text() == "1,000 models"
        page.locator("#q").fill("model-0042")
        assert names(page) == ["model-0042"]
        assert page.locator("#found").inner_text() == "1 of 1,000 models"
        page.locator("#q").fill("data-7 legal")
        assert set(names(page)) == {f"model-{place:04}" for place in (7, *range(70, 80), *range(700, 800)) if place % 3 == 1}
        page.locator("#q").fill("nothing is so")
        assert names(page) == []
        assert page.get_by_text("No model is like that.").is_visible()
        page.get_by_role("button", name="Clear").click()
        page.locator("select[name=state]").select_option("stale")
        assert page.locator("#found").inner_text() == "143 of 1,000 models"
        assert len(names(page)) == 50
        page.get_by_role("button", name="Show all 143 models").press("Enter")
        assert len(names(page)) == 143
        assert page.evaluate("document.activeElement.textContent") == names(page)[50]
        page.locator("select[name=base]").select_option("qwen3")
        page.locator("select[name=state]").select_option("train")
        page.locator("#q").fill("9")
        shown = names(page)
        assert shown
        page.wait_for_url(re.compile(r"\?state=train&base=qwen3&q=9$"))
        again = page.url
        page.goto("about:blank")
        page.goto(again)
        assert names(page) == shown
        page.goto(f"{thousand.as_uri()}?tag=eu&data=data-1&state=missing")
        assert page.locator("#found").inner_text() == "0 of 1,000 models"
        page.goto(f"{thousand.as_uri()}?tag=eu&data=data-4&state=missing")
        assert names(page) == ["model-0004"]
        assert one.said == []


def test_columns_sort_both_ways_by_value(site: Path, opened: Open) -> None:
    with opened(site / "index.html") as one:
        head = one.page.locator("#table thead th", has_text="Trained")
        head.get_by_role("button").click()
        assert names(one.page) == ["not-yet", "help-desk", "troubleshooter"]
        assert head.get_attribute("aria-sort") == "ascending"
        head.get_by_role("button").press("Enter")
        assert names(one.page) == ["troubleshooter", "help-desk", "not-yet"]
        assert head.get_attribute("aria-sort") == "descending"
        one.page.locator("#table thead th", has_text="Adapter").get_by_role("button").click()
        assert names(one.page)[0] == "not-yet"
        assert head.get_attribute("aria-sort") is None


def test_the_keyboard_alone_finds_a_model_and_reads_it(thousand: Path, site: Path, opened: Open) -> None:
    with opened(site / "index.html") as one:
        keys = one.page.keyboard
        keys.press("Tab")
        assert one.page.evaluate("document.activeElement.textContent") == "Skip to content"
        keys.press("Enter")
        assert one.page.evaluate("document.activeElement.id") == "main"
        keys.press("/")
        keys.type("trouble/")  # a slash in the search is a slash
        assert one.page.locator("#q").input_value() == "trouble/"
        keys.press("Backspace")
        keys.press("ArrowDown")
        assert one.page.evaluate("document.activeElement.textContent") == "troubleshooter"
        keys.press("ArrowUp")
        assert one.page.evaluate("document.activeElement.id") == "q"
        keys.press("Enter")
        keys.press("Enter")
        one.page.wait_for_url(f"{site.as_uri()}/models/troubleshooter.html")
        node = one.page.locator("#graph a").nth(1)
        node.focus()
        keys.press("Enter")
        one.page.locator("#node-2:focus").wait_for()
        assert one.page.url.endswith("#node-2")
        button = one.page.locator(".legend button").nth(1)
        button.focus()
        keys.press("Space")
        assert button.get_attribute("aria-pressed") == "false"
        assert one.said == []
    with opened(thousand) as one:
        keys = one.page.keyboard
        keys.press("/")
        for key, name in (
            ("ArrowDown", "model-0000"),
            ("ArrowDown", "model-0001"),
            ("End", "model-0999"),
            ("ArrowUp", "model-0998"),
            ("Home", "model-0000"),
        ):
            keys.press(key)
            assert one.page.evaluate("document.activeElement.textContent") == name
        keys.press("Escape")
        assert one.page.evaluate("document.activeElement.id") == "q"


@pytest.mark.parametrize("kind", KINDS)
def test_tab_reaches_everything_in_the_order_of_the_page(site: Path, opened: Open, kind: str) -> None:
    with opened(site / kind, reduced_motion="reduce") as one:
        wanted = one.page.evaluate(
            f"[...document.querySelectorAll({REACHABLE!r})].filter((one) => one.checkVisibility()).map((one, i) => {{ one.dataset.place = i; return i; }})"
        )
        assert len(wanted) > 10
        reached = []
        for _ in wanted:
            one.page.keyboard.press("Tab")
            reached.append(int(one.page.evaluate("document.activeElement.dataset.place ?? -1")))
        assert reached == wanted


def test_the_theme_is_the_systems_until_one_is_chosen_which_stays(site: Path, opened: Open) -> None:
    paper = "getComputedStyle(document.body).backgroundColor"
    with opened(site / "models/help-desk.html", color_scheme="dark") as one:
        dark = one.page.evaluate(paper)
        ink = one.page.evaluate("document.querySelectorAll('#plots canvas')[0].toDataURL()")
        one.page.get_by_role("button", name="Light theme").click()
        light = one.page.evaluate(paper)
        assert light != dark
        assert one.page.evaluate("document.querySelectorAll('#plots canvas')[0].toDataURL()") != ink
        one.page.goto((site / "index.html").as_uri())
        assert one.page.evaluate(paper) == light


def test_plots_and_the_graph_are_drawn_and_fit_the_window(site: Path, opened: Open) -> None:
    with opened(site / "models/troubleshooter.html") as one:
        assert one.page.locator("#plots canvas").count() == 2
        assert one.page.locator(".legend button").count() == 4
        assert one.page.locator("#graph a").count() == 7
        assert one.page.locator("#graph a.is-stale").count() == 4
        assert one.page.locator("#graph a.is-stale").first.get_attribute("aria-label") == "dataset errors, stale"
        one.page.locator("#plots .u-over").first.hover()
        assert re.match(r"step \d+ .*now \d", one.page.locator(".readout").inner_text())
        one.page.set_viewport_size(NARROW)
        one.page.wait_for_timeout(200)  # a frame or two: it is told of its new size
        assert one.page.evaluate("document.querySelector('#plots canvas').getBoundingClientRect().right") <= NARROW["width"]


def test_paper_has_no_controls_and_all_details(site: Path, opened: Open) -> None:
    with opened(site / "models/troubleshooter.html", color_scheme="dark") as one:
        one.page.emulate_media(media="print")
        assert not one.page.locator("#theme").is_visible()
        one.page.evaluate(
            "addEventListener('beforeprint', () => setTimeout(() => { window.printed = document.querySelectorAll('details:not([open])').length; }))"
        )
        one.page.evaluate("dispatchEvent(new Event('beforeprint'))")
        assert one.page.locator("details:not([open])").count() == 0
        assert one.page.evaluate("document.documentElement.dataset.theme") == "light"
        one.page.evaluate("dispatchEvent(new Event('afterprint'))")
        assert one.page.locator("details:not([open])").count() > 0
        assert one.page.evaluate("document.documentElement.dataset.theme") is None
        assert one.page.pdf().startswith(b"%PDF")


@pytest.mark.parametrize("text", [" ".join(HARM), "<script>alert(1)</script>" + "0123456789" * 20_000], ids=["harm", "200KB"])
def test_no_text_of_people_does_anything(tmp_path: Path, opened: Open, text: str) -> None:
    spoiled_site(text).write(tmp_path)
    for path in sorted(tmp_path.rglob("*.html")):
        with opened(path) as one:
            one.page.wait_for_timeout(100)
            assert one.said == []
            assert [url for url in one.asked if not url.startswith(f"{tmp_path.as_uri()}/")] == []
            assert one.page.evaluate("document.documentElement.scrollWidth") <= WIDE["width"]
    with opened(tmp_path / "datasets/errors.html") as one:
        assert "<script>alert(1)</script>" in one.page.locator(".sample").first.inner_text()
        assert one.page.locator("script:not([src])").count() == 0
