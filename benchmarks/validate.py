"""How fast datasets are checked: `python -m benchmarks.validate --records 1000000`.

One JSONL file of alpaca records of about 240 bytes, of words, with line ends, quotes and letters beyond ASCII in some. Ours is the whole stage: all
default rules, the digest of the file, fingerprints, marker and index, written to the disk. In turn with it, each in a process of its own from opening
the file to its end, imports left out: `json.loads` and jsonschema's `iter_errors` for each line; msgspec decoding the whole file into structs, which
checks types and keys alone; and ollama-forge's `validate_training_data`, from PyPI, in an environment that is made for it. On one core means that the process may
use no other; on two, ours starts its own helper within the time.

Prints one JSON object. Medians of the rounds: records_per_s, mb_per_s (ours, one core), records_per_s_2core, and seconds of others to ours:
jsonschema_ratio_1core, jsonschema_ratio_2core, ollama_forge_ratio (one core). msgspec_ratio_1core is msgspec's seconds to ours: 0.33 is a third of its
rate; msgspec_pieces_ratio_1core the same where msgspec is given pieces that the caches of the processor hold. peak_rss_mb (ours, on two cores, all
processes together). append_ratio: seconds of a check after 100 records were appended, to those of the first one, on one core.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import resource
import statistics
import subprocess
import sys
import tempfile
import time
import venv
from collections.abc import Callable
from pathlib import Path
from typing import Any

ROUNDS = 3
FORGE = "ollama-forge==1.0.1"
WORDS = [
    "the",
    "of",
    "and",
    "to",
    "in",
    "is",
    "you",
    "that",
    "it",
    "he",
    "was",
    "for",
    "on",
    "are",
    "as",
    "with",
    "his",
    "they",
    "at",
    "be",
    "this",
    "have",
    "from",
    "or",
    "one",
    "had",
    "by",
    "word",
    "but",
    "not",
    "what",
    "all",
    "were",
    "we",
]
OTHERS = ("Größe", "café", "naïve", 'the "same"', "first\nsecond", "don't")
PIECE = 1 << 19  # bytes


def main() -> None:
    """Measure, and print."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--records", type=int, default=1_000_000)
    parser.add_argument("--rounds", type=int, default=ROUNDS)
    parser.add_argument("--contender", help=argparse.SUPPRESS)
    arguments = parser.parse_args()
    if arguments.contender:
        print(json.dumps(CONTENDERS[arguments.contender]()))
        return
    with tempfile.TemporaryDirectory() as folder:
        os.chdir(folder)
        forge = forge_python(Path(folder, "forge"))
        write_records(Path("data.jsonl"), arguments.records)
        print(json.dumps(measured(arguments.records, arguments.rounds, forge)))


def measured(records: int, rounds: int, forge: Path) -> dict[str, float]:
    """All numbers."""
    took: dict[str, list[float]] = {}
    rss = 0.0

    def run(name: str, cores: int, python: Path | str = sys.executable, as_name: str = "") -> None:
        nonlocal rss
        facts = contender(name, cores, python)
        took.setdefault(as_name or f"{name} {cores}", []).append(facts["seconds"])
        rss = max(rss, facts.get("rss_mb", 0.0))

    size = Path("data.jsonl").stat().st_size
    for _ in range(rounds):
        for cores in (1, 2):
            forget()
            run("ours", cores)
        forget()
        run("ours", 1, as_name="full")
        with Path("data.jsonl").open("a", encoding="utf-8") as file:
            file.writelines(record(random.Random(number), -number) for number in range(1, 101))
        run("ours", 1, as_name="appended")
        os.truncate("data.jsonl", size)
        for name in ("jsonschema", "msgspec", "msgspec_pieces"):
            run(name, 1)
        run("forge", 1, forge)
    seconds = {name: statistics.median(values) for name, values in took.items()}
    ours = seconds["ours 1"]
    return {
        "records_per_s": round(records / ours),
        "mb_per_s": round(size / ours / 1e6, 1),
        "records_per_s_2core": round(records / seconds["ours 2"]),
        "jsonschema_ratio_1core": round(seconds["jsonschema 1"] / ours, 2),
        "jsonschema_ratio_2core": round(seconds["jsonschema 1"] / seconds["ours 2"], 2),
        "msgspec_ratio_1core": round(seconds["msgspec 1"] / ours, 3),
        "msgspec_pieces_ratio_1core": round(seconds["msgspec_pieces 1"] / ours, 3),
        "ollama_forge_ratio": round(seconds["forge 1"] / ours, 2),
        "peak_rss_mb": round(rss, 1),
        "append_ratio": round(seconds["appended"] / seconds["full"], 3),
    }


def contender(name: str, cores: int, python: Path | str) -> dict[str, float]:
    """What one of them says of itself, in a process on these many cores."""
    allowed = sorted(os.sched_getaffinity(0))[:cores]
    program = [str(python), __file__, "--contender", name]
    done = subprocess.run(program, check=True, stdout=subprocess.PIPE, preexec_fn=lambda: os.sched_setaffinity(0, allowed))
    return dict(json.loads(done.stdout))


def timed(act: Callable[[], int]) -> dict[str, float]:
    """Seconds of this, which returns how many records it has read."""
    begun = time.perf_counter()
    count = act()
    seconds = time.perf_counter() - begun
    with Path("data.jsonl").open("rb") as file:
        assert count == sum(piece.count(b"\n") for piece in iter(lambda: file.read(1 << 20), b"")), count
    return {"seconds": seconds}


def ours() -> dict[str, float]:
    """The stage, as a build runs it."""
    from ollamake.catalog import Dataset
    from ollamake.errors import Mark
    from ollamake.graph import validate_step
    from ollamake.stages.validate import validate

    dataset = Dataset(name="data", files=("data.jsonl",), mark=Mark("models.yaml", 1))
    facts = timed(lambda: int(validate(validate_step(dataset))["records"]))
    kib = sum(resource.getrusage(who).ru_maxrss for who in (resource.RUSAGE_SELF, resource.RUSAGE_CHILDREN))
    return {**facts, "rss_mb": kib / 1024}


def forget() -> None:
    """Remove what the last check has left."""
    for path in Path("build/datasets").glob("*"):
        path.unlink()


def with_jsonschema() -> dict[str, float]:
    """A loop as people write it."""
    import jsonschema

    text = {"type": "string", "pattern": r"\S"}
    properties = {"instruction": text, "input": {"type": ["string", "null"]}, "output": text}
    schema = {"type": "object", "required": ["instruction", "output"], "additionalProperties": False, "properties": properties}
    validator = jsonschema.Draft202012Validator(schema)

    def act() -> int:
        count = 0
        with Path("data.jsonl").open(encoding="utf-8") as file:
            for line in file:
                for error in validator.iter_errors(json.loads(line)):
                    raise error
                count += 1
        return count

    return timed(act)


def _struct() -> Any:
    import msgspec

    fields = [("instruction", str), ("output", str), ("input", str | None, None)]
    return msgspec.json.Decoder(msgspec.defstruct("Record", fields, forbid_unknown_fields=True, gc=False))


def with_msgspec() -> dict[str, float]:
    """The whole file at once."""
    decoder = _struct()
    return timed(lambda: len(decoder.decode_lines(Path("data.jsonl").read_bytes())))


def with_msgspec_in_pieces() -> dict[str, float]:
    """Piece by piece, and no record kept."""
    decoder = _struct()

    def act() -> int:
        count, rest = 0, b""
        with Path("data.jsonl").open("rb", buffering=0) as file:
            while piece := file.read(PIECE):
                whole, _, left = (rest + piece).rpartition(b"\n")
                count += len(decoder.decode_lines(whole))
                rest = left
        return count

    return timed(act)


def with_forge() -> dict[str, float]:
    """Its own validator."""
    from ollama_forge.training_data import validate_training_data

    def act() -> int:
        is_valid, errors, count = validate_training_data("data.jsonl")
        assert is_valid, errors[:3]
        return int(count)

    return timed(act)


def forge_python(folder: Path) -> Path:
    """The Python of an environment with ollama-forge in it: what it imports for its validator, and nothing else."""
    venv.create(folder, with_pip=True)
    python = folder / "bin/python"
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps", FORGE], check=True)
    subprocess.run([python, "-m", "pip", "install", "-q", "--disable-pip-version-check", "pyyaml", "python-dotenv"], check=True)
    return python


def write_records(path: Path, count: int) -> None:
    """The file."""
    chance = random.Random(1)
    with path.open("w", encoding="utf-8") as file:
        for number in range(count):
            file.write(record(chance, number))


def record(chance: random.Random, number: int) -> str:
    """A line."""

    def words(least: int, most: int) -> str:
        text = chance.choices(WORDS, k=chance.randint(least, most))
        if chance.random() < 0.1:
            text.append(chance.choice(OTHERS))
        return " ".join(text)

    value = {"instruction": f"{words(5, 14)} {number}?"}
    if chance.random() < 0.3:
        value["input"] = words(5, 20)
    return json.dumps({**value, "output": words(10, 60)}, ensure_ascii=chance.random() < 0.5) + "\n"


CONTENDERS: dict[str, Callable[[], dict[str, float]]] = {
    "ours": ours,
    "jsonschema": with_jsonschema,
    "msgspec": with_msgspec,
    "msgspec_pieces": with_msgspec_in_pieces,
    "forge": with_forge,
}

if __name__ == "__main__":
    main()
