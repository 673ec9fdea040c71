"""One build at a time writes a name on a server: the server itself lets the last who writes win, and tells nobody."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager

from ollamake.errors import BuildError
from ollamake.folders import servers_folder
from ollamake.locks import try_lock, wait_for_lock
from ollamake.ollama.address import Address
from ollamake.progress import waiting

_held = threading.local()  # .paths: of the locks that this thread has


def tagged(name: str) -> str:
    """The name as Ollama lists it."""
    name = name.lower()
    return name if ":" in name.rpartition("/")[2] else f"{name}:latest"


@contextmanager
def named_lock(address: Address, name: str) -> Iterator[None]:
    """Hold a model's name, with all of its tags, on this server; other builds of this user on this machine wait. Raises BuildError.

    Who holds it already, in this thread, goes on. What builds of other machines do shows in the digest that is read back.
    """
    name = tagged(name).rpartition(":")[0]
    with _lock(address, f"name-{name}", f"   {name}: waiting for the build that registers it at {address}"):
        yield


@contextmanager
def blob_lock(address: Address, digest: str) -> Iterator[None]:
    """Hold a file's place on this server; who would send it too waits. Raises BuildError."""
    # Two letters: a lock for each file that was ever sent would be left behind, and those who share one only wait.
    with _lock(address, f"blob-{digest.removeprefix('sha256:')[:2]}", f"   waiting for another build that sends to {address}"):
        yield


@contextmanager
def _lock(address: Address, kind: str, text: str) -> Iterator[None]:
    place = f"here_{address.port}" if address.is_here else address.file_name  # localhost and 127.0.0.1 are one server
    path = servers_folder() / f"{place}.{kind.replace('/', '_')}.lock"
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        file = path.open("w")
    except OSError as error:
        msg = f"the cache can't be written to: {error}"
        raise BuildError(msg, fix="set $XDG_CACHE_HOME to a folder that you may write to") from error
    held: set[str] = _held.__dict__.setdefault("paths", set())
    if str(path) in held:
        file.close()
        yield
        return
    with file:
        if not try_lock(file):
            with waiting(text):
                wait_for_lock(file)
        held.add(str(path))
        try:
            yield
        finally:
            held.discard(str(path))
