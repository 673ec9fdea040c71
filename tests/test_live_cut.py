"""Trainings on Ray nodes whose network is really cut: `python -m pytest -m cluster tests/test_live_cut.py`, as root."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import IO

import pytest

from conftest import HERE, Repo
from ray_network import DOIT, HEAD, inside, why_not
from test_live_ray import MODELS, Build, digests, many, on, told, until

__all__ = ["many"]
pytestmark = [pytest.mark.live, pytest.mark.cluster, pytest.mark.skipif(why_not() is not None, reason=str(why_not()))]
# A node is given up after 15 s, a head and a connection after 20: Ray has 65 and 60, and ollamake 120.
QUICK = {
    "RAY_health_check_initial_delay_ms": "1000",
    "RAY_health_check_period_ms": "1000",
    "RAY_health_check_timeout_ms": "2000",
    "RAY_health_check_failure_threshold": "5",
    "RAY_grpc_client_keepalive_time_ms": "10000",
    "RAY_grpc_client_keepalive_timeout_ms": "10000",
    "RAY_gcs_rpc_server_reconnect_timeout_s": "20",
}
A_WHILE = 8.0  # seconds


class Network:
    """The machines."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with (folder / "log").open("w", encoding="utf-8") as log:
            argv = [sys.executable, str(HERE / "ray_network.py"), str(folder), "2"]
            self.process = subprocess.Popen(
                argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True, env={**os.environ, **QUICK}
            )
        line = self.out.readline().split()
        assert line, (folder / "log").read_text(encoding="utf-8")
        self.address, self.machine = line[0], int(line[1])

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def says(self, *words: object) -> None:
        """Change a wire."""
        assert self.process.stdin is not None
        self.process.stdin.write(" ".join(map(str, words)) + "\n")
        self.process.stdin.flush()
        assert self.out.readline() == "done\n"

    def build(self, repo: Repo, *arguments: str) -> Build:
        """doit, on its machine."""
        return Build(repo.path, *arguments, on=inside(self.machine, repo.path))

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.out.close()


def children(process: int) -> list[int]:
    return [int(child) for child in Path(f"/proc/{process}/task/{process}/children").read_text(encoding="utf-8").split()]


@pytest.fixture
def network(monkeypatch: pytest.MonkeyPatch) -> Iterator[Network]:
    for name, value in QUICK.items():
        monkeypatch.setenv(name, value)
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: names of sockets are
    network = Network(folder / "c")
    try:
        yield network
    finally:
        network.end()
        shutil.rmtree(folder, ignore_errors=True)


def all_begun(repo: Repo, network: Network) -> Build:
    """A build whose trainings run on both nodes, and wait there."""
    on(repo, network.address)
    (repo.path / "hold").touch()
    build = network.build(repo, "train")
    until(lambda: len(told(repo, "begun")) == 2)
    until(lambda: sum(path.stat().st_size > 0 for path in repo.path.glob("build/*/events.jsonl")) == 2)  # it is known that they have begun
    return build


def programs(repo: Repo) -> list[int]:
    """Processes that train."""
    found = []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            words = path.read_bytes().split(b"\0")
            if bytes(repo.path) in words and any(word.endswith(b"node_trainer.py") for word in words):
                found.append(int(path.parent.name))
    return found


def clock(begin: float, what: str) -> None:
    """For who reads along: `-s`."""
    print(f"  {time.monotonic() - begin:6.1f} s: {what}", flush=True)


def test_a_node_that_is_cut_off_for_good(many: Repo, network: Network) -> None:
    build = all_begun(many, network)
    name, node, _ = told(many, "begun")[0]
    network.says("cut", node, "*")
    begin = time.monotonic()
    until(lambda: build.says(f"{name}: node [0-9.]+ was lost.*; begun again .1 of 3."))
    clock(begin, "begun again")
    (many.path / "hold").unlink()
    code, out = build.ended()
    clock(begin, "ended")
    assert code == 0, out
    assert {path.parent.name for path in many.path.glob("adapters/*/receipt.json")} == set(MODELS)
    until(lambda: not programs(many))
    clock(begin, "gone there")


def test_a_node_that_is_cut_off_for_a_while(many: Repo, network: Network) -> None:
    build = all_begun(many, network)
    name, node, _ = told(many, "begun")[0]
    network.says("cut", node, "*")
    begin = time.monotonic()
    (many.path / "hold").unlink()  # it ends where nobody hears of it
    time.sleep(A_WHILE)
    assert not (many.path / f"adapters/{name}/receipt.json").exists()
    network.says("join", node, "*")
    code, out = build.ended()
    clock(begin, "ended")
    assert code == 0, out
    assert "begun again" not in out
    assert sorted(name for name, _, _ in told(many, "ended")) == sorted(MODELS)


@pytest.mark.parametrize("other", ["*", str(HEAD)])
def test_doit_that_is_cut_off_for_good(many: Repo, network: Network, other: str) -> None:
    build = all_begun(many, network)
    first = told(many, "begun")[0][0]
    for model in MODELS:
        (many.path / f"hold-{model}").touch()
    (many.path / f"hold-{first}").unlink()
    (many.path / "hold").unlink()
    until((many.path / f"adapters/{first}/receipt.json").exists)
    network.says("cut", DOIT, other)
    begin = time.monotonic()
    code, out = build.ended()
    clock(begin, f"ended with {code}")
    assert code == 1, out
    assert f"the Ray cluster at {network.address} was lost\n" in out
    assert len(re.findall("^failed: ", out, flags=re.MULTILINE)) == 1
    until(lambda: not programs(many))
    clock(begin, "gone there")
    assert (many.path / f"adapters/{first}/receipt.json").exists()


@pytest.mark.parametrize("other", ["*", str(HEAD)])
def test_doit_that_is_cut_off_for_a_while(many: Repo, network: Network, other: str) -> None:
    build = all_begun(many, network)
    network.says("cut", DOIT, other)
    begin = time.monotonic()
    (many.path / "hold").unlink()
    time.sleep(A_WHILE)
    network.says("join", DOIT, other)
    code, out = build.ended()
    clock(begin, f"ended with {code}")
    assert code == 0, out  # Ray may have begun one again that had not begun
    assert sorted(name for name, _, _ in told(many, "begun")) == sorted(MODELS)


def test_a_build_that_is_ended_while_it_is_cut_off(many: Repo, network: Network) -> None:
    build = all_begun(many, network)
    network.says("cut", DOIT, "*")
    begin = time.monotonic()
    time.sleep(1)
    (doit,) = children(build.process.pid)
    os.kill(doit, signal.SIGINT)
    code, out = build.ended()
    clock(begin, f"ended with {code}")
    assert code == 130, out
    until(lambda: not programs(many))
    clock(begin, "gone there")


def test_a_slow_wire_that_loses_packets_and_is_cut_for_a_moment(many: Repo, network: Network) -> None:
    many.replace("rank: 2", "rank: 64")  # adapters of 32 kB
    assert many.doit("--engine", "local", "train").code == 0
    here = digests(many)
    for name in MODELS:
        (many.path / f"adapters/{name}/adapter_model.safetensors").unlink()
    (many.path / "told").unlink()
    network.says("slow", "*", "*", 0.03, 0.02, 200_000)
    on(many, network.address)
    begin = time.monotonic()
    build = network.build(many, "train")
    until(lambda: told(many, "ended"))
    time.sleep(1)  # an adapter is on its way
    network.says("cut", DOIT, "*")
    time.sleep(4)
    network.says("join", DOIT, "*")
    network.says("slow", "*", "*", 0.03, 0.02, 200_000)
    code, out = build.ended()
    clock(begin, f"ended with {code}")
    assert code == 0, out
    assert digests(many) == here
    assert sorted(name for name, _, _ in told(many, "begun")) == sorted(MODELS)


def test_a_node_that_does_not_answer_doit_though_the_cluster_has_it(many: Repo, network: Network) -> None:
    build = all_begun(many, network)
    name, node, _ = told(many, "begun")[0]
    network.says("cut", node, DOIT)
    begin = time.monotonic()
    (many.path / "hold").unlink()
    code = build.process.wait(300)
    clock(begin, f"ended with {code}")
    assert code == 0, build.out
    assert re.search(r"\n   node [0-9.]+ of the cluster does not answer this machine: nothing is trained there until it does\n", build.out)
    assert f"{name}: node " in build.out
    assert {path.parent.name for path in many.path.glob("adapters/*/receipt.json")} == set(MODELS)


def test_a_node_that_has_never_answered_doit(many: Repo, network: Network) -> None:
    network.says("cut", 2, DOIT)
    on(many, network.address)
    begin = time.monotonic()
    build = network.build(many, "train")
    code = build.process.wait(300)
    clock(begin, f"ended with {code}")
    assert code == 0, build.out
    assert re.search(r"\n   node [0-9.]+ of the cluster does not answer this machine: nothing is trained there until it does\n", build.out)
    assert {node for _, node, _ in told(many, "ended")} == {"3"}
    assert "begun again" not in build.out
