"""`doit serve`: keep the embedded Ollama running."""

from __future__ import annotations

import signal
import sys
import threading
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog.load import load_catalog
from ollamake.commands.ask import CATALOG
from ollamake.commands.options import WithOptions
from ollamake.errors import BuildError, as_printed
from ollamake.ollama.address import address_of
from ollamake.ollama.server import use_server
from ollamake.trainers.installed import TrainerNames


class Serve(WithOptions):
    """Keep Ollama running until Ctrl-C."""

    doc_purpose = "keep Ollama running, for `ollama`, curl and applications"
    doc_usage = ""
    doc_description = "Where an Ollama answers already, nothing is started."
    cmd_options = (CATALOG,)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Serve until SIGINT or SIGTERM. Raises doit's InvalidCommand."""
        if pos_args:
            msg = f"serve takes no argument: {pos_args[0]!r}"
            raise InvalidCommand(msg)
        try:
            path = Path(opt_values["catalog"])
            host = load_catalog(path, trainers=TrainerNames()).host if path.exists() else None
            address = address_of(host)
            use = use_server(address)
        except KeyboardInterrupt:
            return 130
        except BuildError as error:
            raise InvalidCommand(as_printed(error)) from error
        if use.lease is None:
            print(f"Ollama {use.version} answers at {address} already: nothing to start")
            return 0
        print(f"Ollama {use.version} at {address}; Ctrl-C ends it", flush=True)
        ended = threading.Event()
        for number in (signal.SIGINT, signal.SIGTERM):
            signal.signal(number, lambda *_: ended.set())
        while not ended.wait(2.0):
            if not use.is_running():
                print(f"Ollama at {address} ended by itself", file=sys.stderr)
                use.end()
                return 1
        use.end()
        return 0
