"""A model in two files, of which all models of its base with the same layers share the large one.

The first has all of the base's keys and the tensors that no training changed, the second the changed ones. Nothing of a model is in the first: its digest is
the same for all of them, so that a server keeps it once. llama.cpp takes such shards for one model; Ollama does from 0.34 on.
"""

from __future__ import annotations

import struct
from dataclasses import replace
from pathlib import Path

from ollamake.lora.changes import UNCHANGED, Changes, Form, changed_types, write_changed
from ollamake.lora.gguf_file import DEFAULT_ALIGNMENT, GgufHead
from ollamake.lora.merge import keys_of
from ollamake.lora.rewrite import Layout
from ollamake.lora.tensor_file import TensorFile

SHARDS = ("split-00001-of-00002.gguf", "split-00002-of-00002.gguf")  # llama.cpp finds the second by the name of the first
VERSION = 1  # of the first shard's form

_UINT16, _INT32, _STRING = 2, 5, 8  # types of a key's value
_NUMBER, _COUNT, _TENSORS = "split.no", "split.count", "split.tensors.count"  # as llama.cpp's llama-gguf-split writes them


def write_shared_shard(base: Path, head: GgufHead, names: frozenset[str], target: Path) -> str:
    """Write the first shard for models with these changed tensors, and return its digest. Raises BuildError."""
    keys, count = _plain_keys(base, head)
    tensors = tuple(tensor for tensor in head.tensors if tensor.name not in names)
    layout = Layout(version=head.version, alignment=head.alignment, key_count=count + 3, keys=keys + _split_keys(0, head), tensors=tensors)
    with TensorFile(base, head) as file:
        return write_changed(layout, file, UNCHANGED, Form(), target)


def write_own_shard(base: Path, head: GgufHead, changes: Changes, form: Form, target: Path) -> str:
    """Write the second shard, with what is the model's own, and return its digest. Raises BuildError."""
    types = changed_types(head, changes, form)
    layout = Layout(
        version=head.version,
        alignment=DEFAULT_ALIGNMENT,
        key_count=4,
        keys=_text("general.architecture") + struct.pack("<I", _STRING) + _text(head.architecture) + _split_keys(1, head),
        tensors=tuple(replace(tensor, type=types[tensor.name]) for tensor in head.tensors if tensor.name in types),
    )
    with TensorFile(base, head) as file:
        return write_changed(layout, file, changes, form, target)


def _plain_keys(base: Path, head: GgufHead) -> tuple[bytes, int]:
    """The base's keys, and their number, but those of a split: one that llama-gguf-split has written as a single file has them. Raises BuildError."""
    keys = keys_of(base, head)
    starts = [place - len(_text(name)) - head.keys_start for name, place in head.places.items()]
    ends = (*starts[1:], len(keys))
    plain = [keys[start:end] for name, start, end in zip(head.places, starts, ends, strict=True) if name not in {_NUMBER, _COUNT, _TENSORS}]
    return b"".join(plain), len(plain)


def _split_keys(number: int, head: GgufHead) -> bytes:
    numbers = ((_NUMBER, "<IH", _UINT16, number), (_COUNT, "<IH", _UINT16, len(SHARDS)), (_TENSORS, "<Ii", _INT32, len(head.tensors)))
    return b"".join(_text(key) + struct.pack(form, kind, value) for key, form, kind, value in numbers)


def _text(text: str) -> bytes:
    return struct.pack("<Q", len(text.encode())) + text.encode()
