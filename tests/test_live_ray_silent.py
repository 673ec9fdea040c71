"""A port that takes connections and never answers, in place of a Ray cluster."""

from __future__ import annotations

import signal
import socket
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import DODO, Repo

pytestmark = pytest.mark.live


def drivers(port: int) -> list[str]:
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        try:
            words = path.read_bytes().split(b"\0")
        except OSError:
            continue
        found.extend([path.parent.name] if b"ollamake.engines.ray_driver" in words and f"127.0.0.1:{port}".encode() in words else [])
    return found


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGKILL, -9)])
@pytest.mark.parametrize("arguments", [(), ("-n", "2")])
def test_who_ends_a_run_does_not_wait_for_a_cluster_that_does_not_answer(repo: Repo, arguments: tuple[str, ...], number: int, code: int) -> None:
    pytest.importorskip("ray")
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        repo.replace("version: 1\n", f'version: 1\nengine: {{kind: ray, address: "127.0.0.1:{port}"}}\n')
        (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
        with (repo.path / "out").open("w", encoding="utf-8") as out:
            build = subprocess.Popen([sys.executable, "-m", "doit", *arguments, "train"], cwd=repo.path, stdout=out, stderr=out)
        end = time.monotonic() + 60
        while not drivers(port):
            assert time.monotonic() < end
            time.sleep(0.1)
        time.sleep(2)  # it looks for the cluster
        build.send_signal(number)
        assert build.wait(20) == code
        while drivers(port):
            assert time.monotonic() < end
            time.sleep(0.1)
