"""How long a `doit report` takes: `python -m benchmarks.report --models 1000`.

The catalog of `benchmarks.noop`: N models, each with a dataset of its own, all built. Its server is a stand-in in a process of its own.

Prints one JSON object. Wall time of whole processes less that of `python -c pass`, medians:
seconds_N (N is 1000 by default): no report is there yet; a page for each model and each dataset is written, and the first page.
seconds_one_changed: a record of one dataset was edited since the last report. Its page, that of its model and the first page are written.
seconds_one_rebuilt: that model was built anew since.
seconds_nothing_changed: no page is written.
interpreter_seconds: what was taken off. pages, bytes: what there is at the end.
"""

from __future__ import annotations

import argparse
import json
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from benchmarks.noop import DOIT, Built, ours

ROUNDS = 5
OLD = 0.3  # seconds after which files are old enough to be known by their times


def start() -> float:
    """The wall time of an interpreter that does nothing."""
    begun = time.perf_counter()
    subprocess.run([sys.executable, "-c", "pass"], check=True)
    return time.perf_counter() - begun


def reported(built: Built, pages: int | None) -> float:
    """The wall time of a report, which writes so many pages."""
    time.sleep(OLD)
    begun = time.perf_counter()
    done = subprocess.run([*DOIT, "report", "--json"], cwd=built.folder, env=built.environment, capture_output=True, text=True, check=True)
    took = time.perf_counter() - begun
    written = [path for path in json.loads(done.stdout)["written"] if path.endswith(".html")]
    assert pages in {None, len(written)}, written
    return took


def edit(built: Built, number: int) -> None:
    """Have a record more in one dataset."""
    with (built.folder / "datasets/0.jsonl").open("a", encoding="utf-8") as file:
        file.write(json.dumps({"instruction": f"What is new in round {number}?", "output": f"Answer {number}."}) + "\n")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.report", description="times doit report")
    parser.add_argument("--models", type=int, default=1000, metavar="N")
    parser.add_argument("--rounds", type=int, default=ROUNDS, metavar="N")
    asked = parser.parse_args()
    times: dict[str, list[float]] = {what: [] for what in ("all", "changed", "rebuilt", "nothing", "start")}
    with tempfile.TemporaryDirectory() as temporary:
        built = ours(Path(temporary, "ours"), asked.models)
        site = built.folder / "build/report"
        for number in range(asked.rounds):
            times["start"].append(start())
            shutil.rmtree(site, ignore_errors=True)
            (built.folder / ".ollamake/report.msgpack").unlink(missing_ok=True)
            times["all"].append(reported(built, 2 * asked.models + 1))
            times["nothing"].append(reported(built, 0))
            edit(built, number)
            times["changed"].append(reported(built, 3))
            subprocess.run(DOIT, cwd=built.folder, env=built.environment, capture_output=True, check=True)
            times["rebuilt"].append(reported(built, 3))
        pages = [path for path in site.rglob("*") if path.is_file()]
        size = sum(path.stat().st_size for path in pages)
    begin = statistics.median(times["start"])
    beyond = {what: round(statistics.median(took) - begin, 3) for what, took in times.items()}
    facts = {
        f"seconds_{asked.models}": beyond["all"],
        "seconds_one_changed": beyond["changed"],
        "seconds_one_rebuilt": beyond["rebuilt"],
        "seconds_nothing_changed": beyond["nothing"],
        "interpreter_seconds": round(begin, 3),
        "pages": sum(path.suffix == ".html" for path in pages),
        "bytes": size,
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
