"""`doit diff MODEL [A [B]]`: what two versions of a model answer to the same questions."""

from __future__ import annotations

import io
import json as to_json
import shutil
from collections.abc import Iterator, Sequence
from contextlib import ExitStack
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog import Model
from ollamake.commands.look import AS_JSON, Look
from ollamake.commands.one_model import HOST, connected, one_model, tests_of
from ollamake.errors import BuildError
from ollamake.graph import LATEST, PREVIOUS
from ollamake.ollama.names import named_lock
from ollamake.progress import AskingProgress
from ollamake.spelling import counted
from ollamake.stages.asking import base_on
from ollamake.stages.compared import Compared, compared
from ollamake.stages.kept import Kept, kept_on
from ollamake.stages.promotion import BASE
from ollamake.state.versions import short

WIDE = 100  # columns of a terminal from which on answers stand beside one another
SAME = "same"


class DiffCommand(Look):
    """Compare two versions."""

    name = "diff"
    doc_purpose = "show what two versions of a model answer to the questions of its tests"
    doc_usage = "MODEL [A [B]]"
    doc_description = (
        f"A and B are tags, the first digits of digests, or `{BASE}`; by default {PREVIOUS} and {LATEST}. "
        "Where the model has no tests, it is asked the first questions that it was trained on. The likeliest answer counts, whatever its parameters are."
    )
    cmd_options = (HOST, AS_JSON)

    def _execute(self, *, host: str, json: bool, pos_args: Sequence[str]) -> int:
        if not 1 <= len(pos_args) <= 3:
            msg = "usage: doit diff MODEL [A [B]]"
            raise InvalidCommand(msg)
        run, steps, name = one_model(pos_args[0])
        test = tests_of(run, steps, name, host)[0]
        model, at = test.subject, run.sights.host(test)
        assert isinstance(model, Model)
        said = (*pos_args[1:], *(PREVIOUS, LATEST)[len(pos_args) - 1 :])
        with ExitStack() as stack:
            if BASE in said:  # a build that tests the model has a base of the same name
                self.dep_manager.backend.hold()
                stack.callback(self.dep_manager.backend.lock.release)
            server = stack.enter_context(connected(at))
            versions = [Kept(tag=BASE, digest=BASE) if one == BASE else kept_on(server, name, at.file_name, one) for one in said]
            a, b = versions
            if a.digest == b.digest:
                msg = f"{said[0]} and {said[1]} are one version of {name}: {short(a.digest)}"
                raise BuildError(msg, fix=f"`doit history {name}` lists them")
            if BASE in said:
                stack.enter_context(named_lock(at.address, name))
                stack.enter_context(base_on(server, model))
            tell = stack.enter_context(AskingProgress(name)).show if self.outstream.isatty() and not json else None
            prompts = compared(server, model, f"{name}:{a.tag}", f"{name}:{b.tag}", tell=tell)
        if json:
            facts = {"model": name, "host": at.name, "a": _facts(a), "b": _facts(b), "prompts": [one.as_json() for one in prompts]}
            self.outstream.write(to_json.dumps({**facts, "same": _same(prompts)}, indent=2, ensure_ascii=False) + "\n")
            return 0
        width = shutil.get_terminal_size().columns if self.outstream.isatty() else 0
        head = f"{name} on {at.name}: {_told(a)} and {_told(b)}, {counted(len(prompts), 'prompt')}"
        tags = a.tag, b.tag
        shown = side_by_side(prompts, tags, width=width) if width >= WIDE else "\n\n".join(_above(prompts, tags))
        self.outstream.write(f"{head}\n\n{shown}\n\n{_same(prompts)} of {counted(len(prompts), 'answer')} are the same\n")
        return 0


def _facts(version: Kept) -> dict[str, Any]:
    return {"tag": version.tag, "digest": None if version.tag == BASE else version.digest}


def _told(version: Kept) -> str:
    return version.tag if version.tag == BASE else str(version)


def _same(prompts: Sequence[Compared]) -> int:
    return sum(one.is_same for one in prompts)


def _above(prompts: Sequence[Compared], tags: tuple[str, str]) -> Iterator[str]:
    """Each question, with one answer below the other."""
    width = max(map(len, (*tags, SAME))) + 1
    for number, one in enumerate(prompts, start=1):
        answers = [(SAME, one.a)] if one.is_same else list(zip(tags, (one.a, one.b), strict=True))
        lines = [_asked(number, one)]
        for tag, answer in answers:
            lines.append(f"  {f'{tag}:':<{width}} {_indented(answer.strip(), width + 3)}")
        yield "\n".join(lines)


def _asked(number: int, one: Compared) -> str:
    return f"{number}. {_indented(one.question, len(f'{number}. '))}"


def _indented(text: str, by: int) -> str:
    return f"\n{' ' * by}".join(text.splitlines()) if text else "(nothing)"


def side_by_side(prompts: Sequence[Compared], tags: tuple[str, str], *, width: int) -> str:
    """Each question, with one answer beside the other; `width` columns in all."""
    from rich.console import Console
    from rich.padding import Padding
    from rich.table import Table
    from rich.text import Text

    out = io.StringIO()
    console = Console(file=out, width=width, color_system=None, legacy_windows=False)
    half = (width - 4) // 2
    for number, one in enumerate(prompts, start=1):
        console.print(Text(_asked(number, one)))
        if one.is_same:
            console.print(Text(f"  {SAME}: {_indented(one.a.strip(), len(SAME) + 4)}"))
        else:
            table = Table(box=None, show_header=False, padding=(0, 2, 0, 0), pad_edge=True)
            for _ in tags:
                table.add_column(width=half - 2)
            for left, right in (tags, (one.a.strip(), one.b.strip())):
                table.add_row(Text(left or "(nothing)"), Text(right or "(nothing)"))
            console.print(Padding(table, (0, 0, 0, 2)))
        console.print()
    return "\n".join(line.rstrip() for line in out.getvalue().rstrip().splitlines())
