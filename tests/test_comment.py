"""`doit affected --markdown` and `doit plan --markdown`: a comment for a pull request, in which nothing of a catalog or a record is Markdown."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path

import pytest
from markdown_it import MarkdownIt

from conftest import Repo, jsonl
from ollamake.comment import CHANGE, LIMIT, STALE, Row, code, comment, headline
from ollamake.freshness import Reason
from ollamake.graph import Step
from ollamake.plan import BLOCKED, FAILS, PERHAPS, UNKNOWN, YES, Planned
from test_lock import git

NASTY = "<script>alert(1)</script> | a | ![x](http://evil.example/x.png) @everyone #1 owner/repo#2 `tick` **bold** :rocket: $x$ --> www.evil.example \x1b[31m \u202e\n# head"


class Seen(HTMLParser):
    """The tags of a page, and its text."""

    def __init__(self, page: str) -> None:
        super().__init__()
        self.tags: list[str] = []
        self.cells: list[str] = []
        self.feed(page)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append(tag)
        if tag == "td":
            self.cells.append("")
        assert not [name for name, _ in attrs if name != "style"], attrs  # no link, no image, no class of GitHub's

    def handle_data(self, data: str) -> None:
        if self.cells:
            self.cells[-1] += data


def rendered(text: str) -> Seen:
    """As GitHub's Markdown has it: CommonMark with tables and HTML."""
    return Seen(MarkdownIt("commonmark", {"html": True}).enable(["table", "strikethrough"]).render(text))


def plan(stage: str, name: str = "m", runs: str = YES, seconds: float | None = None, *reasons: Reason) -> Planned:
    step = Step(stage=stage, name=name, subject=None, reads=(), writes=(), keys={})  # type: ignore[arg-type]
    return Planned(step=step, runs=runs, reasons=reasons or (Reason(kind="never built"),), seconds=seconds)


def test_an_edited_record_is_a_row_and_what_follows_is_folded(committed: Repo) -> None:
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    result = committed.doit("affected", "--since", "HEAD", "--markdown")
    assert (result.code, result.err) == (0, "")
    commit = git("rev-parse", "HEAD").strip()[:8]
    why = "datasets/tone.jsonl changed"
    assert (
        re.sub(r"[0-9.]+ s\b", "T", result.out)
        == f"""\
<!-- ollamake -->
### ollamake: 1 of 2 models changes: 1 may train; at most T of training

| model | runs | why |
|---|---|---|
| <code>sales</code> | validate convert train? package? register? test? | <code>{why}</code> |

<details><summary>6 steps, with every reason</summary>

| step | time | why |
|---|---|---|
| <code>validate&#58;tone</code> |  | <code>{why}</code> |
| <code>convert&#58;sales</code> |  | <code>{why}</code> |
| <code>train&#58;sales</code>? | T | <code>convert&#58;sales will run; trains unless its text comes out the same</code> |
| <code>package&#58;sales</code>? |  | <code>train&#58;sales may run; packages unless its adapter comes out the same</code> |
| <code>register&#58;sales</code>? |  | <code>package&#58;sales may run; registers unless its GGUF comes out the same</code> |
| <code>test&#58;sales</code>? |  | <code>register&#58;sales may run; tests unless its model comes out the same</code> |

</details>

Compared with {commit}, by git and `models.lock` alone. `?`: only where what comes before it comes out otherwise.
"""
    )


def test_a_fresh_clone_without_adapters_is_told_what_the_edit_changes_and_no_more(
    committed: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    git("checkout", "-q", "-b", "edit")
    committed.replace("    data: [shared]\n", "    data: [shared]\n    train: {epochs: 4}\n")
    git("commit", "-qam", "longer")
    clone = tmp_path_factory.mktemp("runner")
    git("clone", "-q", f"file://{committed.path}", str(clone))
    monkeypatch.chdir(clone)
    assert (
        "### ollamake: 1 of 2 models changes: 1 trains\n" in committed.doit("affected", "--since", "origin/main", "--markdown").out
    )  # nobody knows how long
    planned = committed.doit("plan", "--markdown")
    assert planned.code == 4
    assert "### ollamake: 2 of 2 models are stale" in planned.out  # which is true of this machine, and said
    assert "\n2 adapters not on this machine" in planned.out


def test_nothing_changed_is_one_line(committed: Repo) -> None:
    lines = committed.doit("affected", "--since", "HEAD", "--markdown").out.splitlines()
    assert lines[:2] == ["<!-- ollamake -->", "### ollamake: no model changes"]
    assert len(lines) == 4
    assert committed.doit("plan", "--markdown").out == "<!-- ollamake -->\n### ollamake: no model is stale\n"


def test_models_that_are_new_renamed_or_gone_and_datasets_that_nobody_reads_are_told(committed: Repo) -> None:
    committed.replace("  legal:\n", "  lawyer:\n")
    committed.replace("  sales:\n", "  vendor:\n")
    committed.replace("temperature: 0.2", "temperature: 0.4")
    committed.replace("models:\n", "  spare: {files: [datasets/spare.jsonl]}\nmodels:\n")
    Path("datasets/spare.jsonl").write_text(jsonl({"instruction": "More?", "output": "More."}), encoding="utf-8")
    said = committed.doit("affected", "--since", "HEAD", "--markdown").out
    assert "### ollamake: 2 of 2 models change: 2 train" in said
    assert "<code>it was legal</code>" in said
    assert "\n<code>sales</code> is gone; Ollama may have it still.\n" in said
    assert "| <code>validate&#58;spare</code> | validate |" in said
    assert "| <code>lawyer</code>" in committed.doit("affected", "--since", "HEAD", "--markdown", "lawyer").out


def test_a_folder_of_a_larger_repo_has_a_mark_of_its_own(committed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    import shutil

    shutil.rmtree(".git")
    Path("team a--").mkdir()
    for path in [path for path in Path().iterdir() if path.name != "team a--"]:
        path.rename(Path("team a--", path.name))
    git("init", "-q", "-b", "main")
    git("add", ".")
    git("commit", "-qm", "first")
    monkeypatch.chdir("team a--")
    assert committed.doit("affected", "--since", "HEAD", "--markdown").out.startswith("<!-- ollamake team%20a%2d%2d/ -->\n")


def test_the_headline_counts() -> None:
    rows = (
        Row(name="a", plans=(plan("train", "a", YES, 7200.0),)),
        Row(name="b", plans=(plan("train", "b", PERHAPS, 600.0),)),
        Row(name="c", plans=(plan("train", "c", UNKNOWN, None),)),
        Row(name="d", plans=(plan("validate", "d", FAILS), plan("train", "d", BLOCKED))),
        Row(name="validate:spare", plans=(plan("validate", "spare"),), is_model=False),
    )
    assert (
        headline(rows, models=12, verb=CHANGE)
        == "4 of 12 models change: 1 trains, 2 may train, 1 fails; at most 2 h 10 min of training, and 1 training of unknown length"
    )
    assert headline(rows[:1], models=12, verb=STALE) == "1 of 12 models is stale: 1 trains; about 2 h 0 min of training"
    assert headline((Row(name="a", plans=(plan("register", "a"),)),), models=1, verb=CHANGE) == "1 of 1 model changes: none trains"
    assert headline(rows[4:], models=12, verb=CHANGE) == "no model changes"


def test_any_text_is_text() -> None:
    seen = rendered(f"| a |\n|---|\n| {code(NASTY)} |\n")
    assert set(seen.tags) == {"table", "thead", "tbody", "tr", "th", "td", "code"}
    assert seen.cells[0].strip() == NASTY.replace("\x1b", "\\u001b").replace("\u202e", "\\u202e").replace("\n", " ")
    source = code(NASTY)[len("<code>") : -len("</code>")]
    assert not re.search(r"[<>|*`@#:$\[\]~\\]", re.sub(r"&#\d+;", "", source))  # what GitHub and GitLab would see is not there to be seen
    assert "www.evil" not in source


def test_no_reason_breaks_a_row() -> None:
    row = Row(name="m", plans=(plan("train", "m", YES, None, Reason(kind="key", what=NASTY, old=NASTY, new="x" * 5000)),), about=NASTY)
    text = comment([row], models=1, verb=CHANGE, more=NASTY, gone=[NASTY], notes=[NASTY])
    assert set(rendered(text).tags) <= {"h3", "table", "thead", "tbody", "tr", "th", "td", "code", "strong", "details", "summary", "p", "br"}
    assert all(line.count("|") in {0, 4} for line in text.splitlines())


def test_a_thousand_models_are_as_many_as_fit_and_the_rest_is_counted() -> None:
    rows = [Row(name=f"model-{n:04}", plans=tuple(plan(stage, f"model-{n:04}") for stage in ("convert", "train", "test"))) for n in range(1000)]
    text = comment(rows, models=1000, verb=CHANGE, more="doit affected --since main")
    assert len(text.encode()) <= LIMIT
    shown = len(re.findall(r"^\| <code>model-", text, flags=re.MULTILINE))
    left = re.search(r"Not shown, as a comment may not be longer: (.*?)\. <code>doit affected --since main</code> lists all\.", text)
    assert left is not None
    models, steps = (int(count) for count in re.findall(r"\d+", left[1])) if "and" in left[1] else (0, int(re.findall(r"\d+", left[1])[0]))
    steps_shown = len(re.findall(r"^\| <code>(?:convert|train|test)&#58;", text, flags=re.MULTILINE))
    assert (shown + models, steps_shown + steps) == (1000, 3000)
    assert text.count("<details>") == text.count("</details>")
    short = comment(rows[:21], models=1000, verb=CHANGE, more="")
    assert "<details><summary>1 more model</summary>" in short
    assert "Not shown" not in short


def test_it_is_one_form_or_the_other(committed: Repo) -> None:
    for command in (("plan",), ("affected", "--since", "HEAD")):
        said = committed.doit(*command, "--json", "--markdown")
        assert (said.code, said.out, said.err) == (3, "", "ERROR: --json and --markdown: one of the two\n")
