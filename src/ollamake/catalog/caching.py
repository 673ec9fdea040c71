"""`cache:` of a catalog -> where adapters are shared, and what is wrong with it."""

from __future__ import annotations

import os
import re
from collections.abc import Callable, Mapping
from typing import Any

from ollamake.catalog.expanded import written
from ollamake.catalog.values import Cache, KeyPath
from ollamake.errors import Mark

UNITS = {"MB": 10**6, "GB": 10**9, "TB": 10**12}
_SIZE = re.compile(r"(\d+(?:\.\d+)?)\s*(MB|GB|TB)")
_DRIVE = re.compile(r"[A-Za-z]:[\\/]")  # of a path on Windows
_VARIABLE = re.compile(r"(?:^|/)\$([A-Za-z_]\w*)")
_SECRETS = "credentials come from the environment, or where its library looks for them"


def cache_of(
    said: Mapping[str, Any], below: Callable[[str], str], mark: Callable[[KeyPath], Mark], fault: Callable[[KeyPath, str, str], None]
) -> Cache | None:
    """The cache that `cache:` says; `below` makes a path of it one that is seen from the working directory, `fault` is told what is wrong."""
    url = said.get("url")
    if url is None:  # the schema says so
        return None
    for text, fix in wrong_with_url(url):
        fault(("cache", "url"), f"cache.url: {text}", fix)
    packed = None if "packed" not in said else size_of(said["packed"])
    if "packed" in said and packed is None:
        fault(("cache", "packed"), f"cache.packed: {said['packed']!r} is not a size", "write it as 500MB, 20GB or 1.5TB")
    return Cache(
        url=placed(url, below),
        read=said.get("read", True),
        write=said.get("write", True),
        timeout=float(said.get("timeout", 10)),
        packed=packed,
        mark=mark(("cache", "url")),
    )


def placed(url: str, below: Callable[[str], str]) -> str:
    """The url; of a folder, its path as `below` makes it. What can't be taken stays as it is written."""
    return url if is_remote(url) or _DRIVE.match(url) or wrong_with_url(url) else below(url)


def is_remote(url: str) -> bool:
    """Is it more than the path of a folder?"""
    return "://" in url


def size_of(text: str) -> int | None:
    """The bytes that `20GB` says."""
    found = _SIZE.fullmatch(text.strip())
    return None if found is None or not float(found[1]) else int(float(found[1]) * UNITS[found[2]])


def wrong_with_url(url: str) -> list[tuple[str, str]]:
    """What can't be taken, without a word of what may be a secret."""
    if url.startswith("~"):
        return [(f"{written(url)!r}: `~` is no folder here", "write `${HOME}/...`, with `env: [HOME]`, or the whole path")]
    if variable := _VARIABLE.search(url):
        return [(f"{written(url)!r}: `${variable[1]}` names no variable here", f"write `${{{variable[1]}}}`, with `env: [{variable[1]}]`")]
    if os.name != "nt" and (_DRIVE.match(url) or url.startswith("\\\\")):  # it would be a strange name of a folder here, shared with nobody
        return [(f"{written(url)!r} is a path of Windows", "write the folder as it is mounted here, as /mnt/team/cache")]
    if not is_remote(url):
        kind = re.match(r"([A-Za-z][A-Za-z0-9+.-]+):", url)
        return [(f"{written(url)!r} is neither a folder nor a url", f"write {kind[1].lower()}://...")] if kind else []
    scheme, _, rest = url.partition("://")
    found = []
    if ":" in rest.partition("/")[0].rpartition("@")[0]:
        found.append(("a password has no place in it", f"leave it out: {_SECRETS}"))
    if "?" in rest or "#" in rest:
        found.append(("it has `?` or `#` in it, and may hold a key", f"leave what begins there out: {_SECRETS}"))
    if not re.fullmatch(r"[a-z][a-z0-9+.-]*", scheme) or "::" in url:
        found.append(
            (f"{scheme!r} is no kind of store", f"write a folder, or a url as {scheme.lower() if scheme.isalnum() else 's3'}://BUCKET/FOLDER")
        )
    elif not rest.strip("/") and scheme != "memory":
        found.append((f"{written(url)!r} names no place", f"write {scheme}://NAME/FOLDER"))
    return found
