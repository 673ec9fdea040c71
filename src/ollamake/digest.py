"""Content digests: `sha256:<64 hex>`, the form in which Ollama names its blobs."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path
from typing import Any

POINTER = b"version https://git-lfs.github.com/spec/v1\noid "  # how a file begins that git-lfs has, and has not fetched
LONGEST_POINTER = len(POINTER) + 100  # bytes that have to be read of it


def digest_bytes(data: bytes) -> str:
    """The digest of these bytes."""
    return f"sha256:{hashlib.sha256(data).hexdigest()}"


def digest_value(value: Any) -> str:
    """The digest of a JSON value, whatever the order of its keys."""
    return digest_bytes(canonical_json(value).encode())


def digest_file(path: Path) -> str:
    """The digest of a file's content, read in pieces. Raises OSError."""
    digest = hashlib.sha256()
    buffer = memoryview(bytearray(1 << 20))
    with path.open("rb", buffering=0) as file:
        while count := file.readinto(buffer):
            digest.update(buffer[:count])
    return f"sha256:{digest.hexdigest()}"


def pointed_to(content: bytes) -> str | None:
    """The digest of the file that this is a pointer of git-lfs to; None where it is none."""
    return content.removeprefix(POINTER).partition(b"\n")[0].decode("ascii", "replace") if content.startswith(POINTER) else None


def canonical_json(value: Any) -> str:
    """JSON with one form for each value: sorted keys, no spaces, text as it is."""
    return json.dumps(value, sort_keys=True, ensure_ascii=False, separators=(",", ":"))
