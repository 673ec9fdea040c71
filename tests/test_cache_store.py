"""Where the objects of a cache are: whole or not there, whoever writes and dies; and a store that does not answer costs one timeout."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import pytest
from fsspec.registry import _registry

from conftest import DODO, HERE, Repo
from ollamake.cache.once import Once
from ollamake.cache.opening import StoreError
from ollamake.cache.store import AT_ONCE, Store
from ollamake.cache.tidy import damaged, left_by_writers, listed
from ollamake.said import cleaned

CLIENTS, OPERATIONS = 4, 50  # each


def at_once(url: str) -> list[str]:
    """What four clients tell of two hundred operations."""
    arguments = [(sys.executable, str(HERE / "cache_client.py"), url, str(seed), str(OPERATIONS)) for seed in range(CLIENTS)]
    clients = [subprocess.Popen(argv, stdout=subprocess.PIPE, text=True) for argv in arguments]
    told = [client.communicate()[0] for client in clients]
    assert [client.returncode for client in clients] == [0] * CLIENTS
    return [line for text in told for line in text.splitlines()]


def check(url: str) -> None:
    lines = at_once(url)
    assert len(lines) == CLIENTS * OPERATIONS
    assert lines.count("die -9") > 5
    assert lines.count("write True") > 5
    assert lines.count("read True") > 20
    store = Store(url, 60)
    there = listed(store)
    assert len(there) == 12
    assert list(damaged(store, there)) == []
    assert len(left_by_writers(store, time.time() + 100_000)) == len(store.listed("tmp"))


def test_two_hundred_operations_of_four_clients_leave_no_wrong_object(tmp_path: Path) -> None:
    check(str(tmp_path / "cache"))


@pytest.mark.thorough
@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_two_hundred_operations_of_four_clients_leave_no_wrong_object_on(kind: str, request: pytest.FixtureRequest) -> None:
    check(request.getfixturevalue(kind))


@pytest.fixture(params=["folder", "s3", "sftp", "azure", "gcs"])
def store(request: pytest.FixtureRequest, tmp_path: Path) -> Store:
    return Store(str(tmp_path / "cache") if request.param == "folder" else request.getfixturevalue(request.param), 60)


def test_the_first_of_two_writers_wins(store: Store) -> None:
    assert store.write("adapters/aa/x.tar", [b"fir", b"st"], 5)
    assert not store.write("adapters/aa/x.tar", [b"second"], 6)
    assert store.read("adapters/aa/x.tar", lambda read, size: (read(100), size)) == (b"first", 5)
    assert store.write("adapters/aa/x.tar", [b"third"], 5, replace=True)
    assert store.read("adapters/aa/x.tar", lambda read, _: read(100)) == b"third"
    assert store.read("adapters/aa/y.tar", lambda read, _: read(100)) is None
    assert store.there(["adapters/aa/x.tar", "adapters/aa/y.tar"]) == {"adapters/aa/x.tar"}
    (one,) = store.listed("adapters")
    assert (one.path, one.size, one.written is not None) == ("adapters/aa/x.tar", 5, True)
    assert store.listed("tmp") == []
    store.remove(one.path)
    store.remove(one.path)
    assert store.listed("adapters") == []


def test_what_fails_while_it_is_written_leaves_nothing(store: Store) -> None:
    def pieces() -> Iterator[bytes]:
        yield b"half"
        raise StoreError("was edited", "meanwhile")  # noqa: EM101

    with pytest.raises(StoreError):
        store.write("adapters/aa/x.tar", pieces(), 8)
    assert (store.listed("adapters"), store.listed("tmp")) == ([], [])


@pytest.mark.parametrize("options", [(), ("-n", "2"), ("-n", "2", "-P", "thread")])
def test_a_store_that_hangs_is_waited_for_once(hanging: Repo, options: tuple[str, ...]) -> None:
    (hanging.path / "dodo.py").write_text(DODO, encoding="utf-8")
    done = subprocess.run(
        [sys.executable, "-m", "doit", *options], capture_output=True, text=True, check=False
    )  # with the words of all its processes
    assert (done.returncode, sorted(hanging.trainings)) == (0, ["legal", "sales"]), done.stdout + done.stderr
    warning = "   models.yaml:2: warning: the cache at s3://team/models does not answer: nothing for 0.5 s; this run goes on without it\n"
    assert done.stdout.count(warning) == 1
    assert done.stdout.count("the cache at") == 1
    assert hanging.doit("cache", "status").code == 1


def test_two_catalogs_with_one_cache_wait_for_it_once(hanging: Repo) -> None:
    text = (hanging.path / "models.yaml").read_text(encoding="utf-8")
    for name, other in {
        "legal": "law",
        "sales": "shop",
        "shared:": "common:",
        "[shared": "[common",
        "tone:": "tones:",
        ", tone]": ", tones]",
    }.items():
        text = text.replace(name, other)
    (hanging.path / "other.yaml").write_text(text, encoding="utf-8")
    (hanging.path / "dodo.py").write_text(f'{DODO}    yield from tasks_from("other.yaml")\n', encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "train"], capture_output=True, text=True, check=False)
    assert (done.returncode, sorted(hanging.trainings)) == (0, ["law", "legal", "sales", "shop"]), done.stdout + done.stderr
    assert done.stdout.count("the cache at") == 1


def test_a_store_that_refuses_costs_one_warning(hanging: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{free.getsockname()[1]}")
    hanging.replace("timeout: 0.5", "timeout: 2")
    done = hanging.doit("train")
    assert (done.code, hanging.trainings) == (0, ["legal", "sales"]), done.out + done.err
    assert done.out.count("warning: the cache at s3://team/models ") == 1
    assert "some-" not in done.out


def test_a_refusal_is_not_asked_for_a_thousand_times(s3: str, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    class Refusing(BaseHTTPRequestHandler):
        def do_HEAD(self) -> None:
            asked.append(self.path)
            self.send_response(403)
            self.end_headers()

        def do_GET(self) -> None:
            self.do_HEAD()

        def log_message(self, *_: object) -> None:
            """Nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Refusing) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        with pytest.raises(StoreError, match="refuses us"):
            Store(s3, 60).there(f"adapters/aa/{number}.tar" for number in range(1000))
        server.shutdown()
    assert len(asked) <= 2 * AT_ONCE


def test_a_transfer_that_stands_still_is_ended_and_one_that_goes_on_is_not(tmp_path: Path) -> None:
    store = Store(str(tmp_path / "cache"), 1.0, stall=1.0)
    stands = threading.Event()

    def slow() -> Iterator[bytes]:
        for _ in range(6):
            time.sleep(0.2)  # longer than the timeout in all, and much shorter each: a machine may be busy
            yield b"piece"

    def still() -> Iterator[bytes]:
        yield b"piece"
        stands.wait(30)
        yield b"never"

    assert store.write("adapters/aa/slow.tar", slow(), 30)
    with pytest.raises(StoreError, match=r"does not answer: nothing for 1 s"):
        store.write("adapters/aa/still.tar", still(), 30)
    stands.set()
    assert [one.path for one in store.listed("adapters")] == ["adapters/aa/slow.tar"]


@pytest.mark.parametrize(
    ("url", "error"),
    [
        ("s4://team/models", "can't be had: nothing knows s4://\n  fix: write s3:// in cache.url"),
        ("gs://team/models", "can't be had: the library that knows gs:// is not installed\n  fix: pip install 'ollamake[gcs]'"),
        ("/no/such/disk/cache", "is not there: no such folder: /no/such/disk\n  fix: make it, or mend cache.url"),
    ],
)
def test_a_place_that_can_t_be_had_is_said_with_what_to_do(url: str, error: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "gcsfs", None)
    monkeypatch.delitem(_registry, "gs", raising=False)  # where another test has imported it
    with pytest.raises(StoreError) as caught:
        Store(url, 10).reach()
    assert str(caught.value) == error


def test_a_bucket_that_is_not_there_is_said_and_not_made(repo: Repo, s3: str) -> None:
    repo.replace("version: 1\n", "version: 1\ncache: {url: s3://typo/models}\n")
    done = repo.doit("train")
    assert done.code == 0
    assert "; nothing more is written to it in this run" in done.out
    assert done.out.count("the cache at s3://typo/models") == 1
    with pytest.raises(StoreError):
        Store("s3://typo/models", 10).write("adapters/aa/x.tar", [b""], 0)


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_without_rights_costs_one_warning(repo: Repo, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    folder.mkdir(mode=0o555)
    repo.replace("version: 1\n", f"version: 1\ncache: {{url: {folder}}}\n")
    done = repo.doit("train")
    assert done.code == 0
    assert done.out.count("refuses us: Permission denied; nothing more is written to it in this run") == 1


def test_a_full_place_costs_one_warning_and_no_adapter(repo: Repo, tmp_path: Path) -> None:
    (tmp_path / "cache").mkdir()
    (tmp_path / "cache/tmp").write_text("in the way", encoding="utf-8")
    repo.replace("version: 1\n", "version: 1\ncache: {url: cache}\n")
    done = repo.doit("train")
    assert (done.code, repo.trainings) == (0, ["legal", "sales"])
    assert done.out.count("; nothing more is written to it in this run") == 1
    shutil.rmtree(tmp_path / "cache")


def test_what_happens_once_happens_once_in_all_processes() -> None:
    once = Once()
    readers = []
    for _ in range(4):
        ours, theirs = os.pipe()
        if not os.fork():
            os.write(theirs, b"1" if once.is_first() else b"0")
            os._exit(0)
        os.close(theirs)
        readers.append(ours)
    assert sorted(os.read(reader, 1) for reader in readers) == [b"0", b"0", b"0", b"1"]
    for reader in readers:
        os.close(reader)
    for _ in readers:
        os.wait()
    assert once.happened
    assert not once.is_first()


def test_nothing_of_what_lets_somebody_in_is_said() -> None:
    environ = {"AWS_SECRET_ACCESS_KEY": "wJalrXUtnFEMI", "AZURE_STORAGE_CONNECTION_STRING": "AccountKey=abc123==", "HOME": "/home/me"}
    text = "GET https://me:pass@host/x?X-Amz-Signature=abc failed: wJalrXUtnFEMI AccountKey=abc123==; secret_key: 'hidden', Authorization: Bearer xyz\nmore"
    said = cleaned(text, environ)
    for secret in ("me:pass", "Signature=abc", "wJalrXUtnFEMI", "abc123", "hidden", "xyz", "more"):
        assert secret not in said
    assert said.startswith("GET https://host/x failed: ***")


class Forbidding(BaseHTTPRequestHandler):
    """A store that lets nobody in."""

    def do_GET(self) -> None:
        body = b"<Error><Code>AccessDenied</Code><Message>Access Denied by some-key-id</Message></Error>"
        self.send_response(403)
        self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body if self.command != "HEAD" else b"")

    do_HEAD = do_PUT = do_POST = do_DELETE = do_GET  # noqa: N815 - the library's names

    def log_message(self, format: str, *args: object) -> None:  # noqa: A002 - the library's name
        """Nothing."""


def test_a_store_that_lets_nobody_in_costs_one_warning(hanging: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    with ThreadingHTTPServer(("127.0.0.1", 0), Forbidding) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        monkeypatch.setenv("AWS_ENDPOINT_URL", f"http://127.0.0.1:{server.server_port}")
        hanging.replace("timeout: 0.5", "timeout: 20")
        done = hanging.doit("train")
        assert (done.code, hanging.trainings) == (0, ["legal", "sales"]), done.out + done.err
        assert done.out.count("models.yaml:2: warning: the cache at s3://team/models refuses us: ") == 1
        assert "some-" not in done.out
        assert hanging.doit("cache").code == 1
        server.shutdown()


def test_many_threads_use_a_store_at_once(store: Store) -> None:
    def work(number: int) -> bytes | None:
        store.write(f"adapters/aa/{number % 4}.tar", [b"%d" % (number % 4)], 1)
        return store.read(f"adapters/aa/{number % 4}.tar", lambda read, _: read(10))

    with ThreadPoolExecutor(16) as pool:
        assert [*pool.map(work, range(48))] == [b"%d" % (number % 4) for number in range(48)]
    assert (len(store.listed("adapters")), store.listed("tmp")) == (4, [])


def test_a_line_that_leads_to_the_next_is_said_with_it() -> None:
    text = "Parameter validation failed:\nInvalid bucket name 'team models'\nmore"
    assert cleaned(text, {}) == "Parameter validation failed: Invalid bucket name 'team models'"
