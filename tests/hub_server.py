"""A stand-in for the Hugging Face Hub, over real HTTP: as much of its public API as its own library uses here. It keeps repos and notes what is asked.

The shapes are those that the Hub's two own clients state: huggingface_hub (Python: _commit_api.py, lfs.py, file_download.py, utils/_http.py) and
@huggingface/hub (TypeScript: types/api/api-commit.ts). It was not held against huggingface.co.
"""

from __future__ import annotations

import base64
import hashlib
import json
import re
import threading
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler
from typing import Any
from urllib.parse import unquote, urlsplit

from faulty_proxy import QuietServer

LFS = (".safetensors", ".gguf", ".bin")


def commit_of(files: dict[str, bytes]) -> str:
    return hashlib.sha1(b"".join(name.encode() + content for name, content in sorted(files.items()))).hexdigest()


@dataclass
class HubRepo:
    commits: dict[str, dict[str, bytes]] = field(default_factory=dict)  # commit -> files; the last one is main
    private: bool = False
    gated: bool = False
    messages: list[str] = field(default_factory=list)

    @property
    def main(self) -> str:
        return list(self.commits)[-1]


class HubServer:
    def __init__(self) -> None:
        self.repos: dict[str, HubRepo] = {}
        self.requests: list[tuple[str, str]] = []
        self.objects: dict[str, bytes] = {}  # of LFS
        self.tokens = {"hf_writes": "write", "hf_reads": "read"}
        self.cuts_off = False  # in the middle of a file
        self.says: int | None = None  # a status for whatever is asked
        self.hangs = False  # who would make a repo is not answered, until `goes_on`
        self.goes_on = threading.Event()
        self.is_a_hotel = False  # whatever is asked, it says a page of HTML
        self.elsewhere = ""  # where it sends those who ask for weights
        self.seen: list[str | None] = []  # the tokens that came with what is asked of /cdn
        self._http = QuietServer(("127.0.0.1", 0), _handler(self))
        threading.Thread(target=self._http.serve_forever, kwargs={"poll_interval": 0.01}, daemon=True).start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self._http.server_port}"

    def add(self, name: str, files: dict[str, bytes], **more: Any) -> str:
        repo = self.repos.setdefault(name, HubRepo(**more))
        commit = commit_of(files)
        repo.commits[commit] = files
        return commit

    def close(self) -> None:
        self.goes_on.set()
        self._http.shutdown()
        self._http.server_close()


def _handler(hub: HubServer) -> type[BaseHTTPRequestHandler]:  # noqa: C901 - one function for each call that there is
    class Handler(BaseHTTPRequestHandler):
        protocol_version = "HTTP/1.1"

        def log_message(self, *_: object) -> None:
            pass

        def say(self, status: int, body: Any = b"", **headers: str) -> None:
            content = body if isinstance(body, bytes) else json.dumps(body).encode()
            self.send_response(status)
            for name, value in {"Content-Length": str(len(content)), **{key.replace("_", "-"): value for key, value in headers.items()}}.items():
                self.send_header(name, value)
            self.end_headers()
            if self.command != "HEAD":
                self.wfile.write(content)

        def fault(self, status: int, code: str) -> None:
            self.say(status, {"error": code}, X_Error_Code=code, X_Error_Message=code)

        def take(self) -> bytes:
            return self.rfile.read(int(self.headers.get("Content-Length") or 0))

        @property
        def right(self) -> str:
            return hub.tokens.get((self.headers.get("Authorization") or "").removeprefix("Bearer "), "")

        def found(self, name: str, revision: str) -> tuple[str, dict[str, bytes]] | None:
            """The files of a commit; says why there is none for this one who asks."""
            repo = hub.repos.get(name)
            if repo is None or (repo.private and not self.right):
                self.fault(401 if not self.right else 404, "RepoNotFound")
            elif repo.gated and not self.right:
                self.fault(403, "GatedRepo")
            else:
                commit = repo.main if revision == "main" else revision
                if commit in repo.commits:
                    return commit, repo.commits[commit]
                self.fault(404, "RevisionNotFound")
            return None

        def do_HEAD(self) -> None:
            self.do_GET()

        def do_GET(self) -> None:
            path = unquote(urlsplit(self.path).path)
            hub.requests.append((self.command, path))
            if hub.says is not None or hub.is_a_hotel:
                self.say(hub.says or 200, {"error": "no"} if hub.says else b"<html>Welcome to our hotel")
            elif match := re.fullmatch(r"/([^/]+/[^/]+)/resolve/([^/]+)/(.+)", path):
                self.resolve(*match.groups())
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)(?:/revision/([^/]+))?", path):
                there = self.found(match[1], match[2] or "main")
                if there:
                    repo = hub.repos[match[1]]
                    facts = {"_id": "1", "id": match[1], "modelId": match[1], "sha": there[0], "private": repo.private, "gated": False, "tags": []}
                    self.say(200, {**facts, "downloads": 0, "likes": 0, "siblings": [{"rfilename": name} for name in there[1]]})
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/tree/([^/]+)", path):
                there = self.found(match[1], match[2])
                if there:
                    self.say(200, [{"type": "file", "path": name, "oid": "0" * 40, "size": len(content)} for name, content in there[1].items()])
            elif match := re.fullmatch(r"/cdn/([0-9a-f]{64})", path):
                self.cdn(hub.objects[match[1]])
            else:
                self.fault(404, "NotFound")

        def resolve(self, name: str, revision: str, file: str) -> None:
            there = self.found(name, revision)
            if there is None:
                return
            commit, files = there
            if file not in files:
                self.fault(404, "EntryNotFound")
                return
            content = files[file]
            if file.endswith(LFS):
                digest = hashlib.sha256(content).hexdigest()
                hub.objects[digest] = content
                linked = {"X_Linked_Etag": f'"{digest}"', "X_Linked_Size": str(len(content)), "X_Repo_Commit": commit}
                where = hub.elsewhere or hub.url.replace("127.0.0.1", "localhost")
                self.say(302, b"Found", Location=f"{where}/cdn/{digest}", **linked)
            else:
                blob = hashlib.sha1(b"blob %d\0" % len(content) + content).hexdigest()
                self.say(200, content, ETag=f'"{blob}"', X_Repo_Commit=commit)

        def cdn(self, content: bytes) -> None:
            hub.seen.append(self.headers.get("Authorization"))
            begin = int((re.match(r"bytes=(\d+)-", self.headers.get("Range") or "") or ["", "0"])[1])
            self.send_response(206 if begin else 200)
            self.send_header("Content-Length", str(len(content) - begin))
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.end_headers()
            if self.command == "HEAD":
                return
            if hub.cuts_off:
                self.wfile.write(content[begin : begin + (len(content) - begin) // 2])
                self.close_connection = True
            else:
                self.wfile.write(content[begin:])

        def do_PUT(self) -> None:
            content, digest = self.take(), self.path.rpartition("/")[2]
            hub.requests.append(("PUT", self.path))
            assert hashlib.sha256(content).hexdigest() == digest
            hub.objects[digest] = content
            self.say(200)

        def do_POST(self) -> None:
            path, content = urlsplit(self.path).path, self.take()
            hub.requests.append(("POST", path))
            if hub.says is not None or hub.is_a_hotel:
                self.say(hub.says or 200, {"error": "no"} if hub.says else b"<html>Welcome to our hotel")
            elif path == "/api/validate-yaml":
                self.say(200, {"errors": [], "warnings": []})
            elif path.startswith("/verify/"):
                self.say(200, {})
            elif self.right != "write":
                self.say(403 if self.right else 401, {"error": "you may not"})
            elif path == "/api/repos/create":
                self.create(json.loads(content))
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/preupload/main", path):
                names = [file["path"] for file in json.loads(content)["files"]]
                modes = [{"path": name, "uploadMode": "lfs" if name.endswith(LFS) else "regular", "shouldIgnore": False} for name in names]
                self.say(200, {"files": modes, "commitOid": hub.repos[match[1]].main})
            elif path.endswith(".git/info/lfs/objects/batch"):
                self.batch(json.loads(content))
            elif match := re.fullmatch(r"/api/models/([^/]+/[^/]+)/commit/main", path):
                self.commit(match[1], [json.loads(line) for line in content.splitlines()])
            else:
                self.fault(404, "NotFound")

        def create(self, asked: dict[str, Any]) -> None:
            if hub.hangs:
                hub.goes_on.wait()
            name = f"{asked['organization']}/{asked['name']}"
            if name in hub.repos:
                self.say(409, {"error": "You already created this model repo", "url": f"{hub.url}/{name}"})
                return
            hub.add(name, {".gitattributes": b""}, private=asked.get("visibility") == "private" or bool(asked.get("private")))
            self.say(200, {"url": f"{hub.url}/{name}", "name": name, "id": "1"})

        def batch(self, asked: dict[str, Any]) -> None:
            objects = []
            for one in asked["objects"]:
                digest = one["oid"]
                actions = {"upload": {"href": f"{hub.url}/lfs/{digest}"}, "verify": {"href": f"{hub.url}/verify/{digest}"}}
                objects.append({**one, **({} if digest in hub.objects else {"actions": actions})})
            self.say(200, {"transfer": "basic", "objects": objects})

        def commit(self, name: str, lines: list[dict[str, Any]]) -> None:
            repo = hub.repos[name]
            files = dict(repo.commits[repo.main])
            for line in lines:
                value = line["value"]
                if line["key"] == "header":
                    repo.messages.append(value["summary"])
                elif line["key"] == "file":
                    files[value["path"]] = base64.b64decode(value["content"])
                elif line["key"] == "lfsFile":
                    assert value["algo"] == "sha256"
                    files[value["path"]] = hub.objects[value["oid"]]
            commit = hub.add(name, files)
            self.say(200, {"success": True, "commitOid": commit, "commitUrl": f"{hub.url}/{name}/commit/{commit}", "hookOutput": ""})

    return Handler
