"""What goes wrong between us and the Hugging Face Hub, as errors that end the search."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ollamake.catalog.outside import SITE
from ollamake.errors import BuildError
from ollamake.said import cleaned

LOG_IN = "`hf auth login`, or $HF_TOKEN"
_WIRES = ("httpx", "httpx2", "httpcore", "requests", "hf_xet")  # libraries by which it speaks


@contextmanager
def failures_of(what: str, repo: str, typed: str) -> Iterator[None]:
    """Raise a BuildError for whatever goes wrong in here between us and the Hub.

    `what`: what can't be done then, with its mark; `typed`: the command that tries once more.
    """
    try:
        import huggingface_hub  # noqa: F401 - here for the error
    except ImportError as error:
        msg = f"{what}: huggingface_hub is not installed"
        raise BuildError(msg, fix="pip install 'ollamake[hub]'") from error
    try:
        yield
    except BuildError:
        raise
    except Exception as error:
        reason = _reason(error)
        again = f"run `{typed}` again"
        text, fix = _of_repo(reason, repo, again) or _of_way(reason, again) or _of_answer(reason, again)
        msg = f"{what}: {text}"
        raise BuildError(msg, fix=fix) from error


def _reason(error: Exception) -> Exception:
    """What is behind an error that says only that a file is neither there nor here."""
    from huggingface_hub.errors import LocalEntryNotFoundError

    behind = error.__cause__ if isinstance(error, LocalEntryNotFoundError) else None
    return behind if isinstance(behind, Exception) else error


def _of_repo(error: Exception, repo: str, again: str) -> tuple[str, str] | None:
    """What is wrong with what was asked for, and what to do."""
    from huggingface_hub import errors as hub

    if isinstance(error, hub.GatedRepoError):
        return f"{repo} is gated", f"ask for access at {SITE}/{repo}; then {LOG_IN}"
    if isinstance(error, hub.RepositoryNotFoundError):
        return f"there is no {repo}, or it is not for everybody", f"mend the name; or, where it is private: {LOG_IN}"
    if isinstance(error, hub.RevisionNotFoundError):
        return f"{repo} has no such commit", f"take one of {SITE}/{repo}/commits/main"
    if isinstance(error, hub.HfHubHTTPError):
        status = getattr(getattr(error, "response", None), "status_code", None)
        if status in {401, 403}:
            return f"the Hub does not let you ({status})", f"{LOG_IN}, of a token that may; for a push, of one that may write"
        return f"the Hub says: {_line(error)}", f"{again}; if it stays so, look at https://status.huggingface.co"
    return None


def _of_way(error: Exception, again: str) -> tuple[str, str] | None:
    """What is wrong between here and there, and what to do."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    if isinstance(error, hub.OfflineModeIsEnabled) or (isinstance(error, hub.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE):
        return "it is not here yet, and $HF_HUB_OFFLINE is set", f"unset it, then {again}; what was fetched once stays"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return str(error.strerror), f"make room on the disk, then {again}"
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _WIRES:
        return f"the Hub can't be reached, or broke off: {_line(error)}", f"look after the network, then {again}; what is there already stays"
    if isinstance(error, hub.HFValidationError):
        return _line(error), "mend the name in the catalog"
    return None


def _of_answer(error: Exception, again: str) -> tuple[str, str]:
    """The library made nothing of what it was told: no JSON, JSON of another shape, a file of a size that can't be."""
    fix = f"look what answers there: $HF_ENDPOINT, a proxy, the page of a network that wants a login; then {again}"
    return f"what answers is not the Hub, or the library does not know it: {_line(error)}", fix


def _line(error: Exception) -> str:
    text = "".join(char for char in " ".join(str(error).split()) if char.isprintable())
    return cleaned(text) or type(error).__name__
