"""What goes wrong between us and the Hugging Face Hub, as errors that end the search."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from contextlib import contextmanager

from ollamake.catalog.outside import SITE
from ollamake.errors import BuildError

LOG_IN = "`hf auth login`, or $HF_TOKEN"
AGAIN = "run `doit` again"
_LENGTH = 200  # characters of what the Hub says
_WIRES = ("httpx", "httpx2", "httpcore", "requests", "hf_xet")  # libraries by which it speaks


@contextmanager
def failures_of(what: str, repo: str) -> Iterator[None]:
    """Raise a BuildError for whatever goes wrong in here between us and the Hub. `what`: what can't be done then, with its mark."""
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
        text, fix = _of_repo(error, repo) or _of_way(error) or ("", "")
        if not text:
            raise
        msg = f"{what}: {text}"
        raise BuildError(msg, fix=fix) from error


def _of_repo(error: Exception, repo: str) -> tuple[str, str] | None:
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
        return f"the Hub says: {_line(error)}", f"{AGAIN}; if it stays so, look at https://status.huggingface.co"
    return None


def _of_way(error: Exception) -> tuple[str, str] | None:
    """What is wrong between here and there, and what to do; None for what is our own fault."""
    from huggingface_hub import constants
    from huggingface_hub import errors as hub

    if isinstance(error, hub.OfflineModeIsEnabled) or (isinstance(error, hub.LocalEntryNotFoundError) and constants.HF_HUB_OFFLINE):
        return "it is not here yet, and $HF_HUB_OFFLINE is set", f"unset it, then {AGAIN}; what was fetched once stays"
    if isinstance(error, OSError) and error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return str(error.strerror), f"make room on the disk, then {AGAIN}"
    if isinstance(error, OSError) or type(error).__module__.partition(".")[0] in _WIRES:
        return f"the Hub can't be reached, or broke off: {_line(error)}", f"look after the network, then {AGAIN}; what is there already stays"
    if isinstance(error, hub.HFValidationError):
        return _line(error), "mend the name in the catalog"
    return None


def _line(error: Exception) -> str:
    return " ".join(str(error).split())[:_LENGTH] or type(error).__name__
