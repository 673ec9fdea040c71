"""An object of a cache is read as it was written, or refused: nothing that anybody puts there gets beyond its folder."""

from __future__ import annotations

import io
import json
import tarfile
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ollamake.cache.key import ADAPTERS, PACKED, Key, key_at, key_of, part_of
from ollamake.cache.objects import NAMES, Manifest, read_files, read_manifest, written
from ollamake.cache.verified import ChangedError, DamagedError, Entry
from ollamake.digest import canonical_json, digest_bytes, digest_value
from ollamake.freshness import Record

KEY = Key(ADAPTERS, "ab" * 32)


def packed(files: dict[str, bytes], facts: dict[str, Any] | None = None) -> bytes:
    entries = tuple(Entry(name=name, size=len(content), digest=digest_bytes(content)) for name, content in files.items())
    with tempfile.TemporaryDirectory() as folder:
        for name, content in files.items():
            Path(folder, name).write_bytes(content)
        return b"".join(written(Manifest(key=KEY, files=entries, facts=facts or {}), Path(folder)))


def unpacked(content: bytes) -> tuple[Manifest, dict[str, bytes]]:
    read, found = io.BytesIO(content).read, {}

    def write(entry: Entry) -> Callable[[bytes], Any]:
        found[entry.name] = b""

        def take(piece: bytes) -> None:
            found[entry.name] += piece

        return take

    manifest = read_manifest(read, KEY)
    read_files(read, manifest, write)
    return manifest, found


FILES = st.dictionaries(st.sampled_from(sorted(NAMES)), st.binary(max_size=2000), min_size=1)


@given(FILES, st.dictionaries(st.text(max_size=5), st.integers() | st.text(max_size=5), max_size=3))
def test_what_was_written_is_read(files: dict[str, bytes], facts: dict[str, Any]) -> None:
    content = packed(files, facts)
    manifest, found = unpacked(content)
    assert (found, manifest.facts, manifest.size) == (files, facts, len(content))
    with tarfile.open(fileobj=io.BytesIO(content)) as tar:  # and by any tar
        assert tar.getnames() == ["manifest.json", *files]


@given(FILES, st.data())
def test_no_byte_can_be_another_one(files: dict[str, bytes], data: st.DataObject) -> None:
    content = bytearray(packed(files))
    place = data.draw(st.integers(0, len(content) - 1))
    content[place] ^= data.draw(st.integers(1, 255))
    with pytest.raises(DamagedError):
        unpacked(bytes(content))


@given(FILES, st.data())
def test_nothing_can_be_left_out_or_added(files: dict[str, bytes], data: st.DataObject) -> None:
    content = packed(files)
    with pytest.raises(DamagedError):
        unpacked(content[: data.draw(st.integers(0, len(content) - 1))])
    with pytest.raises(DamagedError):
        unpacked(content + data.draw(st.binary(min_size=1, max_size=600)))


@given(st.binary(max_size=3000))
def test_what_is_none_of_ours_is_refused(content: bytes) -> None:
    with pytest.raises(DamagedError):
        unpacked(content)


def body(files: list[Any], **more: Any) -> bytes:
    """An object with this manifest, signed as ours are, and no file behind it."""
    value = {"format": 1, "kind": ADAPTERS, "key": KEY.digest, "files": files, "facts": {}, **more}
    return canonical_json({"digest": digest_value(value), "object": value}).encode()


def tarred(text: bytes, *members: tuple[str, bytes, bytes]) -> bytes:
    """A tar that begins as one of ours; members by name, type and content."""
    out = io.BytesIO()
    with tarfile.open(fileobj=out, mode="w", format=tarfile.GNU_FORMAT) as tar:
        for name, kind, content in (("manifest.json", tarfile.REGTYPE, text), *members):
            info = tarfile.TarInfo(name)
            info.type, info.size, info.linkname = kind, len(content), "/etc/passwd" if kind in {tarfile.SYMTYPE, tarfile.LNKTYPE} else ""
            tar.addfile(info, io.BytesIO(content))
    return out.getvalue()


def entry(name: Any, size: Any = 3) -> dict[str, Any]:
    return {"name": name, "size": size, "digest": digest_bytes(b"abc")}


WEIGHTS = "adapter_model.safetensors"
TRICKS = {
    "a path that leads out": tarred(body([entry("../../dodo.py")]), ("../../dodo.py", tarfile.REGTYPE, b"abc")),
    "an absolute path": tarred(body([entry("/etc/cron.d/x")]), ("/etc/cron.d/x", tarfile.REGTYPE, b"abc")),
    "a pickle": tarred(body([entry("adapter_model.bin")]), ("adapter_model.bin", tarfile.REGTYPE, b"abc")),
    "a symbolic link": tarred(body([entry(WEIGHTS)]), (WEIGHTS, tarfile.SYMTYPE, b"")),
    "a hard link": tarred(body([entry(WEIGHTS)]), (WEIGHTS, tarfile.LNKTYPE, b"")),
    "a device": tarred(body([entry(WEIGHTS)]), (WEIGHTS, tarfile.CHRTYPE, b"")),
    "another name than the manifest's": tarred(body([entry(WEIGHTS)]), ("../x", tarfile.REGTYPE, b"abc")),
    "a file twice": tarred(body([entry(WEIGHTS), entry(WEIGHTS)]), (WEIGHTS, tarfile.REGTYPE, b"abc"), (WEIGHTS, tarfile.REGTYPE, b"abc")),
    "one file more": tarred(body([entry(WEIGHTS)]), (WEIGHTS, tarfile.REGTYPE, b"abc"), ("more", tarfile.REGTYPE, b"abc")),
    "a larger size": tarred(body([entry(WEIGHTS, 1 << 60)]), (WEIGHTS, tarfile.REGTYPE, b"abc")),
    "a size that is none": tarred(body([entry(WEIGHTS, True)]), (WEIGHTS, tarfile.REGTYPE, b"a")),
    "a size below nothing": tarred(body([entry(WEIGHTS, -1)]), (WEIGHTS, tarfile.REGTYPE, b"abc")),
    "a name that is none": tarred(body([entry(["x"])])),
    "no file": tarred(body([])),
    "no list": tarred(body({})),  # type: ignore[arg-type]
    "a later format": tarred(body([entry(WEIGHTS)], format=2), (WEIGHTS, tarfile.REGTYPE, b"abc")),
    "a manifest without end": tarred(b"[" * 100_000),
    "a manifest that is no object": tarred(b"[]"),
    "a manifest that is too large": tarred(b" " * 5_000_000),
    "a long name of GNU's": tarred(body([entry(WEIGHTS)]), ("x" * 200, tarfile.REGTYPE, b"abc")),
}


@pytest.mark.parametrize("trick", TRICKS)
def test_tricks_of_tars_are_refused(trick: str) -> None:
    with pytest.raises(DamagedError):
        unpacked(TRICKS[trick])


def test_a_manifest_of_another_key_is_refused() -> None:
    with pytest.raises(DamagedError, match="it is that of another key"):
        read_manifest(io.BytesIO(packed({WEIGHTS: b"abc"})).read, Key(PACKED, KEY.digest))


RECORD = Record(
    inputs={"build/legal/text.jsonl": "sha256:1", "base tiny": "sha256:2", "adapters/a/adapter_config.json": "sha256:3"},
    keys="sha256:4",
    targets={},
    versions={"train": 1, "torch": "2.6"},
)


def record(**changes: Any) -> Record:
    return Record(**{name: changes.get(name, getattr(RECORD, name)) for name in ("inputs", "keys", "targets", "versions")})


def test_a_key_is_of_parts_and_contents() -> None:
    renamed = record(
        inputs={"build/other/text.jsonl": "sha256:1", "base small": "sha256:2", "${HOME}/b/adapter_config.json": "sha256:3"}, targets={"x": "y"}
    )
    assert key_of(ADAPTERS, renamed) == key_of(ADAPTERS, RECORD)
    others = [
        record(inputs={**RECORD.inputs, "base tiny": "sha256:9"}),
        record(inputs={name: digest for name, digest in RECORD.inputs.items() if "adapters" not in name}),
        record(inputs={**RECORD.inputs, "build/legal/holdout.jsonl": "sha256:9"}),
        record(keys="sha256:9"),
    ]
    keys = {key_of(kind, one, pinned) for kind in (ADAPTERS, PACKED) for one in (RECORD, *others) for pinned in ({}, {"torch": "2.6"})}
    assert len(keys) == 20


def test_what_has_no_part_has_no_key() -> None:
    assert key_of(ADAPTERS, record(inputs={**RECORD.inputs, "strange.bin": "sha256:1"})) is None
    assert key_of(ADAPTERS, record(inputs={**RECORD.inputs, "build/b/text.txt": "sha256:1"})) is None
    assert part_of("weights/legal/model.gguf") == "whole weights"


@given(st.text() | st.sampled_from([KEY.path, f"../{KEY.path}", KEY.path.upper(), "adapters/x.tar", "tmp/x.partial"]))
def test_a_path_has_a_key_where_it_is_the_one_of_that_key(path: str) -> None:
    key = key_at(path)
    assert key is None or key.path == path


def test_the_tricks_are_ones() -> None:
    """What the tests above forge is right but for its trick."""
    assert unpacked(packed({WEIGHTS: b"abc"}))[1] == {WEIGHTS: b"abc"}
    manifest = read_manifest(io.BytesIO(tarred(body([entry(WEIGHTS)]), (WEIGHTS, tarfile.REGTYPE, b"abc"))).read, KEY)
    assert json.loads(manifest.text)["object"]["files"] == [entry(WEIGHTS)]


def test_a_file_that_goes_while_it_is_written_is_no_fault_of_the_store(tmp_path: Path) -> None:
    manifest = Manifest(key=KEY, files=(Entry(name="adapter_config.json", size=2, digest="sha256:0"),), facts={})
    with pytest.raises(ChangedError, match=r"^adapter_config\.json$"):
        list(written(manifest, tmp_path))
