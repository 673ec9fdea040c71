"""A model on a server -> a registry, under the name that it has there."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from pathlib import Path

import httpx
import ollama

from ollamake.digest import digest_bytes
from ollamake.errors import BuildError
from ollamake.ollama.address import address_of, digests_at
from ollamake.ollama.client import CONNECTING, PATIENCE, OllamaServer
from ollamake.ollama.failures import broke_off, failures_of
from ollamake.ollama.names import named_lock, tagged
from ollamake.progress import transferring
from ollamake.say import say
from ollamake.state.files import LOCAL, PUSHING, read_object, write_whole


def push_model(server: OllamaServer, name: str, target: str, *, insecure: bool) -> str:
    """Have the registry hold the model of this name, as `target`. Returns its digest. Raises BuildError and OSError.

    It is named so on the server for as long as that takes, or for good where something was named so before.
    """
    with named_lock(server.address, target), _named(server, name, target) as digest:
        _push(server, target, insecure=insecure)
    return digest


def take_away_left() -> None:
    """Take away the names that pushes have left on servers which were killed. Those of a server that does not answer are left for the next time."""
    for note in sorted(Path(LOCAL, PUSHING).glob("*.json")):
        said = read_object(note)
        try:
            with named_lock(address_of(said["server"]), said["name"]):
                _take_away(note)
        except KeyError:  # no note of ours
            note.unlink()
        except BuildError as error:
            _say_that_it_stays(said["name"], error)
    with suppress(OSError):
        Path(LOCAL, PUSHING).rmdir()


@contextmanager
def _named(server: OllamaServer, name: str, target: str) -> Iterator[str]:
    """While this goes on, the model has that name, too; yields its digest. A note is on the disk before, for the next run where this one is killed."""
    note = Path(LOCAL, PUSHING, f"{digest_bytes(f'{server.address} {tagged(target)}'.encode())[7:23]}.json")
    if note.exists():
        _take_away(note)
    listed = digests_at(server.address)
    if listed is None or tagged(target) in listed:  # where no list came, nothing is taken away
        yield server.copy(name, target)
        return
    write_whole(note, json.dumps({"server": str(server.address), "name": target, "digest": server.digest(name)}) + "\n", durable=True)
    try:
        yield server.copy(name, target)
    finally:
        try:
            _take_away(note)
        except BuildError as error:  # what was pushed is pushed, and why a push failed says more
            _say_that_it_stays(target, error)


def _take_away(note: Path) -> None:
    """Remove the name that the note says, where it is still that of what was pushed, and the note. Raises BuildError."""
    said = read_object(note)
    address = address_of(said["server"])
    listed = digests_at(address)
    if listed is None:
        return
    if listed.get(tagged(said["name"])) == said["digest"]:
        with OllamaServer(address) as server:
            server.delete(said["name"])
    note.unlink()


def _say_that_it_stays(name: str, error: BuildError) -> None:
    why = str(error).partition("\n")[0]
    say(f"   warning: {name} stays on the server: {why}\n     fix: ollama rm {name}")


def _push(server: OllamaServer, target: str, *, insecure: bool) -> None:
    what = f"can't push {target}"
    status: str | None = None
    client = ollama.Client(str(server.address), timeout=httpx.Timeout(PATIENCE, connect=CONNECTING))
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
