"""How long it takes to load and check a catalog: `python -m benchmarks.catalog --models 1000`.

A catalog of N models, each with a dataset, a recipe, a system prompt and parameters of its own, in one file; and the same in N / 5 files that one file
includes. Each load is one in a new process, from before the first import of the loader to the catalog, every check made: `cold` reads YAML and checks it
by the schema, with PyYAML and jsonschema to import first; `cached` finds what a load before it has kept, and looks at the environment and the disk
alone. Python and doit, which the loader runs in, are there already when the clock starts; `process` is all of such a process, with them.

Prints one JSON object. Medians, seconds: cold_seconds, cached_seconds; included_cold_seconds and included_cached_seconds, of the many files;
process_cached_seconds, process_cold_seconds and process_seconds, of a process that imports ollamake and does nothing more; yaml_seconds, of PyYAML's
quickest safe loader with the one file, which gives neither lines nor checks; yaml_ratio, cold_seconds to it.
"""

from __future__ import annotations

import argparse
import json
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

ROUNDS, IN_A_FILE = 9, 5

LOAD = """\
import ollamake, sys, time
begun = time.perf_counter()
from pathlib import Path
from ollamake.catalog.load import load_catalog
from ollamake.state.readings import kept_reading
with kept_reading("models.yaml", may_write={keeps}) as kept:
    catalog = load_catalog(Path("models.yaml"), trainers=("peft",), kept=kept)
took = time.perf_counter() - begun
assert len(catalog.models) == {models} and not catalog.warnings and ("yaml" in sys.modules) is {cold}
print(took)
"""
YAML = """\
import time, yaml
begun = time.perf_counter()
with open("models.yaml", "rb") as file:
    yaml.load(file, Loader=yaml.CSafeLoader)
print(time.perf_counter() - begun)
"""
HEAD = """\
version: 1
defaults:
  train: {rank: 8, epochs: 2}
  serve: {parameters: {top_p: 0.9}}
bases:
  small: {gguf: bases/small.gguf}
"""


def entries(numbers: range) -> Iterator[str]:
    """The datasets and models of these numbers."""
    yield "datasets:\n"
    yield from (f"  data-{number}: {{files: [{number}.jsonl]}}\n" for number in numbers)
    yield "models:\n"
    for number in numbers:
        yield f"  model-{number}:\n    base: small\n    data: [data-{number}]\n    train: {{learning_rate: 2e-4, seed: {number}}}\n"
        yield f"    serve: {{system: You are desk {number}., parameters: {{temperature: 0.2}}}}\n    tags: [desk]\n"


def in_one_file(folder: Path, models: int) -> None:
    (folder / "models.yaml").write_text(HEAD + "".join(entries(range(models))), encoding="utf-8")
    for number in range(models):
        (folder / f"{number}.jsonl").touch()


def in_many_files(folder: Path, models: int) -> None:
    (folder / "models.yaml").write_text(f"{HEAD}include: [teams/*/models.yaml]\n", encoding="utf-8")
    for first in range(0, models, IN_A_FILE):
        team = folder / f"teams/{first}"
        team.mkdir(parents=True)
        numbers = range(first, min(first + IN_A_FILE, models))
        (team / "models.yaml").write_text("version: 1\n" + "".join(entries(numbers)), encoding="utf-8")
        for number in numbers:
            (team / f"{number}.jsonl").touch()


def run(folder: Path, program: str) -> tuple[float, float]:
    """The seconds that the program says, and those of its whole process."""
    begun = time.perf_counter()
    done = subprocess.run([sys.executable, "-c", program], cwd=folder, capture_output=True, text=True, check=True)
    return float(done.stdout), time.perf_counter() - begun


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.catalog", description="times the loading of a catalog")
    parser.add_argument("--models", type=int, default=1000, metavar="N")
    asked = parser.parse_args()
    took: dict[str, list[float]] = {}
    with tempfile.TemporaryDirectory() as temporary:
        folders = {"": Path(temporary, "one"), "included_": Path(temporary, "many")}
        for folder, write in zip(folders.values(), (in_one_file, in_many_files), strict=True):
            folder.mkdir()
            write(folder, asked.models)
        for _ in range(ROUNDS):
            for what, folder in folders.items():
                kept = folder / ".ollamake/catalogs/models.yaml.msgpack"
                kept.unlink(missing_ok=True)
                for kind in ("cold", "cached"):
                    seconds, whole = run(folder, LOAD.format(models=asked.models, cold=kind == "cold", keeps=False))
                    took.setdefault(f"{what}{kind}_seconds", []).append(seconds)
                    took.setdefault(f"{what}process_{kind}_seconds", []).append(whole)
                    if kind == "cold":
                        run(folder, LOAD.format(models=asked.models, cold=True, keeps=True))
                        assert kept.exists()
            took.setdefault("yaml_seconds", []).append(run(folders[""], YAML)[0])
            took.setdefault("process_seconds", []).append(run(folders[""], "import ollamake\nprint(0)")[1])
    median = {what: statistics.median(times) for what, times in took.items() if not what.startswith("included_process")}
    facts = {what: round(seconds, 4) for what, seconds in median.items()}
    print(json.dumps({**facts, "yaml_ratio": round(median["cold_seconds"] / median["yaml_seconds"], 2)}))


if __name__ == "__main__":
    main()
