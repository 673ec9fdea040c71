"""Ollama: addresses, what a server is asked, and when one is started. The contract is kept by the stand-in and by the real server alike."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from zlib import crc32

import httpx
import pytest

from fake_ollama import FakeOllama
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.ollama import embedded
from ollamake.ollama.address import Address, adapters_taken, address_of, digests_at, takes_adapters, version_at
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.ollama.described import is_as_made
from ollamake.ollama.server import use_server
from tiny_base import write_tiny_base


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("", "http://127.0.0.1:11434"),
        ("gpu-box", "http://gpu-box:11434"),
        ("gpu-box:8080", "http://gpu-box:8080"),
        ("http://gpu-box", "http://gpu-box:80"),
        ("https://gpu-box", "https://gpu-box:443"),
        ("https://gpu-box:11434/", "https://gpu-box:11434"),
        ("0.0.0.0", "http://127.0.0.1:11434"),
        ("[::1]:11434", "http://[::1]:11434"),
        ("localhost", "http://localhost:11434"),
        ("https://box/ollama/", "https://box:443/ollama"),
    ],
)
def test_an_address_is_read_as_ollama_reads_it(text: str, url: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", text)
    assert str(address_of(None)) == url
    monkeypatch.setenv("OLLAMA_HOST", "elsewhere")
    assert str(address_of(text or "127.0.0.1")) == url


@pytest.mark.parametrize("text", ["ftp://gpu-box", "gpu-box:port", "http://[::1"])
def test_what_is_no_address_is_refused(text: str) -> None:
    with pytest.raises(BuildError, match="is not the address of a server"):
        address_of(text)


@pytest.mark.parametrize(
    ("version", "takes"), [("0.9.3", True), ("0.34.0", True), ("0.34.1", False), ("0.34.1-rc2", False), ("0.40.0", False), ("1.0", False)]
)
def test_which_servers_take_adapters(version: str, takes: bool) -> None:
    assert takes_adapters(version) is takes


def test_a_server_that_answers_is_used_and_never_ended(ollama: FakeOllama) -> None:
    use = use_server(address_of(ollama.host))
    assert (use.version, use.lease) == ("0.9.3", None)
    use.end()
    assert version_at(use.address) == "0.9.3"


@contextmanager
def answering(content: bytes) -> Iterator[Address]:
    """A server on a port of its own that says this to the first who asks, whatever is asked."""
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            connection, _ = server.accept()
            with connection:
                connection.recv(1000)
                connection.sendall(content)

        threading.Thread(target=answer, daemon=True).start()
        yield Address("http", "127.0.0.1", server.getsockname()[1])


def test_a_port_where_something_else_answers_is_an_error() -> None:
    said = r"answers, but it is not an Ollama\n  fix: end what listens on that port"
    with answering(b"HTTP/1.0 200 OK\r\n\r\nhello") as address, pytest.raises(BuildError, match=said):
        version_at(address)


def test_a_server_that_wants_a_key_is_said(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_API_KEY", "wrong")
    said = r"refuses to answer: HTTP 401\n  fix: set \$OLLAMA_API_KEY to a key that it takes"
    content = b'HTTP/1.0 401 Unauthorized\r\n\r\n{"error": "unauthorized"}'
    with answering(content) as address, pytest.raises(BuildError, match=said):
        version_at(address)


@pytest.mark.parametrize("host", ["gpu..box", "a" * 300])
def test_a_host_that_can_not_be_looked_up_does_not_answer(host: str) -> None:
    assert version_at(address_of(host)) is None


def test_no_embedded_ollama_for_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    if embedded.is_possible():
        monkeypatch.setattr("platform.machine", lambda: "arm64")
    monkeypatch.setenv("PATH", "")
    with pytest.raises(BuildError) as caught:
        use_server(Address("http", "127.0.0.1", 1))
    assert str(caught.value) == (
        "nothing answers at http://127.0.0.1:1, and there is no embedded Ollama for this machine (only for Linux x86_64)\n"
        "  fix: get Ollama from https://ollama.com/download, start it with `ollama serve`, and run this again"
    )


def test_old_servers_are_given_what_they_take(ollama: FakeOllama, tmp_path: Path) -> None:
    ollama.version = "0.34.1"
    path = tmp_path / "a.gguf"
    path.write_bytes(b"weights")
    weights = (path, digest_file(path))
    model = NewModel(name="x", files=(weights,), adapter=weights, system=None, template=None, parameters={})
    said = r"LoRA adapters are no longer supported\n  fix: write `serve: \{weights: merged\}`"
    with OllamaServer(address_of(ollama.host)) as server, pytest.raises(BuildError, match=said):
        server.create(model)


class OllamaContract:
    """What every server does, as far as a build relies on it."""

    @pytest.fixture
    def weights(self, tmp_path: Path, request: pytest.FixtureRequest) -> tuple[Path, str]:
        path = tmp_path / "weights.gguf"
        write_tiny_base(path, seed=crc32(request.node.nodeid.encode()))  # no other test has put them on the server
        return path, digest_file(path)

    @pytest.fixture
    def new(self, weights: tuple[Path, str]) -> NewModel:
        return NewModel(name="contract", files=(weights,), adapter=None, system="Be kind.", template=None, parameters={"temperature": 0.5})

    def test_a_model_is_made_listed_copied_and_deleted(self, server: OllamaServer, new: NewModel) -> None:
        held = f"{server.address}/api/blobs/{new.files[0][1]}"
        assert httpx.head(held).status_code == 404
        digest = server.create(new)
        assert httpx.head(held).status_code == 200
        assert server.digest("contract") == digest
        assert server.copy("contract", "contract:kept") == digest
        known = digests_at(server.address) or {}
        assert known["contract:latest"] == known["contract:kept"] == digest
        server.delete("contract")
        assert "contract:latest" not in (digests_at(server.address) or {})
        assert server.digest("contract:kept") == digest
        server.delete("contract:kept")

    def test_the_same_recipe_has_the_same_digest_and_another_has_another(self, server: OllamaServer, new: NewModel) -> None:
        server.create(new)
        first = server.digest("contract")
        server.create(new)
        assert server.digest("contract") == first
        other = NewModel(name="contract", files=new.files, adapter=None, system="Be short.", template=None, parameters={})
        server.create(other)
        assert server.digest("contract") != first
        server.delete("contract")

    @pytest.mark.parametrize(
        "parameters",
        [
            {"stop": ["a\tb", "\x07\u00a0\u2028", 'say "so"', "\N{SNOWMAN}"], "seed": 2**60 + 1, "top_p": 1e-7, "num_ctx": 1_000_000},
            {"stop": []},
            {"stop": "one", "temperature": 0, "num_gpu": 0, "repeat_penalty": 1.0},
        ],
    )
    def test_what_was_made_is_known_by_what_the_server_says_of_it(self, server: OllamaServer, new: NewModel, parameters: dict[str, Any]) -> None:
        model = replace(new, system="  Be kind.\r\n\nFROM here \N{SNOWMAN}\n", template="{{ .System }}\n{{ .Prompt }}\n\n", parameters=parameters)
        assert server.create(model) == server.digest("contract")
        assert is_as_made(model, server.shown("contract"), ())
        for other in (
            replace(model, system=None),
            replace(model, template="{{ .Prompt }}"),
            replace(model, parameters={**parameters, "top_k": 3}),
            replace(model, parameters={"stop": ["two"]}),
            replace(model, files=((new.files[0][0], "sha256:" + "0" * 64),)),
            replace(model, adapter=(new.files[0][0], "sha256:" + "0" * 64)),
        ):
            assert not is_as_made(other, server.shown("contract"), ()), other
        server.delete("contract")

    def test_a_template_of_the_users_own_is_served(self, server: OllamaServer, new: NewModel) -> None:
        template = "{{ .Prompt }} and so"
        server.create(NewModel(name="contract", files=new.files, adapter=None, system=None, template=template, parameters={}))
        assert server.template("contract") == template
        server.delete("contract")

    def test_a_model_that_is_not_there_is_an_error_with_a_fix(self, server: OllamaServer) -> None:
        with pytest.raises(BuildError, match=r"not found(.|\n)*  fix: build the model first: `doit`"):
            server.delete("nobody")
        with pytest.raises(BuildError, match=r"not found(.|\n)*  fix: build the model first: `doit`"):
            list(server.answer("nobody", [{"role": "user", "content": "Hi"}]))

    def test_a_reply_is_the_same_each_time_and_says_that_it_was_cut_off(self, server: OllamaServer, new: NewModel) -> None:
        server.create(new)
        first, second = (server.reply("contract", [{"role": "user", "content": "Hello you"}], max_tokens=2) for _ in range(2))
        assert first == second
        assert (first.done_reason, first.tokens) == ("length", 2)
        assert "".join(server.answer("contract", [{"role": "user", "content": "Hello you"}], num_predict=2, temperature=0)) == f"{first.text}..."
        server.delete("contract")

    def test_a_server_that_takes_adapters_says_so_of_one_that_is_not_there(self, server: OllamaServer) -> None:
        before = digests_at(server.address)
        assert adapters_taken(server.address, "0.0.0")
        assert digests_at(server.address) == before

    def test_unloading_and_making_again_go_well_whatever_is_loaded(self, server: OllamaServer, new: NewModel) -> None:
        server.create(new)
        server.load("contract")
        server.create(new)
        server.unload("contract")
        server.unload("contract")
        server.delete("contract")

    def test_weights_that_changed_since_their_digest_was_taken(self, server: OllamaServer, new: NewModel) -> None:
        wrong = (new.files[0][0], "sha256:" + "0" * 64)
        with pytest.raises(BuildError, match=r"changed while it was sent\n  fix: run `doit` again"):
            server.create(NewModel(name="contract", files=(wrong,), adapter=None, system=None, template=None, parameters={}))


class TestFakeOllama(OllamaContract):
    @pytest.fixture
    def server(self, ollama: FakeOllama) -> Iterator[OllamaServer]:
        with OllamaServer(address_of(ollama.host)) as server:
            yield server


@pytest.mark.live
class TestRealOllama(OllamaContract):
    @pytest.fixture
    def server(self, real_server: OllamaServer) -> Any:
        return real_server
