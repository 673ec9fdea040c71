"""What somebody says that went wrong, fit to be printed and to be told to others: in one line, without what lets anybody in."""

from __future__ import annotations

import os
import re
from collections.abc import Mapping

from ollamake.records.secrets import masked

LONGEST = 200  # characters
_USER = re.compile(r"(?<=://)[^/@\s]+@")
_QUERY = re.compile(r"(?<=[\w/])\?[^\s'\"]+")
_KEYS = re.compile(
    r"(?i)\b([\w-]*(?:key|secret|token|password|passwd|sig|signature|credential|authorization))(\"?'?\s*[=:]\s*\"?'?)(?:Bearer\s+)?[^\s&;,'\"]+"
)
_SECRET_NAMES = re.compile(r"(?i)key|secret|token|passw|credential|connection_string|_sas")
_SHORTEST_SECRET = 6  # characters


def cleaned(text: str, environ: Mapping[str, str] = os.environ) -> str:
    """The first line of it, and the next where it only leads to that, without credentials.

    Neither those of urls and queries, nor what looks like a secret, nor the values of variables that are called as if they had one.
    """
    for name, value in environ.items():
        if len(value) >= _SHORTEST_SECRET and _SECRET_NAMES.search(name) and not os.path.exists(value):
            text = text.replace(value, "***")
    first, *more = [part.strip() for part in text.splitlines() if part.strip()] or [""]
    line = f"{first} {more[0]}" if first.endswith(":") and more else first
    line = masked(_KEYS.sub(r"\1\2***", _QUERY.sub("", _USER.sub("", line))))
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 3]}..."


def said(error: BaseException) -> str:
    """What an error of a library says."""
    text = error.strerror if isinstance(error, OSError) and error.strerror else str(error)
    return cleaned(text) or type(error).__name__
