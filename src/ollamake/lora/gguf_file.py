"""Reading the head of a GGUF file: its keys, and where its tensors lie.

Why not `gguf.GGUFReader`: it makes a numpy view of every string of the tokenizer, 2.4 s for a model of 98 MB. Here long arrays are stepped over. The
format is that of ggml's docs/gguf.md, version 3 (and 2, which differs in nothing that is read here), little endian.
"""

from __future__ import annotations

import mmap
import struct
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar, cast

from ollamake.errors import BuildError

if TYPE_CHECKING:
    from gguf import GGMLQuantizationType

_T = TypeVar("_T")
MAGIC = b"GGUF"
VERSIONS = (2, 3)
DEFAULT_ALIGNMENT = 32  # bytes
SHORT_ARRAY = 64  # elements; longer arrays (a tokenizer's) are stepped over

_UINT32, _STRING, _ARRAY = 4, 8, 9
_SCALARS = {0: "<B", 1: "<b", 2: "<H", 3: "<h", 4: "<I", 5: "<i", 6: "<f", 7: "<?", 10: "<Q", 11: "<q", 12: "<d"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Tensor:
    """One tensor's place in the file."""

    name: str
    shape: tuple[int, ...]  # as in the file: the innermost dimension (columns) first
    type: int  # gguf.GGMLQuantizationType
    offset: int  # bytes, from the start of the tensor data


@dataclass(frozen=True, slots=True, kw_only=True)
class GgufHead:
    """All of a GGUF file but the tensors' data."""

    keys: dict[str, Any]  # scalars, strings and short arrays; long arrays are left out, unless they were asked for
    places: dict[str, int]  # bytes from the start of the file: each key's value, which begins with its type (4 bytes); of all keys
    keys_start: int  # bytes from the start of the file: first key
    keys_end: int  # bytes: first tensor's description
    data_start: int  # bytes: first tensor's data
    alignment: int  # bytes
    key_count: int
    version: int
    tensors: tuple[Tensor, ...]  # in the order of the file

    @property
    def architecture(self) -> str:
        """`general.architecture`, or an empty text."""
        return str(self.keys.get("general.architecture", ""))

    def count(self, key: str) -> int:
        """A whole number of the architecture's own, such as `block_count`. Raises BuildError where there is none."""
        value = self.keys.get(f"{self.architecture}.{key}")
        if not isinstance(value, int):
            msg = f"the GGUF has no {self.architecture}.{key}"
            raise BuildError(msg, fix="use a base that was written by llama.cpp's converter")
        return value


def mapped(path: Path) -> memoryview:
    """The file's bytes, mapped and not read; unmapped when the last view of them is gone. Raises BuildError."""
    try:
        with path.open("rb") as file:
            return memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
    except (OSError, ValueError) as error:  # ValueError: an empty file can't be mapped
        msg = f"{path}: can't be read: {error}"
        raise BuildError(msg, fix="fetch the file again") from error


def read_head(path: Path, *, with_arrays: bool = False) -> GgufHead:
    """The head of this GGUF file; `with_arrays`: long ones are among its keys too. Raises BuildError where it is not one."""
    return parse_head(mapped(path), path, with_arrays=with_arrays)


def read_keys(path: Path, *, with_arrays: bool = False) -> dict[str, Any]:
    """The keys of this GGUF file alone; `with_arrays`: long ones among them. Raises BuildError where it is not one."""
    return _parsed(mapped(path), path, lambda reader: reader.keys()[0], with_arrays=with_arrays)


def parse_head(content: memoryview, path: Path, *, with_arrays: bool = False) -> GgufHead:
    """The head of the GGUF file with these bytes; `path` is for messages. Raises BuildError."""
    return _parsed(content, path, lambda reader: reader.head(), with_arrays=with_arrays)


def _parsed(content: memoryview, path: Path, parse: Callable[[_Reader], _T], *, with_arrays: bool) -> _T:
    """What comes of these bytes."""
    if bytes(content[:4]) != MAGIC:
        msg = f"{path}: not a GGUF file: it begins with {bytes(content[:4])!r}"
        raise BuildError(msg, fix="fetch the file again; a web page or a git-lfs pointer may have been saved in its place")
    try:
        return parse(_Reader(content, len(content) if with_arrays else SHORT_ARRAY))
    except (struct.error, KeyError, ValueError, OverflowError, RecursionError) as error:
        msg = f"{path}: a damaged GGUF file: {error}"
        raise BuildError(msg, fix="fetch the file again") from error


class _Reader:
    """A position in the file that moves on with each value."""

    def __init__(self, content: memoryview, longest: int) -> None:
        self.content = content
        self.longest = longest  # elements of an array that is read
        self.at = len(MAGIC)

    def keys(self) -> tuple[dict[str, Any], dict[str, int]]:
        """The keys and their places. What comes next are the tensors."""
        self.version = self.scalar("<I")
        if self.version not in VERSIONS:
            msg = f"version {self.version}, where {VERSIONS[0]} or {VERSIONS[1]} is known"
            raise ValueError(msg)
        self.tensor_count, self.key_count = self.scalar("<Q"), self.scalar("<Q")
        self.keys_start = self.at
        keys: dict[str, Any] = {}
        places: dict[str, int] = {}
        for _ in range(self.key_count):
            name = self.string()
            places[name] = self.at
            value = self.value(self.scalar("<I"))
            if value is not None:
                keys[name] = value
        return keys, places

    def head(self) -> GgufHead:
        """All of it."""
        keys, places = self.keys()
        keys_end = self.at
        tensors = tuple(self.tensor() for _ in range(self.tensor_count))
        alignment = keys.get("general.alignment", DEFAULT_ALIGNMENT)
        if not isinstance(alignment, int) or alignment < 1:
            msg = f"its alignment is {alignment!r}"
            raise ValueError(msg)
        return GgufHead(
            keys=keys,
            places=places,
            keys_start=self.keys_start,
            keys_end=keys_end,
            data_start=self.at + -self.at % alignment,
            alignment=alignment,
            key_count=self.key_count,
            version=self.version,
            tensors=tensors,
        )

    def scalar(self, form: str) -> Any:
        (value,) = struct.unpack_from(form, self.content, self.at)
        self.at += struct.calcsize(form)
        return value

    def string(self) -> str:
        length = self.scalar("<Q")
        if self.at + length > len(self.content):
            msg = "it ends in the middle of a text"
            raise ValueError(msg)
        self.at += length
        return str(self.content[self.at - length : self.at], "utf-8")

    def value(self, kind: int) -> Any:
        """The next value, or None for an array that is stepped over."""
        if kind == _STRING:
            return self.string()
        if kind != _ARRAY:
            return self.scalar(_SCALARS[kind])
        kind, count = self.scalar("<I"), self.scalar("<Q")
        if count <= self.longest:
            return [self.value(kind) for _ in range(count)]
        if kind == _STRING:
            self.skip_strings(count)
        else:
            self.at += struct.calcsize(_SCALARS[kind]) * count
        return None

    def skip_strings(self, count: int) -> None:
        read, content, at = struct.Struct("<Q").unpack_from, self.content, self.at
        for _ in range(count):
            at += 8 + read(content, at)[0]
        self.at = at

    def tensor(self) -> Tensor:
        name = self.string()
        dimensions = self.scalar("<I")
        shape = tuple(self.scalar("<Q") for _ in range(dimensions))
        kind = self.scalar("<I")
        _types()(kind)  # raises ValueError where gguf does not know it
        return Tensor(name=name, shape=shape, type=kind, offset=self.scalar("<Q"))


@cache
def _types() -> Callable[[int], GGMLQuantizationType]:
    from gguf import GGMLQuantizationType  # takes longer to be imported than keys take to be read

    return cast("Callable[[int], GGMLQuantizationType]", GGMLQuantizationType)
