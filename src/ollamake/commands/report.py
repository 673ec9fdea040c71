"""`doit report`: what a person looks at, as a site of static files."""

from __future__ import annotations

import gc
import json as to_json
import sys
import webbrowser
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.call import current
from ollamake.commands.look import AS_JSON, NO_STEPS, Look
from ollamake.spelling import counted

OPEN = {"name": "open", "long": "open", "type": bool, "default": False, "help": "open it in the browser"}


class ReportCommand(Look):
    """Write the report."""

    name = "report"
    doc_purpose = "write a site about the models and datasets into build/report: no server, no network"
    doc_usage = ""
    doc_description = (
        "Only pages are written of which something changed. Nothing is built, and no model is asked: each server is asked once which models it has. "
        "Exit code: 0, also where models are stale."
    )
    cmd_options = (OPEN, AS_JSON)
    loads = False

    def execute(self, params: Any, args: list[str]) -> int:
        """Write it. Returns the exit code. Raises what doit prints as an error."""
        gc.disable()  # a third of the time would go into looking for garbage, of which there is none
        try:
            return super().execute(params, args)
        finally:
            gc.enable()

    def _execute(self, *, open: bool, json: bool, pos_args: Sequence[str]) -> int:  # noqa: A002 - the option's name
        if pos_args:
            msg = "usage: doit report [--open] [--json]"
            raise InvalidCommand(msg)
        if not current().named:
            raise InvalidCommand(NO_STEPS)
        from ollamake.survey.all import write_report

        done = write_report(current().named)
        if json:
            self.outstream.write(to_json.dumps(done.as_json(), indent=2, ensure_ascii=False) + "\n")
        else:
            removed = f", {len(done.removed)} removed" if done.removed else ""
            written = counted(sum(path.endswith(".html") for path in done.written), "page")
            self.outstream.write(f"report: {done.path}  ({counted(done.models, 'model')}, {written} written{removed})\n")
        if open:
            address = Path(done.path).absolute().as_uri()
            if not _opened(address):
                print(f"no browser is known here; open {address}", file=sys.stderr if json else self.outstream)
        return 0


def _opened(address: str) -> bool:
    try:
        return webbrowser.open(address)
    except webbrowser.Error:
        return False
