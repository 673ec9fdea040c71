"""`doit check --files` and the hook that pre-commit runs it by."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import doit.loader
import pytest
import yaml

from conftest import HERE, Repo, jsonl
from test_lock import git

MANIFEST = HERE.parent / ".pre-commit-hooks.yaml"
TONE = "tone: 3 records (alpaca); characters: "


def test_files_have_their_datasets_checked_and_no_others(repo: Repo) -> None:
    checked = repo.doit("check", "--files", "datasets/tone.jsonl", "README.md", "datasets/gone.jsonl")
    assert (checked.code, checked.err) == (0, "")
    assert [line.partition(":")[0] for line in checked.out.splitlines()] == ["tone", "sales"]
    assert repo.doit("check", "--files", str(repo.path / "datasets/shared.jsonl")).out.startswith("shared: ")
    assert repo.doit("check", "--files", "README.md").out == ""
    assert repo.doit("check", "--files").out == ""


@pytest.mark.parametrize("path", ["models.yaml", "dodo.py", "teams/a.yaml"])
def test_a_catalog_has_everything_checked(repo: Repo, path: str) -> None:
    repo.replace("version: 1\n", "version: 1\ninclude: [teams/*.yaml]\n")
    Path("teams").mkdir()
    Path("teams/a.yaml").write_text("version: 1\n", encoding="utf-8")
    said = repo.doit("check", "--files", path, "datasets/tone.jsonl").out
    assert [line.partition(":")[0] for line in said.splitlines()][:2] == ["shared", "tone"]


def test_the_schema_of_a_dataset_is_a_file_of_it(repo: Repo) -> None:
    repo.replace("[datasets/tone.jsonl]", "[datasets/tone.jsonl], schema: tone.schema.json")
    Path("tone.schema.json").write_text('{"required": ["source"]}', encoding="utf-8")
    checked = repo.doit("check", "--files", "tone.schema.json")
    assert checked.code == 1
    assert "datasets/tone.jsonl:1: " in checked.out


def test_a_file_of_an_adapter_that_is_given_has_it_checked(built: Repo) -> None:
    Path("adapters/legal").rename("given")
    built.replace("models:\n", "models:\n  given: {base: tiny, adapter: given}\n")
    said = built.doit("check", "--files", "given/adapter_config.json")
    assert said.code == 0
    assert [line.partition(":")[0] for line in said.out.splitlines() if not line.startswith(("warning", "  "))] == ["given"]


def test_names_are_seen_from_where_doit_was_typed(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    Path("sub").mkdir()
    monkeypatch.setattr(doit.loader, "initial_workdir", str(repo.path / "sub"))
    assert repo.doit("check", "--files", "datasets/tone.jsonl").out == ""
    assert repo.doit("check", "--files", "../datasets/tone.jsonl").out.startswith(TONE)


def test_the_manifest_is_one() -> None:
    done = subprocess.run([sys.executable, "-m", "pre_commit", "validate-manifest", str(MANIFEST)], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.fixture
def hooked(repo: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo in a folder of a clone, with the hook as the manifest has it, in this environment in place of one that takes minutes to install."""
    monkeypatch.setenv("PRE_COMMIT_HOME", str(tmp_path_factory.mktemp("pre-commit")))
    monkeypatch.setenv("PATH", f"{tmp_path_factory.mktemp('bin')}{os.pathsep}{os.environ['PATH']}")
    program = Path(os.environ["PATH"].split(os.pathsep)[0], "doit")
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m doit "$@"\n', encoding="utf-8")
    program.chmod(0o755)
    (hook,) = yaml.safe_load(MANIFEST.read_text(encoding="utf-8"))
    hook.update(language="system", args=["-f", "team/dodo.py"])
    Path("team").mkdir()
    for path in (path for path in list(Path().iterdir()) if path.name != "team"):
        path.rename(Path("team", path.name))
    Path("team/dodo.py").write_text(
        'from ollamake import DOIT_CONFIG, tasks_from\n\ndef task_models():\n    yield from tasks_from("models.yaml")\n', encoding="utf-8"
    )
    Path(".pre-commit-config.yaml").write_text(yaml.safe_dump({"repos": [{"repo": "local", "hooks": [hook]}]}), encoding="utf-8")
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    subprocess.run([sys.executable, "-m", "pre_commit", "install"], capture_output=True, check=True)
    return repo


def commit(path: str, text: str) -> tuple[int, list[str]]:
    """Exit code of a commit of this, and what it said from the hook's name on."""
    Path(path).write_text(text, encoding="utf-8")
    git("add", ".")
    who = {f"GIT_{part}_{fact}": "x@example.com" for part in ("AUTHOR", "COMMITTER") for fact in ("NAME", "EMAIL")}
    done = subprocess.run(["git", "commit", "-m", "second"], capture_output=True, text=True, check=False, env={**os.environ, **who})
    lines = (done.stderr + done.stdout).splitlines()
    start = next((place for place, line in enumerate(lines) if line.startswith("ollamake check")), 0)
    return done.returncode, lines[start:]


def test_a_record_that_is_broken_is_not_committed_and_one_that_is_not_is(hooked: Repo) -> None:
    good = Path("team/datasets/tone.jsonl").read_text(encoding="utf-8")
    assert commit("team/datasets/tone.jsonl", good.replace('"output"', '"ouput"', 1)) == (
        1,
        [
            "ollamake check...........................................................Failed",
            "- hook id: ollamake-check",
            "- exit code: 1",
            "",
            "datasets/tone.jsonl:1: unknown key 'ouput' [unknown-key]",
            "  fix: write 'output' (known: input, instruction, output)",
            "datasets/tone.jsonl:1: missing key 'output' [missing-key]",
            "  fix: add 'output' to the record",
            "tone: 2 records (alpaca); characters: median 25, p90 25, p99 25, longest 25; 1 line left out; 2 errors",
            "",
        ],
    )
    code, said = commit("team/datasets/tone.jsonl", good + jsonl({"instruction": "More?", "output": "More."}))
    assert (code, said[0]) == (0, "ollamake check...........................................................Passed")


def test_a_catalog_that_is_broken_is_not_committed(hooked: Repo) -> None:
    code, said = commit("team/models.yaml", Path("team/models.yaml").read_text(encoding="utf-8").replace("base: tiny", "bsae: tiny", 1))
    assert code == 1
    assert "models.legal: unknown key 'bsae'\n  fix: write 'base'" in "\n".join(said)


def test_what_is_nothing_of_ollamakes_is_passed_over(hooked: Repo) -> None:
    assert commit("other.json", "{}")[0] == 0
    assert commit("README.md", "Hello.\n")[1][0] == "ollamake check.......................................(no files to check)Skipped"
