"""Catalogs as no person writes them: real ones, damaged in one place or many, and what must be true of each."""

from __future__ import annotations

import json
import re
from pathlib import Path
from random import Random
from typing import Any

from ollamake.catalog.faults import schema
from ollamake.catalog.kept import Kept
from ollamake.catalog.load import load_catalog
from ollamake.errors import BuildError, FaultyFileError
from ollamake.graph import steps_of

SECRET = "hush-hush"
ENVIRON = {"TEAM": SECRET, "DATA": f".{SECRET}/data", "EMPTY": "", "BYTES": "\udcff"}
TRAINERS = ("command", "peft")
FILES = {
    "models.yaml": """\
version: 1
include:
- shared/*.yaml
- {files: "teams/*/models.yaml", prefix: team-}
env: [DATA, EMPTY, BYTES, {TEAM: nobody}, {OTHER: "x"}]
ollama: {host: "http://${OTHER}:1"}
cache: {url: "${DATA}/cache", read: false, timeout: 2, packed: 1.5GB}
defaults: &defaults
  train: &train {rank: 8, epochs: 2, learning_rate: 2e-4, trainer: command, command: [train, "{text}", "${TEAM}"]}
  serve: {parameters: {temperature: 0.5, stop: ["</s>", "\\n"]}}
  tests: [{keeps: [a, b], min: 0.5}]
bases:
  big: {gguf: "${DATA}/big.gguf", hf: org/big, defaults: {<<: *defaults}}
datasets:
  tone: {files: [t.jsonl, "${DATA}/*.jsonl"]}
models:
  all:
    base: big
    data: [tone]
    train: {<<: *train, seed: 1, system: "You are ${TEAM}, $${TEAM}."}
    tags: [a, b]
    tests:
    - {ask: "Who are you, ${TEAM}?", expect: {contains: [a, "${TEAM}"], not_contains: b, regex: "^(a|b)$", ignore_case: true}, repeat: 3}
    - {name: chat, chat: [{role: system, content: a}, {role: user, content: "${OTHER}"}], expect: {json_schema: {type: object}}}
    - {dataset: team-own, metric: loss, max: 2, no_worse_than: base, limit: 4}
  given: {base: small, adapter: "${DATA}/adapter", serve: {weights: merged, template: "{{ .Prompt }}"}}
""",
    "shared/bases.yaml": 'version: 1\nbases:\n  small: {gguf: ../s.gguf, defaults: {train: {rank: 4, pin: versions, resources: {gpu: 0}, launch: [srun, "--job-name={name}"]}}}\n',
    "teams/a/models.yaml": """\
version: 1
defaults: {train: {trainer: peft}}
datasets: {own: {files: ["../../*.jsonl"]}}
models:
  desk:
    name: "desk-{base}-r{train.rank}"
    data: [own, tone]
    matrix:
      base: [small, big]
      train.rank: [4, 8]
      serve.system: ["${TEAM}"]
      exclude: [{base: big, train.rank: 4}]
""",
    "teams/b/models.yaml": "version: 1\ninclude: ['*/more.yaml']\nmodels:\n  bot: {base: small, data: [tone]}\n",
    "teams/b/deep/more.yaml": "version: 1\nmodels:\n  deep: {base: big, data: [team-own]}\n",
}
BESIDE = ("t.jsonl", f".{SECRET}/data/d.jsonl", f".{SECRET}/data/e.jsonl")  # where no pattern comes to but one that names it


def _keys(node: Any) -> set[str]:
    below = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    own = set(node.get("properties", {})) if isinstance(node, dict) else set()
    return own.union(*map(_keys, below))


KEYS = sorted(_keys(schema()))
# Scalars and pieces of YAML. No path leads far up, and none that is absolute is there: a pattern may walk all that is below it.
PIECES = [
    *KEYS,
    *("big", "small", "tone", "own", "team-own", "desk", "datasets", "a", "A", "x" * 81, "0", "1", "-1", "2e-4", "1e999", "9" * 29, "9" * 31, ".5"),
    *("true", "no", "~", "null", '""', "''", '" "', '"\\0"', '"\\ud800"', "\u2028", "\x85", "\ufeff", "é", "\t", "\x07", "#", "%", "@", "`"),
    *(
        "&a",
        "*a",
        "&defaults",
        "*defaults",
        "<<",
        "<<: *train",
        "!!str 1",
        "!!python/name:os.system",
        "!x",
        "---",
        "...",
        "? ",
        "- ",
        ": ",
        ",",
        "|",
        ">",
    ),
    *("[", "]", "{", "}", "[]", "{}", "[[]]", "{{}}", "{a: b}", "[tone, tone]", "{base}", "{train.rank}", "{", "'", '"', "\\"),
    *("${TEAM}", "${DATA}", "${EMPTY}", "${OTHER}", "${NONE}", "${}", "${", "$${TEAM}", "${TEAM}${DATA}", "$$", "env: [TEAM]", "models.yaml"),
    *(
        "*.yaml",
        "**/*.yaml",
        "**",
        "*",
        "?",
        "[a-",
        "[!x]*",
        "../models.yaml",
        "./t.jsonl",
        "teams/b/models.yaml",
        "a\\b",
        "{files: x, prefix: y}",
        "x" * 5000,
        "[" * 30,
        "]" * 30,
        "{x: " * 60 + "y" + "}" * 60,
        "[" * 2000,
        "${BYTES}",
    ),
]

KINDS = [
    ["big", "small", "tone", "own", "team-own", "team-big", "desk", "all", "given", "bot", "deep"],
    ["1", "2", "4", "8", "0", "0.5", "2e-4"],
    ["${TEAM}", "${DATA}", "${EMPTY}", "${OTHER}", "${BYTES}", "text", "desk-{base}", "desk-{base}-r{train.rank}", "{train.rank}-{base}"],
    [
        "*.jsonl",
        "t.jsonl",
        "../../*.jsonl",
        "**/*.jsonl",
        "shared/*.yaml",
        "**/*.yaml",
        "teams/*/models.yaml",
        "*/more.yaml",
        "deep/more.yaml",
        "../s.gguf",
    ],
    ["train.rank", "train.epochs", "train.seed", "serve.system", "base", "data", "exclude", "train.target_modules", "serve.parameters.top_k"],
    ["peft", "command", "merged", "auto", "versions", "q8_0"],
    ["team-", "prefix", "defaults", "train", "serve", "adapter", "matrix", "name", "tags", "env", "include", "bases", "datasets", "models"],
]


def some_repo(random: Random) -> dict[str, bytes]:
    """Catalog files; mostly near to right ones."""
    files = {name: text.encode() for name, text in FILES.items()}
    if random.random() < 0.2:  # values that no mutation comes to, in the form of JSON, which is YAML
        files[random.choice(list(files))] = json.dumps({"version": 1, **{key: _value(random, 4) for key in random.sample(KEYS, 4)}}).encode()
    for _ in range(random.choice((1, 1, 1, 2, 3, 8))):
        name = random.choice(list(files))
        files[name] = _damaged(random, files[name])
    return files


def _damaged(random: Random, content: bytes) -> bytes:
    kind = random.randrange(16)
    if kind > 8:
        return _another_of_its_kind(random, content.decode(errors="surrogateescape")).encode(errors="surrogateescape")
    if kind == 0:
        place = random.randint(0, len(content))
        return content[:place] + random.randbytes(random.randint(1, 4)) + content[place + random.randint(0, 4) :]
    if kind == 1:
        return content[: random.randint(0, len(content))]
    lines = content.decode(errors="surrogateescape").split("\n")
    row = random.randrange(len(lines))
    if kind == 2:
        del lines[row]
    elif kind == 3:
        lines.insert(random.randrange(len(lines)), lines[row])
    elif kind == 4:
        lines[row] = " " * random.randint(0, 6) + lines[row].strip()
    elif kind == 5:
        lines.insert(row, random.choice(KEYS) + ": " + json.dumps(_value(random, 3)))
    else:  # a word for another
        words = lines[row].split(" ")
        words[random.randrange(len(words))] = random.choice(PIECES)
        lines[row] = " ".join(words)
    return "\n".join(lines).encode(errors="surrogateescape")


def _another_of_its_kind(random: Random, text: str) -> str:
    """A name for a name, a path for a path: what may well be right."""
    places = [(match.span(), kind) for kind in KINDS for word in kind for match in re.finditer(rf"(?<![\w.*-]){re.escape(word)}(?![\w.*-])", text)]
    if not places:
        return text
    (start, end), kind = random.choice(places)
    return text[:start] + random.choice(kind) + text[end:]


def _value(random: Random, depth: int) -> Any:
    kind = random.randrange(8 if depth else 5)
    if kind < 2:
        return random.choice(PIECES)
    if kind < 5:
        return random.choice((0, 1, -1, 0.5, 10**18, None, True, "", "tone", "big"))
    if kind < 6:
        return [_value(random, depth - 1) for _ in range(random.randrange(4))]
    return {random.choice(PIECES): _value(random, depth - 1) for _ in range(random.randrange(4))}


def place(files: dict[str, bytes]) -> None:
    """Write them into the working directory, which has nothing else in it but what they read."""
    for name in BESIDE:
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).touch()
    for name, content in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_bytes(content)


def check(files: dict[str, bytes]) -> bool:
    """Are they a catalog? Asserts that they are one or have faults, each in a line that is there, the same from what is kept; raises what no user shall see."""
    place(files)
    kept = Kept()
    first = _outcome(kept)
    again = _outcome(Kept(kept.encoded()))
    assert str(first) == str(again), (first, again)
    if not isinstance(first, BuildError):
        steps = steps_of(first, dict.fromkeys(TRAINERS, "chat"))
        assert SECRET not in repr([(step.id, list(step.named_reads), step.keys, step.writes) for step in steps])
        return True
    if isinstance(first, FaultyFileError):
        assert first.faults
        for fault in first.faults:
            assert 1 <= fault.mark.line <= len(files.get(fault.mark.path, b"").decode(errors="replace").splitlines()) or fault.mark.line == 1, fault
    return False


def _outcome(kept: Kept) -> Any:
    try:
        return load_catalog(Path("models.yaml"), trainers=TRAINERS, environ=ENVIRON, kept=kept)
    except BuildError as error:
        return error
