"""`doit completion bash|zsh|fish`: a script that has the shell complete commands, options, and the names of this repo."""

from __future__ import annotations

import shlex
import sys
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

import ollamake
from ollamake.commands.options import WithOptions
from ollamake.completion.words import SHELLS
from ollamake.errors import BuildError, as_printed
from ollamake.spelling import nearest

SCRIPTS = {"bash": "bash.sh", "zsh": "zsh.zsh", "fish": "fish.fish"}
# The folder that the shell is in holds modules of other names, or none of ours: it is no place to import from.
PROGRAM = "import sys; sys.path = [place for place in sys.path if place]; from ollamake.completion.answer import run; run()"


class CompletionCommand(WithOptions):
    """Print a script for a shell."""

    name = "completion"
    doc_purpose = "print what makes a shell complete commands, options, models and datasets"
    doc_usage = "SHELL"
    doc_description = (
        f'SHELL is one of {", ".join(SHELLS)}. In bash or zsh: eval "$(doit completion bash)"; in fish: doit completion fish | source. '
        "Each doit completes by its own environment, that of .venv/bin/doit too."
    )
    cmd_options = ()

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:  # noqa: ARG002 - doit's names
        """Print it. Raises doit's InvalidCommand."""
        if len(pos_args) != 1 or pos_args[0] not in SCRIPTS:
            fix = nearest(pos_args[0], SHELLS) if len(pos_args) == 1 else f"doit completion {'|'.join(SHELLS)}"
            what = f"no completion for {pos_args[0]!r}" if len(pos_args) == 1 else "completion takes the name of a shell"
            raise InvalidCommand(as_printed(BuildError(what, fix=fix)))
        print(script(pos_args[0]), end="")
        return 0


def script(shell: str) -> str:
    """The script for this shell; where the doit that is typed is not a script of Python's, this one's Python answers."""
    text = (Path(ollamake.__file__).parent / "completion" / SCRIPTS[shell]).read_text(encoding="utf-8")
    return text.replace("@PYTHON@", shlex.quote(sys.executable)).replace("@PROGRAM@", shlex.quote(PROGRAM))
