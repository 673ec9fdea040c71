"""Stores of this machine's own: moto's S3, which speaks HTTP as the real one, and an SFTP server."""

from __future__ import annotations

import logging
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def s3_server() -> Iterator[str]:
    """Its url."""
    from moto.server import ThreadedMotoServer

    logging.getLogger("werkzeug").setLevel(logging.ERROR)
    server = ThreadedMotoServer("127.0.0.1", 0, verbose=False)
    server.start()
    host, port = server.get_host_and_port()
    yield f"http://{host}:{port}"
    server.stop()


@pytest.fixture
def s3(s3_server: str, monkeypatch: pytest.MonkeyPatch) -> str:
    """The url of an empty bucket, which this process and its children reach by their environment."""
    import urllib.request

    for name, value in {
        "AWS_ENDPOINT_URL": s3_server,
        "AWS_ACCESS_KEY_ID": "testing-key-id",
        "AWS_SECRET_ACCESS_KEY": "testing-secret-of-the-test",
        "AWS_DEFAULT_REGION": "us-east-1",
        "AWS_EC2_METADATA_DISABLED": "true",
    }.items():
        monkeypatch.setenv(name, value)
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/moto-api/reset", method="POST")).close()
    urllib.request.urlopen(urllib.request.Request(f"{s3_server}/team", method="PUT")).close()
    return "s3://team/models"


@pytest.fixture
def sftp(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[str]:
    """The url of an empty folder behind ssh, whose host is known."""
    home, root = tmp_path_factory.mktemp("home"), tmp_path_factory.mktemp("sftp")
    argv = (sys.executable, str(Path(__file__).with_name("sftp_server.py")), str(root))
    with subprocess.Popen(argv, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as server:
        assert server.stdout is not None
        host = server.stdout.readline()
        (home / ".ssh").mkdir()
        (home / ".ssh/known_hosts").write_text(host, encoding="utf-8")
        monkeypatch.setenv("HOME", str(home))
        yield f"sftp://me@127.0.0.1:{host.partition(' ')[0].rpartition(':')[2]}/team/models"
