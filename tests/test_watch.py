"""`doit watch`, with files that are really saved."""

from __future__ import annotations

import importlib.util
import json
import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo
from ollamake.watching import Watched
from terminal import Terminal

BAD = '{"instruction": "Be kind:", "outpu": "No."}\n'
WATCH = [sys.executable, "-m", "doit", "watch"]


@pytest.fixture
def watched(built: Repo) -> Repo:
    """A repo with everything built, and its dodo.py."""
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    return built


class Lines:
    """A watch that tells programs."""

    def __init__(self, *arguments: str) -> None:
        self.process = subprocess.Popen([*WATCH, "--json", *arguments], stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True)

    def next(self) -> dict[str, Any]:
        assert self.process.stdout is not None
        told: dict[str, Any] = json.loads(self.process.stdout.readline())
        return told


@pytest.fixture
def told(watched: Repo) -> Iterator[Lines]:
    """A watch that has begun."""
    lines = Lines()
    begun = lines.next()
    assert (begun["event"], begun["format"]) == ("watch begins", 1)
    yield lines
    lines.process.send_signal(signal.SIGINT)
    assert lines.process.wait(60) == 0
    assert lines.process.stdout is not None
    lines.process.stdout.close()


def save(path: Path, text: str) -> None:
    """As editors do: another file, put in its place."""
    part = path.with_name(f".{path.name}.part")
    part.write_text(text, encoding="utf-8")
    part.replace(path)


def edit(repo: Repo, old: str, new: str) -> None:
    """Save the catalog with this in the place of that: a file that is written anew may be read while it is empty."""
    catalog = repo.path / "models.yaml"
    text = catalog.read_text(encoding="utf-8")
    assert old in text
    save(catalog, text.replace(old, new))


def test_a_save_is_checked_and_planned_and_built_when_told(watched: Repo) -> None:
    tone = watched.records("tone")
    good, trained = tone.read_text(encoding="utf-8"), list(watched.trainings)
    with Terminal(WATCH, (60, 140)) as terminal:
        terminal.until("watching 1 catalog and 2 datasets in 2 folders; b builds, q ends")
        terminal.until("nothing to do: everything is fresh")
        save(tone, good + BAD)
        terminal.until("datasets/tone.jsonl:4: unknown key 'outpu' [unknown-key]")
        terminal.until("!  validate:tone")
        terminal.until("1 step will run")
        save(tone, good)
        terminal.until("tone: 3 records (alpaca); characters: median 25, p90 25, p99 25, longest 25; no fault")
        edit(watched, "base: tiny\n    data: [shared]\n", "bas: tiny\n    data: [shared]\n")
        terminal.until("unknown key 'bas'")
        edit(watched, "bas: tiny", "base: tiny")
        edit(watched, "temperature: 0.2", "temperature: 0.3")
        terminal.until("serve.parameters")
        terminal.until("1 more may (?)")
        assert watched.doit("status").code == 4
        terminal.type("b")
        terminal.until("2 models: 1 fresh, 1 rebuilt in ")
        terminal.until("watching again")
        terminal.type("q")
        assert terminal.ends() == 0
    assert watched.trainings == trained


def test_on_a_narrow_terminal_lines_are_broken_between_words(watched: Repo) -> None:
    with Terminal(WATCH, (60, 50)) as terminal:
        terminal.until("nothing to do: everything is fresh")
        with watched.records("tone").open("a", encoding="utf-8") as file:
            file.write(BAD)
        terminal.until("step will run")
        lines = terminal.lines
    at = lines.index("  datasets/tone.jsonl:4: unknown key 'outpu'")
    assert lines[at + 1 : at + 4] == [
        "      [unknown-key]",
        "    fix: write 'output' (known: input,",
        "        instruction, output)",
    ]


def test_ctrl_c_ends_it(watched: Repo) -> None:
    with Terminal(WATCH, (60, 140)) as terminal:
        terminal.until("nothing to do: everything is fresh")
        terminal.type("\x03")
        assert terminal.ends() == 0


def test_only_what_was_touched_is_checked(told: Lines, watched: Repo) -> None:
    os.utime(watched.records("shared"))  # touched alone
    save(watched.records("tone"), watched.records("tone").read_text(encoding="utf-8") + BAD)
    saved = told.next()
    assert (saved["event"], saved["files"]) == ("saved", ["datasets/tone.jsonl"])
    assert [dataset["dataset"] for dataset in saved["check"]["datasets"]] == ["tone"]
    assert next(step["runs"] for step in saved["plan"]["steps"]) == "fails"


def test_datasets_come_and_go_and_a_faulty_catalog_is_watched_on(told: Lines, watched: Repo) -> None:
    catalog = watched.path / "models.yaml"
    text = catalog.read_text(encoding="utf-8").replace("[datasets/tone.jsonl]", "[more/**/*.jsonl, datasets/tone.jsonl]")
    save(catalog, text.replace("bases:", "base:"))
    assert "unknown key 'base'" in told.next()["error"]
    save(catalog, text)
    assert told.next()["error"] is None
    (watched.path / "more/below").mkdir(parents=True)
    save(watched.path / "more/below/one.jsonl", '{"instruction": "One?", "output": "One."}\n')
    came = told.next()
    assert came["files"] == ["more/below/one.jsonl"]
    assert [(one["dataset"], one["records"]) for one in came["check"]["datasets"]] == [("tone", 4)]
    (watched.path / "more/below/one.jsonl").unlink()
    gone = told.next()
    assert gone["files"] == ["more/below/one.jsonl"]
    assert gone["check"]["datasets"][0]["records"] == 3


def test_what_trains_nothing_is_built_at_once_where_asked(watched: Repo) -> None:
    lines = Lines("--build", "--poll")
    assert lines.next()["event"] == "watch begins"
    edit(watched, "temperature: 0.2", "temperature: 0.4")
    assert lines.next()["plan"]["trainings_at_most"] == 0
    told = [lines.next()]
    while told[-1]["event"] != "run ends":
        told.append(lines.next())
    assert told[-1]["models"]["rebuilt"] == 1
    edit(watched, "rank: 2", "rank: 3")
    assert lines.next()["plan"]["trainings"] == 2
    lines.process.send_signal(signal.SIGINT)
    assert lines.process.wait(60) == 0
    assert lines.process.stdout is not None
    assert lines.process.stdout.read() == ""  # what trains waits to be told
    lines.process.stdout.close()


def test_without_its_package_it_says_what_to_install(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    found = importlib.util.find_spec
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None if name == "watchfiles" else found(name))
    result = repo.doit("watch")
    assert (result.code, result.err) == (3, "ERROR: \nwatching needs the package watchfiles\n  fix: pip install 'ollamake[watch]'\n")


def test_what_is_watched_is_a_look_of_its_own(repo: Repo) -> None:
    told = json.loads(repo.doit("ls", "--files", "--json").out)
    assert told == {
        "catalogs": ["models.yaml"],
        "datasets": {"shared": ["datasets/shared.jsonl"], "tone": ["datasets/tone.jsonl"]},
        "patterns": [],
    }
    assert repo.doit("ls", "--files", "legal").out == "catalog  models.yaml\nshared   datasets/shared.jsonl\n"


def test_a_thousand_datasets_are_looked_at_by_what_changed_of_them(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("datasets").mkdir()
    files = [f"datasets/{number}.jsonl" for number in range(1000)]
    for file in files:
        Path(file).write_text(f"{file}\n", encoding="utf-8")
    watched = Watched("dodo.py")
    assert watched.take({"catalogs": [], "datasets": {file: [file] for file in files}, "patterns": ["datasets/*.jsonl"]}) == set()
    assert watched.changed() == set()
    time.sleep(0.01)  # a clock of a file system may be as coarse
    save(Path("datasets/7.jsonl"), "another\n")
    Path("datasets/8.jsonl").touch()
    Path("datasets/new.jsonl").touch()
    Path("datasets/9.jsonl").unlink()
    changed = watched.changed()
    assert changed == {"datasets/7.jsonl", "datasets/9.jsonl", "datasets/new.jsonl"}
    assert watched.datasets_of(changed) == ["datasets/7.jsonl", "datasets/9.jsonl"]
    assert len(watched.folders()) == 2


def test_a_catalog_that_is_faulty_when_it_begins_is_waited_for(watched: Repo) -> None:
    watched.replace("bases:", "base:")
    lines = Lines()
    assert lines.next()["event"] == "watch begins"
    edit(watched, "base:\n  tiny", "bases:\n  tiny")
    saved = lines.next()
    assert (saved["files"], saved["error"], saved["plan"]["fresh"]) == (["models.yaml"], None, True)
    lines.process.send_signal(signal.SIGINT)
    assert lines.process.wait(60) == 0
    assert lines.process.stdout is not None
    lines.process.stdout.close()


def test_what_is_saved_while_the_catalog_is_read_is_not_lost(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    told = {"catalogs": ["models.yaml"], "datasets": {"one": ["one.jsonl"]}, "patterns": []}
    Path("one.jsonl").touch()
    watched = Watched("dodo.py")
    watched.take(told)
    Path("one.jsonl").write_text("more\n", encoding="utf-8")
    watched.take(told)
    assert watched.changed() == {"one.jsonl"}
