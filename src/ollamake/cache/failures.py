"""What goes wrong with a store, as each library says it in its own way -> what is said of it."""

from __future__ import annotations

from typing import NoReturn

from ollamake.cache.opening import StoreError
from ollamake.said import said


def raise_told(error: BaseException, url: str) -> NoReturn:
    """Raise the StoreError for what a library has raised; what is ollamake's own, and no error of a file, as it is."""
    if not isinstance(error, OSError) and type(error).__module__.startswith("ollamake."):
        raise error
    raise _as_store_error(error, url) from error


def _as_store_error(error: BaseException, url: str) -> StoreError:
    if isinstance(error, NotImplementedError):
        return StoreError("can't be written to", f"{url.partition('://')[0]}:// is for reading alone", "write `write: false` into `cache:`")
    status = _status(error)
    if isinstance(error, PermissionError) or status in {401, 403} or str(error).startswith("Forbidden: "):  # as gcsfs says it
        return StoreError("refuses us", said(error))
    if isinstance(error, FileNotFoundError) or status == 404:
        return StoreError("is not there", said(error), "make it, or mend cache.url")
    return StoreError("does not answer as it should", said(error))


def _status(error: BaseException) -> int | None:
    """The status of HTTP that it comes from, as far as it says so."""
    found = (getattr(one, name, None) for one in (error, error.__cause__) for name in ("status_code", "code", "status"))
    return next((status for status in found if isinstance(status, int)), None)
