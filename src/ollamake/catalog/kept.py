"""What was read of catalog files and found well-formed, kept by their digests: reading YAML and checking it by the schema are the slow half of a load."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import Any, TypeAlias

import msgspec

from ollamake.catalog.values import KeyPath
from ollamake.digest import digest_bytes, digest_file

Read: TypeAlias = tuple[dict[str, Any], dict[KeyPath, int]]  # the value in a file, and the line of each key and item in it

SCHEMA = Path(__file__).with_name("schema.json")
FORMAT = 1
_SIZE = hashlib.sha256().digest_size
_decode_all = msgspec.msgpack.Decoder(tuple[str, dict[str, msgspec.Raw]]).decode
_decode = msgspec.msgpack.Decoder(tuple[dict[str, Any], dict[tuple[str | int, ...], int]]).decode


class Kept:
    """The files that were read before and by this load, by digest. Nothing of the environment is in it, and nothing that is asked of the disk."""

    def __init__(self, content: bytes = b"") -> None:
        """`content`: as `encoded` has made it; what is damaged, or of another ollamake, counts for nothing."""
        self._before: Mapping[str, msgspec.Raw] = {}
        self._now: dict[str, msgspec.Raw] = {}
        if content[:_SIZE] == hashlib.sha256(content[_SIZE:]).digest():
            form, before = _decode_all(content[_SIZE:])
            self._before = before if form == _form() else {}

    def read(self, digest: str) -> Read | None:
        """What the file of this digest holds."""
        if digest not in self._before:
            return None
        self._now[digest] = self._before[digest]
        return _decode(self._before[digest])

    def keep(self, digest: str, read: Read) -> None:
        """Keep what a file holds that is without fault, if it can be kept: numbers may be too large for it."""
        try:
            self._now[digest] = msgspec.Raw(msgspec.msgpack.encode(read))
        except (OverflowError, ValueError):
            return

    def is_schema(self, content: bytes) -> bool:
        """Was this found to be a JSON Schema, by a load before or by this one?"""
        key = f"schema {digest_bytes(content)}"
        return key in self._now or self.read(key) is not None

    def keep_schema(self, content: bytes) -> None:
        """Keep that this is a JSON Schema."""
        self.keep(f"schema {digest_bytes(content)}", ({}, {}))

    @property
    def is_new(self) -> bool:
        """Is there anything else to keep than before?"""
        return self._now.keys() != self._before.keys()

    def encoded(self) -> bytes:
        """What this load has read, to be kept for the next one."""
        body = msgspec.msgpack.encode((_form(), self._now))
        return hashlib.sha256(body).digest() + body


def _form() -> str:
    return f"{FORMAT} {version('ollamake')} {digest_file(SCHEMA)}"
