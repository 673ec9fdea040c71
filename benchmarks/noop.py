"""How long a `doit` takes that has nothing to do: `python -m benchmarks.noop --models 1000`.

A catalog of N models, each with a dataset of its own, all built; five steps a model: validate, convert, train, package, register. In turn with the
least that others do for N models, a chain of four files each, every one a copy of the file before: a dodo.py written by hand, with doit's own reporter,
MD5 checker and JSON database (the quickest of its three), a Makefile and a build.ninja. ollamake also asks its server: here a stand-in over real
HTTP on loopback, in a process of its own, which lists its models from memory; a real one reads a manifest for each. And in turn with a catalog of 10 N
models, on a server of its own; `--no-growth` leaves that out, as it takes long to build.

Prints one JSON object. Wall time of whole processes, medians: seconds (ollamake), dodo_seconds, make_seconds, ninja_seconds, seconds_10x (ollamake,
10 N models). Of these, dodo_ratio, make_ratio, ninja_ratio (ollamake to each) and growth_10x (10 N models to N). With `--no-growth` those of 10 N are
null.
"""

from __future__ import annotations

import argparse
import json
import multiprocessing
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import HTTPServer
from multiprocessing.connection import Connection
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).parent.parent / "tests"))

from fake_ollama import FakeOllama
from tiny_base import write_tiny_base

ROUNDS, PROCESSES, RECORDS = 9, 2, 3
STAGES = ("validate", "convert", "train", "register")  # of the file tasks
DOIT = [sys.executable, "-m", "doit"]

OURS = """\
from ollamake import DOIT_CONFIG, tasks_from

def task_models():
    yield from tasks_from("models.yaml")
"""
# Its adapter fits tests/tiny_base.py, and is decided by its text.
TRAINER = """\
import json, sys
from array import array
from binascii import crc32
text, out = sys.argv[1:]
chance = crc32(open(text, "rb").read())
name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
head = json.dumps({
    name.format("A"): {"dtype": "F32", "shape": [2, 64], "data_offsets": [0, 512]},
    name.format("B"): {"dtype": "F32", "shape": [64, 2], "data_offsets": [512, 1024]},
}).encode()
weights = array("f", [(chance >> place % 25 & 127) / 10000 + 0.0001 for place in range(256)])
with open(f"{out}/adapter_model.safetensors", "wb") as file:
    file.write(len(head).to_bytes(8, "little") + head + weights.tobytes())
with open(f"{out}/adapter_config.json", "w") as file:
    json.dump({"peft_type": "LORA", "r": 2, "lora_alpha": 4, "target_modules": ["q_proj"]}, file)
"""
BY_HAND = """\
import shutil

DOIT_CONFIG = {{"backend": "json"}}

def chain(stage, before):
    for number in range({models}):
        source, target = f"{{number}}.{{before}}", f"{{number}}.{{stage}}"
        yield {{"name": str(number), "file_dep": [source], "targets": [target], "actions": [(shutil.copyfile, [source, target])]}}
"""
ONE_BY_HAND = """
def task_{stage}():
    yield from chain({stage!r}, {before!r})
"""


class Server(FakeOllama):
    """The tests' stand-in, quick with many models: a digest is computed once, and requests are answered one after the other, without threads."""

    def __init__(self) -> None:
        self.known: dict[str, tuple[Any, str]] = {}
        self.entries: dict[str, tuple[Any, bytes]] = {}
        super().__init__()
        self._http.process_request = lambda request, address: HTTPServer.process_request(self._http, request, address)
        handler: Any = self._http.RequestHandlerClass
        others = handler.do_GET

        def do_get(asked: Any) -> None:
            if asked.path != "/api/tags":
                others(asked)
                return
            body = b'{"models":[' + b",".join(self.entry(asked, name) for name in self.models) + b"]}"
            asked.send_response(200)
            asked.send_header("Content-Length", str(len(body)))
            asked.end_headers()
            asked.wfile.write(body)

        handler.do_GET = do_get

    def entry(self, asked: Any, name: str) -> bytes:
        """What is listed of a model, written when it was made."""
        recipe, entry = self.entries.get(name, (None, b""))
        if recipe is not self.models[name]:
            entry = json.dumps(asked.listed(name)).encode()
            self.entries[name] = self.models[name], entry
        return entry

    def digest(self, name: str) -> str:
        """The digest of a model, computed when it was made."""
        recipe, digest = self.known.get(name, (None, ""))
        if recipe is not self.models[name]:
            digest = super().digest(name)
            self.known[name] = self.models[name], digest
        return digest


def serve(pipe: Connection) -> None:
    """Be a server until the other end of the pipe is closed."""
    pipe.send(Server().host)
    try:
        pipe.recv()
    except EOFError:
        return


def started_server() -> str:
    """The address of a new server, which ends with this process."""
    here, there = multiprocessing.Pipe()
    multiprocessing.get_context("spawn").Process(target=serve, args=(there,), daemon=True).start()
    there.close()
    SERVERS.append(here)
    return str(here.recv())


SERVERS: list[Connection] = []  # open as long as they shall serve


@dataclass(frozen=True, slots=True, kw_only=True)
class Built:
    """A folder in which everything is built, and the command that finds nothing to do there."""

    folder: Path
    argv: list[str]
    environment: dict[str, str]
    says: Callable[[str], bool]  # does the output say that nothing ran?

    def seconds(self) -> float:
        """The wall time of a run with nothing to do."""
        begun = time.perf_counter()
        done = subprocess.run(self.argv, cwd=self.folder, env=self.environment, capture_output=True, text=True, check=True)
        took = time.perf_counter() - begun
        assert self.says(done.stdout + done.stderr), done.stdout + done.stderr
        return took


def ours(folder: Path, models: int, *more: str) -> Built:
    """A catalog, with more lines where asked, built; the progress of that on stderr."""
    (folder / "datasets").mkdir(parents=True)
    write_tiny_base(folder / "base.gguf")
    (folder / "trainer.py").write_text(TRAINER, encoding="utf-8")
    (folder / "dodo.py").write_text(OURS, encoding="utf-8")
    (folder / "models.yaml").write_text("\n".join([*catalog(models), *more]) + "\n", encoding="utf-8")
    for number in range(models):
        records = [{"instruction": f"Question {record} of {number}?", "output": f"Answer {record}."} for record in range(RECORDS)]
        (folder / f"datasets/{number}.jsonl").write_text("".join(f"{json.dumps(record)}\n" for record in records), encoding="utf-8")
    # A cache of its own: neither the user's embedded Ollama nor the trainings of other builds have to do with this.
    environment = {**os.environ, "OLLAMA_HOST": started_server(), "XDG_CACHE_HOME": str(folder / "cache")}
    build_ours(folder, models, environment)
    built = Built(
        folder=folder,
        argv=DOIT,
        environment=environment,
        says=lambda out: len(out.splitlines()) == 1 and out.startswith(f"{models} models: {models} fresh"),
    )
    built.seconds()
    return built


def catalog(models: int) -> Iterator[str]:
    """The lines of models.yaml."""
    command = json.dumps([sys.executable, "-I", "-S", "trainer.py", "{text}", "{out}"])
    yield "version: 1"
    yield "defaults:"
    yield f"  train: {{trainer: command, command: {command}, rank: 2, target_modules: [q_proj]}}"
    yield "bases:"
    yield "  tiny: {gguf: base.gguf}"
    yield "datasets:"
    yield from (f"  data-{number}: {{files: [datasets/{number}.jsonl]}}" for number in range(models))
    yield "models:"
    yield from (f"  model-{number}: {{base: tiny, data: [data-{number}]}}" for number in range(models))


def build_ours(folder: Path, models: int, environment: dict[str, str]) -> None:
    """Run doit until everything is built."""
    begun, registered = time.monotonic(), 0
    argv = [*DOIT, "-n", str(PROCESSES)]
    with subprocess.Popen(argv, cwd=folder, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as build:
        assert build.stdout is not None  # it is a pipe
        last = ""
        for line in build.stdout:
            last = line
            if line.startswith(".  register:"):
                registered += 1
                if registered % max(1, models // 10) == 0:
                    print(f"{registered} of {models} models built in {time.monotonic() - begun:.0f} s", file=sys.stderr)
    assert build.returncode == 0, last
    assert last.startswith(f"{models} models: {models} rebuilt"), last


def others(folder: Path, models: int) -> dict[str, Built]:
    """The same work for doit by hand, make and ninja, built."""
    chains = list(zip(("source", *STAGES), STAGES, strict=False))
    every = [(f"{number}.{before}", f"{number}.{stage}") for number in range(models) for before, stage in chains]
    last = " ".join(f"{number}.{STAGES[-1]}" for number in range(models))
    by_hand = BY_HAND.format(models=models) + "".join(ONE_BY_HAND.format(stage=stage, before=before) for before, stage in chains)
    # Without its built-in rules, as is usual with many files: make looks for what might make each source by one of them.
    makefile = f"MAKEFLAGS += --no-builtin-rules\n.SUFFIXES:\nall: {last}\n"
    makefile += "".join(f"{made}: {read}\n\tcp {read} {made}\n" for read, made in every)
    ninja = "rule copy\n  command = cp $in $out\n" + "".join(f"build {made}: copy {read}\n" for read, made in every)
    files = {"dodo": ("dodo.py", by_hand), "make": ("Makefile", makefile), "ninja": ("build.ninja", ninja)}
    for what, (name, text) in files.items():
        (folder / what).mkdir()
        (folder / what / name).write_text(text, encoding="utf-8")
        for number in range(models):
            (folder / what / f"{number}.source").write_text(f"{number}\n", encoding="utf-8")
    return {
        "dodo": other(folder / "dodo", DOIT, [], lambda out: out.count("\n") == out.count("-- ") == len(every)),
        "make": other(folder / "make", ["make"], ["-j2"], lambda out: out.strip() == "make: Nothing to be done for 'all'."),
        "ninja": other(folder / "ninja", ["ninja"], ["-j2"], lambda out: out.strip() == "ninja: no work to do."),
    }


def other(folder: Path, argv: list[str], at_once: list[str], says: Callable[[str], bool]) -> Built:
    """The folder, built by the command; a copy is sooner made than given to another process of doit's."""
    built = Built(folder=folder, argv=argv, environment={**os.environ, "LC_ALL": "C"}, says=says)
    subprocess.run([*argv, *at_once], cwd=folder, check=True, stdout=subprocess.DEVNULL)
    built.seconds()
    return built


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks.noop", description="times a doit that has nothing to do")
    parser.add_argument("--models", type=int, default=1000, metavar="N")
    parser.add_argument("--no-growth", action="store_true", help="leave out the catalog of 10 N models")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        built = {"ours": ours(folder / "ours", asked.models), **others(folder, asked.models)}
        if not asked.no_growth:
            built["10x"] = ours(folder / "10x", 10 * asked.models)
        times: dict[str, list[float]] = {what: [] for what in built}
        for _ in range(ROUNDS):
            for what, one in built.items():
                times[what].append(one.seconds())
    median = {what: statistics.median(took) for what, took in times.items()}
    growth = None if asked.no_growth else median["10x"]
    facts = {
        "seconds": round(median["ours"], 4),
        **{f"{what}_ratio": round(median["ours"] / median[what], 3) for what in ("dodo", "make", "ninja")},
        "growth_10x": growth and round(growth / median["ours"], 2),
        **{f"{what}_seconds": round(median[what], 4) for what in ("dodo", "make", "ninja")},
        "seconds_10x": growth and round(growth, 4),
    }
    print(json.dumps(facts))


if __name__ == "__main__":
    main()
