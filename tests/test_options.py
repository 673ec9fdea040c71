"""What a user is told who typed an option, a name or a folder wrong."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest
from doit.doit_cmd import DoitMain

from conftest import DODO, Repo


@pytest.mark.parametrize(
    ("typed", "said", "fix"),
    [
        ("--alwyas", "doit: unknown option --alwyas", "write --always-execute (`doit help run` lists the options)"),
        ("build --frobnicate", "doit build: unknown option --frobnicate", "`doit help build` lists the options"),
        ("build legal --jsn", "doit build: unknown option --jsn", "write --json (`doit help build` lists the options)"),
        ("status --jsn=1", "doit status: unknown option --jsn", "write --json (`doit help status` lists the options)"),
        ("status -json", "doit status: unknown option -json", "write --json (`doit help status` lists the options)"),
        ("ask --besides legal hello", "doit ask: unknown option --besides", "write --beside-base (`doit help ask` lists the options)"),
        ("completion --x", "doit completion: unknown option --x", "`doit help completion` lists the options"),
        ("-n two", "doit: -n can't be 'two'", "write a whole number"),
        ("build --max-train-minutes=x", "doit build: --max-train-minutes can't be 'x'", "write a number"),
        ("build --engine=rya", "doit build: --engine can't be 'rya'", "write 'ray' (known: local, ray)"),
        ("train:legal -n 2", "doit: -n stands behind the task train:legal", "write options before it, or `doit build train:legal -n 2`"),
        ("bild", "no command, task or target 'bild'", "write 'build'"),
        ("trian:legal", "no command, task or target 'trian:legal'", "write 'train:legal'"),
        ("legal", "no command, task or target 'legal'", "`doit build legal` builds the model"),
        ("zzzz", "no command, task or target 'zzzz'", "`doit help` lists the commands, `doit list` the tasks"),
    ],
)
def test_what_is_typed_wrong_is_one_message_with_the_nearest_right_word(repo: Repo, typed: str, said: str, fix: str) -> None:
    result = repo.doit(*typed.split())
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: \n{said}\n  fix: {fix}\n")


@pytest.mark.parametrize(
    "typed", ["build --help", "status legal -h", "run --help", "ask --help", "--help=no --help", "list --help", "forget train:legal -h"]
)
def test_help_is_given_where_it_is_asked_for(repo: Repo, typed: str) -> None:
    result = repo.doit(*typed.split())
    assert (result.code, result.err) == (0, "")
    assert result.out.startswith("PURPOSE\n    ")
    assert repo.trainings == []


def test_what_doit_prints_of_a_step_is_its_name(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SECRET_PROMPT", "shh-1234")
    repo.replace("serve: {parameters", 'serve: {system: "${SECRET_PROMPT}", parameters')
    repo.replace("version: 1\n", "version: 1\nenv: [SECRET_PROMPT]\n")
    said = repo.doit("info", "register:sales").out
    assert "(args=[<Step register:sales>], kwargs={})" in said
    assert "shh-1234" not in said


def test_an_option_without_a_text_is_not_taken_for_the_next_word(repo: Repo) -> None:
    assert "not a selector: ''" in repo.doit("ls", "--exclude=", "legal").err


def test_programs_are_told_of_an_option_that_there_is_not(repo: Repo) -> None:
    result = repo.doit("build", "--json", "--frobnicate")
    begun, ended = (json.loads(line) for line in result.out.splitlines())
    assert (begun["event"], begun["command"]) == ("run begins", ["build", "--json", "--frobnicate"])
    assert (ended["event"], ended["exit_code"]) == ("run ends", result.code) == ("run ends", 3)
    assert (ended["error"], ended["fix"]) == ("doit build: unknown option --frobnicate", "`doit help build` lists the options")


def test_a_command_that_prints_one_object_tells_no_events(repo: Repo) -> None:
    assert repo.doit("push", "--json", "--frobnicate").out == ""


def doit(*words: str) -> int:
    return int(DoitMain().run(list(words)) or 0)


@pytest.mark.parametrize("command", ["run", "build", "status", "plan", "report", "watch"])
def test_a_folder_without_a_dodo_py_is_told_of_what_writes_one(
    tmp_path: Path, command: str, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    assert doit(command) == 3
    fix = "go to the folder of your repo, or name it with -f; `ollamake init` writes a new repo"
    assert capsys.readouterr().err == f"ERROR: \ndodo.py: no such file\n  fix: {fix}\n"
    assert os.listdir() == []


def test_a_folder_of_a_repo_is_told_where_its_dodo_py_is(repo: Repo, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    monkeypatch.chdir(repo.path / "datasets")
    assert doit("ls") == 3
    assert "\n  fix: `cd ..`, where one is, or `doit -k`; `ollamake init` writes a new repo\n" in capsys.readouterr().err
    assert doit("-k", "ls") == 0
    assert capsys.readouterr().out == "legal  tiny  shared\nsales  tiny  shared, tone\n"


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("forget",), "doit forget: no task is named\n  fix: name one (`doit list --all` lists them), or write --all\n"),
        (("forget", "train:lega"), "doit forget: no task 'train:lega'\n  fix: write 'train:legal'\n"),
        (
            ("info", "legal"),
            "doit info: no task 'legal'\n  fix: name one of its tasks: convert:legal, train:legal, package:legal, register:legal, test:legal\n",
        ),
        (("info", "xyz"), "doit info: no task 'xyz'\n  fix: `doit list --all` lists the tasks\n"),
        (("list", "--sttus"), "doit list: unknown option --sttus\n  fix: write --status (`doit help list` lists the options)\n"),
    ],
)
def test_doit_s_own_commands_say_what_is_meant(repo: Repo, words: tuple[str, ...], said: str) -> None:
    result = repo.doit(*words)
    assert (result.code, result.err) == (3, f"ERROR: \n{said}")
