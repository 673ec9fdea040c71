"""Where Ollama is, and the questions that a build without work asks: with nothing that takes long to import, so that they cost milliseconds."""

from __future__ import annotations

import http.client
import json
import os
import re
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

import msgspec

from ollamake.errors import BuildError

DEFAULT_PORT = 11434
CONNECTING = 3.0  # seconds that a server may take to let us in
PATIENCE = 5.0  # seconds between two bytes of an answer: listing many models from a slow disk takes some
LIMIT = 10.0  # seconds that all of several servers may take: a name that is looked up in vain knows no other end
# Ollama refuses every adapter from here on (ollama/ollama#14969).
FIRST_WITHOUT_ADAPTERS = (0, 34, 1)
# From here on each file of a split GGUF is a layer of its own; servers before take two files for two models, and say nothing.
FIRST_WITH_SPLIT = (0, 34)
# Not a blob: what is asked for with it fails on every server.
NOWHERE = "sha256:" + "0" * 64


@dataclass(frozen=True, slots=True)
class Address:
    """An Ollama server's URL, read as Ollama's own client reads $OLLAMA_HOST."""

    scheme: str
    host: str
    port: int
    path: str = ""  # of a server behind a proxy: `/ollama`

    def __str__(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{self.scheme}://{host}:{self.port}{self.path}"

    @property
    def is_here(self) -> bool:
        """Is it on this machine?"""
        return self.host in {"localhost", "::1"} or self.host.startswith("127.")

    @property
    def file_name(self) -> str:
        """The address as a file may be called."""
        return f"{self.host}_{self.port}{self.path}".replace(":", "_").replace("/", "_")


def address_of(host: str | None) -> Address:
    """The address that a catalog, else $OLLAMA_HOST, names. Raises BuildError.

    A host alone has port 11434; with `http://` before it, port 80, as Ollama's own client has it.
    """
    text = (host or os.environ.get("OLLAMA_HOST", "")).strip() or "127.0.0.1"
    bare = "://" not in text
    try:
        parts = urlsplit(f"http://{text}" if bare else text)
        port = parts.port
    except ValueError as error:
        msg = f"{text!r} is not the address of a server: {error}"
        raise BuildError(msg, fix="write HOST:PORT into $OLLAMA_HOST or ollama.host") from error
    if parts.scheme not in {"http", "https"}:
        msg = f"{text!r} is not the address of a server"
        raise BuildError(msg, fix="write HOST:PORT into $OLLAMA_HOST or ollama.host")
    name = parts.hostname or "127.0.0.1"
    if port is None:
        port = DEFAULT_PORT if bare else {"http": 80, "https": 443}[parts.scheme]
    name = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(name, name)  # noqa: S104 - the address that is replaced
    return Address(parts.scheme, name, port, parts.path.rstrip("/"))


def version_at(address: Address) -> str | None:
    """The version of the Ollama that answers there, or None where nothing answers. Raises BuildError where something else does."""
    said = _get(address, "/api/version")
    if said is None:
        return None
    status, answer = said
    if status >= http.client.INTERNAL_SERVER_ERROR:
        msg = f"{address} does not say its version: HTTP {status}"
        raise BuildError(msg, fix="look into the server's log, and of a proxy before it; then run `doit` again")
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        msg = f"{address} answers, but it is not an Ollama"
        raise BuildError(msg, fix="end what listens on that port, or set $OLLAMA_HOST to another: OLLAMA_HOST=127.0.0.1:11500")
    return str(answer["version"])


def listens(address: Address) -> bool:
    """Does something take connections there, whether it answers or not?"""
    connection = http.client.HTTPConnection(address.host, address.port, timeout=CONNECTING)
    try:
        connection.connect()
    except (OSError, ValueError):
        return False
    connection.close()
    return True


def digests_at(address: Address) -> dict[str, str] | None:
    """The digest of each model there by its name with tag (`legal:latest`), in one call; None where no list comes. Raises BuildError where a key is wanted."""
    said = _asked(address, "/api/tags")
    if said is None or said[0] != http.client.OK:
        return None
    try:
        return {model.name.lower(): f"sha256:{model.digest}" for model in msgspec.json.decode(said[1], type=_List).models or ()}
    except (msgspec.MsgspecError, UnicodeError):
        return None


class _Listed(msgspec.Struct):
    name: str
    digest: str


class _List(msgspec.Struct):
    """What a server lists: with a thousand models this is most of what is read in a run without work, and json takes twelve times as long."""

    models: list[_Listed] | None = None


def at_once(calls: Sequence[Callable[[], None]], limit: float = LIMIT) -> None:
    """Have all of these run, each in a thread; what has not ended within the limit is given up on, and goes on by itself."""
    # Not an executor, which waits for each of its threads.
    threads = [threading.Thread(target=call, daemon=True) for call in calls]
    for thread in threads:
        thread.start()
    until = time.monotonic() + limit
    for thread in threads:
        thread.join(max(0.0, until - time.monotonic()))


def versions_of(known: Mapping[str, str], name: str) -> dict[str, str]:
    """The digest of each version of a model by its tag (`latest`, `previous`), of what a server lists."""
    start = f"{name.lower()}:"
    return {listed.removeprefix(start): digest for listed, digest in known.items() if listed.startswith(start)}


def takes_adapters(version: str) -> bool | None:
    """Does an Ollama of this version take a GGUF LoRA? None where the version does not tell: that of a build of somebody's own is 0.0.0."""
    numbers = _numbers(version)
    return None if numbers is None else numbers < FIRST_WITHOUT_ADAPTERS


def takes_split(version: str) -> bool:
    """Does an Ollama of this version serve a GGUF that is split into several files? Not where the version does not tell: it could not be tried without a model."""
    numbers = _numbers(version)
    return numbers is not None and numbers >= FIRST_WITH_SPLIT


def adapters_taken(address: Address, version: str) -> bool:
    """Does the server, of this version, take a GGUF LoRA? One whose version does not tell is asked to make a model of files that it does not have.

    From 0.34.1 on that is refused for the adapter, before a file is looked for; before, for the files. Nothing comes of it either way.
    """
    known = takes_adapters(version)
    if known is not None:
        return known
    asked = {"model": "ollamake-asks", "files": {"model.gguf": NOWHERE}, "adapters": {"adapter.gguf": NOWHERE}, "stream": False}
    said = _get(address, "/api/create", "POST", json.dumps(asked).encode())
    # Merged weights are right on every server, so whatever is not clear is no.
    error = said[1].get("error") if said is not None and isinstance(said[1], dict) else None
    return isinstance(error, str) and NOWHERE.removeprefix("sha256:") in error


def _numbers(version: str) -> tuple[int, ...] | None:
    found = re.match(r"v?(\d+(?:\.\d+)+)", version)
    numbers = tuple(int(part) for part in found[1].split(".")) if found else ()
    return numbers if any(numbers) else None


def _get(address: Address, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, Any] | None:
    """The HTTP status and the answer, of JSON where it is that; None where none comes. Raises BuildError where a key is wanted."""
    asked = _asked(address, path, method, body)
    if asked is None:
        return None
    try:
        return asked[0], json.loads(asked[1])
    except ValueError:
        return asked


def _asked(address: Address, path: str, method: str = "GET", body: bytes | None = None) -> tuple[int, bytes] | None:
    """The HTTP status and the answer; None where none comes. Raises BuildError where a key is wanted."""
    try:
        status, said = _request(address, method, path, body)
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: a host or a key that can't be sent
        return None
    if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
        msg = f"{address} refuses to answer: HTTP {status}"
        raise BuildError(msg, fix="set $OLLAMA_API_KEY to a key that it takes")
    return status, said


def _request(address: Address, method: str, path: str, body: bytes | None = None) -> tuple[int, bytes]:
    if address.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(address.host, address.port, timeout=CONNECTING, context=context)
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=CONNECTING)
    key = os.environ.get("OLLAMA_API_KEY")
    try:
        connection.connect()
        connection.sock.settimeout(PATIENCE)
        connection.request(method, f"{address.path}{path}", body, headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
