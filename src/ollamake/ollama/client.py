"""What is asked of a running Ollama, through its own Python client; every failure comes out as a BuildError."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import httpx
import ollama

from ollamake.errors import BuildError
from ollamake.ollama.address import Address, digests_at, version_at
from ollamake.ollama.described import NewModel, Shown, digests_in, is_as_made
from ollamake.ollama.failures import BlobGoneError, broke_off, failures_of
from ollamake.ollama.names import tagged
from ollamake.ollama.upload import PAUSES, is_held, send_blob

__all__ = ["BARE_TEMPLATE", "NewModel", "OllamaServer", "Reply", "tagged"]

BARE_TEMPLATE = "{{ .Prompt }}"  # what Ollama falls back to when it does not know a base's chat template
PATIENCE = 600.0  # seconds without a byte from the server: loading a large model from a slow disk takes minutes
CONNECTING = 10.0  # seconds
LOOKS = (0.0, 0.1, 0.3, 1.0)  # seconds before each look at a digest: while a server writes a manifest, its list lacks the model, or has it torn
STEADY = {"temperature": 0, "seed": 42}  # the same answer each time


@dataclass(frozen=True, slots=True, kw_only=True)
class Reply:
    """A whole answer."""

    text: str
    done_reason: str  # stop; length: it was cut off
    prompt_tokens: int
    tokens: int


class OllamaServer:
    """A running Ollama; a context, which closes the connection at its end."""

    def __init__(self, address: Address, patience: float = PATIENCE, pauses: Sequence[float] = PAUSES) -> None:
        self.address = address
        self._pauses = pauses
        timeout = httpx.Timeout(patience, connect=min(CONNECTING, patience))
        verify = address.scheme == "https"  # reading certificates takes 17 ms
        self._client = ollama.Client(str(address), timeout=timeout, verify=verify)
        # For what its own client does not do: it hashes each file again, and sends it, there or not.
        key = os.environ.get("OLLAMA_API_KEY")
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        self._http = httpx.Client(base_url=str(address), timeout=timeout, verify=verify, headers=headers)

    def __enter__(self) -> OllamaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]  # ollama types its other calls
        self._http.close()

    def version(self) -> str:
        """Its version. Raises BuildError where nothing answers."""
        version = version_at(self.address)
        if version is None:
            msg = f"nothing answers at {self.address}"
            raise BuildError(msg, fix="start Ollama there: `ollama serve`, or `doit serve`")
        return version

    def create(self, model: NewModel) -> str:
        """Make the model, sending what the server does not hold yet. Returns its digest, read back. Raises BuildError, AdaptersRefusedError.

        A runner that still has the weights of before is unloaded.
        """
        try:
            layers = self._send_and_create(model)
        except BlobGoneError:  # a server that started meanwhile has taken away what no model used yet
            layers = self._send_and_create(model)
        self.unload(model.name)
        digest = self.digest(model.name)
        # Another machine may have made a model of this name in between: our lock is this machine's.
        if not is_as_made(model, self.shown(model.name), layers) or self.digest(model.name) != digest:
            msg = f"{model.name} on {self.address} is not what was made: somebody else has made another of that name at the same moment"
            raise BuildError(msg, fix="run `doit` again")
        return digest

    def digest(self, name: str) -> str:
        """The digest of the model that has this name now. Raises BuildError where there is none."""
        digest = self._look(name, lambda digest: digest is not None)
        if digest is None:
            msg = f"{self.address} says that it made {name}, and does not list it"
            raise BuildError(msg, fix="run `doit` again; if it stays so, look into the server's log")
        return digest

    def holds(self, digest: str) -> bool:
        """Has it the file of this digest? Raises BuildError."""
        with failures_of("can't ask for a file", self.address):
            return is_held(self._http, digest)

    def template(self, name: str) -> str:
        """The chat template that the model is served with, in Ollama's form."""
        with failures_of(f"can't look at {name}", self.address):
            return self._client.show(name).template or ""

    def shown(self, name: str) -> Shown:
        """What the server says of a model. Raises BuildError."""
        with failures_of(f"can't look at {name}", self.address):  # its own client drops the system prompt
            response = self._http.post("/api/show", json={"model": name})
            response.raise_for_status()
            said = response.json()
            return Shown(**{key: str(said.get(key) or "") for key in Shown.__dataclass_fields__})

    def answer(self, name: str, messages: Sequence[Mapping[str, str]], **options: Any) -> Iterator[str]:
        """The model's answer, piece by piece; "..." at its end where `num_predict` cut it. Raises BuildError."""
        what = f"{name} can't answer"
        with failures_of(what, self.address):
            for part in self._client.chat(model=name, messages=messages, options=options, stream=True):
                yield part.message.content or ""
                if part.done:
                    if part.done_reason == "length":
                        yield "..."
                    return
        raise broke_off(what, self.address)

    def reply(self, name: str, messages: Sequence[Mapping[str, str]], *, max_tokens: int, **options: Any) -> Reply:
        """The model's whole answer, the same each time: the likeliest tokens, whatever the model's own parameters say. Raises BuildError."""
        with failures_of(f"{name} can't answer", self.address):
            said = self._client.chat(model=name, messages=messages, options={**STEADY, "num_predict": max_tokens, **options})
            return Reply(
                text=said.message.content or "",
                done_reason=said.done_reason or "stop",
                prompt_tokens=said.prompt_eval_count or 0,
                tokens=said.eval_count or 0,
            )

    def load(self, name: str) -> None:
        """Load the model as it is now, and have it answer with one token. Raises BuildError where it can't."""
        self.unload(name)
        self.reply(name, [{"role": "user", "content": "Hello"}], max_tokens=1)

    def unload(self, name: str) -> None:
        """Free the memory that the model takes; a runner that stays would go on with the weights of before."""
        with failures_of(f"can't unload {name}", self.address):
            self._client.generate(model=name, keep_alive=0)

    def copy(self, source: str, target: str) -> str:
        """Give the model `source` a second name; what had that name before is replaced, and unloaded. Returns its digest, read back. Raises BuildError."""
        wanted = self.digest(source)
        with failures_of(f"can't copy {source} to {target}", self.address):
            self._client.copy(source, target)
        if self._look(target, lambda digest: digest == wanted) != wanted:
            msg = f"{target} on {self.address} is not {source}, although it was copied"
            raise BuildError(msg, fix="somebody else may have registered it at the same moment: run `doit` again")
        self.unload(target)
        return wanted

    def delete(self, name: str) -> None:
        """Take the name away, and the files that no other model has."""
        with failures_of(f"can't delete {name}", self.address):
            self._client.delete(name)

    def _look(self, name: str, is_right: Callable[[str | None], bool]) -> str | None:
        """The digest of this name, when it is right or has been looked at often enough."""
        digest = None
        for pause in LOOKS:
            time.sleep(pause)
            digest = (digests_at(self.address) or {}).get(tagged(name))
            if is_right(digest):
                break
        return digest

    def _send_and_create(self, model: NewModel) -> set[str]:
        """The digests of the model's layers, as far as the server tells them."""
        for path, digest in (*model.files, *((model.adapter,) if model.adapter else ())):
            send_blob(self._http, self.address, path, digest, self._pauses)
        what = f"can't create {model.name}"
        status = None
        layers: set[str] = set()
        with failures_of(what, self.address):
            for part in self._client.create(
                model=model.name,
                files=model.named_files,
                # An empty mapping is an error to the server, so none at all.
                adapters={"adapter.gguf": model.adapter[1]} if model.adapter else None,
                system=model.system,
                template=model.template,
                parameters=dict(model.parameters) or None,
                stream=True,
            ):
                status = part.status
                layers |= digests_in(status or "")
        if status != "success":
            raise broke_off(what, self.address)
        return layers
