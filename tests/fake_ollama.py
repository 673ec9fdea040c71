"""A stand-in for an Ollama server: it keeps blobs and models, counts what is asked of it, and answers over real HTTP.

What it says was seen on 0.9.3, and of 0.34.1 read in its source; it looks into no weights. `test_ollama.py` holds it against the real server.
"""

from __future__ import annotations

import hashlib
import json
import threading
from collections import Counter
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

TEMPLATE = "{{- range .Messages }}<|im_start|>{{ .Role }}\n{{ .Content }}<|im_end|>\n{{ end }}<|im_start|>assistant\n"


class FakeOllama:
    def __init__(self, version: str = "0.9.3") -> None:
        self.version = version
        self.reset()
        self._http = ThreadingHTTPServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    def reset(self, like: FakeOllama | None = None) -> None:
        """Forget everything, or be as another server is."""
        self.version = like.version if like else self.version
        self.template = TEMPLATE
        self.blobs: dict[str, int] = dict(like.blobs) if like else {}
        self.models: dict[str, dict[str, Any]] = dict(like.models) if like else {}
        self.counts: Counter[str] = Counter()
        self.unloadable = False  # models are made, and fail when they are loaded
        self.says: Callable[[dict[str, Any]], str] | None = None  # what is asked (model, messages, options) -> the answer
        self.asked: list[dict[str, Any]] = []  # of all chats
        self.tells_prompts = True  # as 0.11 does, and later ones

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


def _rendered(messages: list[dict[str, str]], system: str | None) -> str:
    """What TEMPLATE makes of them."""
    whole = [{"role": "system", "content": system}, *messages] if system and messages[0]["role"] != "system" else messages
    return "".join(f"<|im_start|>{message['role']}\n{message['content']}<|im_end|>\n" for message in whole) + "<|im_start|>assistant\n"


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

        def do_HEAD(self) -> None:
            server.counts["head"] += 1
            self.send_response(200 if self.path.rpartition("/")[2] in server.blobs else 404)
            self.end_headers()

        def do_GET(self) -> None:
            server.counts[self.path] += 1
            if self.path == "/api/version":
                self.say(200, {"version": server.version})
            else:
                self.say(200, {"models": [{"name": name, "digest": server.digest(name)} for name in list(server.models)]})

        def do_DELETE(self) -> None:
            name = _tagged(self.asked()["model"])
            if server.models.pop(name, None) is None:
                self.say(404, {"error": f"model '{name}' not found"})
            else:
                self.say(200, {})

        def do_POST(self) -> None:
            if self.path.startswith("/api/blobs/"):
                self.take_blob(self.path.rpartition("/")[2])
                return
            asked = self.asked()
            kind = self.path.rpartition("/")[2]
            server.counts[kind] += 1
            getattr(self, f"do_{kind}")(asked)

        def take_blob(self, digest: str) -> None:
            server.counts["blob"] += 1
            if self.headers.get("Transfer-Encoding") == "chunked":
                content = b""
                while size := int(self.rfile.readline(), 16):
                    content += self.rfile.read(size)
                    self.rfile.readline()
                self.rfile.readline()
            else:
                content = self.rfile.read(int(self.headers["Content-Length"]))
            if f"sha256:{hashlib.sha256(content).hexdigest()}" != digest:
                self.say(400, {"error": "digest mismatch"})
                return
            server.blobs[digest] = len(content)
            self.say(201)

        def do_create(self, asked: dict[str, Any]) -> None:
            if asked.get("adapters") and tuple(map(int, server.version.split("."))) >= (0, 34, 1):
                self.say(400, {"error": "LoRA adapters are no longer supported"})
                return
            files = {**asked["files"], **asked.get("adapters", {})}
            lost = [digest for digest in files.values() if digest not in server.blobs]
            if lost:
                self.say(200, {"status": "parsing"}, {"error": f"blob {lost[0]} not found"})
                return
            recipe = {key: asked[key] for key in ("files", "adapters", "system", "template", "parameters") if asked.get(key)}
            server.models[_tagged(asked["model"])] = recipe
            self.say(200, {"status": "parsing GGUF"}, {"status": "success"})

        def do_copy(self, asked: dict[str, Any]) -> None:
            source = _tagged(asked["source"])
            if source not in server.models:
                self.say(404, {"error": f"model '{source}' not found"})
                return
            server.models[_tagged(asked["destination"])] = server.models[source]
            self.say(200, {})

        def do_show(self, asked: dict[str, Any]) -> None:
            self.say(200, {"model_info": {}, "template": server.models[_tagged(asked["model"])].get("template", server.template)})

        def do_generate(self, asked: dict[str, Any]) -> None:
            self.say(200, {"model": asked["model"], "response": "", "done": True})

        def do_chat(self, asked: dict[str, Any]) -> None:
            name = _tagged(asked["model"])
            if name not in server.models:
                self.say(404, {"error": f"model '{name}' not found"})
            elif server.unloadable:
                self.say(500, {"error": "llama runner process has terminated: exit status 2"})
            elif asked.get("_debug_render_only") and server.tells_prompts and not server.models[name].get("template"):
                self.say(200, {"model": name, "_debug_info": {"rendered_template": _rendered(asked["messages"], server.models[name].get("system"))}})
            elif asked.get("stream") is False:
                self.say(200, {"message": {"role": "assistant", "content": "I"}, "done": True})
            else:
                server.asked.append(asked)
                words = (server.says(asked),) if server.says else ("I am ", name)
                parts = [{"message": {"role": "assistant", "content": word}, "done": False} for word in words]
                self.say(200, *parts, {"message": {"role": "assistant", "content": ""}, "done": True})

    return Handler
