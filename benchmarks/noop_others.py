"""How long DVC and Snakemake take to find that nothing is to be done, beside a `doit`: `python -m benchmarks.noop_others --dvc DVC --snakemake SNAKEMAKE`.

DVC and SNAKEMAKE are their programs, each in an environment of its own (`python3 -m venv DIR && DIR/bin/pip install dvc`); what is not given is left out.
N models in turn, as in benchmarks/noop.py: a catalog of ours, and the least that the others do for it, a chain of four files a model, every one a copy of
the file before. DVC has a stage for each (`foreach`), in a folder without git, and runs `dvc repro`; Snakemake has a rule for each with the model as its
wildcard, and runs `snakemake --cores 2`. Both with their own defaults, and DVC's analytics off.

Prints one JSON object. Wall time of whole processes, medians: seconds (ollamake), dvc_seconds, snakemake_seconds; and their ratios to ollamake.
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path

from benchmarks.noop import STAGES, Built, ours

ROUNDS = 5
CHAIN = list(zip(("source", *STAGES), STAGES, strict=False))


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop_others", description="times DVC and Snakemake with nothing to do, beside doit")
    parser.add_argument("--models", type=int, default=100, metavar="N")
    parser.add_argument("--dvc", metavar="PROGRAM", help="leave it out to leave DVC out")
    parser.add_argument("--snakemake", metavar="PROGRAM", help="leave it out to leave Snakemake out")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = {"ours": ours(folder / "ours", asked.models)}
        if asked.dvc:
            built["dvc"] = of_dvc(folder / "dvc", asked.models, asked.dvc)
        if asked.snakemake:
            built["snakemake"] = of_snakemake(folder / "snakemake", asked.models, asked.snakemake)
        times: dict[str, list[float]] = {what: [] for what in built}
        for _ in range(ROUNDS):
            for what, one in built.items():
                times[what].append(one.seconds())
    median = {what: statistics.median(took) for what, took in times.items()}
    mine = median.pop("ours")
    facts = {
        "models": asked.models,
        "seconds": round(mine, 4),
        **{f"{what}_seconds": round(took, 3) for what, took in median.items()},
        **{f"{what}_ratio": round(took / mine, 1) for what, took in median.items()},
    }
    print(json.dumps(facts))


def of_dvc(folder: Path, models: int, program: str) -> Built:
    """A pipeline of DVC's, built."""
    lines = ["stages:"]
    for before, stage in CHAIN:
        source, target = f"${{item}}.{before}", f"${{item}}.{stage}"
        lines += [f"  {stage}:", f"    foreach: {json.dumps([str(number) for number in range(models)])}", "    do:"]
        lines += [f"      cmd: cp {source} {target}", f"      deps: [{source!r}]", f"      outs: [{target!r}]"]
    environment = {**os.environ, "DVC_NO_ANALYTICS": "1", "DVC_SITE_CACHE_DIR": str(folder / "site")}
    with_sources(folder, models)
    for arguments in (["init", "--no-scm"], ["config", "core.analytics", "false"], ["config", "core.check_update", "false"]):
        subprocess.run([program, *arguments], cwd=folder, env=environment, check=True, stdout=subprocess.DEVNULL)
    (folder / "dvc.yaml").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return built_by([program, "repro"], folder, environment, lambda out: out.strip().endswith("Data and pipelines are up to date."))


def of_snakemake(folder: Path, models: int, program: str) -> Built:
    """A workflow of Snakemake's, built."""
    rules = f'rule all:\n    input: expand("{{number}}.{STAGES[-1]}", number=range({models}))\n'
    for before, stage in CHAIN:
        rules += f'\nrule {stage}:\n    input: "{{number}}.{before}"\n    output: "{{number}}.{stage}"\n    shell: "cp {{input}} {{output}}"\n'
    with_sources(folder, models)
    (folder / "Snakefile").write_text(rules, encoding="utf-8")
    return built_by([program, "--cores", "2"], folder, dict(os.environ), lambda out: "Nothing to be done" in out)


def with_sources(folder: Path, models: int) -> None:
    """Make the folder, with the files that chains begin with."""
    folder.mkdir()
    for number in range(models):
        (folder / f"{number}.source").write_text(f"{number}\n", encoding="utf-8")


def built_by(argv: list[str], folder: Path, environment: dict[str, str], says: Callable[[str], bool]) -> Built:
    """The folder, built by the command; how that goes on stderr."""
    built = Built(folder=folder, argv=argv, environment=environment, says=says)
    print(f"{Path(argv[0]).name} builds", file=sys.stderr)
    subprocess.run(argv, cwd=folder, env=environment, check=True, capture_output=True)
    built.seconds()
    return built


if __name__ == "__main__":
    main()
