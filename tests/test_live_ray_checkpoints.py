"""A node of a real Ray cluster is lost in the middle of a training: another goes on from its checkpoint."""

from __future__ import annotations

import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from conftest import DODO, HERE, Repo
from stepping_repo import record

pytestmark = pytest.mark.live
PATIENCE = 150.0  # seconds: the machine may be busy


@pytest.fixture
def nodes(resuming: Path) -> Iterator[tuple[str, subprocess.Popen[str]]]:
    """The address of a cluster with two nodes, and what ends them."""
    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: names of sockets are
    with (resuming / "cluster.log").open("w", encoding="utf-8") as log:
        argv = [sys.executable, str(HERE / "ray_nodes.py"), str(folder), "2"]
        cluster = subprocess.Popen(argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
    assert cluster.stdin is not None
    assert cluster.stdout is not None
    try:
        address = cluster.stdout.readline().strip()
        assert address, (resuming / "cluster.log").read_text(encoding="utf-8")
        yield address, cluster
    finally:
        cluster.stdin.close()
        cluster.wait(60)
        cluster.stdout.close()
        shutil.rmtree(folder, ignore_errors=True)


def steps_at(resuming: Path) -> list[tuple[str, int]]:
    """Nodes, and the steps that they did."""
    told = resuming / "told"
    lines = told.read_text(encoding="utf-8").splitlines() if told.exists() else []
    return [(node, int(step)) for node, step in (line.split() for line in lines)]


def test_a_training_whose_node_is_lost_goes_on_on_another_from_its_checkpoint(
    repo: Repo, resuming: Path, nodes: tuple[str, subprocess.Popen[str]], tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch
) -> None:
    address, cluster = nodes
    kept = tmp_path_factory.mktemp("nfs") / "kept"
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("own")))
    (line,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if line.startswith("  train: ")]
    repo.replace(line, "  train: {trainer: resuming, rank: 2, target_modules: [q_proj]}")
    repo.replace("version: 1\n", f'version: 1\nengine: {{kind: ray, address: "{address}", checkpoints: {kept}}}\n')
    repo.records("shared").write_text("".join(record(number) for number in range(8)), encoding="utf-8")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    (resuming / "hold").touch()  # at step 4, which the other node does not come to
    with (repo.path / "out").open("w", encoding="utf-8") as out:
        doit = subprocess.Popen([sys.executable, "-m", "doit", "train:legal"], cwd=repo.path, stdout=out, stderr=out)
    end = time.monotonic() + PATIENCE
    while not list(kept.glob("*/kept/*4.*")):
        assert time.monotonic() < end, (repo.path / "out").read_text(encoding="utf-8")
        assert doit.poll() is None, (repo.path / "out").read_text(encoding="utf-8")
        time.sleep(0.1)
    (lost,) = {node for node, _ in steps_at(resuming)}
    assert cluster.stdin is not None
    cluster.stdin.write(f"kill {lost}\n")
    cluster.stdin.flush()
    assert cluster.stdout is not None
    assert cluster.stdout.readline() == "killed\n"
    assert doit.wait(PATIENCE) == 0, (repo.path / "out").read_text(encoding="utf-8")
    said = (repo.path / "out").read_text(encoding="utf-8")
    assert re.search(r"\n   legal: node \S+ was lost behind step \d+; begun again \(1 of 3\)\n", said), said
    assert "\n   legal: goes on from checkpoint-4 of a training that was lost\n" in said
    assert [step for node, step in steps_at(resuming) if node != lost] == [5, 6]
    assert list(kept.iterdir()) == []  # nothing is left when the adapter is there
    assert (repo.path / "adapters/legal/adapter_model.safetensors").exists()
