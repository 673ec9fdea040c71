"""A model on a server -> a registry, under the name that it has there."""

from __future__ import annotations

from contextlib import ExitStack

import ollama

from ollamake.errors import BuildError
from ollamake.ollama.address import digests_at
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.failures import broke_off, failures_of
from ollamake.ollama.names import named_lock, tagged
from ollamake.progress import transferring
from ollamake.say import say


def push_model(server: OllamaServer, name: str, target: str, *, insecure: bool) -> str:
    """Have the registry hold the model of this name, as `target`. Returns its digest. Raises BuildError.

    It is named so on the server for as long as that takes, or for good where something was named so before.
    """
    with named_lock(server.address, target):
        listed = digests_at(server.address)
        was_there = listed is None or tagged(target) in listed  # where no list came, nothing is taken away
        digest = server.copy(name, target)
        try:
            _push(server, target, insecure=insecure)
        finally:
            if not was_there:
                _take_away(server, target)
    return digest


def _take_away(server: OllamaServer, target: str) -> None:
    """Remove the name. Where that fails, it is said: what was pushed is pushed, and why a push failed says more."""
    try:
        server.delete(target)
    except BuildError as error:
        why = str(error).partition("\n")[0]
        say(f"   {target} stays on the server: {why}\n     fix: ollama rm {target}")


def _push(server: OllamaServer, target: str, *, insecure: bool) -> None:
    what = f"can't push {target}"
    status: str | None = None
    client = ollama.Client(str(server.address))
    with ExitStack() as stack:
        stack.callback(client.close)
        advances = {}
        done: dict[str, int] = {}
        with failures_of(what, server.address):
            for part in client.push(target, insecure=insecure, stream=True):
                status = part.status
                if part.digest and part.total and part.digest not in advances:
                    advances[part.digest] = stack.enter_context(transferring(f"   pushing {part.digest[7:19]} to {target}", part.total))
                if part.digest and part.completed:
                    advances[part.digest](part.completed - done.get(part.digest, 0))
                    done[part.digest] = part.completed
    if status != "success":
        raise broke_off(what, server.address)
