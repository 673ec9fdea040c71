"""Where Ollama is, and the questions that a build without work asks: standard library alone, so that they cost milliseconds."""

from __future__ import annotations

import http.client
import json
import os
import ssl
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from ollamake.errors import BuildError

DEFAULT_PORT = 11434
PATIENCE = 3.0  # seconds that a server may take to say its version
# Ollama refuses every adapter from here on (ollama/ollama#14969).
FIRST_WITHOUT_ADAPTERS = (0, 34, 1)


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
    answer = _get(address, "/api/version")
    if answer is None:
        return None
    if not isinstance(answer, dict) or not isinstance(answer.get("version"), str):
        msg = f"{address} answers, but it is not an Ollama"
        raise BuildError(msg, fix="end what listens on that port, or set $OLLAMA_HOST to another: OLLAMA_HOST=127.0.0.1:11500")
    return str(answer["version"])


def digests_at(address: Address) -> dict[str, str] | None:
    """The digest of each model there by its name with tag (`legal:latest`), in one call; None where nothing answers."""
    answer = _get(address, "/api/tags")
    if not isinstance(answer, dict):
        return None
    return {model["name"].lower(): f"sha256:{model['digest']}" for model in answer.get("models") or ()}


def has_blob(address: Address, digest: str) -> bool:
    """Does the server hold this blob?"""
    status, _ = _request(address, "HEAD", f"/api/blobs/{digest}")
    return status == http.client.OK


def takes_adapters(version: str) -> bool:
    """Does an Ollama of this version take a GGUF LoRA?"""
    numbers = [int(part) if part.isdecimal() else 0 for part in version.split("-", maxsplit=1)[0].split(".")]
    return tuple(numbers) < FIRST_WITHOUT_ADAPTERS


def _get(address: Address, path: str) -> Any:
    try:
        status, body = _request(address, "GET", path)
    except (OSError, http.client.HTTPException, ValueError):  # ValueError: a host or a key that can't be sent
        return None
    if status in {http.client.UNAUTHORIZED, http.client.FORBIDDEN}:
        msg = f"{address} refuses to answer: HTTP {status}"
        raise BuildError(msg, fix="set $OLLAMA_API_KEY to a key that it takes")
    try:
        return json.loads(body)
    except ValueError:
        return body


def _request(address: Address, method: str, path: str) -> tuple[int, bytes]:
    if address.scheme == "https":
        context = ssl.create_default_context()
        connection: http.client.HTTPConnection = http.client.HTTPSConnection(address.host, address.port, timeout=PATIENCE, context=context)
    else:
        connection = http.client.HTTPConnection(address.host, address.port, timeout=PATIENCE)
    key = os.environ.get("OLLAMA_API_KEY")
    try:
        connection.request(method, f"{address.path}{path}", headers={"Authorization": f"Bearer {key}"} if key else {})
        response = connection.getresponse()
        return response.status, response.read()
    finally:
        connection.close()
