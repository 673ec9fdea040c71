"""What is asked of a running Ollama, through its own Python client; every failure comes out as a BuildError."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import ollama

from ollamake.errors import BuildError
from ollamake.ollama.address import Address, digests_at, has_blob, version_at

BARE_TEMPLATE = "{{ .Prompt }}"  # what Ollama falls back to when it does not know a base's chat template
PATIENCE = 600.0  # seconds without a byte from the server: loading a large model from a slow disk takes minutes


@dataclass(frozen=True, slots=True, kw_only=True)
class NewModel:
    """A model as it is created."""

    name: str
    files: tuple[tuple[Path, str], ...]  # GGUF files and digests: the base, merged weights, or the shards of a split GGUF in their order
    adapter: tuple[Path, str] | None  # GGUF LoRA and digest
    system: str | None
    template: str | None
    parameters: Mapping[str, Any]

    @property
    def named_files(self) -> dict[str, str]:
        """The digest of each GGUF by its name on the server: llama.cpp finds the shards of a split GGUF by theirs."""
        count = len(self.files)
        if count == 1:
            return {"model.gguf": self.files[0][1]}
        return {f"model-{number:05}-of-{count:05}.gguf": digest for number, (_, digest) in enumerate(self.files, start=1)}


class OllamaServer:
    """A running Ollama; a context, which closes the connection at its end."""

    def __init__(self, address: Address) -> None:
        self.address = address
        self._client = ollama.Client(str(address), timeout=PATIENCE, verify=address.scheme == "https")  # reading certificates takes 17 ms

    def __enter__(self) -> OllamaServer:
        return self

    def __exit__(self, *_: object) -> None:
        self._client.close()  # type: ignore[no-untyped-call]  # ollama types its other calls

    def version(self) -> str:
        """Its version. Raises BuildError where nothing answers."""
        version = version_at(self.address)
        if version is None:
            msg = f"nothing answers at {self.address}"
            raise BuildError(msg, fix="start Ollama there: `ollama serve`, or `doit serve`")
        return version

    def create(self, model: NewModel) -> None:
        """Make the model, sending what the server does not hold yet. Raises BuildError."""
        for path, digest in (*model.files, *((model.adapter,) if model.adapter else ())):
            self._send(path, digest)
        with self._errors(f"can't create {model.name}"):
            for _ in self._client.create(
                model=model.name,
                files=model.named_files,
                # An empty mapping is an error to the server, so none at all.
                adapters={"adapter.gguf": model.adapter[1]} if model.adapter else None,
                system=model.system,
                template=model.template,
                parameters=dict(model.parameters) or None,
                stream=True,
            ):
                pass

    def digest(self, name: str) -> str:
        """The digest of the model that has this name now. Raises BuildError where there is none."""
        digest = (digests_at(self.address) or {}).get(tagged(name))
        if digest is None:
            msg = f"{self.address} says that it made {name}, and does not list it"
            raise BuildError(msg, fix="run `doit` again; if it stays so, look into the server's log")
        return digest

    def template(self, name: str) -> str:
        """The chat template that the model is served with, in Ollama's form."""
        with self._errors(f"can't look at {name}"):
            return self._client.show(name).template or ""

    def answer(self, name: str, messages: Sequence[Mapping[str, str]], **options: Any) -> Iterator[str]:
        """The model's answer, piece by piece; "..." at its end where `num_predict` cut it. Raises BuildError."""
        with self._errors(f"{name} can't answer"):
            for part in self._client.chat(model=name, messages=messages, options=options, stream=True):
                yield part.message.content or ""
                if part.done_reason == "length":
                    yield "..."

    def load(self, name: str) -> None:
        """Load the model as it is now, and have it answer with one token. Raises BuildError where it can't."""
        self.unload(name)
        for _ in self.answer(name, [{"role": "user", "content": "Hello"}], num_predict=1):
            pass

    def unload(self, name: str) -> None:
        """Free the memory that the model takes; a runner that stays would go on with the weights of before."""
        with self._errors(f"can't unload {name}"):
            self._client.generate(model=name, keep_alive=0)

    def copy(self, source: str, target: str) -> None:
        """Give the model `source` a second name; what had that name before is replaced."""
        with self._errors(f"can't copy {source} to {target}"):
            self._client.copy(source, target)

    def delete(self, name: str) -> None:
        """Take the name away, and the files that no other model has."""
        with self._errors(f"can't delete {name}"):
            self._client.delete(name)

    def _send(self, path: Path, digest: str) -> None:
        with self._errors(f"can't send {path}"):
            if has_blob(self.address, digest):
                return
            sent = self._client.create_blob(path)
        if sent != digest:
            msg = f"{path} changed while it was sent"
            raise BuildError(msg, fix="run `doit` again")

    @contextmanager
    def _errors(self, what: str) -> Iterator[None]:
        try:
            yield
        except ollama.ResponseError as error:
            msg = f"{what}: {self.address} says: {error.error}"
            raise BuildError(msg, fix=_fix(error.error)) from error
        except (httpx.HTTPError, ConnectionError, OSError) as error:
            msg = f"{what}: {self.address} broke off: {error or type(error).__name__}"
            raise BuildError(msg, fix="look whether the server still runs, and into its log; then run `doit` again") from error
        except ValueError as error:  # pydantic's: an answer of another shape
            msg = f"{what}: {self.address} answers what an Ollama does not: {error}"
            raise BuildError(msg, fix="look what listens there: $OLLAMA_HOST, or ollama.host in the catalog") from error


def tagged(name: str) -> str:
    """The name as Ollama lists it."""
    return name if ":" in name else f"{name}:latest"


def _fix(said: str) -> str:
    if "no longer supported" in said:
        return "write `serve: {weights: merged}`: this Ollama takes no adapters"
    if "not found" in said:
        return "build the model first: `doit`"
    if "runner process has terminated" in said:
        return "look into the server's log: it does not take these weights, or has not the memory for them"
    return "look into the server's log, then run `doit` again"
