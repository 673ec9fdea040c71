"""The url of a cache -> the library that knows it, and the place in it."""

from __future__ import annotations

import logging
import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

from ollamake.catalog.values import Cache
from ollamake.errors import BuildError, with_fix
from ollamake.said import said
from ollamake.spelling import closest

# Libraries by the kinds of urls that they know, as extras of ollamake install them.
EXTRAS = {"s3": "s3", "s3a": "s3", "gs": "gcs", "gcs": "gcs", "az": "azure", "abfs": "azure", "abfss": "azure", "sftp": "sftp", "ssh": "sftp"}

# What they log is in our one warning, too. Where nobody listens, Python would print it, with tracebacks and whatever is in requests.
LOGGERS = ("adlfs", "aiobotocore", "asyncssh", "azure", "botocore", "fsspec", "gcsfs", "google", "s3fs", "sshfs")
# gcsfs would ask by gRPC what kind of bucket it has, with each file, and say so where it may not know. What we do, it does in any by HTTP.
_PLAIN = ("GCSFS_EXPERIMENTAL_ZB_HNS_SUPPORT", "false")

UNKNOWN = "nothing knows"


class StoreError(Exception):
    """A cache can't be had: `what` it does, `why`, and `fix`, if there is any."""

    def __init__(self, what: str, why: str, fix: str | None = None) -> None:
        self.what, self.why, self.fix = what, why, fix
        super().__init__(with_fix(f"{what}: {why}" if why else what, fix))


def opened_kind(url: str) -> Any:
    """The class of fsspec's that knows a url, with its library. Raises StoreError where there is none."""
    from fsspec.registry import available_protocols, get_filesystem_class

    kind = url.partition("://")[0] if "://" in url else "file"
    for logger in map(logging.getLogger, LOGGERS):
        if not logger.hasHandlers():
            logger.addHandler(logging.NullHandler())
    try:
        with _unless_set(*_PLAIN):
            return get_filesystem_class(kind)
    except ImportError as error:
        extra = EXTRAS.get(kind)
        fix = f"pip install 'ollamake[{extra}]'" if extra else f"install it: fsspec says {said(error)!r}"
        msg = "can't be had"
        raise StoreError(msg, f"the library that knows {kind}:// is not installed", fix) from error
    except ValueError as error:
        near = closest(kind, available_protocols())
        ways = f"write {near}:// in cache.url" if near else "write a folder, s3://, gs://, az:// or sftp://, or install what knows it"
        msg = "can't be had"
        raise StoreError(msg, f"{UNKNOWN} {kind}://", ways) from error


@contextmanager
def _unless_set(name: str, value: str) -> Iterator[None]:
    """Have a variable of the environment while this goes on, where the user has not said otherwise."""
    is_set = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not is_set:
            os.environ.pop(name, None)  # another thread may have been here, too


def refuse_unknown(cache: Cache) -> None:
    """Raise BuildError where nothing that is installed, or could be, knows this kind of url. fsspec is imported for those alone that are not common."""
    kind = str(cache.url).partition("://")[0]
    if "://" not in cache.url or kind in {*EXTRAS, "file"}:
        return
    try:
        opened_kind(cache.url)
    except StoreError as error:
        if error.why.startswith(UNKNOWN):  # a library that is not installed here is not the catalog's fault
            msg = f"{cache.mark}: cache.url: {error.why}"
            raise BuildError(msg, fix=error.fix) from error


def opened(url: str) -> tuple[Any, str]:
    """The filesystem behind a url, and the path in it. Raises StoreError, and whatever its library raises."""
    from fsspec.core import url_to_fs

    if "://" not in url:  # the path of a folder
        url = os.path.abspath(url)
    fs, root = url_to_fs(url, skip_instance_cache=True)
    root = str(root).rstrip("/")
    if "file" in fs.protocol and not os.path.isdir(os.path.dirname(root)):  # a disk that is not mounted, most likely
        msg = "is not there"
        raise StoreError(msg, f"no such folder: {os.path.dirname(root)}", "make it, or mend cache.url")
    return fs, root
