"""Files by content: a node gets them once, whole, whoever is killed meanwhile, and takes no others."""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from ollamake.digest import digest_bytes, digest_file
from ollamake.engines import node_files
from ollamake.engines.node_files import Part, Wanted, chunks, place_of, received, wanted
from ollamake.errors import BuildError


@pytest.fixture
def base(tmp_path: Path) -> Path:
    path = tmp_path / "base.gguf"
    path.write_bytes(os.urandom(300_000))
    return path


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """As transformers has a model: links to files that lie elsewhere, an empty one, what is hidden."""
    path = tmp_path / "hf"
    (path / "1_Pooling").mkdir(parents=True)
    (path / ".cache").mkdir()
    (path / ".cache" / "lock").write_text("mine")
    (path / ".gitattributes").write_text("lfs")
    (path / "config.json").write_text("{}")
    (path / "added_tokens.json").write_text("")
    (path / "1_Pooling" / "config.json").write_text('{"pool": 1}')
    (tmp_path / "blob").write_bytes(os.urandom(200_000))
    (path / "model.safetensors").symlink_to(tmp_path / "blob")
    return path


@pytest.fixture
def small_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(node_files, "CHUNK", 64_000)


def contents(path: Path) -> dict[str, bytes]:
    return {file.relative_to(path).as_posix(): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def nothing() -> Iterator[bytes]:
    pytest.fail("it was asked for again")
    yield b""


def test_a_file_is_sent_once(base: Path, tmp_path: Path, small_chunks: None) -> None:
    cache, what = tmp_path / "node", wanted(base)
    assert what == Wanted(digest=digest_file(base), parts=(Part(name="", digest=digest_file(base), size=300_000),))
    assert place_of(cache, what) is None
    place = received(cache, what, chunks(base, what))
    assert place.read_bytes() == base.read_bytes()
    assert place.name == "base.gguf"
    assert place_of(cache, what) == place
    assert received(cache, what, nothing()) == place
    assert [len(piece) for piece in chunks(base, what)] == [64_000] * 4 + [44_000]


def test_a_folder_comes_as_its_files(folder: Path, tmp_path: Path, small_chunks: None) -> None:
    cache, what = tmp_path / "node", wanted(folder)
    assert [part.name for part in what.parts] == ["1_Pooling/config.json", "added_tokens.json", "config.json", "model.safetensors"]
    place = received(cache, what, chunks(folder, what))
    assert place_of(cache, what) == place
    assert contents(place) == {part.name: (folder / part.name).read_bytes() for part in what.parts}
    assert not (place / "model.safetensors").is_symlink()


def test_what_a_node_needs_goes_over_a_line_of_json(folder: Path) -> None:
    what = wanted(folder)
    assert Wanted.from_json(json.loads(json.dumps(what.as_json()))) == what
    assert what.size == sum(
        path.stat().st_size
        for path in folder.rglob("*")
        if path.is_file() and not any(part.startswith(".") for part in path.relative_to(folder).parts)
    )


def test_a_folder_is_named_by_content_and_names_alone(folder: Path, tmp_path: Path) -> None:
    again = tmp_path / "again"
    shutil.copytree(folder, again)
    assert wanted(again) == wanted(folder)
    os.rename(again / "config.json", again / "other.json")
    assert wanted(again).digest != wanted(folder).digest


def test_gigabytes_are_read_once_for_all_trainings_of_a_process_and_again_when_they_change(base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    first = wanted(base)
    assert wanted(base, "sha256:known").digest == "sha256:known"
    with monkeypatch.context() as patched:
        patched.setattr(node_files, "digest_file", lambda _: pytest.fail("it was read again"))
        assert wanted(base) == first
    base.write_bytes(b"another")
    assert wanted(base).digest == digest_bytes(b"another")


@pytest.mark.parametrize("damage", ["changed", "cut off", "too much", "swapped"])
def test_other_bytes_than_were_sent_are_refused(base: Path, tmp_path: Path, damage: str, small_chunks: None) -> None:
    cache, what = tmp_path / "node", wanted(base)
    pieces = list(chunks(base, what))
    broken = {
        "changed": [pieces[0], bytes(len(pieces[1])), *pieces[2:]],
        "cut off": pieces[:-1],
        "too much": [*pieces[:-1], pieces[-1] + b"!"],
        "swapped": [pieces[1], pieces[0], *pieces[2:]],
    }[damage]
    with pytest.raises(BuildError) as caught:
        received(cache, what, broken)
    assert str(caught.value) == (
        f"{what.digest} came to this node damaged\n  fix: run `doit` again; if it comes again, look at the network and the memory of this node"
    )
    assert place_of(cache, what) is None
    assert [path.name for path in (cache / "bases").iterdir()] == [f".sent-{what.digest.replace(':', '-')}.lock"]
    assert received(cache, what, pieces).read_bytes() == base.read_bytes()


@pytest.mark.parametrize("name", ["../out", "/etc/out", "a/../../out"])
def test_no_file_is_written_outside_of_its_folder(tmp_path: Path, name: str) -> None:
    what = Wanted(digest="sha256:1", parts=(Part(name=name, digest=digest_bytes(b"x"), size=1),))
    with pytest.raises(BuildError, match="is no name in a folder"):
        received(tmp_path / "node" / "deep", what, [b"x"])
    assert not list(tmp_path.rglob("out"))


def test_a_file_that_got_shorter_while_it_was_sent_is_said(base: Path) -> None:
    what = wanted(base)
    base.write_bytes(b"short")
    with pytest.raises(BuildError) as caught:
        list(chunks(base, what))
    assert str(caught.value) == f"{base} was changed while it was sent: it is shorter now\n  fix: run `doit` again"


def test_a_base_that_is_not_there_is_said(tmp_path: Path) -> None:
    with pytest.raises(BuildError) as caught:
        wanted(tmp_path / "nowhere.gguf")
    assert (
        str(caught.value)
        == f"{tmp_path}/nowhere.gguf can't be read: No such file or directory\n  fix: see that it is there, and that you may read it"
    )


def test_what_was_damaged_on_the_node_is_sent_again(base: Path, tmp_path: Path) -> None:
    cache, what = tmp_path / "node", wanted(base)
    place = received(cache, what, chunks(base, what))
    place.write_bytes(b"cut off")
    assert place_of(cache, what) is None
    assert received(cache, what, chunks(base, what)).read_bytes() == base.read_bytes()


def test_what_was_changed_on_the_node_is_sent_again(base: Path, tmp_path: Path) -> None:
    what, cache = wanted(base), tmp_path / "cache"
    place = received(cache, what, chunks(base, what))
    with place.open("r+b") as file:  # of the same size
        file.write(b"?")
    assert place_of(cache, what) is None
    assert received(cache, what, chunks(base, what)).read_bytes() == base.read_bytes()


def test_a_disk_without_room_is_said_before_anything_is_written(base: Path, tmp_path: Path) -> None:
    what = Wanted(digest="sha256:1", parts=(Part(name="", digest="sha256:1", size=10**18),))
    with pytest.raises(BuildError) as caught:
        received(tmp_path, what, nothing())
    assert str(caught.value).startswith(f"{tmp_path}/bases: the base needs 1000000000.1 GB there, and the disk of this node has ")
    assert str(caught.value).endswith("\n  fix: make room there, or set XDG_CACHE_HOME on the node to a folder on a larger disk")


def test_a_cache_that_can_not_be_written_is_said(base: Path, tmp_path: Path) -> None:
    (tmp_path / "node").write_text("a file is in the way")
    with pytest.raises(BuildError) as caught:
        received(tmp_path / "node", wanted(base), nothing())
    assert (
        str(caught.value)
        == f"{tmp_path}/node/bases can't be written: Not a directory\n  fix: make room on the disk of this node, or give yourself the right to write there"
    )


def test_a_network_that_fails_is_not_taken_for_the_disk(base: Path, tmp_path: Path) -> None:
    what = wanted(base)

    def lost() -> Iterator[bytes]:
        msg = "the object is lost"
        raise TimeoutError(msg)
        yield b""

    with pytest.raises(TimeoutError, match="the object is lost"):
        received(tmp_path, what, lost())
    assert place_of(tmp_path, what) is None


def test_of_two_tasks_on_a_node_the_second_takes_what_the_first_has_got(base: Path, tmp_path: Path, small_chunks: None) -> None:
    cache, what = tmp_path / "node", wanted(base)
    begun, go_on, places = threading.Event(), threading.Event(), []

    def slowly() -> Iterator[bytes]:
        for piece in chunks(base, what):
            begun.set()
            go_on.wait()
            yield piece

    first = threading.Thread(target=lambda: places.append(received(cache, what, slowly())))
    first.start()
    begun.wait()
    assert place_of(cache, what) is None
    second = threading.Thread(target=lambda: places.append(received(cache, what, nothing())))
    second.start()
    go_on.set()
    first.join()
    second.join()
    assert len(places) == 2
    assert {place.read_bytes() for place in places} == {base.read_bytes()}


KILLED = """
import os, signal, sys
from pathlib import Path
from ollamake.engines import node_files
node_files.CHUNK = 64_000
base, cache = map(Path, sys.argv[1:])
what = node_files.wanted(base)
def pieces():
    for number, piece in enumerate(node_files.chunks(base, what)):
        if number == 3:
            os.kill(os.getpid(), signal.SIGKILL)
        yield piece
node_files.received(cache, what, pieces())
"""


def test_a_task_that_is_killed_in_the_middle_leaves_nothing_that_is_taken(base: Path, tmp_path: Path) -> None:
    cache, what = tmp_path / "node", wanted(base)
    done = subprocess.run([sys.executable, "-c", KILLED, str(base), str(cache)], check=False)
    assert done.returncode == -signal.SIGKILL
    assert len(list((cache / "bases").iterdir())) == 2  # its lock, and what it had written
    assert place_of(cache, what) is None
    place = received(cache, what, chunks(base, what))
    assert place.read_bytes() == base.read_bytes()
    assert sorted(path.name for path in (cache / "bases").iterdir()) == [f".{place.parent.name}.lock", place.parent.name]


@settings(max_examples=25)  # each is synced to the disk
@given(
    files=st.dictionaries(st.from_regex(r"([A-Z]{1,2}/){0,2}[a-z]{1,3}", fullmatch=True), st.binary(max_size=300), max_size=6),
    chunk=st.integers(1, 200),
)
def test_any_folder_comes_as_it_is(files: dict[str, bytes], chunk: int, tmp_path_factory: pytest.TempPathFactory) -> None:
    place = tmp_path_factory.mktemp("any")
    for name, content in files.items():
        (place / "from" / name).parent.mkdir(parents=True, exist_ok=True)
        (place / "from" / name).write_bytes(content)
    (place / "from").mkdir(exist_ok=True)
    what = wanted(place / "from")
    with pytest.MonkeyPatch.context() as patched:
        patched.setattr(node_files, "CHUNK", chunk)
        there = received(place / "node", what, chunks(place / "from", what))
    assert contents(there) == files
    assert place_of(place / "node", what) == there
