"""The way to a server, with its faults: weights are sent once and whole, every failure is said with its fix, and no wrong model is called latest."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo
from fake_ollama import Asked, FakeOllama, Refusal
from faulty_proxy import Fault, FaultyProxy
from ollamake.digest import digest_file
from ollamake.errors import AdaptersRefusedError, BuildError
from ollamake.ollama.address import (
    Address,
    adapters_taken,
    address_of,
    digests_at,
    takes_adapters,
    takes_split,
    version_at,
    versions_of,
)
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.hosts import Host, ask_all
from ollamake.ollama.names import named_lock

HI = [{"role": "user", "content": "Hi"}]
AT_ONCE = (0.0, 0.0)  # pauses between tries


@pytest.fixture
def proxy(ollama: FakeOllama) -> Iterator[FaultyProxy]:
    with FaultyProxy(ollama.host) as proxy:
        yield proxy


@pytest.fixture
def server(proxy: FaultyProxy) -> Iterator[OllamaServer]:
    with OllamaServer(address_of(proxy.host), patience=1, pauses=AT_ONCE) as server:
        yield server


@pytest.fixture
def new(tmp_path: Path) -> NewModel:
    path = tmp_path / "weights.gguf"
    path.write_bytes(b"weights" * 300_000)
    return model_of(path)


def model_of(*paths: Path, adapter: Path | None = None, name: str = "m") -> NewModel:
    files = tuple((path, digest_file(path)) for path in paths)
    return NewModel(name=name, files=files, adapter=(adapter, digest_file(adapter)) if adapter else None, system=None, template=None, parameters={})


# Sending


def test_a_file_that_the_server_has_is_neither_read_nor_sent(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    digest = server.create(new)
    new.files[0][0].unlink()
    assert server.create(new) == digest
    assert ollama.counts["blob"] == 1


def test_an_upload_that_is_cut_off_is_tried_again(
    server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel, capsys: pytest.CaptureFixture[str]
) -> None:
    proxy.faults.append(Fault("/api/blobs/", sends=200_000, times=2))
    server.create(new)
    assert ollama.blobs == {new.files[0][1]: new.files[0][0].stat().st_size}
    lines = capsys.readouterr().out.splitlines()
    assert [line.partition(", trying again: ")[0] for line in lines] == [f"   weights.gguf did not get to {server.address}"] * 2


def test_an_upload_that_is_always_cut_off_is_an_error(server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel) -> None:
    proxy.faults.append(Fault("/api/blobs/", sends=200_000, times=9))
    with pytest.raises(BuildError, match=r"can't send .*weights.gguf: http://.* broke off: (.|\n)*  fix: look whether the server still runs"):
        server.create(new)
    assert ollama.models == {}
    assert len([path for method, path in proxy.asked if method == "POST"]) == 1 + len(AT_ONCE)


def test_an_upload_whose_answer_is_lost_is_not_sent_twice(server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel) -> None:
    def lose() -> None:
        ollama.blobs[new.files[0][1]] = 1

    proxy.faults.append(Fault("/api/blobs/", sends=200_000, then=lose))
    server.create(new)
    assert ollama.counts["blob"] <= 1  # the one that was cut off
    assert [method for method, path in proxy.asked if "blobs" in path] == ["HEAD", "HEAD", "POST", "HEAD"]


@pytest.mark.parametrize(
    ("status", "error", "tries", "fix"),
    [
        (500, "unexpected EOF", 3, "look into the server's log, then run `doit` again"),
        (500, "write /models/blobs/x: no space left on device", 1, "make room on the server's disk, then run `doit` again"),
        (413, "Request Entity Too Large", 1, "have the proxy before the server take files of this size (nginx: client_max_body_size 0)"),
        (401, "unauthorized", 1, "set $OLLAMA_API_KEY to a key that it takes"),
    ],
)
def test_what_may_pass_is_tried_again_and_nothing_else(  # noqa: PLR0917 - fixtures and cases
    server: OllamaServer, ollama: FakeOllama, new: NewModel, status: int, error: str, tries: int, fix: str
) -> None:
    path = new.files[0][0]
    ollama.refusals.append(Refusal("/api/blobs/", status, error, times=9))
    with pytest.raises(BuildError) as caught:
        server.create(new)
    assert str(caught.value) == f"can't send {path}: {server.address} says: {error}\n  fix: {fix}"
    assert ollama.counts["blob"] == tries


def test_a_file_that_can_not_be_read_is_said(server: OllamaServer, new: NewModel) -> None:
    new.files[0][0].unlink()
    with pytest.raises(BuildError, match=r"weights.gguf can't be read: No such file or directory\n  fix: run `doit` again"):
        server.create(new)


def test_a_file_that_was_taken_away_before_the_model_was_made_is_sent_again(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    gone = f"open /models/blobs/{new.files[0][1].replace(':', '-')}: no such file or directory"
    ollama.refusals.append(Refusal("/api/create", 500, gone))
    digest = server.create(new)
    assert digest == server.digest("m")
    assert ollama.counts["create"] == 2
    ollama.refusals.append(Refusal("/api/create", 500, gone, times=2))
    with pytest.raises(BuildError, match=r"no such file or directory\n  fix: run `doit` again"):
        server.create(new)


def test_shards_get_the_names_that_llama_cpp_finds_them_by(server: OllamaServer, ollama: FakeOllama, tmp_path: Path) -> None:
    ollama.version = "0.34.1"
    for name in ("shared", "changed"):
        (tmp_path / name).write_bytes(name.encode())
    server.create(model_of(tmp_path / "shared", tmp_path / "changed"))
    digests = {name: f"sha256:{hashlib.sha256(name.encode()).hexdigest()}" for name in ("shared", "changed")}
    assert ollama.models["m:latest"]["files"] == {"model-00001-of-00002.gguf": digests["shared"], "model-00002-of-00002.gguf": digests["changed"]}
    assert ollama.weights("m") == (digests["shared"], digests["changed"])


# Every failure is said, with its fix

CALLS: dict[str, Callable[[OllamaServer, NewModel], Any]] = {
    "create": lambda server, new: server.create(new),
    "template": lambda server, _: server.template("m"),
    "answer": lambda server, _: list(server.answer("m", HI)),
    "reply": lambda server, _: server.reply("m", HI, max_tokens=5),
    "load": lambda server, _: server.load("m"),
    "unload": lambda server, _: server.unload("m"),
    "copy": lambda server, _: server.copy("m", "m:kept"),
    "delete": lambda server, _: server.delete("m"),
}
PATHS = {"create": "create", "template": "show", "answer": "chat", "reply": "chat", "load": "chat", "unload": "generate", "copy": "copy"}
PATHS |= {"delete": "delete"}
FAULTS = {
    "a proxy's page": {"status": 502},
    "an error of its own": {"status": 500, "body": b'{"error": "boom"}'},
    "an error in an answer that is well": {"status": 200, "body": b'{"error": "boom"}'},
    "not found": {"status": 404, "body": b"404 page not found"},
    "a key": {"status": 401, "body": b'{"error": "unauthorized"}'},
    "no JSON": {"status": 200, "body": b"<html>hello</html>"},
    "JSON of another kind": {"status": 200, "body": b"[1]"},
    "an error of another kind": {"status": 500, "body": b'{"error": {"code": 3}}'},
    "an error that is no object": {"status": 500, "body": b"[1]"},
    "cut off": {"answers": 20},
    "cut off at once": {"answers": 0},
    "torn": {"answers": 10, "closes": True},
    "nothing": {"answers": 0, "closes": True},
    "no answer": {"silent": True},
}
TORN = {fault for fault, how in FAULTS.items() if how.get("status") == 200 or "answers" in how}
# What is answered by its status alone, or whose answer tells nothing, has no answer to be torn.
TELLS_NOTHING = {
    *((call, fault) for call in ("copy", "delete") for fault in TORN),
    ("unload", "an error in an answer that is well"),
    ("unload", "torn"),
}


@pytest.mark.parametrize(("call", "fault"), [(call, fault) for call in CALLS for fault in FAULTS if (call, fault) not in TELLS_NOTHING])
def test_every_failure_is_said_with_its_fix(  # noqa: PLR0917 - fixtures and cases
    server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel, call: str, fault: str
) -> None:
    server.create(new)
    method = "DELETE" if call == "delete" else "POST"
    proxy.faults.append(Fault(f"/api/{PATHS[call]}", method, times=9, **FAULTS[fault]))  # type: ignore[arg-type]
    with OllamaServer(server.address, patience=0.2, pauses=()) as hasty, pytest.raises(BuildError, match=r"http://127.0.0.1:\d+(.|\n)*\n  fix: "):
        CALLS[call](hasty, new)


def test_an_answer_without_an_end_makes_no_model(server: OllamaServer, proxy: FaultyProxy, new: NewModel) -> None:
    first_line = len('{"status": "parsing GGUF"}\n')
    proxy.faults.append(Fault("/api/create", answers=first_line, closes=True))
    with pytest.raises(BuildError) as caught:
        server.create(new)
    assert str(caught.value) == (
        f"can't create m: {server.address} broke off: its answer has no end\n"
        "  fix: look whether the server still runs, and into its log; then run `doit` again"
    )


def test_half_an_answer_is_no_answer(server: OllamaServer, proxy: FaultyProxy, new: NewModel) -> None:
    server.create(new)
    first_line = len('{"message": {"role": "assistant", "content": "I "}, "done": false}\n')
    proxy.faults.append(Fault("/api/chat", answers=first_line, closes=True))
    answer = server.answer("m", HI)
    assert next(answer) == "I "
    with pytest.raises(BuildError, match=r"m can't answer: .* broke off: its answer has no end"):
        list(answer)


@pytest.mark.parametrize(("path", "fault"), [("/api/version", {"status": 500}), ("/api/version", {"status": 200, "body": b'{"version": 3}'})])
def test_a_server_that_does_not_say_its_version(proxy: FaultyProxy, path: str, fault: dict[str, Any]) -> None:
    proxy.faults.append(Fault(path, "GET", **fault))
    with pytest.raises(BuildError, match=r"does not say its version: HTTP 500\n  fix|it is not an Ollama\n  fix"):
        version_at(address_of(proxy.host))


@pytest.mark.parametrize(
    "fault",
    [
        {"status": 500, "body": b'{"error": "boom"}'},
        {"status": 200, "body": b'{"models": [{"name": "m"}]}'},
        {"status": 200, "body": b'{"models": "m"}'},
        {"status": 200, "body": b"[]"},
        {"answers": 30},
        {"answers": 30, "closes": True},
    ],
)
def test_a_list_that_is_not_whole_is_no_list(server: OllamaServer, proxy: FaultyProxy, new: NewModel, fault: dict[str, Any]) -> None:
    """An empty one would have every model of a catalog registered again."""
    server.create(new)
    proxy.faults.append(Fault("/api/tags", "GET", **fault))
    assert digests_at(server.address) is None


# Digests


def test_a_digest_is_looked_at_again_while_the_server_writes(server: OllamaServer, proxy: FaultyProxy, new: NewModel) -> None:
    digest = server.create(new)
    proxy.faults.append(Fault("/api/tags", "GET", status=200, body=b'{"models": []}', times=2))
    assert server.digest("m") == digest


def test_a_model_that_is_not_listed_was_not_made(server: OllamaServer, proxy: FaultyProxy, new: NewModel) -> None:
    proxy.faults.append(Fault("/api/tags", "GET", status=200, body=b'{"models": []}', times=9))
    with pytest.raises(BuildError, match="says that it made m, and does not list it\n  fix: run `doit` again; if it stays so"):
        server.create(new)


def test_a_copy_that_somebody_else_wrote_over_is_an_error(server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel) -> None:
    server.create(new)
    other = {"models": [{"name": "m:latest", "digest": ollama.digest("m:latest")}, {"name": "m:kept", "digest": "0" * 64}]}
    proxy.faults.append(Fault("/api/tags", "GET", status=200, body=repr(other).replace("'", '"').encode(), times=9))
    with pytest.raises(BuildError, match=r"m:kept on .* is not m, although it was copied\n  fix: somebody else"):
        server.copy("m", "m:kept")


ELSE: dict[str, dict[str, Any]] = {
    "system": {"system": "made on another machine"},
    "parameters": {"parameters": {"top_k": 3}},
    "template": {"template": "{{ .Prompt }} and so"},
    "weights": {"files": {"model.gguf": f"sha256:{'0' * 64}"}},
    "adapter": {"adapters": {"adapter.gguf": f"sha256:{'0' * 64}"}},
    "no adapter": {"adapters": {}},
}


@pytest.mark.parametrize("when", ["before it is looked at", "while it is looked at"])
@pytest.mark.parametrize("what", ELSE)
def test_a_model_that_another_machine_has_made_at_the_same_moment_is_not_ours(  # noqa: PLR0917 - fixtures and cases
    server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel, tmp_path: Path, what: str, when: str
) -> None:
    adapter = tmp_path / "adapter.gguf"
    adapter.write_bytes(b"adapter")
    model = replace(new, adapter=(adapter, digest_file(adapter)), system="Be kind.", template="{{ .Prompt }}", parameters={"top_k": 2})

    def make_another() -> None:
        ollama.models["m:latest"] = {**ollama.models["m:latest"], **ELSE[what]}

    assert server.create(model) == server.digest("m")
    proxy.faults += [Fault("/api/show", before=make_another)] if when == "before it is looked at" else []
    # The first look at the list is before the description, the second after it.
    proxy.faults += [Fault("/api/tags", "GET"), Fault("/api/tags", "GET", before=make_another)] if when == "while it is looked at" else []
    with pytest.raises(BuildError) as caught:
        server.create(model)
    assert str(caught.value) == (
        f"m on {server.address} is not what was made: somebody else has made another of that name at the same moment\n  fix: run `doit` again"
    )
    assert server.create(model) == server.digest("m")


def test_a_candidate_of_another_machine_is_never_promoted(built: Repo, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", proxy.host)
    models = built.server.models
    before = models["legal:latest"]
    built.replace("base: tiny\n    data: [shared]\n", "base: tiny\n    data: [shared]\n    serve: {system: New.}\n")
    other = {**before, "system": "made on another machine"}
    proxy.faults.append(Fault("/api/show", before=lambda: models.update({"legal:candidate": other})))
    result = built.doit("build", "legal")
    assert result.code == 1
    assert "register:legal failed:\nlegal:candidate on " in result.out
    assert models["legal:latest"] == before
    assert built.doit("build", "legal").code == 0
    assert models["legal:latest"]["system"] == "New."


def test_weights_that_the_server_writes_anew_are_known_by_what_it_tells(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    ollama.rewrites = True
    assert server.create(new) == server.digest("m")
    assert ollama.weights("m") != (new.files[0][1],)


def test_a_torn_manifest_is_not_copied_and_making_it_again_heals_it(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    digest = server.create(new)
    ollama.torn.add("m:latest")
    assert digests_at(server.address) == {}
    with pytest.raises(BuildError, match="does not list it"):
        server.copy("m", "m:kept")
    with pytest.raises(BuildError, match="unexpected EOF"):
        server.template("m")
    assert server.create(new) == digest


def test_the_versions_of_a_model_are_its_tags() -> None:
    known = {"legal:latest": "a", "legal:previous": "b", "legalese:latest": "c", "other/legal:latest": "d"}
    assert versions_of(known, "Legal") == {"latest": "a", "previous": "b"}
    assert versions_of(known, "nobody") == {}


def test_one_server_that_does_not_answer_does_not_hold_up_the_others(
    server: OllamaServer, proxy: FaultyProxy, ollama: FakeOllama, new: NewModel
) -> None:
    digest = server.create(new)
    proxy.faults += [Fault("/api/tags", "GET", silent=True), Fault("/api/tags", "GET", status=401, body=b"{}")]
    silent, dead, good = (Host(None, "", address) for address in map(address_of, (proxy.host, "gpu-box.invalid", ollama.host)))
    ask_all([silent, dead, good], limit=0.5)
    assert [host.known for host in (silent, dead, good)] == [None, None, {"m:latest": digest}]


# What a server takes


@pytest.mark.parametrize(
    ("version", "adapters", "split"),
    [
        ("0.9.3", True, False),
        ("0.33.4", True, False),
        ("0.34.0", True, True),
        ("0.34.1", False, True),
        ("0.34.1-rc2", False, True),
        ("v0.40", False, True),
        ("1.0", False, True),
        ("0.0.0", None, False),
        ("0.0.0-23-gabcdef", None, False),
        ("dev", None, False),
    ],
)
def test_what_a_version_tells(version: str, adapters: bool | None, split: bool) -> None:
    assert (takes_adapters(version), takes_split(version)) == (adapters, split)


@pytest.mark.parametrize("refuses", [True, False])
def test_a_server_whose_version_tells_nothing_is_asked(ollama: FakeOllama, refuses: bool) -> None:
    ollama.version, ollama.refuses_adapters = "0.0.0", refuses
    assert adapters_taken(address_of(ollama.host), "0.0.0") is not refuses
    assert (ollama.models, ollama.blobs, ollama.counts) == ({}, {}, {"create": 1})
    assert adapters_taken(address_of(ollama.host), "0.9.3")
    assert not adapters_taken(address_of(ollama.host), "0.34.1")
    assert ollama.counts == {"create": 1}


def test_a_server_that_can_not_be_asked_is_given_merged_weights(proxy: FaultyProxy) -> None:
    assert not adapters_taken(Address("http", "127.0.0.1", 1), "0.0.0")
    proxy.faults.append(Fault("/api/create", status=502))
    assert not adapters_taken(address_of(proxy.host), "0.0.0")


def test_a_refused_adapter_is_an_error_of_its_own(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    ollama.refuses_adapters = True
    with pytest.raises(AdaptersRefusedError, match=r"no longer supported\n  fix: write `serve: \{weights: merged\}`"):
        server.create(model_of(new.files[0][0], adapter=new.files[0][0]))


# Asking


def test_a_reply_is_steady_and_says_whether_it_was_cut_off(server: OllamaServer, ollama: FakeOllama, new: NewModel) -> None:
    def answer(asked: Asked) -> str:
        assert (asked.options["temperature"], asked.options["seed"]) == (0, 42)
        assert asked.weights == (new.files[0][1],)
        return f"{asked.question}: one two three"

    ollama.answer = answer
    server.create(new)
    whole = server.reply("m", HI, max_tokens=10)
    assert (whole.text, whole.done_reason, whole.tokens) == ("Hi: one two three", "stop", 4)
    cut = server.reply("m", HI, max_tokens=2)
    assert (cut.text, cut.done_reason) == ("Hi: one ", "length")
    assert "".join(server.answer("m", HI, num_predict=2, temperature=0, seed=42)) == "Hi: one ..."


# One at a time


def test_one_build_at_a_time_has_a_name(tmp_path: Path) -> None:
    here, other = Address("http", "127.0.0.1", 1), Address("http", "127.0.0.1", 2)
    events: list[str] = []

    def second() -> None:
        with named_lock(Address("http", "localhost", 1), "Legal:candidate"):
            events.append("second")

    with named_lock(here, "legal"):
        thread = threading.Thread(target=second)
        thread.start()
        with named_lock(here, "sales"), named_lock(other, "legal"):
            events.append("others")
        program = (
            "from ollamake.locks import try_lock; from ollamake.folders import servers_folder\n"
            "print(try_lock((servers_folder() / 'here_1.name-legal.lock').open('w')))"
        )
        assert subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True).stdout == "False\n"
        events.append("first")
    thread.join()
    assert events == ["others", "first", "second"]


def test_who_has_a_name_may_take_it_again() -> None:
    address = Address("http", "127.0.0.1", 1)
    entered: list[str] = []
    with named_lock(address, "legal"):
        with named_lock(address, "legal:latest"):
            pass
        thread = threading.Thread(target=lambda: _enter(address, entered))
        thread.start()
        assert not entered  # it is ours still
    thread.join()
    assert entered == ["legal"]


def _enter(address: Address, entered: list[str]) -> None:
    with named_lock(address, "legal"):
        entered.append("legal")


def test_a_name_is_waited_for_in_words() -> None:
    address = Address("http", "gpu-box", 11434)
    said = threading.Event()

    def second() -> None:
        with named_lock(address, "team/legal"):
            said.set()

    with contextlib.redirect_stdout(io.StringIO()) as out, named_lock(address, "team/legal:latest"):
        thread = threading.Thread(target=second)
        thread.start()
        while not out.getvalue().endswith("\n"):
            time.sleep(0.01)
        assert out.getvalue() == "   team/legal: waiting for the build that registers it at http://gpu-box:11434\n"
        assert not said.is_set()
    thread.join()
    assert said.is_set()


# Whole builds


@pytest.fixture
def behind(built: Repo, proxy: FaultyProxy, monkeypatch: pytest.MonkeyPatch) -> Repo:
    """A repo with everything built, and registered by way of the proxy."""
    monkeypatch.setenv("OLLAMA_HOST", proxy.host)
    result = built.doit()
    assert result.code == 0, result.err
    assert built.doit().ran == []
    built.replace("base: tiny\n    data: [shared]\n", "base: tiny\n    data: [shared]\n    serve: {system: New.}\n")
    return built


SPOILED = {
    "version": [Fault("/api/version", "GET", status=500, times=9)],
    "list": [Fault("/api/tags", "GET", answers=30, times=9)],
    "list for a moment": [Fault("/api/tags", "GET", answers=30)],
    "create, 500": [Fault("/api/create", status=500)],
    "create, cut off": [Fault("/api/create", answers=20)],
    "create, without an end": [Fault("/api/create", answers=28, closes=True)],
    "create, an error in the stream": [Fault("/api/create", status=200, body=b'{"error": "boom"}\n')],
    "show, 500": [Fault("/api/show", status=500)],
    "chat, 500": [Fault("/api/chat", status=500)],
    "chat, torn": [Fault("/api/chat", answers=30, closes=True)],
    "copy, 500": [Fault("/api/copy", status=500)],
    "copy, cut off when it was done": [Fault("/api/copy", answers=0)],
    "delete, 500": [Fault("/api/delete", "DELETE", status=500)],
    "unload, 500": [Fault("/api/generate", status=500)],
    "all, slow": [Fault("/api/", method, delay=0.1, times=99) for method in ("GET", "HEAD", "POST", "DELETE")],
}


@pytest.mark.parametrize("spoiled", SPOILED)
def test_a_build_over_a_bad_way_calls_no_wrong_model_latest_and_the_next_heals(behind: Repo, proxy: FaultyProxy, spoiled: str) -> None:
    before = behind.server.digest("legal:latest")
    proxy.faults += [replace(fault) for fault in SPOILED[spoiled]]
    result = behind.doit()
    assert "Traceback" not in result.out + result.err
    system = behind.server.models["legal:latest"].get("system")
    assert (behind.server.digest("legal:latest") == before) is (system is None)
    assert result.code == 0 or "fix: " in result.out + result.err
    if result.code == 0:
        assert system == "New."
    proxy.faults.clear()
    healed = behind.doit()
    assert healed.code == 0, healed.out + healed.err
    assert behind.server.models["legal:latest"]["system"] == "New."
    assert behind.doit().ran == []


def test_an_upload_that_is_cut_off_during_a_build_is_taken_up_within_it(behind: Repo, proxy: FaultyProxy) -> None:
    behind.records("shared").write_text(behind.records("shared").read_text(encoding="utf-8").replace("Answer 1.", "Reply 1."), encoding="utf-8")
    proxy.faults.append(Fault("/api/blobs/", sends=1000))
    result = behind.doit()
    assert result.code == 0, result.err
    assert "did not get to http://" in result.out
    assert set(behind.server.weights("legal")) <= set(behind.server.blobs)


def test_two_builds_of_one_name_at_once_leave_one_model_or_the_other(
    built: Repo, proxy: FaultyProxy, tmp_path_factory: pytest.TempPathFactory
) -> None:
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(built.path, other, dirs_exist_ok=True)
    proxy.faults += [Fault("/api/", method, delay=0.05, times=99) for method in ("POST", "DELETE")]  # that they meet
    repos = [built, Repo(other, built.server)]
    for number, repo in enumerate(repos):
        (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
        repo.replace("data: [shared]\n", f"data: [shared]\n    serve: {{system: 'Repo {number}.'}}\n")
    environment = {**os.environ, "OLLAMA_HOST": proxy.host}
    argv = [sys.executable, "-m", "doit", "test:legal"]
    builds = [subprocess.Popen(argv, cwd=repo.path, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) for repo in repos]
    said = [build.communicate()[0] for build in builds]
    # One may find its candidate replaced by the other's, and says so.
    assert min(build.returncode for build in builds) == 0, said
    for build, text in zip(builds, said, strict=True):
        assert build.returncode == 0 or (build.returncode == 1 and "fix: run `doit` again" in text), text
    last = built.server.models["legal:latest"]["system"]
    assert last in {"Repo 0.", "Repo 1."}
    for number, repo in enumerate(repos):
        done = subprocess.run(argv, cwd=repo.path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout + done.stderr
        assert last == f"Repo {number}." or ".  test:legal" in done.stdout
        last = built.server.models["legal:latest"]["system"]
        assert last == f"Repo {number}."
    assert "legal:candidate" not in built.server.models
