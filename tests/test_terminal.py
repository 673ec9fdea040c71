"""What a run shows: on a terminal, in a log, to who wants little, and to programs."""

from __future__ import annotations

import json
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

import jsonschema
import pytest

from conftest import DODO, HERE, Repo, Result, without_times
from ollamake.events import SCHEMA
from terminal import Terminal

SCREEN = (14, 120)
BUILT = ["validate:shared", "validate:tone", "convert:legal", "convert:sales"]


@pytest.fixture
def on_disk(repo: Repo) -> Repo:
    """A repo that a doit of its own process finds."""
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    return repo


def doit_on(size: tuple[int, int], *arguments: str, **environment: str) -> Terminal:
    return Terminal([sys.executable, "-m", "doit", *arguments], size, environment)


def slow(repo: Repo) -> None:
    """Trainings that go on until there is a file `go`."""
    trainer = repo.path / "slow.py"
    counting = str(HERE / "counting_trainer.py")
    trainer.write_text(
        "import json, runpy, sys, time\nfrom pathlib import Path\n"
        "print(json.dumps({'event': 'start', 'steps': 2, 'examples': 5}), flush=True)\n"
        "print(json.dumps({'event': 'step', 'step': 1, 'steps': 2, 'loss': 0.75}), flush=True)\n"
        f"while not Path('go').exists(): time.sleep(0.02)\nsys.argv[0] = {counting!r}\nrunpy.run_path({counting!r}, run_name='__main__')\n",
        encoding="utf-8",
    )
    repo.replace(counting, str(trainer))


def events(out: str) -> list[dict[str, Any]]:
    """The events in these lines, each of them as the schema has it."""
    check = jsonschema.Draft202012Validator(json.loads(SCHEMA.read_text(encoding="utf-8")))
    found = [json.loads(line) for line in out.splitlines()]
    for event in found:
        check.validate(event)
    assert [found[0]["event"], found[-1]["event"]] == ["run begins", "run ends"]
    return found


def kinds(found: list[dict[str, Any]], step: str) -> list[str]:
    return [event["event"] for event in found if event.get("step") == step]


def run_doit(repo: Repo, *arguments: str, code: int = 0) -> Result:
    result = repo.doit(*arguments)
    assert result.code == code, result.out + result.err
    return result


# on a terminal


def test_the_foot_says_how_the_run_stands_and_is_gone_when_it_ends(on_disk: Repo) -> None:
    slow(on_disk)
    with doit_on(SCREEN) as terminal:
        terminal.until("step 1/2  loss 0.7500")
        terminal.until("validate 2/2  convert 2/2  train 0/2  package 0/2  register 0/2  test 0/2  1 training waits")
        Path("go").touch()
        assert terminal.ends() == 0
    assert terminal.lines[-1].startswith("2 models: 2 rebuilt in ")
    assert not any("train 0/2" in line or "train 2/2" in line or "now:" in line for line in terminal.lines)
    for step in BUILT:
        assert f".  {step}  (not built yet)" in terminal.lines
    assert not terminal.cursor_is_hidden


def test_a_run_without_work_draws_nothing(built: Repo) -> None:
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    for _ in range(2):  # the second is answered for by a seal
        with doit_on(SCREEN) as terminal:
            assert terminal.ends() == 0
        assert without_times(terminal.written) == "2 models: 2 fresh\r\n"


def test_what_is_fresh_is_counted_apart(built: Repo) -> None:
    (built.path / "dodo.py").write_text(DODO, encoding="utf-8")
    with built.records("tone").open("a", encoding="utf-8") as file:
        file.write('{"instruction": "Be kind:", "output": "Gladly."}\n')
    slow(built)
    with doit_on(SCREEN, "train:sales") as terminal:
        terminal.until("validate 1/1  convert 1/1  train 0/1  1 step fresh")
        Path("go").touch()
        assert terminal.ends() == 0


@pytest.mark.parametrize("parallel", [(), ("-n", "2"), ("-n", "2", "-P", "thread")])
def test_ctrl_c_leaves_a_cursor_and_the_summary(on_disk: Repo, parallel: tuple[str, ...]) -> None:
    slow(on_disk)
    with doit_on(SCREEN, *parallel) as terminal:
        terminal.until("step 1/2")
        assert terminal.cursor_is_hidden
        terminal.type("\x03")
        assert terminal.ends() == 128 + signal.SIGINT
    assert not terminal.cursor_is_hidden
    assert terminal.lines[-1].startswith("2 models: 2 unfinished in ")
    assert not any("train 0/2" in line for line in terminal.lines)


@pytest.mark.parametrize("parallel", ["", "-n 2 ", "-n 2 -P thread "])
def test_ctrl_z_leaves_a_cursor_and_fg_draws_anew(on_disk: Repo, parallel: str) -> None:
    slow(on_disk)
    with Terminal(["bash", "--norc", "--noprofile", "-i"], SCREEN, {"PS1": "shell> "}) as terminal:
        for typed in (f"{sys.executable} -m doit {parallel}train", "fg"):  # and once more, as the first has put the signal back
            terminal.until_true(lambda: terminal.lines[-1:] == ["shell>"]).type(f"{typed}\r")
            terminal.until_true(lambda: "train 0/2" in terminal.lines[-1]).until("step 1/2")
            assert terminal.cursor_is_hidden
            terminal.type("\x1a")
            terminal.until_true(lambda: terminal.lines[-1:] == ["shell>"])
            assert not terminal.cursor_is_hidden
            assert sum("train 0/2" in line for line in terminal.lines) == 0
        Path("go").touch()
        terminal.type("fg; exit\r")
        assert terminal.ends() == 0
    assert terminal.lines[-2].startswith("2 models: ")


PAUSED_WHILE_DRAWING = """\
import signal, time
from ollamake.pausing import heed
from ollamake.say import screen
heed()
with screen.lock:
    signal.raise_signal(signal.SIGTSTP)
    print("half drawn", end="", flush=True)
    print(", and whole", flush=True)
while True:
    time.sleep(0.1)
"""


def test_ctrl_z_waits_for_what_is_half_drawn(tmp_path: Path) -> None:
    program = tmp_path / "drawing.py"
    program.write_text(PAUSED_WHILE_DRAWING, encoding="utf-8")
    with Terminal(["bash", "--norc", "--noprofile", "-i"], SCREEN, {"PS1": "shell> "}) as terminal:
        terminal.until("shell>").type(f"{sys.executable} {program}\r")
        terminal.until("Stopped")
        assert any("half drawn, and whole" in line for line in terminal.lines)
        terminal.type("kill %1; exit\r")


def test_side_by_side_the_foot_is_one(on_disk: Repo) -> None:
    slow(on_disk)
    with doit_on(SCREEN, "-n", "3") as terminal:
        terminal.until("step 1/2")
        terminal.until("train 0/2")
        assert sum("train 0/2" in line for line in terminal.lines) == 1
        Path("go").touch()
        assert terminal.ends() == 0
    assert terminal.lines[-1].startswith("2 models: 2 rebuilt in ")
    assert not terminal.cursor_is_hidden


def test_a_small_terminal_shows_what_is_left_to_do(on_disk: Repo) -> None:
    slow(on_disk)
    with doit_on((3, 60)) as terminal:
        terminal.until("   train 0/2  package 0/2  register 0/2  test 0/2")
        terminal.resize((8, 120))
        terminal.until("validate 2/2  convert 2/2  train 0/2")
        Path("go").touch()
        assert terminal.ends() == 0


def test_failures_come_last_and_red(on_disk: Repo) -> None:
    on_disk.records("tone").write_text('{"instruction": "a"}\n', encoding="utf-8")
    with doit_on(SCREEN, "--continue") as terminal:
        assert terminal.ends() == 1
    end = "\n".join(terminal.lines).partition("\nvalidate:tone failed:\n")[2].splitlines()
    assert end[0].startswith("datasets/tone.jsonl:1: missing key 'output'")
    assert end[-3:-1] == [f"failed: validate:tone: {end[0]}", "then go on with: doit --continue"]
    assert "\x1b[31mfailed\x1b[0m: validate:tone" in terminal.written


@pytest.mark.parametrize("environment", [{"CI": "true"}, {"TERM": "dumb"}])
def test_logs_of_ci_and_dumb_terminals_have_plain_lines(on_disk: Repo, environment: dict[str, str]) -> None:
    with doit_on((40, 200), **environment) as terminal:
        assert terminal.ends() == 0
    assert "\x1b[?25l" not in terminal.written
    assert "   legal: step 2/2  loss 0.5000" in "\n".join(terminal.lines)


def test_no_color_is_heard(on_disk: Repo) -> None:
    with doit_on(SCREEN, NO_COLOR="1") as terminal:
        assert terminal.ends() == 0
    assert not re.findall(r"\x1b\[(?!0m|1m)[0-9;]+m", terminal.written)


def test_colours_may_be_forced_into_a_pipe_and_are_not_there_otherwise(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("FORCE_COLOR", "1")
    assert "\x1b[2m(not built yet)\x1b[0m" in repo.doit("validate").out
    monkeypatch.setenv("NO_COLOR", "1")
    assert "\x1b" not in repo.doit("-a", "validate").out
    monkeypatch.delenv("NO_COLOR")
    monkeypatch.delenv("FORCE_COLOR")
    assert "\x1b" not in repo.doit("-a", "validate").out


def test_what_a_task_of_the_users_writes_is_not_drawn_over(on_disk: Repo) -> None:
    with (on_disk.path / "dodo.py").open("a", encoding="utf-8") as dodo:
        dodo.write("\ndef task_mine():\n    return {'actions': ['echo one; sleep 0.5; echo two'], 'verbosity': 2, 'task_dep': ['validate:tone']}\n")
    with doit_on((40, 100)) as terminal:
        assert terminal.ends() == 0
    at = terminal.lines.index("one")
    assert terminal.lines[at : at + 2] == ["one", "two"]


# quiet


def test_quiet_says_one_line(repo: Repo) -> None:
    repo.replace("target_modules: [q_proj]", "target_modules: [q_proj, k_proj]")
    (line,) = [line for line in run_doit(repo, "--quiet").out.splitlines() if "warning: " not in line]
    assert line.startswith("2 models: 2 rebuilt in ")
    assert without_times(run_doit(repo, "build", "-q", "sales").out) == "1 model: 1 fresh\n"
    assert without_times(run_doit(repo, "-q").out) == "2 models: 2 fresh\n"


def test_quiet_says_what_failed_and_warns(repo: Repo) -> None:
    repo.records("tone").write_text('{"instruction": "a"}\n', encoding="utf-8")
    repo.records("shared").write_text(2 * '{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    repo.replace("shared.jsonl]", "shared.jsonl], rules: {duplicates: warning}")
    out = run_doit(repo, "-q", "--continue", code=1).out
    assert out.startswith("datasets/shared.jsonl:2: warning: ")
    assert "\nvalidate:tone failed:\n" in out
    assert ".  " not in out
    assert "then go on with: doit -q --continue\n2 models: " in out


# events


def test_events_tell_a_run_from_its_plan_to_its_exit_code(repo: Repo) -> None:
    found = events(run_doit(repo, "--json").out)
    assert found[0]["format"] == 1
    assert found[1]["event"] == "plan"
    assert found[1]["steps"]["train"] == {"yes": 2}
    for stage in ("validate:tone", "convert:sales", "train:sales", "package:sales", "register:sales", "test:sales"):
        assert kinds(found, stage) == ["step begins", "step done"]
    assert next(event for event in found if event.get("step") == "train:legal")["reasons"] == ["not built yet"]
    assert [event["what"] for event in found if event["event"] == "training" and event["model"] == "legal"] == ["start", "step"]
    assert (found[-1]["exit_code"], found[-1]["models"]["rebuilt"]) == (0, 2)
    again = events(run_doit(repo, "--json").out)
    assert [event["event"] for event in again] == ["run begins", "plan", "run ends"]
    assert again[-1]["models"] == {"fresh": 2, "rebuilt": 0, "failed": 0, "unfinished": 0}


@pytest.mark.parametrize("parallel", [(), ("-n", "2"), ("-n", "2", "-P", "thread")])
def test_events_of_a_failure_name_what_to_do(repo: Repo, parallel: tuple[str, ...]) -> None:
    repo.records("tone").write_text('{"instruction": "a"}\n', encoding="utf-8")
    found = events(run_doit(repo, "build", "--json", "--continue", *parallel, code=1).out)
    (failed,) = [event for event in found if event["event"] == "step failed"]
    assert (failed["step"], failed["fix"]) == ("validate:tone", "add 'output' to the record")
    assert failed["message"].startswith("datasets/tone.jsonl:1: missing key 'output'")
    assert kinds(found, "train:sales") == ["step not done"]
    assert kinds(found, "test:legal") == ["step begins", "step done"]
    assert (found[-1]["exit_code"], found[-1]["failed"]) == (1, ["validate:tone"])
    assert found[-1]["go_on"].startswith("doit build --json --continue")


def test_a_run_that_is_refused_ends_too(repo: Repo) -> None:
    assert events(repo.doit("build", "--json", "slaes").out)[-1]["error"] == "no model 'slaes' in the catalog"
    repo.replace("version: 1", "version: 1\nmodel: {}")
    end = events(repo.doit("--json").out)[-1]
    assert (end["exit_code"], end["fix"]) == (
        3,
        "write 'models' (known: bases, cache, datasets, defaults, engine, env, include, models, ollama, policy, sinks, version)",
    )


def test_a_fault_of_the_dodo_file_is_told(on_disk: Repo) -> None:
    import subprocess

    with (on_disk.path / "dodo.py").open("a", encoding="utf-8") as dodo:
        dodo.write("\nraise ValueError('not today')\n")
    done = subprocess.run([sys.executable, "-m", "doit", "--json"], capture_output=True, text=True, check=False)
    end = events(done.stdout)[-1]
    assert (done.returncode, end["exit_code"], end["error"]) == (3, 3, "ValueError: not today")
    assert "dodo.py" in done.stderr


def test_nothing_but_events_is_on_standard_output(on_disk: Repo) -> None:
    import subprocess

    with (on_disk.path / "dodo.py").open("a", encoding="utf-8") as dodo:
        dodo.write("\ndef task_mine():\n    return {'actions': ['echo of a shell', (lambda: print('of Python'),)], 'verbosity': 2}\n")
    done = subprocess.run([sys.executable, "-m", "doit", "--json", "-n", "2"], capture_output=True, text=True, check=True)
    assert kinds(events(done.stdout), "mine") == ["step begins", "step done"]
    assert {"of a shell", "of Python"} <= set(done.stderr.splitlines())


def test_ctrl_c_is_an_event_too(on_disk: Repo) -> None:
    import subprocess

    slow(on_disk)
    with subprocess.Popen([sys.executable, "-m", "doit", "--json", "-n", "2"], stdout=subprocess.PIPE, text=True) as doit:
        assert doit.stdout is not None
        told = ""
        while '"what": "step"' not in told:
            told += doit.stdout.readline()
        os.kill(doit.pid, signal.SIGTERM)
        told += doit.stdout.read()
    assert doit.returncode == 128 + signal.SIGTERM
    assert events(told)[-1]["exit_code"] == 128 + signal.SIGTERM


def test_the_schema_of_events_is_printed(repo: Repo) -> None:
    assert run_doit(repo, "schema", "--events").out == SCHEMA.read_text(encoding="utf-8")


def test_events_may_go_to_a_file(repo: Repo) -> None:
    assert run_doit(repo, "--json", "-o", "run.jsonl").out == ""
    assert events(Path("run.jsonl").read_text(encoding="utf-8"))[-1]["exit_code"] == 0
