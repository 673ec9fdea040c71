"""Files of datasets -> pieces of JSON lines, whatever they are written in; a piece at a time, for a file may be larger than the memory."""

from __future__ import annotations

import errno
import gzip
import hashlib
import importlib
import importlib.util
import io
import json
import os
import zlib
from collections.abc import Iterator
from contextlib import AbstractContextManager, nullcontext
from typing import Any, BinaryIO

from ollamake.errors import BuildError
from ollamake.records.raw import LONGEST_LINE
from ollamake.records.rules import Found
from ollamake.stages.piece import Piece, array_pieces, other_than_text
from ollamake.stages.tables import parquet_pieces, table_pieces

PIECE = 1 << 18  # bytes: what the caches of a processor hold while it is looked at
BOM = b"\xef\xbb\xbf"
ENDINGS = (".jsonl", ".json", ".csv", ".tsv", ".parquet")
PACKED = (".gz", ".zst")


class Source:
    """A file of a dataset."""

    def __init__(self, path: str) -> None:
        self.path = path
        self._digest = hashlib.sha256()

    @property
    def digest(self) -> str:
        """The digest of what was read: of the whole file, when all pieces have been."""
        return f"sha256:{self._digest.hexdigest()}"

    def pieces(self) -> Iterator[Piece]:
        """The file's pieces. Raises OSError, and BuildError where it is of a kind that nothing here can read."""
        name = self.path.lower()
        packed = next((ending for ending in PACKED if name.endswith(ending)), "")
        kind = name.removesuffix(packed).rpartition(".")[2]
        if os.path.exists(self.path) and not os.path.isfile(self.path):  # to read a pipe may last for ever
            raise FileNotFoundError(errno.ENOENT, "no file", self.path)
        with open(self.path, "rb", buffering=0) as raw:
            file = _Tee(raw, self._digest)
            try:
                with _unpacked(file, packed, self.path) as content:
                    if kind == "parquet":
                        yield from parquet_pieces(io.BytesIO(content.read()), self.path)
                    elif kind in {"csv", "tsv"}:
                        yield from table_pieces(content, "\t" if kind == "tsv" else ",;\t")
                    else:
                        yield from _lines(content, may_be_array=kind == "json")
            except _damages(packed) as error:
                text = f"the compressed file is damaged: {error}"
                yield Piece(b"", found=(Found("unreadable-file", 1, text, "compress it again, or get it from where it came"),))
            while file.read(PIECE):  # what stands behind the end of compressed data is part of the file
                pass


class _Tee(io.RawIOBase):
    """A file that digests what is read of it."""

    def __init__(self, file: BinaryIO, digest: Any) -> None:
        self.file = file
        self.digest = digest

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        view = memoryview(buffer)
        count: int = self.file.readinto(view)  # type: ignore[attr-defined]  # unbuffered files have it
        self.digest.update(view[:count])
        return count

    def read(self, size: int = -1) -> bytes:
        """The same, without the copy that RawIOBase makes."""
        content = self.file.read(size)
        self.digest.update(content)
        return content


def _unpacked(file: Any, packed: str, path: str) -> AbstractContextManager[Any]:
    if packed == ".gz":
        return gzip.GzipFile(fileobj=file)
    if packed == ".zst":
        return _zstd(path).ZstdFile(file)  # type: ignore[no-any-return]
    return nullcontext(file)


def _zstd(path: str) -> Any:
    """Python's own module, which came with 3.14, or its backport."""
    name = next((name for name in ("compression.zstd", "backports.zstd") if _is_there(name)), None)
    if name is None:
        msg = f"{path}: what reads zstd is not installed"
        raise BuildError(msg, fix="pip install 'ollamake[zstd]'")
    return importlib.import_module(name)


def _is_there(module: str) -> bool:
    try:
        return importlib.util.find_spec(module) is not None
    except ModuleNotFoundError:  # nor is the package that it would be in
        return False


def _damages(packed: str) -> tuple[type[Exception], ...]:
    """What is raised where compressed data are damaged."""
    return (EOFError, zlib.error, gzip.BadGzipFile, *((_zstd("").ZstdError,) if packed == ".zst" else ()))


def _other_than_lines(beginning: bytes, *, may_be_array: bool) -> Found | None:
    """What is wrong with a file that begins like this, where its records are plainly not one on a line."""
    text = beginning.lstrip()
    first = text.partition(b"\n")[0].rstrip()
    goes_on = _goes_on(text, len(first))
    if first == b"{" or (goes_on and text.startswith(b"{")):
        fix = "write each record on one line, as `jq -c .` does"
        return Found("unreadable-file", 1, "an object that goes over several lines", f"{fix}, or a JSON array of them" if may_be_array else fix)
    is_array = first == b"[" or (first.startswith(b"[{") and not first.endswith(b"]")) or (goes_on and text.startswith(b"["))
    if is_array and not may_be_array:
        return Found("unreadable-file", 1, "a JSON array under the name of JSON lines", "let the file's name end with .json")
    return None


def _goes_on(text: bytes, end: int) -> bool:
    """Does the JSON value that this text begins with go on behind `end`, where its first line ends?"""
    try:
        _, behind = json.JSONDecoder().raw_decode(text.decode("latin-1"))  # a character a byte
    except (ValueError, RecursionError):
        return False
    return behind > end


def _lines(file: BinaryIO, *, may_be_array: bool) -> Iterator[Piece]:
    """The pieces of JSON lines; of one JSON array, where the file's name lets it be one."""
    more = file.read(PIECE)
    found: tuple[Found, ...] = ()
    if more.startswith(BOM):
        more = more[len(BOM) :]
        found = (Found("bom", 1, "the file begins with a byte order mark", "save it as UTF-8 without one"),)
    other = other_than_text(more) or _other_than_lines(more, may_be_array=may_be_array)
    if other is not None:
        yield Piece(b"", found=(*found, other))
        return
    if may_be_array and more.lstrip().startswith(b"["):
        yield from array_pieces(more + file.read(), found)
        return
    begun: list[bytes] = []  # of a line whose end is not read yet
    while more:
        end = more.rfind(b"\n") + 1
        if end:
            yield Piece(b"".join((*begun, memoryview(more)[:end])), found=found)
            begun, found = [], ()
        if sum(map(len, begun)) <= LONGEST_LINE:  # what is behind that is not kept: the line is too long to be looked at
            begun.append(more[end:])
        more = file.read(PIECE)
    if any(begun) or found:
        yield Piece(b"".join(begun), found=found)
