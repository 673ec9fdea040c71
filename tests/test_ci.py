"""The workflows of docs/ci: as GitHub and GitLab publish their forms, and each of their scripts run, with a stand-in for the network alone."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from threading import Thread
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import yaml

from conftest import HERE, Repo, jsonl
from test_lock import git

ROOT = HERE.parent
GITHUB, GITLAB = ROOT / "docs/ci/github.yml", ROOT / "docs/ci/gitlab.yml"
RELEASE = ROOT / ".github/workflows/release.yml"
TOKEN = "a-token"
ME = {"login": "github-actions[bot]", "id": 7}
BASH = ("bash", "--noprofile", "--norc", "-eo", "pipefail", "-c")  # as GitHub runs what has `shell: bash`


@pytest.mark.parametrize(("schema", "path"), [("github-workflows", GITHUB), ("github-workflows", RELEASE), ("gitlab-ci", GITLAB)])
def test_a_workflow_has_the_form_that_is_published(schema: str, path: Path) -> None:
    argv = [sys.executable, "-m", "check_jsonschema", "--builtin-schema", f"vendor.{schema}", str(path)]
    done = subprocess.run(argv, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("path", [GITHUB, GITLAB])
def test_the_page_has_the_whole_of_each_file(path: Path) -> None:
    assert f"```yaml\n{path.read_text(encoding='utf-8')}```\n" in (ROOT / "docs/ci.md").read_text(encoding="utf-8")


def test_nothing_that_a_pull_request_can_write_stands_in_a_script_and_rights_are_given_to_one_job() -> None:
    for path in (GITHUB, RELEASE):
        workflow = yaml.safe_load(path.read_text(encoding="utf-8"))
        assert workflow["permissions"] == {}
        for job in workflow["jobs"].values():
            rights = [right for right in job["permissions"].values() if right == "write"]
            assert not rights or not any("checkout" in step.get("uses", "") for step in job["steps"])
            assert not [step["run"] for step in job["steps"] if "${{" in step.get("run", "")]
    assert yaml.safe_load(GITHUB.read_text(encoding="utf-8"))[True] == "pull_request"  # `on`, to YAML 1.1: not pull_request_target


def test_gitlab_gives_the_token_to_the_job_that_runs_nothing_of_a_branch() -> None:
    workflow = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))
    look, comment = workflow["look"], workflow["comment"]
    assert comment["environment"] == {"name": "ollamake-comment", "action": "access"}  # the scope of the variable, as docs/ci.md has it
    assert "environment scope `ollamake-comment`" in (ROOT / "docs/ci.md").read_text(encoding="utf-8")
    assert "environment" not in look
    assert comment["variables"] == {"GIT_STRATEGY": "none"}
    (rule,) = comment["rules"]
    assert "OLLAMAKE_TOKEN" not in rule["if"]  # what has a scope is not there yet when rules are read
    assert "$CI_MERGE_REQUEST_SOURCE_PROJECT_ID == $CI_MERGE_REQUEST_PROJECT_ID" in rule["if"]


def test_gitlab_without_a_token_comments_nothing_and_fails_nothing(notes: Notes, tmp_path: Path) -> None:
    done = noted(tmp_path, notes, "<!-- ollamake -->\n### ollamake: 1 of 2 models changes\n", token="")
    assert (done.returncode, done.stdout) == (0, "no comment: this job is given no OLLAMAKE_TOKEN\n")
    assert notes.asked == []


def test_actions_are_of_versions_that_run_on_a_node_that_github_still_has() -> None:
    on_node_24 = {"checkout": 5, "setup-python": 6, "upload-artifact": 6, "download-artifact": 7}  # the first of each; Node 20 went in September 2026
    used = [re.findall(r"uses: actions/([\w-]+)@v(\d+)$", path.read_text(encoding="utf-8"), flags=re.MULTILINE) for path in (GITHUB, RELEASE)]
    assert all(used)
    assert [(name, version) for some in used for name, version in some if int(version) < on_node_24[name]] == []


def step(name: str, job: str = "look") -> str:
    """The script of this step."""
    (found,) = (step["run"] for step in yaml.safe_load(GITHUB.read_text(encoding="utf-8"))["jobs"][job]["steps"] if step.get("name") == name)
    return str(found)


class Notes:
    """The comments of GitHub's issue 5, and the notes of GitLab's merge request 5, at pages of two."""

    def __init__(self, address: str) -> None:
        self.address = address
        self.comments: list[dict[str, Any]] = []
        self.asked: list[str] = []

    def add(self, body: str, user: dict[str, Any]) -> None:
        self.comments.append({"id": len(self.comments) + 100, "body": body, "user": user, "author": user})

    def bodies(self) -> list[str]:
        return [comment["body"].partition("\n\n")[0] for comment in self.comments]

    def answer(self, method: str, url: str, body: dict[str, Any]) -> tuple[Any, str]:
        parts = urlsplit(url)
        if parts.path == "/user":
            return ME, ""
        if method == "GET":
            page = int(parse_qs(parts.query).get("page", ["1"])[0])
            more = f'<{self.address}{parts.path}?page={page + 1}>; rel="next"' if len(self.comments) > 2 * page else ""
            return self.comments[2 * page - 2 : 2 * page], more
        self.asked.append(method)
        if method == "POST":
            self.add(body["body"], ME)
            return self.comments[-1], ""
        (comment,) = (one for one in self.comments if one["id"] == int(parts.path.rsplit("/", 1)[1]))
        comment["body"] = body["body"]
        return comment, ""


@contextmanager
def serving() -> Iterator[Notes]:
    class Handler(BaseHTTPRequestHandler):
        def answer(self) -> None:
            assert TOKEN in (self.headers["Authorization"] or self.headers["PRIVATE-TOKEN"])
            length = int(self.headers.get("Content-Length") or 0)
            facts, link = notes.answer(self.command, self.path, json.loads(self.rfile.read(length) or b"{}"))
            content = json.dumps(facts).encode()
            self.send_response(200)
            self.send_header("Link", link)
            self.send_header("Content-Length", str(len(content)))
            self.end_headers()
            self.wfile.write(content)

        do_GET = do_POST = do_PATCH = do_PUT = answer  # noqa: N815 - the library's names

        def log_message(self, *what: object) -> None:
            pass

    server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
    notes = Notes(f"http://127.0.0.1:{server.server_port}")
    thread = Thread(target=server.serve_forever)
    thread.start()
    try:
        yield notes
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


@pytest.fixture
def notes() -> Iterator[Notes]:
    with serving() as here:
        yield here


@pytest.fixture
def runner(committed: Repo, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A runner's clone: neither adapters nor anything built, and HEAD is the merge of a branch, in which a record was edited, with a main that has moved on."""
    git("checkout", "-q", "-b", "kinder")
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    git("commit", "-qam", "kinder")
    git("checkout", "-q", "main")
    Path("NOTES.md").write_text("Moved on.\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-qm", "moved on")
    git("checkout", "-q", "-b", "merged")
    git("merge", "-q", "--no-ff", "-m", "merge", "kinder")
    clone = tmp_path_factory.mktemp("runner")
    git("clone", "-q", f"file://{committed.path}", str(clone))
    return clone


def bash(script: str, cwd: Path, **environment: str) -> subprocess.CompletedProcess[str]:
    where = os.pathsep.join([*([str(cwd / "bin")] if (cwd / "bin").is_dir() else []), str(Path(sys.executable).parent), os.environ["PATH"]])
    everything = {**os.environ, "PATH": where, "RUNNER_TEMP": str(cwd), "GITHUB_STEP_SUMMARY": str(cwd / "summary.md"), **environment}
    return subprocess.run([*BASH, script], cwd=cwd, env=everything, capture_output=True, text=True, check=False)


def with_doit(folder: Path) -> None:
    """`doit` of this Python, by its name."""
    put(folder / "bin/doit", f'exec "{sys.executable}" -m doit "$@"\n')


def put(path: Path, script: str) -> None:
    path.parent.mkdir(exist_ok=True)
    path.write_text(f"#!/bin/sh\n{script}", encoding="utf-8")
    path.chmod(0o755)


def test_github_says_what_the_branch_changes_and_holds_its_records_to_their_rules(runner: Path) -> None:
    with_doit(runner)
    done = bash(step("What changes"), runner, SINCE="origin/main")
    assert (done.returncode, done.stderr) == (0, "")
    assert (runner / "comment.md").read_text(encoding="utf-8").startswith("<!-- ollamake -->\n### ollamake: 1 of 2 models changes: 1 may train\n")
    assert (runner / "summary.md").read_text(encoding="utf-8").startswith("### ollamake: 1 of 2 models changes")
    done = bash(step("Check"), runner)
    assert done.returncode == 0, done.stderr
    (runner / "datasets/tone.jsonl").write_text(jsonl({"instruction": "More?", "ouput": "More."}), encoding="utf-8")
    done = bash(step("Check"), runner)
    assert done.returncode == 1
    assert done.stdout.startswith(f"::add-matcher::{runner}/ollamake.json\n")
    (matcher,) = json.loads((runner / "ollamake.json").read_text(encoding="utf-8"))["problemMatcher"]
    (pattern,) = matcher["pattern"]
    found = [match for line in done.stdout.splitlines() if (match := re.match(pattern["regexp"], line))]
    assert [(match[1], match[2], match[4]) for match in found] == [
        ("datasets/tone.jsonl", "1", "unknown key 'ouput' [unknown-key]"),
        ("datasets/tone.jsonl", "1", "missing key 'output' [missing-key]"),
    ]


def commented(folder: Path, notes: Notes, text: str) -> subprocess.CompletedProcess[str]:
    (folder / "comment.md").write_text(text, encoding="utf-8")
    put(folder / "bin/gh", f'exec "{sys.executable}" "{HERE}/gh_stand_in.py" "$@"\n')
    return bash(step("Comment", "comment"), folder, GH_TOKEN=TOKEN, NUMBER="5", GITHUB_REPOSITORY="a/b", STAND_IN_API=notes.address)


def noted(folder: Path, notes: Notes, text: str, token: str = TOKEN) -> subprocess.CompletedProcess[str]:
    (folder / "comment.md").write_text(text, encoding="utf-8")
    (script,) = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))["comment"]["script"]
    return bash(script, folder, OLLAMAKE_TOKEN=token, CI_API_V4_URL=notes.address, CI_PROJECT_ID="3", CI_MERGE_REQUEST_IID="5")


@pytest.mark.parametrize("say", [commented, noted])
def test_there_is_one_comment_which_is_made_once_and_then_replaced(say: Any, notes: Notes, tmp_path: Path) -> None:
    somebody = {"login": "somebody", "id": 8}
    notes.add("<!-- ollamake -->\nnot the bot's, whatever it begins with", somebody)
    notes.add("<!-- ollamake team/ -->\nanother folder's", ME)
    others = notes.bodies()
    assert say(tmp_path, notes, "<!-- ollamake -->\n### ollamake: no model changes\n\nCompared.\n").returncode == 0
    assert notes.bodies() == others  # nothing to say is not said
    for count in ("1", "2"):
        done = say(tmp_path, notes, f'<!-- ollamake -->\n### ollamake: {count} of 2 models change\n\n\u00e9 | $x `y` "z"\n')
        assert done.returncode == 0, done.stderr
    assert notes.bodies() == [*others, "<!-- ollamake -->\n### ollamake: 2 of 2 models change"]
    assert notes.comments[-1]["body"].endswith('\u00e9 | $x `y` "z"\n')
    assert say(tmp_path, notes, "<!-- ollamake -->\n### ollamake: no model changes\n\nCompared.\n").returncode == 0
    assert notes.bodies() == [*others, "<!-- ollamake -->\n### ollamake: no model changes"]  # what was said is not left standing
    assert {method for method in notes.asked if method != "POST"} in ({"PATCH"}, {"PUT"})
    assert notes.asked.count("POST") == 1


@pytest.mark.parametrize("say", [commented, noted])
def test_a_file_that_is_not_a_comment_replaces_none(say: Any, notes: Notes, tmp_path: Path) -> None:
    notes.add("something else of the bot's", ME)
    assert say(tmp_path, notes, "\nhello").returncode != 0
    assert notes.asked == []


def test_gitlab_says_what_the_branch_changes_and_holds_its_records_to_their_rules(runner: Path) -> None:
    with_doit(runner)
    look = yaml.safe_load(GITLAB.read_text(encoding="utf-8"))["look"]
    done = bash(
        "\n".join(look["script"]), runner, CI_MERGE_REQUEST_DIFF_BASE_SHA=git("-C", str(runner), "merge-base", "origin/main", "origin/kinder").strip()
    )
    assert done.returncode == 0, done.stderr
    assert "### ollamake: 1 of 2 models changes: 1 may train\n" in (runner / "comment.md").read_text(encoding="utf-8")
    assert "tone: 3 records (alpaca)" in done.stdout
