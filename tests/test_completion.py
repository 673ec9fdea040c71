"""Completion, by real shells: what is typed, and what they offer."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import DODO, Repo
from ollamake.commands.completion import script
from ollamake.completion import commands as of_doit
from ollamake.completion.answer import answers
from terminal import Terminal

SHELLS = ("bash", "zsh", "fish")


@pytest.fixture(scope="session")
def _commands(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """What is known of doit's commands, asked once."""
    folder = tmp_path_factory.mktemp("commands")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("XDG_CACHE_HOME", str(folder))
        of_doit.known_commands()
    return folder / "ollamake/completion/commands.json"


@pytest.fixture
def typing(repo: Repo, _commands: Path) -> Repo:
    """A repo with a dodo.py, and programs in .venv/bin as pip would write them."""
    kept = Path(os.environ["XDG_CACHE_HOME"], "ollamake/completion/commands.json")
    kept.parent.mkdir(parents=True)
    shutil.copyfile(_commands, kept)
    (repo.path / "dodo.py").write_text(f"{DODO}\ndef task_mine():\n    raise SystemExit('dodo.py was run')\n", encoding="utf-8")
    repo.replace("  legal:\n", "  legal:\n    tags: [support, small]\n")
    programs = repo.path / ".venv/bin"
    programs.mkdir(parents=True)
    for name, main in (("doit", "from doit.doit_cmd import DoitMain\nimport sys\nsys.exit(DoitMain().run(sys.argv[1:]))\n"), ("ollamake", "")):
        (programs / name).write_text(f"#!{sys.executable}\n{main}", encoding="utf-8")
        (programs / name).chmod(0o755)
    return repo


def offered(*words: str) -> list[str]:
    return [word for word, _ in answers("doit", words[:-1], words[-1])]


def test_what_init_takes_is_completed() -> None:
    from ollamake.commands.init import EDITORS

    assert [word for word, _ in answers("ollamake", ["init"], "--e")] == ["--example", "--editor"]
    assert [word for word, _ in answers("ollamake", ["init", "--editor"], "")] == list(EDITORS)


@pytest.mark.parametrize(
    ("words", "wanted"),
    [
        (("build", "s"), ["sales", "state:", "since:"]),
        (("build", "tag:"), ["tag:support", "tag:small"]),
        (("build", "state:s"), ["state:stale"]),
        (("build", "tag:support,base:"), ["tag:support,base:tiny"]),
        (("plan", "+le"), ["+legal"]),
        (("build", "--exclude", "le"), ["legal"]),
        (("build", "--exclude=le"), ["--exclude=legal"]),
        (("build", "--engine", ""), ["local", "ray"]),
        (("--js",), ["--json"]),
        (("build", "-n", "2", "--max"), ["--max-train-minutes="]),
        (("train:",), ["train:legal", "train:sales"]),
        (("validate:",), ["validate:shared", "validate:tone"]),
        (("build", "convert:s"), ["convert:sales"]),
        (("mi",), ["mine"]),
        (("check", "to"), ["tone"]),
        (("check", "datasets/t"), ["datasets/tone.jsonl"]),
        (("ask", "l"), ["legal"]),
        (("ask", "legal", ""), []),
        (("why", "sa"), ["sales"]),
        (("retrain", "--base", ""), ["tiny"]),
        (("cache", ""), ["status", "verify", "push", "prune"]),
        (("completion", ""), ["bash", "zsh", "fish"]),
        (("help", "pru"), ["prune"]),
        (("comp",), ["completion"]),
    ],
)
def test_words_are_offered(typing: Repo, words: tuple[str, ...], wanted: list[str]) -> None:
    assert offered(*words) == wanted


def test_another_dodo_file_has_names_of_its_own(typing: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir("/")
    assert offered("build", "le") == []
    assert offered("-f", str(typing.path / "dodo.py"), "build", "le") == ["legal"]


def test_names_follow_the_catalog_and_outlive_its_faults(typing: Repo) -> None:
    assert offered("why", "")[:2] == ["legal", "sales"]
    typing.replace("  legal:\n", "  lawyer:\n")
    assert offered("why", "")[:2] == ["lawyer", "sales"]
    typing.replace("  lawyer:\n", "  lawyer:: [\n")
    assert offered("why", "")[:2] == ["lawyer", "sales"]
    (typing.path / "models.yaml").unlink()
    assert offered("why", "")[:2] == ["lawyer", "sales"]


def test_an_included_catalog_that_is_new_is_seen(typing: Repo) -> None:
    typing.replace("version: 1\n", "version: 1\ninclude: [more/*.yaml]\n")
    (typing.path / "more").mkdir()
    (typing.path / "more/one.yaml").write_text("version: 1\nmodels: {one: {base: tiny, data: [tone]}}\n", encoding="utf-8")
    assert "one" in offered("why", "")
    (typing.path / "more/two.yaml").write_text("version: 1\nmodels: {two: {base: tiny, data: [tone]}}\n", encoding="utf-8")
    assert "two" in offered("why", "")


def test_what_is_known_is_answered_without_doit_yaml_and_the_schema(typing: Repo) -> None:
    program = (
        "import sys; from ollamake.completion.answer import answers; found = [*answers('doit', ['why'], '')]\n"
        "print(len(found), [name for name in ('doit', 'yaml', 'jsonschema', 'msgspec', 'numpy', 'ollamake.catalog.load') if name in sys.modules])"
    )
    for _ in range(2):  # the second time, all is known
        done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout.split(maxsplit=1)[1] == "[]\n"


def test_a_shell_that_is_not_known_is_said(repo: Repo) -> None:
    result = repo.doit("completion", "fihs")
    assert (result.code, result.err) == (3, "ERROR: \nno completion for 'fihs'\n  fix: write 'fish' (known: bash, fish, zsh)\n")
    assert repo.doit("completion").code == 3
    assert repo.doit("completion", "bash").out == script("bash")


START = {
    "bash": ["--norc", "--noprofile", "-i"],
    "zsh": ["-f", "-i"],
    "fish": ["--no-config", "-i"],
}


@pytest.mark.parametrize("doit", ["doit", ".venv/bin/doit"])
@pytest.mark.parametrize("shell", SHELLS)
def test_a_real_shell_completes(typing: Repo, shell: str, doit: str) -> None:
    program = shutil.which(shell)
    if program is None:
        pytest.skip(f"{shell} is not installed")
    source = typing.path / f"completion.{shell}"
    source.write_text(script(shell), encoding="utf-8")
    path = os.pathsep.join([str(typing.path / ".venv/bin"), os.environ["PATH"]])
    home = {"HOME": str(typing.path), "XDG_CONFIG_HOME": str(typing.path), "XDG_DATA_HOME": str(typing.path)}
    with Terminal([program, *START[shell]], (40, 160), {"PATH": path, "PS1": "> ", "PROMPT": "> ", **home}) as terminal:
        terminal.type(f"source {source}; echo re''ady\n")
        terminal.until("ready").until_true(lambda: terminal.lines[-1] != "ready")  # it asks for more: what is typed before, some would drop
        for typed, completed in (
            (f"{doit} build leg", f"{doit} build legal"),
            (f"{doit} train:sa", f"{doit} train:sales"),
            (f"{doit} build tag:sup", f"{doit} build tag:support"),
            (f"{doit} check to", f"{doit} check tone"),
            (f"{doit} affec", f"{doit} affected"),
            (f"{doit} --qui", f"{doit} --quiet"),
            ("ollamake ini", "ollamake init"),
        ):
            terminal.type(f"{typed}\t")
            terminal.until(completed)
            terminal.type("\x15")  # Ctrl-U
