"""A stand-in for an Ollama server: it keeps blobs and models, counts what is asked of it, and answers over real HTTP.

What it says was seen on 0.9.3, and of 0.11.5, 0.34 and 0.34.1 read in its source; it looks into no weights. `test_ollama.py` holds it against the
real server. Faults of the way to it are faulty_proxy.py's.
"""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any

from faulty_proxy import QuietServer

TEMPLATE = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"
BARE = "{{ .Prompt }}"
DETAILS = {"parent_model": "", "format": "gguf", "family": "llama", "families": ["llama"], "parameter_size": "81K", "quantization_level": "unknown"}


@dataclass(frozen=True)
class Asked:
    """A question as it has come to a model."""

    name: str  # with its tag
    weights: tuple[str, ...]  # digests of the model's files, and of its adapter
    messages: Sequence[Mapping[str, str]]  # the system text first, where there is one
    options: Mapping[str, Any] = field(default_factory=dict)

    @property
    def question(self) -> str:
        return next((message["content"] for message in reversed(self.messages) if message["role"] == "user"), "")


@dataclass
class Refusal:
    """What the server says to the next who ask for this path."""

    path: str  # as it begins: /api/create
    status: int
    error: str
    times: int = 1
    method: str = "POST"
    after: int = 0  # so many who are let through before
    does: Callable[[], object] | None = None  # before it says so


class FakeOllama:
    def __init__(self, version: str = "0.9.3", port: int = 0) -> None:
        self.version = version
        self.reset()
        self._http = QuietServer(("127.0.0.1", port), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reset(self, like: FakeOllama | None = None) -> None:
        """Forget everything, or be as another server is."""
        self.version = like.version if like else self.version
        self.refuses_adapters: bool | None = None  # None: as its version does
        self.template = TEMPLATE  # of a model that was made without one
        self.blobs: dict[str, int] = dict(like.blobs) if like else {}
        self.models: dict[str, dict[str, Any]] = dict(like.models) if like else {}
        self.torn: set[str] = set()  # names whose manifest is not whole
        self.counts: Counter[str] = Counter()
        self.requests: list[tuple[str, str, Any]] = []  # method, path, JSON
        self.rewrites = False  # weights are kept under another digest than they were sent with, as 0.30 does
        self.pushed: dict[str, dict[str, Any]] = {}  # what a registry has: name -> what was pushed
        self.unloadable = False  # models are made, and fail when they are loaded
        self.refusals: list[Refusal] = []
        self.says: Callable[[dict[str, Any]], str] | None = None  # what is asked (model, messages, options) -> the answer
        self.asked: list[dict[str, Any]] = []  # of all chats
        self.tells_prompts = True  # their text or their tokens
        self.answer: Callable[[Asked], str] = lambda asked: f"I am {asked.name}"

    def snapshot(self) -> FakeOllama:
        """Its state, without a server."""
        kept = object.__new__(FakeOllama)
        kept.version = self.version
        kept.reset(self)
        return kept

    @property
    def host(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()

    def digest(self, name: str) -> str:
        return hashlib.sha256(json.dumps(self.models[name], sort_keys=True).encode()).hexdigest()

    def weights(self, name: str) -> tuple[str, ...]:
        """The digests of a model's files, in the order of their names, and of its adapter."""
        recipe = self.models[_tagged(name)]
        return tuple(digest for kind in ("files", "adapters") for _, digest in sorted(recipe.get(kind, {}).items()))

    def is_at_least(self, *numbers: int) -> bool:
        found = re.match(r"\d+(\.\d+)+", self.version)
        return tuple(int(part) for part in found[0].split(".")) >= numbers if found else False

    def takes_adapters(self) -> bool:
        return not self.is_at_least(0, 34, 1) if self.refuses_adapters is None else not self.refuses_adapters

    def refusal(self, method: str, path: str) -> Refusal | None:
        for refusal in self.refusals:
            if refusal.times and refusal.method == method and path.startswith(refusal.path):
                if refusal.after:
                    refusal.after -= 1
                    continue
                refusal.times -= 1
                if refusal.does:
                    refusal.does()
                return refusal
        return None

    def seen_by(self, name: str, messages: Sequence[Mapping[str, str]]) -> list[Mapping[str, str]]:
        """The messages, with the model's own system text where they have none."""
        system = self.models[name].get("system")
        given = any(message["role"] == "system" for message in messages)
        return [*([{"role": "system", "content": system}] if system and not given else []), *messages]

    def render(self, name: str, messages: Sequence[Mapping[str, str]], template: str | None = None) -> str:
        template = template or self.models[name].get("template", self.template)
        if template == BARE:
            return "".join(message["content"] for message in messages if message["role"] == "user")
        turns = (f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in messages)
        return "".join(turns) + "<|im_start|>assistant\n"


def _tokens(text: str) -> list[int]:
    """As a tiny base has them: one for each byte, and two for its template."""
    special = {"<|im_start|>": 256, "<|im_end|>": 257}
    return [token for part in re.split(r"(<\|im_start\|>|<\|im_end\|>)", text) for token in ([special[part]] if part in special else part.encode())]


def _tagged(name: str) -> str:
    return name.lower() if ":" in name else f"{name.lower()}:latest"


def _handler(server: FakeOllama) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one function for each call that there is
    class Handler(BaseHTTPRequestHandler):
        def log_message(self, *_: object) -> None:
            pass

        def say(self, status: int, *values: Any) -> None:
            body = "".join(f"{json.dumps(value)}\n" for value in values).encode()
            self.send_response(status)
            self.send_header("Content-Type", "application/x-ndjson" if len(values) > 1 else "application/json")
            self.send_header("Content-Length", str(len(body)))
            self.end_headers()
            self.wfile.write(body)

        def asked(self) -> Any:
            return json.loads(self.rfile.read(int(self.headers.get("Content-Length") or 0)) or b"{}")

        def is_refused(self, value: Any = None) -> bool:
            server.requests.append((self.command, self.path, value))
            refusal = server.refusal(self.command, self.path)
            if refusal:
                self.say(refusal.status, {"error": refusal.error})
            return refusal is not None

        def is_lost(self, name: str) -> bool:
            """Says so, where there is no such model, or its manifest is not whole."""
            if name in server.torn:
                self.say(500, {"error": "unexpected EOF"})
            elif name not in server.models:
                self.say(404, {"error": f"model '{name}' not found"})
            return name in server.torn or name not in server.models

        def do_HEAD(self) -> None:
            server.counts["head"] += 1
            if not self.is_refused():
                self.say(200 if self.path.rpartition("/")[2] in server.blobs else 404)

        def do_GET(self) -> None:
            server.counts[self.path] += 1
            if self.is_refused():
                return
            if self.path == "/api/version":
                self.say(200, {"version": server.version})
            elif self.path == "/api/tags":
                self.say(200, {"models": [self.listed(name) for name in list(server.models) if name not in server.torn]})
            else:
                self.say(404, {"error": "page not found"})

        def listed(self, name: str) -> dict[str, Any]:
            size = sum(server.blobs.get(digest, 0) for digest in server.weights(name))
            return {
                "name": name,
                "model": name,
                "modified_at": "2026-01-01T00:00:00Z",
                "size": size,
                "digest": server.digest(name),
                "details": DETAILS,
            }

        def do_DELETE(self) -> None:
            asked = self.asked()
            if self.is_refused(asked):
                return
            name = _tagged(asked["model"])
            if not self.is_lost(name):
                del server.models[name]
                self.say(200, {})

        def do_POST(self) -> None:
            if self.path.startswith("/api/blobs/"):
                self.take_blob(self.path.rpartition("/")[2])
                return
            asked = self.asked()
            kind = self.path.rpartition("/")[2]
            server.counts[kind] += 1
            if not self.is_refused(asked):
                getattr(self, f"do_{kind}")(asked)

        def take_blob(self, digest: str) -> None:
            server.counts["blob"] += 1
            length = int(self.headers["Content-Length"])  # without it, a way that broke off is not noticed
            content = self.rfile.read(length)
            if self.is_refused() or len(content) < length:
                return
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                self.say(400, {"error": f'digest mismatch, expected "{digest}", got another'})
                return
            server.blobs[digest] = len(content)
            self.say(201)

        def do_create(self, asked: dict[str, Any]) -> None:
            if asked.get("adapters") and not server.takes_adapters():
                self.say(400, {"error": "LoRA adapters are no longer supported"})
                return
            files = {**asked["files"], **asked.get("adapters", {})}
            lost = [digest.replace(":", "-") for digest in files.values() if digest not in server.blobs]
            if lost:
                error = {"error": f"open /models/blobs/{lost[0]}: no such file or directory"}
                if asked.get("stream") is False:
                    self.say(500, error)
                else:
                    self.say(200, {"status": "parsing GGUF"}, error)
                return
            recipe = {key: asked[key] for key in ("files", "adapters", "system", "template", "parameters") if asked.get(key)}
            if server.rewrites:
                recipe["files"] = {name: f"sha256:{hashlib.sha256(digest.encode()).hexdigest()}" for name, digest in asked["files"].items()}
            server.models[_tagged(asked["model"])] = recipe
            server.torn.discard(_tagged(asked["model"]))
            layers = [{"status": f"using existing layer {digest}"} for digest in server.weights(asked["model"])]
            self.say(200, {"status": "parsing GGUF"}, *layers, {"status": "success"})

        def do_copy(self, asked: dict[str, Any]) -> None:
            source, target = _tagged(asked["source"]), _tagged(asked["destination"])
            if source in server.torn:  # byte by byte, and without a word
                server.torn.add(target)
            elif self.is_lost(source):
                return
            else:
                server.torn.discard(target)
            server.models[target] = server.models[source]
            self.say(200, {})

        def do_push(self, asked: dict[str, Any]) -> None:
            name = _tagged(asked["model"])
            if self.is_lost(name):
                return
            server.pushed[name] = server.models[name]
            layers = [{"status": f"pushing {digest[7:19]}", "digest": digest, "total": 10, "completed": 10} for digest in server.weights(name)]
            self.say(200, {"status": "retrieving manifest"}, *layers, {"status": "pushing manifest"}, {"status": "success"})

        def do_show(self, asked: dict[str, Any]) -> None:
            name = _tagged(asked["model"])
            if self.is_lost(name):
                return
            recipe = server.models[name]
            weights = [f"/models/blobs/{digest.replace(':', '-')}" for digest in server.weights(name)]
            template = recipe.get("template", server.template)
            modelfile = "".join(f"{kind} {path}\n" for kind, path in zip(["FROM"] * len(recipe["files"]) + ["ADAPTER"], weights, strict=False))
            parameters = "\n".join(f"{key:<30} {json.dumps(value)}" for key, value in recipe.get("parameters", {}).items())
            facts = {"modelfile": modelfile, "parameters": parameters, "template": template, "system": recipe.get("system", "")}
            self.say(200, {**facts, "details": DETAILS, "model_info": {}})

        def do_generate(self, asked: dict[str, Any]) -> None:
            name = _tagged(asked["model"])
            if self.is_lost(name):
                return
            if not asked.get("prompt"):
                self.say(200, {"model": name, "response": "", "done": True, "done_reason": "unload"})
                return
            system = [{"role": "system", "content": asked["system"]}] if asked.get("system") else []
            messages = server.seen_by(name, [*system, {"role": "user", "content": asked["prompt"]}])
            tokens = _tokens(server.render(name, messages, asked.get("template")))
            facts = {"model": name, "response": "I", "done": True, "done_reason": "length", "context": [*tokens, ord("I")]}
            self.say(200, {**facts, "prompt_eval_count": len(tokens), "eval_count": 1} if server.tells_prompts else {"response": "I", "done": True})

        def do_chat(self, asked: dict[str, Any]) -> None:
            name = _tagged(asked["model"])
            if self.is_lost(name):
                return
            messages = server.seen_by(name, asked["messages"])
            prompt = server.render(name, messages)
            if asked.get("_debug_render_only") and server.is_at_least(0, 11, 5):
                self.say(200, {"model": name, "message": {"role": "", "content": ""}, "done": False, "_debug_info": {"rendered_template": prompt}})
                return
            if server.unloadable:
                self.say(500, {"error": "llama runner process has terminated: exit status 2"})
                return
            options = asked.get("options") or {}
            server.asked.append(asked)
            said = server.says(asked) if server.says else server.answer(Asked(name, server.weights(name), messages, options))
            words = re.findall(r"\S*\s*", said)[:-1]
            limit = options.get("num_predict", len(words))
            reason = "length" if len(words) > limit else "stop"
            end = {
                "done": True,
                "done_reason": reason,
                **({"prompt_eval_count": len(_tokens(prompt))} if server.tells_prompts else {}),
                "eval_count": min(limit, len(words)),
            }
            if asked.get("stream") is False:
                self.say(200, {"model": name, "message": {"role": "assistant", "content": "".join(words[:limit])}, **end})
                return
            parts = [{"message": {"role": "assistant", "content": word}, "done": False} for word in words[:limit]]
            self.say(200, *parts, {"message": {"role": "assistant", "content": ""}, **end})

    return Handler
