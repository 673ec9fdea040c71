"""The pages of a report: whole HTML, each text only a text, each link to something that is there, each file that of its makers."""

from __future__ import annotations

import hashlib
import json
import re
from html.parser import HTMLParser
from pathlib import Path
from urllib.parse import unquote

import pytest
from msgspec.structs import replace

from ollamake.report import texts
from ollamake.report.facts import CatalogFacts, ModelFacts
from ollamake.report.pages import HERE, POLICY, assets, catalog_page, dataset_page_of, model_page_of
from report_facts import HARM, Site, bare_dataset, bare_model, catalog, many, small, spoiled, spoiled_site

VENDOR = HERE / "assets/vendor"
VOID = {"meta", "link", "input", "br", "img"}  # of HTML; those of SVG close themselves


class Read(HTMLParser):
    """What stands in a page; a fault of its nesting is an assertion."""

    def __init__(self, html: str) -> None:
        super().__init__(convert_charrefs=True)
        self.open: list[str] = []
        self.ids: list[str] = []
        self.links: list[str] = []
        self.files: list[str] = []
        self.scripts: list[dict[str, str | None]] = []
        self.data: list[str] = []
        self.names: set[str] = set()  # of attributes
        self.tags: set[str] = set()
        self.text: list[str] = []
        self.feed(html)
        self.close()
        assert self.open == []

    def handle_starttag(self, tag, attrs):
        self.handle_startendtag(tag, attrs)
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        found = dict(attrs)
        assert len(found) == len(attrs), (tag, attrs)
        self.tags.add(tag)
        self.names |= set(found)
        self.ids += [found["id"]] if "id" in found else []
        self.links += [found["href"]] if tag == "a" else []
        self.files += [found["href"]] if tag == "link" else [found["src"]] if "src" in found else []
        self.scripts += [found] if tag == "script" else []

    def handle_endtag(self, tag):
        assert self.open, tag
        assert self.open.pop() == tag

    def handle_data(self, data):
        (self.data if self.open and self.open[-1] == "script" else self.text).append(data)


def held(html: str) -> Read:
    """A page that keeps what all pages promise."""
    page = Read(html)
    assert html.startswith("<!doctype html>\n")
    assert f'<meta http-equiv="Content-Security-Policy" content="{POLICY.replace(chr(39), "&#39;")}">' in html
    assert len(page.ids) == len(set(page.ids))
    assert not {name for name in page.names if name.startswith("on") or name == "style"}
    assert not {"style", "iframe", "object", "embed", "base", "form:action"} & page.tags
    assert all("src" in script or script == {"type": "application/json", "id": script["id"]} for script in page.scripts)
    for data in page.data:
        if data.strip():
            json.loads(data)
    html.encode()  # what can be written
    return page


def all_pages(site: Site) -> dict[str, Read]:
    return {path: held(html) for path, html in site.pages()}


def test_every_link_of_a_report_leads_to_something_in_it() -> None:
    pages, files = all_pages(small()), {path for path, _ in assets()}
    for path, page in pages.items():
        folder = Path(path).parent
        for link in page.links:
            to, _, anchor = link.partition("#")
            to = unquote(to.partition("?")[0])
            target = re.sub(r"^[^/]+/\.\./", "", (folder / to).as_posix()) if to else path
            assert target in pages, (path, link)
            assert not anchor or anchor in pages[target].ids, (path, link)
        for file in page.files:
            assert re.sub(r"^[^/]+/\.\./", "", (folder / file).as_posix()) in files, (path, file)


@pytest.mark.parametrize("text", HARM)
def test_a_text_of_people_stays_a_text(text: str) -> None:
    usual = all_pages(small())
    for path, page in all_pages(spoiled_site(text)).items():
        assert page.tags <= usual[path].tags | {"span"}  # of a long text it is said that it was cut
        assert page.names <= usual[path].names
        assert [link for link in page.links if ":" in link.partition("?")[0]] == []
    shown = "".join(all_pages(spoiled_site(text))["datasets/errors.html"].text)
    assert texts.clean(text) in shown


@pytest.mark.parametrize("text", HARM)
def test_not_even_a_name_does_harm(text: str) -> None:
    """The catalog refuses such names; the pages don't count on it."""
    site = small()
    held(catalog_page(spoiled(site.catalog, text)))
    held(model_page_of(spoiled(site.models[1], text), site.catalog))
    held(dataset_page_of(spoiled(site.datasets[1], text), site.catalog))


def test_a_long_text_is_cut_and_it_is_said_how_much_is_left_out() -> None:
    site = spoiled_site("0123456789" * 20_000)
    for path, html in site.pages():
        assert len(html) < 250_000, path
    page = Read(dict(site.pages())["datasets/errors.html"])
    assert "196,000 more characters are not shown." in page.text


def test_what_is_not_there_is_said_in_words() -> None:
    site = small()
    row = site.models[2].row
    model = "".join(held(model_page_of(bare_model(row), site.catalog)).text)
    for said in ("Not trained yet: ", "nothing to plot", "It was not tested yet.", "No version of it was promoted yet.", "It is not made yet."):
        assert said in model
    dataset = "".join(held(dataset_page_of(bare_dataset(site.catalog.datasets[0]), site.catalog)).text)
    for said in (
        "No file is there.",
        "No rule has anything to say.",
        "There are no records to show.",
        "No model reads it.",
        "Git knows no commit yet",
    ):
        assert said in dataset
    empty = held(catalog_page(catalog((), ())))
    assert "0 models; 0 datasets." in re.sub(r"\s+", " ", "".join(empty.text)).replace("models ;", "models;")
    assert "table" not in empty.tags


def test_a_page_of_a_model_says_nothing_of_when_the_report_was_made() -> None:
    """It is written again where its own facts changed, and nowhere else."""
    site = small()
    later: CatalogFacts = replace(site.catalog, made="2027-01-01T00:00:00Z", commit="another")
    assert model_page_of(site.models[0], site.catalog) == model_page_of(site.models[0], later)
    assert dataset_page_of(site.datasets[0], site.catalog) == dataset_page_of(site.datasets[0], later)


def test_a_test_without_answers_and_one_that_the_base_did_not_answer_are_shown() -> None:
    site = small()
    one: ModelFacts = site.models[0]
    results = tuple(replace(test, answer_of_base=None, answer="") for test in one.tests[0].results)
    page = held(model_page_of(replace(one, tests=(replace(one.tests[0], results=results),)), site.catalog))
    assert "The version before" in page.text
    assert page.text.count("Base") == 0


def test_a_thousand_models_are_a_page_of_a_megabyte() -> None:
    html = catalog_page(many(1000))
    assert held(html).tags >= {"table"}
    assert len(html) < 1_200_000


def test_the_files_of_others_are_byte_for_byte_theirs() -> None:
    """VENDORED.md says where each is from, and its digest."""
    listed = dict(re.findall(r"^- `([^`]+)` `([0-9a-f]{64})`$", (VENDOR / "VENDORED.md").read_text(encoding="utf-8"), flags=re.MULTILINE))
    there = {path.relative_to(VENDOR).as_posix(): hashlib.sha256(path.read_bytes()).hexdigest() for path in VENDOR.rglob("*") if path.is_file()}
    assert {path: digest for path, digest in there.items() if path != "VENDORED.md"} == listed
    for folder in VENDOR.iterdir():
        assert folder.is_file() or (folder / "LICENSE").is_file()


def test_no_script_of_a_page_writes_markup_or_asks_for_anything() -> None:
    for path in (HERE / "assets").glob("*.js"):
        found = re.findall(
            r"innerHTML|outerHTML|insertAdjacentHTML|document\.write|\beval\b|new Function|fetch\(|XMLHttp|import\(", path.read_text(encoding="utf-8")
        )
        assert found == [], path


@pytest.mark.parametrize(
    ("count", "said"),
    [
        (1, "1 byte"),
        (999, "999 bytes"),
        (9_000_000, "9.0 MB"),
        (999_600_000, "1.0 GB"),
        (140_700_000, "141 MB"),
        (2_500_000_000_000, "2,500 GB"),
        (None, "-"),
    ],
)
def test_sizes(count: int | None, said: str) -> None:
    assert texts.size(count) == said
