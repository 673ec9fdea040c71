"""What a cache holds of one key: a tar file, written and read in one way alone.

First comes the manifest, which names every file behind it with its size and digest, and has a digest of its own. A reader knows by it each byte of each
header that may come, and takes no other: no path, no link, no second file of a name can be in it, whoever wrote it. Pure but for the files that it is given.
"""

from __future__ import annotations

import json
import tarfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.cache.key import Key
from ollamake.cache.verified import DamagedError, Entry, Read, exactly, received, sent
from ollamake.digest import canonical_json, digest_value

FORMAT = 1
MANIFEST = "manifest.json"
CONFIG, WEIGHTS, WHOLE, PRINTS, MERGED = "adapter_config.json", "adapter_model.safetensors", "model.gguf", "records.xxh3", "merged.gguf"
NAMES = frozenset({CONFIG, WEIGHTS, WHOLE, PRINTS, MERGED})  # of files that may be in it
LARGEST_MANIFEST = 4_000_000  # bytes
BLOCK = 512
END = bytes(2 * BLOCK)


@dataclass(frozen=True, slots=True, kw_only=True)
class Manifest:
    """What an object says of itself."""

    key: Key
    files: tuple[Entry, ...]
    facts: Mapping[str, Any]  # the receipt of the training; of packed weights, nothing

    @property
    def text(self) -> bytes:
        """As it is in the object."""
        files = [{"name": entry.name, "size": entry.size, "digest": entry.digest} for entry in self.files]
        body = {"format": FORMAT, "kind": self.key.kind, "key": self.key.digest, "files": files, "facts": dict(self.facts)}
        return canonical_json({"digest": digest_value(body), "object": body}).encode()

    @property
    def size(self) -> int:
        """Bytes of the whole object."""
        return sum(BLOCK + _padded(size) for size in (len(self.text), *(entry.size for entry in self.files))) + len(END)


def written(manifest: Manifest, folder: Path) -> Iterator[bytes]:
    """The bytes of the object whose files are in this folder. Raises ChangedError."""
    text = manifest.text
    yield _header(MANIFEST, len(text)) + text + _padding(len(text))
    for entry in manifest.files:
        yield _header(entry.name, entry.size)
        yield from sent(entry, folder / entry.name)
        yield _padding(entry.size)
    yield END


def read_manifest(read: Read, key: Key) -> Manifest:
    """The manifest that the object of this key begins with. Raises DamagedError."""
    header = exactly(read, BLOCK)
    try:
        size = tarfile.TarInfo.frombuf(header, "ascii", "strict").size
    except (tarfile.HeaderError, UnicodeError, ValueError) as error:
        msg = "it does not begin as one of ours does"
        raise DamagedError(msg) from error
    if size > LARGEST_MANIFEST or size < 0 or header != _header(MANIFEST, size):
        msg = "it does not begin as one of ours does"
        raise DamagedError(msg)
    text = exactly(read, size)
    _nothing(exactly(read, _padded(size) - size))
    try:
        body = json.loads(text)["object"]
        files = tuple(Entry(name=entry["name"], size=entry["size"], digest=entry["digest"]) for entry in body["files"])
        manifest = Manifest(key=Key(body["kind"], body["key"]), files=files, facts=dict(body["facts"]))
        whole, form = manifest.text == text, body["format"]
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        msg = "its manifest can't be read"
        raise DamagedError(msg) from error
    if form != FORMAT:
        msg = f"it is of format {str(form)[:20]!r}, and this ollamake knows {FORMAT}"
        raise DamagedError(msg)
    if not whole:
        msg = "its manifest is not as it was written"
        raise DamagedError(msg)
    if manifest.key != key:
        msg = "it is that of another key"
        raise DamagedError(msg)
    _check(manifest)
    return manifest


def _check(manifest: Manifest) -> None:
    names = [entry.name for entry in manifest.files]
    for entry in manifest.files:
        if type(entry.name) is not str or entry.name not in NAMES:
            msg = f"it has a file {str(entry.name)[:60]!r}, which is none of ours"
            raise DamagedError(msg)
        if type(entry.size) is not int or entry.size < 0 or type(entry.digest) is not str:
            msg = "its manifest can't be read"
            raise DamagedError(msg)
    if len({*names}) != len(names) or not names:
        raise DamagedError("it has a file twice" if names else "it has no file")


def read_files(read: Read, manifest: Manifest, write: Callable[[Entry], Callable[[bytes], Any]]) -> None:
    """Read what comes behind the manifest, to the end. `write` opens what takes the bytes of a file. Raises DamagedError."""
    for entry in manifest.files:
        if exactly(read, BLOCK) != _header(entry.name, entry.size):
            msg = f"{entry.name} does not stand where its manifest has it"
            raise DamagedError(msg)
        received(entry, read, write(entry))
        _nothing(exactly(read, _padded(entry.size) - entry.size))
    if exactly(read, len(END)) != END or read(1):
        msg = "it does not end where it should"
        raise DamagedError(msg)


def _header(name: str, size: int) -> bytes:
    """The header of a plain file, the same for everybody."""
    info = tarfile.TarInfo(name)
    info.size = size
    return info.tobuf(tarfile.GNU_FORMAT, "ascii", "strict")


def _padded(size: int) -> int:
    return -(-size // BLOCK) * BLOCK


def _padding(size: int) -> bytes:
    return bytes(_padded(size) - size)


def _nothing(padding: bytes) -> None:
    if padding.strip(b"\0"):
        msg = "it has something where nothing belongs"
        raise DamagedError(msg)
