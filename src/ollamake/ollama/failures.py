"""What goes wrong between us and a server, as errors that end the search."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import ollama

from ollamake.errors import AdaptersRefusedError, BuildError
from ollamake.ollama.address import Address

AGAIN = "look whether the server still runs, and into its log; then run `doit` again"
_LENGTH = 300  # characters of what a server says: a proxy's page of HTML is longer
# 0.9.3 names the file that it can't open.
_BLOB_GONE = re.compile(r"sha256[-:][0-9a-f]{64}.*(no such file|cannot find the file|not found)", re.DOTALL)
_QUERY = re.compile(r"(?<=[\w/])\?[\w-]+=[^\s'\"]*")
# What a registry has said to the server, as that tells it: `401: ...`, and of 404 as of a file.
_OF_A_REGISTRY = re.compile(r"(\d{3}):|file does not exist$")
_KEY = "the server's own key has to be in your account: https://ollama.com/settings/keys, or `ollama signin`"
# What the server says, and what to do then; the first that is in it counts.
_FIXES = (
    (
        "not authorized to push",
        "push to a name of your own, USER/MODEL; the server's own key has to be in your account: https://ollama.com/settings/keys",
    ),
    ("unauthorized", _KEY),
    ("is denied", "push to a name of your own; what the registry lets in is the server's own key: https://ollama.com/settings/keys"),
    ("access denied", _KEY),
    ("gave HTTP response to HTTPS", "write `push: {ollama: {name: NAME, insecure: true}}`: this registry is spoken to by http"),
    ("does not look like a TLS handshake", "write `push: {ollama: {name: NAME, insecure: true}}`: this registry is spoken to by http"),
    ("no such host", "mend the registry's address in push.ollama, or the network of the server"),
    ("connection refused", "look whether the registry runs, and its address in push.ollama"),
    # Asked for a user and a password, it takes the realm that the registry names for the address of a service of tokens.
    (
        "unsupported protocol scheme",
        "have the registry let this server in without a user's password, which no Ollama sends: by its address, or by a proxy that adds it",
    ),
    ("max retries exceeded", "look whether the registry runs, and into its log; then `doit push` again"),
    ("no space left", "make room on the server's disk, then run `doit` again"),
    ("page not found", "look what listens there: $OLLAMA_HOST, or ollama.host in the catalog"),
    ("not found", "build the model first: `doit`"),
    ("runner process has terminated", "look into the server's log: it does not take these weights, or has not the memory for them"),
)
_FIXES_BY_STATUS = {
    401: "set $OLLAMA_API_KEY to a key that it takes",
    403: "set $OLLAMA_API_KEY to a key that it takes",
    413: "have the proxy before the server take files of this size (nginx: client_max_body_size 0)",
}


class BlobGoneError(BuildError):
    """A file that the server held is gone from it: one that no model uses yet is taken away when a server starts."""


@contextmanager
def failures_of(what: str, address: Address) -> Iterator[None]:
    """Raise a BuildError for whatever goes wrong in here between us and the server. `what`: what can't be done then."""
    try:
        yield
    except ollama.ResponseError as error:
        raise _refused(what, address, error.status_code, error.error) from error
    except httpx.HTTPStatusError as error:
        raise _refused(what, address, error.response.status_code, error.response.text) from error
    except httpx.TimeoutException as error:
        msg = f"{what}: {address} does not answer ({type(error).__name__})"
        raise BuildError(msg, fix=AGAIN) from error
    except (httpx.HTTPError, httpx.StreamError, OSError) as error:
        msg = f"{what}: {address} broke off: {error or type(error).__name__}"
        raise BuildError(msg, fix=AGAIN) from error
    except (ValueError, TypeError, KeyError, AttributeError, httpx.InvalidURL) as error:  # no JSON, or JSON of another shape
        said = str(error).partition("\n")[0][:_LENGTH]
        msg = f"{what}: {address} answers what an Ollama does not: {said}"
        raise BuildError(
            msg, fix="look what listens there: $OLLAMA_HOST, or ollama.host in the catalog; if it is Ollama, run `doit` again"
        ) from error


def broke_off(what: str, address: Address) -> BuildError:
    """The error for an answer that ends before the server has said that it is done."""
    return BuildError(f"{what}: {address} broke off: its answer has no end", fix=AGAIN)


def _refused(what: str, address: Address, status: int, body: str) -> BuildError:
    said = _said(body)
    msg = f"{what}: {address} says: {said}" if said else f"{what}: {address} says HTTP {status}, and no more"
    if "adapters are no longer supported" in said or "loras are not yet implemented" in said:  # the latter by Ollama's own engine, when it loads
        return AdaptersRefusedError(msg, fix="write `serve: {weights: merged}`: this Ollama takes no adapters")
    if _BLOB_GONE.search(said):
        return BlobGoneError(msg, fix="run `doit` again")
    by_text = next((fix for part, fix in _FIXES if part in said), None)
    if (registry := _OF_A_REGISTRY.match(said)) is None:
        by_text = by_text or "look into the server's log, then run `doit` again"
    elif registry[1] in {"401", "403"}:
        by_text = by_text or _KEY
    else:
        by_text = "look after the registry, or mend push.ollama; then `doit push` again"
    return BuildError(msg, fix=_FIXES_BY_STATUS.get(status, by_text))


def _said(body: str) -> str:
    """What a server says in this body, on one line; urls in it without their queries, which may let somebody in where files are kept."""
    try:
        body = json.loads(body)["error"]
    except (ValueError, KeyError, TypeError):
        body = re.sub(r"<[^>]*>", " ", str(body))
    return _QUERY.sub("", " ".join(str(body).split()))[:_LENGTH]
