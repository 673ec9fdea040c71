"""The docs are true: each key of the catalog has its heading, and what README.md shows is what is there."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import replace
from importlib.metadata import EntryPoint, entry_points
from pathlib import Path
from typing import Any

from conftest import Repo
from ollamake.catalog import Catalog
from ollamake.catalog.faults import schema
from ollamake.catalog.load import load_catalog
from ollamake.catalog.tests import Question
from ollamake.gate.answers import Answer, ask
from ollamake.gate.report import EFFECT, Report, Result
from ollamake.gate.told import told
from ollamake.gate.verdicts import question_result
from ollamake.records.block import read_block
from ollamake.records.formats import FORMATS, Layout
from ollamake.records.rules import RULES

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")


def keys(node: dict[str, Any], path: str) -> Iterator[str]:
    """Dotted names of all keys below a schema's node; `train`, `engine` and `serve` stand once for all places."""
    if "$ref" in node:
        return
    for name, below in node.get("properties", {}).items():
        yield f"{path}{name}"
        if name not in {"fields", "rules"}:  # keys of the formats, and the names of the rules
            yield from keys(below, f"{path}{name}.")
    if isinstance(node.get("additionalProperties"), dict):
        yield from keys(node["additionalProperties"], f"{path}NAME.")


def test_every_key_of_the_catalog_has_its_heading_and_no_other_has() -> None:
    whole = schema()
    wanted = {key for key in keys(whole, "") if not re.search(r"\.(train|serve|engine)$", key)} - {"engine"}
    for part in ("train", "serve", "engine"):
        wanted |= {part, *(f"{part}.{name}" for name in whole["$defs"][part]["properties"])}
    headings = re.findall(r"^###? (.+)$", (ROOT / "docs/catalog.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(wanted)


def test_every_rule_has_its_heading_with_what_a_breach_is() -> None:
    text = (ROOT / "docs/rules.md").read_text(encoding="utf-8")
    assert dict(re.findall(r"^## (\S+)\n\n\*(\w+)\*", text, flags=re.MULTILINE)) == dict(RULES)
    assert set(schema()["properties"]["datasets"]["additionalProperties"]["properties"]["rules"]["properties"]) == set(RULES)


def test_editors_show_what_each_key_is_for() -> None:
    def undescribed(node: Any, path: str) -> Iterator[str]:
        for name, below in node.get("properties", {}).items():
            if "description" not in {
                **below,
                **(schema()["$defs"][below["$ref"].split("/")[-1]] if below.get("$ref", "").startswith("#/$defs/") else {}),
            }:
                yield f"{path}{name}"
            yield from undescribed(below, f"{path}{name}.")
        if isinstance(node.get("additionalProperties"), dict):
            yield from undescribed(node["additionalProperties"], f"{path}NAME.")

    assert list(undescribed(schema(), "")) == []
    assert [
        key for part in ("train", "serve", "engine") for key in undescribed(schema()["$defs"][part], f"{part}.") if "parameters." not in key
    ] == []


def test_every_parameter_of_ollama_is_named() -> None:
    text = (ROOT / "docs/catalog.md").read_text(encoding="utf-8")
    for name in schema()["$defs"]["serve"]["properties"]["parameters"]["properties"]:
        assert f"`{name}`" in text


def test_the_dodo_file_in_the_readme_builds(repo: Repo) -> None:
    block = re.search(r"^    from ollamake import(?:.*\n)+?    +yield from .*$", README, flags=re.MULTILINE)
    assert block is not None
    program = "\n".join(line.removeprefix("    ") for line in block[0].splitlines())
    assert len(program.splitlines()) <= 10
    (repo.path / "dodo.py").write_text(program, encoding="utf-8")
    import subprocess
    import sys

    done = subprocess.run([sys.executable, "-m", "doit", "validate"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout, done.stderr) == (0, ".  validate:shared  (not built yet)\n.  validate:tone  (not built yet)\n", "")


def load_demo() -> Catalog:
    return load_catalog(Path("models.yaml"), trainers=["peft"])


def test_the_demo_catalog_is_as_the_readme_says(monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    catalog = load_demo()
    first, second = catalog.models
    assert (first.name, second.name) == ("help-desk", "troubleshooter")
    assert {dataset.name for dataset in first.data} & {dataset.name for dataset in second.data} == {"helpdesk"}
    count = 0
    for dataset in catalog.datasets:
        for path in dataset.files:
            records, lines = read_block(Path(path).read_bytes(), Layout(FORMATS["alpaca"]))
            assert len(records) == lines
            count += len(records)
    assert count >= 150
    assert catalog.warnings == ()


def test_the_report_of_a_failing_test_is_printed_as_the_readme_shows_it(monkeypatch: Any) -> None:
    monkeypatch.chdir(ROOT)
    question = load_demo().models[0].tests[0]
    assert isinstance(question, Question)
    answer = Answer("The catalog is catalog.json.", is_cut=False, seconds=0.0)
    failed = question_result(question, ask(question.messages), [answer], None)
    others = [Result(name=name, kind=EFFECT, passed=True) for name in ("one", "two", "three")]
    now, before = (Report(model="help-desk", digest="", results=(first, *others)) for first in (failed, replace(failed, passed=True)))
    assert "".join(f"    {line}\n" for line in told(now, before).splitlines()) in README


def test_the_readme_names_each_command_once() -> None:
    commands = re.findall(r"^\| `(doit [a-z]+(?: --[a-z-]+)?)", README, flags=re.MULTILINE)
    assert [command for command in commands if commands.count(command) > 1] == []


def test_ci_runs_the_command_of_the_readme() -> None:
    script = (ROOT / ".ci/run").read_text(encoding="utf-8")
    pattern = re.search(r"s/\^    \\\((.*?)\\\)\$/", script)
    assert pattern is not None
    commands = re.findall(rf"^    ({pattern[1]})$", README, flags=re.MULTILINE)
    assert commands == [
        "python3 -m venv .venv && .venv/bin/pip install -q -c constraints.txt -e '.[dev]' && .venv/bin/pytest -n 2 -m \"not trainers and not cluster\""
    ]


def commands() -> list[EntryPoint]:
    """Those of ollamake, without doit's own."""
    own = ("ollamake.commands.run:", "ollamake.commands.own:")
    return [entry for entry in entry_points(group="doit.COMMAND") if entry.value.startswith("ollamake.") and not entry.value.startswith(own)]


def test_every_command_has_its_heading() -> None:
    headings = re.findall(r"^## doit ?(.*)$", (ROOT / "docs/commands.md").read_text(encoding="utf-8"), flags=re.MULTILINE)
    assert sorted(headings) == sorted(["", *(entry.name for entry in commands())])


def test_the_names_of_all_commands_are_said_to_be_taken() -> None:
    (taken,) = re.findall(r"by any name but those of commands: (.*), and doit's own", README)
    assert re.findall(r"`(\w+)`", taken) == sorted(entry.name for entry in commands())


def test_every_method_and_state_of_selection_is_described() -> None:
    from ollamake.selection import LOOKED_UP, SAID, STATES

    text = (ROOT / "docs/selection.md").read_text(encoding="utf-8")
    for method in {*SAID, *LOOKED_UP} - {"state"}:
        assert f"| `{method}:" in text
    for state in STATES:
        assert f"`state:{state}`" in text


def test_every_option_of_a_command_is_named() -> None:
    text = (ROOT / "docs/commands.md").read_text(encoding="utf-8")
    told = {"json", "markdown", "files", "because", "max-train-minutes", "beside-base", "exclude", "since", "write", "name"}
    for entry in commands():
        for option in entry.load().__dict__["cmd_options"]:
            if isinstance(option, dict) and option["long"] in told:
                assert f"--{option['long']}" in text


def headings(page: Path) -> list[str]:
    """The headings of a page, without those in its blocks of code."""
    text = re.sub(r"^```.*?^```$", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.findall(r"^#+ (.+)$", text, flags=re.MULTILINE)


def anchor(heading: str) -> str:
    """What GitHub, and the site, call a heading."""
    plain = re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", heading)
    return re.sub(r"[^\w\- ]", "", plain.lower()).strip().replace(" ", "-")


def links(page: Path) -> Iterator[str]:
    """The links of a page, without those that are shown as code."""
    text = re.sub(r"^```.*?^```$|^(?: {4}|\t)[^\n]*$|`[^`\n]*`", "", page.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    yield from re.findall(r"\]\((?!https?:|mailto:)([^)]+)\)", text)


PAGES = (ROOT / "README.md", ROOT / "CHANGELOG.md", *sorted((ROOT / "docs").rglob("*.md")))


def test_links_lead_somewhere() -> None:
    """What `mkdocs build --strict` says of the docs, and of README.md, which is not among them; by the names that GitHub gives."""
    broken = []
    for page in PAGES:
        for link in links(page):
            path, _, fragment = link.partition("#")
            target = (page.parent / path).resolve() if path else page
            if not target.exists() or (fragment and fragment not in map(anchor, headings(target))):
                broken.append(f"{page.relative_to(ROOT)}: {link}")
    assert broken == []


def rows_of_tables(text: str) -> Iterator[tuple[int, int]]:
    """Of each row: its cells, and those of its table's head. A bar in code divides cells too, on GitHub."""
    head = 0
    for line in re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL).splitlines():
        cells = len(re.findall(r"(?<!\\)\|", line)) - 1 if line.startswith("|") else 0
        head = (head or cells) if cells else 0
        if cells:
            yield cells, head


def test_each_row_of_a_table_has_as_many_cells_as_its_head() -> None:
    assert list(rows_of_tables("| a | b |\n|---|---|\n| `x|y` | z |\n")) == [(2, 2), (2, 2), (3, 2)]
    for page in PAGES:
        assert [row for row in rows_of_tables(page.read_text(encoding="utf-8")) if row[0] != row[1]] == [], page


def test_the_check_of_links_sees_what_is_broken(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text(
        "# One `two`: three\n\n[a](other.md#x) `[b](c.md)` [d](#one-two-three)\n\n    [e](f.md)\n\n```\n# g\n[h](i.md)\n```\n\n[j](k.md)\n",
        encoding="utf-8",
    )
    assert list(links(page)) == ["other.md#x", "#one-two-three", "k.md"]
    assert [anchor(heading) for heading in headings(page)] == ["one-two-three"]
    assert anchor("datasets.NAME.start_from") == "datasetsnamestart_from"


def test_every_exit_code_has_its_heading() -> None:
    from ollamake.commands.check import FAULTY
    from ollamake.commands.options import INTERRUPTED
    from ollamake.commands.plan import STALE
    from ollamake.say import NOBODY_READS

    doits = (0, 1, 2, 3)
    assert FAULTY in doits
    wanted = [str(code) for code in (*doits, STALE, INTERRUPTED, NOBODY_READS)]
    assert headings(ROOT / "docs/exit-codes.md") == ["Exit codes", *wanted]
    for source in (ROOT / "src/ollamake/commands").glob("*.py"):  # and no command ends with any other
        for code in re.findall(r"^ +return (\d+)$", source.read_text(encoding="utf-8"), flags=re.MULTILINE):
            assert code in wanted, source


def test_every_method_of_a_trainer_has_its_heading_and_every_capability_its_row() -> None:
    from dataclasses import fields

    from ollamake.trainers.port import KINDS, PARTS, Capabilities

    page = ROOT / "docs/trainers/write-one.md"
    text = page.read_text(encoding="utf-8")
    assert sorted(set(headings(page)) & set(PARTS)) == sorted(PARTS)
    assert re.findall(r"^### (.+)$", text, flags=re.MULTILINE) == list(PARTS)
    assert re.findall(r"^\| `(\w+)` \| `", text, flags=re.MULTILINE) == [field.name for field in fields(Capabilities)]
    for kind in KINDS:
        assert f"`{kind}`" in text


def test_every_method_of_a_sink_has_its_heading_and_every_field_is_named() -> None:
    from dataclasses import fields

    from ollamake.sinks.port import GROUP, Outcome, Point, Sink, TrainingRun

    text = (ROOT / "docs/tracking.md").read_text(encoding="utf-8")
    methods = [name for name in vars(Sink) if not name.startswith("_")]
    assert re.findall(r"^### (.+)$", text, flags=re.MULTILINE) == methods
    for method in methods:
        assert f"        def {method}(self" in text
        assert f"`{method}(" in text
    for kind in (TrainingRun, Point, Outcome):
        for field in fields(kind):
            assert f"`{field.name}`" in text or f"`run.{field.name}`" in text, field.name
    assert f'entry-points."{GROUP}"' in text


def test_the_site_has_a_place_for_every_page() -> None:
    """`mkdocs build --strict` looks at the rest."""
    text = (ROOT / "mkdocs.yml").read_text(encoding="utf-8")
    for page in (ROOT / "docs").rglob("*.md"):
        assert re.search(rf"^ +- (.*: )?{re.escape(page.relative_to(ROOT / 'docs').as_posix())}$", text, flags=re.MULTILINE), page


def test_ci_builds_the_site_as_it_has_to_be() -> None:
    assert "mkdocs build --strict" in (ROOT / ".ci/run").read_text(encoding="utf-8")
