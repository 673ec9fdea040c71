"""A real registry: the CNCF's own, as Debian has it (`docker-registry`), on loopback, in a folder of its own, ended by its process."""

from __future__ import annotations

import re
import shutil
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

from live_fixtures import free_port

PROGRAM = "docker-registry"
MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
CONFIG = """\
version: 0.1
log: {{level: warn}}
storage: {{filesystem: {{rootdirectory: {folder}/data}}}}
http: {{addr: "{address}", secret: "of the tests"}}
"""
USERS = "auth: {{htpasswd: {{realm: the-registry, path: {folder}/users}}}}\n"
USER = "me:$2b$04$abcdefghijklmnopqrstuu2r9OfJnfCsdneAXAGHnS4UpFFP8WIrW\n"  # me, secret


class RealRegistry:
    def __init__(self, folder: Path) -> None:
        self.folder, self.address = folder, f"127.0.0.1:{free_port()}"
        self.process: subprocess.Popen[bytes] | None = None

    def start(self, *, users: bool = False) -> None:
        """`users`: it lets nobody in but who has a password."""
        text = (CONFIG + USERS if users else CONFIG).format(folder=self.folder, address=self.address)
        (self.folder / "config.yml").write_text(text, encoding="utf-8")
        (self.folder / "users").write_text(USER, encoding="utf-8")
        with (self.folder / "log").open("ab") as log:
            self.process = subprocess.Popen([PROGRAM, "serve", self.folder / "config.yml"], stdout=log, stderr=log)
        end = time.monotonic() + 60
        while not self._answers():
            assert self.process.poll() is None, self.log
            assert time.monotonic() < end, self.log
            time.sleep(0.05)

    def _answers(self) -> bool:
        try:
            urllib.request.urlopen(f"http://{self.address}/v2/", timeout=5).close()
        except urllib.error.HTTPError:
            return True  # who wants a password is there
        except OSError:
            return False
        return True

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None

    @property
    def log(self) -> str:
        return (self.folder / "log").read_text(encoding="utf-8")

    @property
    def sent(self) -> list[str]:
        """The requests that have brought it something, as it has noted them."""
        return re.findall(r'"((?:PATCH|PUT) /v2/\S+) HTTP', self.log)

    def content(self, name: str, kind: str, reference: str) -> bytes:
        """Of a blob by its digest, or of a manifest by its tag."""
        request = urllib.request.Request(f"http://{self.address}/v2/{name}/{kind}/{reference}", headers={"Accept": MANIFEST})
        with urllib.request.urlopen(request) as answer:
            content: bytes = answer.read()
        return content


@pytest.fixture
def registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RealRegistry]:
    """It runs, and has nothing."""
    if shutil.which(PROGRAM) is None:
        pytest.skip("no real registry: apt-get install docker-registry")
    found = RealRegistry(tmp_path_factory.mktemp("registry"))
    found.start()
    yield found
    found.kill()
