"""Files to a server: asked for by their digests, sent only where they are missing, and sent again where the way broke off."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

import httpx

from ollamake.errors import BuildError, GoneError
from ollamake.ollama.address import Address
from ollamake.ollama.failures import failures_of
from ollamake.ollama.names import blob_lock
from ollamake.progress import transferring
from ollamake.say import say

# Seconds before a file is asked for and sent again. A loop, and no library: httpx itself tries only to connect again, and it is one place.
PAUSES = (0.5, 2.0, 5.0)
PIECE = 1 << 20  # bytes


def send_blob(client: httpx.Client, address: Address, path: Path, digest: str, pauses: Sequence[float] = PAUSES) -> None:
    """Have the server hold this file, whose digest is known. Raises BuildError."""
    with failures_of(f"can't send {path}", address):
        if is_held(client, digest):
            return
        with blob_lock(address, digest):  # models of one base, registered at once: the second finds it sent
            _send_until_held(client, address, path, digest, pauses)


def _send_until_held(client: httpx.Client, address: Address, path: Path, digest: str, pauses: Sequence[float]) -> None:
    for pause in pauses:
        error = _send_if_missing(client, address, path, digest)
        if error is None:
            return
        say(f"   {path.name} did not get to {address}, trying again: {error or type(error).__name__}")
        time.sleep(pause)
    error = _send_if_missing(client, address, path, digest)
    if error is not None:
        raise error


def _send_if_missing(client: httpx.Client, address: Address, path: Path, digest: str) -> httpx.HTTPError | None:
    """What went wrong and may go well the next time; None where the server has the file. Raises what would go wrong again."""
    try:
        if not is_held(client, digest):
            _send(client, address, path, digest)
    except httpx.HTTPError as error:
        if _may_pass(error):
            return error
        raise
    return None


def is_held(client: httpx.Client, digest: str) -> bool:
    """Has the server the file of this digest? Raises httpx.HTTPError."""
    response = client.head(f"/api/blobs/{digest}")
    if response.status_code == httpx.codes.NOT_FOUND:
        return False
    response.raise_for_status()
    return True


def _may_pass(error: httpx.HTTPError) -> bool:
    """May it go well the next time?"""
    if isinstance(error, httpx.HTTPStatusError):
        return error.response.is_server_error and "no space left" not in error.response.text
    return isinstance(error, httpx.TransportError) and not isinstance(error, (httpx.UnsupportedProtocol, httpx.ProxyError))


def _send(client: httpx.Client, address: Address, path: Path, digest: str) -> None:
    size = _size(path)
    with transferring(f"   sending {path.name} to {address}", size) as advance:
        # The length is said before: a server, or a proxy before it, knows then when the way broke off.
        response = client.post(f"/api/blobs/{digest}", content=_pieces(path, size, advance), headers={"Content-Length": str(size)})
    if response.status_code == httpx.codes.BAD_REQUEST and "mismatch" in response.text:
        raise _changed(path)
    response.raise_for_status()


def _pieces(path: Path, size: int, advance: Callable[[int], None]) -> Iterator[bytes]:
    left = size
    try:
        with path.open("rb") as file:
            while left and (piece := file.read(min(PIECE, left))):
                yield piece
                left -= len(piece)
                advance(len(piece))
    except OSError as error:
        raise _unreadable(path, error) from error
    if left:
        raise _changed(path)


def _size(path: Path) -> int:
    try:
        return os.stat(path).st_size
    except OSError as error:
        raise _unreadable(path, error) from error


def _changed(path: Path) -> BuildError:
    return BuildError(f"{path} changed while it was sent", fix="run `doit` again")


def _unreadable(path: Path, error: OSError) -> BuildError:
    kind = GoneError if isinstance(error, FileNotFoundError) else BuildError
    return kind(f"{path} can't be read: {error.strerror}", fix="run `doit` again")
