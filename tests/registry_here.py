"""A registry of models, over real HTTP: as much of the OCI distribution specification as `ollama push` uses (blobs by PATCH and PUT, manifests by PUT)."""

from __future__ import annotations

import hashlib
import json
import re
import threading
from collections import Counter
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import parse_qs, urlsplit

from faulty_proxy import QuietServer


class Registry:
    def __init__(self) -> None:
        self.blobs: dict[str, bytes] = {}
        self.manifests: dict[str, dict[str, Any]] = {}  # name:tag -> manifest
        self.uploads: dict[str, bytes] = {}
        self.counts: Counter[str] = Counter()
        self.refuses = False
        self._http = QuietServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def address(self) -> str:
        return f"127.0.0.1:{self._http.server_port}"

    def close(self) -> None:
        self._http.shutdown()
        self._http.server_close()


def _handler(registry: Registry) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one function for each call that there is
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, status: int, body: bytes = b"", **headers: str) -> None:
            self.send_response(status)
            for name, value in {"Content-Length": str(len(body)), **headers}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(body)

        def take(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        def do_HEAD(self) -> None:
            registry.counts["HEAD"] += 1
            blob = registry.blobs.get(self.path.rpartition("/")[2])
            if blob is None:
                self.say(404)
            else:
                self.say(200)

        def do_POST(self) -> None:
            registry.counts["POST"] += 1
            if registry.refuses:
                self.say(403, json.dumps({"errors": [{"code": "DENIED", "message": "requested access to the resource is denied"}]}).encode())
                return
            number = str(len(registry.uploads))
            registry.uploads[number] = b""
            where = urlsplit(self.path).path.rstrip("/")
            self.say(202, Location=f"http://{registry.address}{where}/{number}")

        def do_PATCH(self) -> None:
            number = urlsplit(self.path).path.rpartition("/")[2]
            registry.uploads[number] += self.take()
            self.say(202, Location=f"http://{registry.address}{self.path}", Range=f"0-{len(registry.uploads[number]) - 1}")

        def do_PUT(self) -> None:
            url, content = urlsplit(self.path), self.take()
            if match := re.fullmatch(r"/v2/(.+)/manifests/(.+)", url.path):
                registry.counts["manifest"] += 1
                manifest = json.loads(content)
                assert {layer["digest"] for layer in (manifest["config"], *manifest["layers"])} <= set(registry.blobs)
                registry.manifests[f"{match[1]}:{match[2]}"] = manifest
                self.say(201)
                return
            registry.counts["blob"] += 1
            (digest,) = parse_qs(url.query)["digest"]
            blob = registry.uploads.pop(url.path.rpartition("/")[2]) + content
            assert f"sha256:{hashlib.sha256(blob).hexdigest()}" == digest
            registry.blobs[digest] = blob
            self.say(201)

    return Handler
