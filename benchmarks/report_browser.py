"""How long a reader of a report waits: the first page of a thousand models until it is usable, and a search in it, in the system's Chromium.

    python -m benchmarks.report_browser [build/report/index.html] [--times N]
    python -m benchmarks.report_browser --shots docs/images [build/report/index.html]

Without a page, facts of a thousand models are made up. `--shots` looks at a report instead, and keeps what it sees, in light and in dark.
Needs the extra `dev`, and a Chromium.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import tempfile
from pathlib import Path
from typing import Any

from playwright.sync_api import Browser, sync_playwright

ROOT = Path(__file__).parent.parent
sys.path.insert(0, str(ROOT / "tests"))

from browser import found  # noqa: E402 (what tests have of it)
from report_facts import Site, many, small  # noqa: E402

MODELS = 1000
SEARCHES = ("model-0042", "7", "legal", "data-9 support", "nothing is so", "")
# Usable: painted, and its script has said that it answers. The time of the page's own start is 0.
USABLE = """() => Math.max(...["first-contentful-paint", "usable"].map((name) => performance.getEntriesByName(name)[0].startTime))"""
# From the key to the next picture: two frames, so that what the search changed is laid out and painted.
SEARCH = """(text) => new Promise((done) => {
  const field = document.getElementById("q");
  const from = performance.now();
  field.value = text;
  field.dispatchEvent(new Event("input", {bubbles: true}));
  const worked = performance.now() - from;
  requestAnimationFrame(() => requestAnimationFrame(() => done({worked, shown: performance.now() - from})));
})"""
PAGES = {"catalog": "index.html", "model": "models/{model}.html", "dataset": "datasets/{dataset}.html"}


def measured(browser: Browser, page: Path, times: int) -> dict[str, Any]:
    usable, searches = [], []
    for _ in range(times):
        context = browser.new_context(viewport={"width": 1280, "height": 800})
        tab = context.new_page()
        tab.goto(page.as_uri())
        tab.wait_for_timeout(500)
        usable.append(tab.evaluate(USABLE))
        searches.extend(tab.evaluate(SEARCH, text)["shown"] for text in SEARCHES)
        context.close()
    return {
        "models": MODELS,
        "usable_ms": round(statistics.median(usable)),
        "usable_ms_worst": round(max(usable)),
        "search_ms": round(statistics.median(searches)),
        "search_ms_worst": round(max(searches)),
    }


def shots(browser: Browser, index: Path, folder: Path) -> None:
    """Pictures of the three kinds of page: a model that has most to show, and the dataset that has."""
    folder.mkdir(parents=True, exist_ok=True)
    names = {kind: max((index.parent / f"{kind}s").glob("*.html"), key=lambda path: path.stat().st_size).stem for kind in ("model", "dataset")}
    for scheme in ("light", "dark"):
        for kind, path in PAGES.items():
            context = browser.new_context(viewport={"width": 1200, "height": 1500 if kind != "catalog" else 760}, color_scheme=scheme)
            tab = context.new_page()
            tab.goto((index.parent / path.format(**names)).as_uri())
            tab.wait_for_timeout(500)
            picture = folder / f"report-{kind}-{scheme}.png"
            tab.screenshot(path=picture)
            context.close()
            print(f"{picture} {picture.stat().st_size / 1000:.0f} kB")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("index", nargs="?", type=Path)
    parser.add_argument("--times", type=int, default=5)
    parser.add_argument("--shots", type=Path)
    given = parser.parse_args()
    path = found()
    if path is None:
        sys.exit("no Chromium here\n  fix: apt-get install chromium")
    with tempfile.TemporaryDirectory() as made, sync_playwright() as play:
        browser = play.chromium.launch(executable_path=path, args=["--no-sandbox"])
        if given.shots:
            shots(browser, given.index.resolve() if given.index else small().write(Path(made)), given.shots)
        else:
            index = given.index.resolve() if given.index else Site(catalog=many(MODELS), models=(), datasets=()).write(Path(made))
            print(json.dumps(measured(browser, index, given.times)))
        browser.close()


if __name__ == "__main__":
    main()
