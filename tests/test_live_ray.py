"""Trainings on a real Ray cluster: a head and three nodes on this machine, each with a core and a cache of its own."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import IO, ClassVar

import pytest

from conftest import DODO, HERE, Repo, jsonl
from ollamake.digest import digest_file

pytestmark = pytest.mark.live
PATIENCE = 120.0  # seconds: the machine may be busy
MODELS = tuple(f"model{number}" for number in range(6))


class Nodes:
    """A cluster, and what ends its nodes."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir()
        with (folder / "log").open("w", encoding="utf-8") as log:
            argv = [sys.executable, str(HERE / "ray_nodes.py"), str(folder), "3"]
            self.process = subprocess.Popen(argv, cwd=folder, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=log, text=True)
        self.address = self.out.readline().strip()
        assert self.address, (folder / "log").read_text(encoding="utf-8")

    @property
    def out(self) -> IO[str]:
        assert self.process.stdout is not None
        return self.process.stdout

    def kill(self, number: int) -> None:
        assert self.process.stdin is not None
        self.process.stdin.write(f"kill {number}\n")
        self.process.stdin.flush()
        self.out.readline()

    def end(self) -> None:
        assert self.process.stdin is not None
        self.process.stdin.close()
        self.process.wait(60)
        self.out.close()


def clusters() -> Iterator[Nodes]:
    import tempfile

    folder = Path(tempfile.mkdtemp(prefix="ray", dir="/tmp"))  # short: names of sockets are
    nodes = Nodes(folder / "c")
    try:
        yield nodes
    finally:
        nodes.end()
        shutil.rmtree(folder, ignore_errors=True)


nodes = pytest.fixture(scope="module")(clusters)
own_nodes = pytest.fixture(clusters)


class Build:
    """doit, as a process."""

    begun: ClassVar[list[Build]] = []

    def __init__(self, path: Path, *arguments: str, on: Sequence[str] = ()) -> None:
        """`on`: words that run it on another machine."""
        self.path = path
        self.log = path / "out"
        with self.log.open("w", encoding="utf-8") as log:
            argv = [*on, sys.executable, "-m", "doit", *arguments]
            self.process = subprocess.Popen(argv, cwd=path, stdout=log, stderr=log, start_new_session=True)
        self.begun.append(self)

    @property
    def out(self) -> str:
        return self.log.read_text(encoding="utf-8")

    def ended(self) -> tuple[int, str]:
        return self.process.wait(PATIENCE), self.out

    def says(self, pattern: str) -> bool:
        return re.search(pattern, self.out) is not None


def until(is_so: Callable[[], object]) -> None:
    end = time.monotonic() + PATIENCE
    while not is_so():
        assert time.monotonic() < end
        time.sleep(0.1)


@pytest.fixture(autouse=True)
def _end_builds() -> Iterator[None]:
    yield
    for build in Build.begun:
        if build.process.poll() is None:
            build.process.terminate()
            build.process.wait(PATIENCE)
    Build.begun.clear()


@pytest.fixture
def many(repo: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory) -> Repo:
    """A repo with six models, trained by the node trainer, which tells of each; nothing built yet, and no engine named."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    monkeypatch.delenv("OMP_NUM_THREADS", raising=False)  # on the nodes it is taken back
    words = ", ".join(map(str, (sys.executable, HERE / "node_trainer.py", repo.path, '"{text}"', '"{out}"', '"{recipe}"')))
    entries = "".join(f"  {name}: {{base: tiny, data: [{name}]}}\n" for name in MODELS)
    datasets = "".join(f"  {name}: {{files: [datasets/{name}.jsonl]}}\n" for name in MODELS)
    (repo.path / "models.yaml").write_text(
        f"version: 1\ndefaults:\n  train: {{trainer: command, command: [{words}], rank: 2, target_modules: [q_proj]}}\n"
        f"bases:\n  tiny: {{gguf: base.gguf}}\ndatasets:\n{datasets}models:\n{entries}",
        encoding="utf-8",
    )
    for number, name in enumerate(MODELS):
        repo.records(name).write_text(jsonl(*({"instruction": f"{number} {place}?", "output": "Yes."} for place in range(4))), encoding="utf-8")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    return repo


def on(repo: Repo, address: str, more: str = "") -> None:
    repo.replace("version: 1\n", f'version: 1\nengine: {{kind: ray, address: "{address}"{more}}}\n')


def told(repo: Repo, what: str) -> list[tuple[str, str, int]]:
    """Model, node and process of each training that has told this."""
    path = repo.path / "told"
    lines = path.read_text(encoding="utf-8").splitlines() if path.exists() else []
    return [(name, node, int(pid)) for name, node, pid, said in (line.split() for line in lines) if said == what]


def is_there(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def programs_on(node: int) -> set[int]:
    """The processes of the embedded trainer's program on this node."""
    found = set()
    for folder in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            if (
                b"ollamake.trainers.peft" in (folder / "cmdline").read_bytes()
                and f"OLLAMAKE_NODE={node}\0".encode() in (folder / "environ").read_bytes()
            ):
                found.add(int(folder.name))
    return found


def digests(repo: Repo) -> dict[str, str]:
    return {name: digest_file(repo.path / f"adapters/{name}/{file}") + file for name in MODELS for file in ("adapter_model.safetensors",)}


@pytest.mark.parametrize("arguments", [(), ("-n", "2"), ("-n", "2", "-P", "thread")])
def test_trainings_run_on_all_nodes_at_once_and_make_what_is_made_here(many: Repo, nodes: Nodes, arguments: tuple[str, ...]) -> None:
    assert many.doit("--engine", "local", "train").code == 0
    here = digests(many)
    assert [node for _, node, _ in told(many, "ended")] == ["-"] * 6
    for name in MODELS:
        (many.path / f"adapters/{name}/adapter_model.safetensors").unlink()
    (many.path / "told").unlink()
    on(many, nodes.address)
    (many.path / "hold").touch()
    build = Build(many.path, *arguments, "train")
    until(lambda: len(told(many, "begun")) == 3)
    assert {node for _, node, _ in told(many, "begun")} == {"1", "2", "3"}
    (many.path / "hold").unlink()
    code, out = build.ended()
    assert code == 0, out
    assert re.search(r"\n6 models: 6 rebuilt in ", out)
    assert digests(many) == here
    assert sorted(name for name, _, _ in told(many, "ended")) == sorted(MODELS)
    assert (many.path / "build/model0/events.jsonl").read_text(encoding="utf-8").count('"event"') == 2
    assert re.search(r'"where": "ray [0-9.]+"', (many.path / "adapters/model0/receipt.json").read_text(encoding="utf-8"))
    code, out = Build(many.path, "train").ended()
    assert (code, out.count(".  train")) == (0, 0)


def test_what_fails_by_itself_is_not_begun_again(many: Repo, nodes: Nodes) -> None:
    on(many, nodes.address)
    (many.path / "fail").touch()
    code, out = Build(many.path, "train:model0").ended()
    assert code == 1
    assert "model 'model0': trainer 'command' ended with exit code 3; build/model0/train.log ends:\n    it is no good\n" in out
    assert len(told(many, "begun")) == 1


def test_one_that_fails_lets_those_end_that_run_and_withdraws_the_rest(many: Repo, nodes: Nodes) -> None:
    on(many, nodes.address)
    (many.path / "hold").touch()
    build = Build(many.path, "train")
    until(lambda: len(told(many, "begun")) == 3)
    until(lambda: sum(path.stat().st_size > 0 for path in many.path.glob("build/*/events.jsonl")) == 3)  # it is known here that they have begun
    (many.path / "fail").touch()
    until(lambda: build.says("withdrawn"))
    time.sleep(2)  # Ray takes its time
    (many.path / "hold").unlink()
    code, out = build.ended()
    assert code == 1
    assert len(told(many, "begun")) <= 4  # one may have begun before it was withdrawn
    assert len(told(many, "ended")) == len(told(many, "begun")) - 1, out
    assert re.search(r"\n6 models: [23] rebuilt, 1 failed, [23] unfinished in ", out), out


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143), (signal.SIGKILL, -9)])
def test_a_build_that_is_ended_ends_its_trainings_and_no_other(many: Repo, nodes: Nodes, number: int, code: int) -> None:
    on(many, nodes.address)
    (many.path / "hold").touch()
    other = Build(many.path / "elsewhere", "train:model5") if make_other(many) else None
    assert other is not None
    until(lambda: len(told(many, "begun")) == 1)
    build = Build(many.path, "train:model0")
    until(lambda: len(told(many, "begun")) == 2)
    (_, _, its), (_, _, own) = told(many, "begun")
    os.kill(build.process.pid, number)
    assert build.process.wait(PATIENCE) == code
    until(lambda: not is_there(own))
    assert is_there(its)
    (many.path / "hold").unlink()
    assert other.ended()[0] == 0
    assert [name for name, _, _ in told(many, "ended")] == ["model5"]
    assert Build(many.path, "train:model0").ended()[0] == 0


def make_other(repo: Repo) -> bool:
    """Another clone of the repo, below it."""
    import shutil

    place = repo.path / "elsewhere"
    shutil.copytree(repo.path, place, ignore=shutil.ignore_patterns("elsewhere", ".ollamake", "hold", "told"))
    return True


def test_what_no_node_has_is_said_and_waited_for(many: Repo, nodes: Nodes) -> None:
    on(many, nodes.address, ", resources: {GPU: 1}")
    build = Build(many.path, "train:model0")
    until(lambda: build.says("waiting for"))
    assert re.search(
        r"\n   model0: waiting for a node with CPU: 1, GPU: 1; the cluster has (1 node with nothing and )?3 nodes with CPU: 1", build.out
    )
    assert build.process.poll() is None
    os.kill(build.process.pid, signal.SIGINT)
    assert build.ended()[0] == 130


def test_a_node_without_ollamake_is_said(many: Repo, nodes: Nodes) -> None:
    broken = many.path / "broken/ollamake"
    broken.mkdir(parents=True)
    (broken / "__init__.py").write_text("raise ImportError('no ollamake here')\n", encoding="utf-8")
    on(many, nodes.address, f", runtime_env: {{env_vars: {{PYTHONPATH: {broken.parent}}}}}")
    code, out = Build(many.path, "train:model0").ended()
    assert code == 1
    assert re.search(r"models\.yaml:2: model 'model0': on node [0-9.]+: there is no ollamake: no ollamake here\n  fix: install it", out), out


def test_a_program_of_the_repo_is_sent(many: Repo, nodes: Nodes) -> None:
    shutil.copytree(HERE, many.path / "code", ignore=lambda _, names: {name for name in names if not name.endswith("_trainer.py")})
    many.replace(f"{HERE}/node_trainer.py", "node_trainer.py")  # which is not in the folder of dodo.py
    on(many, nodes.address, ", runtime_env: {working_dir: code}")
    code, out = Build(many.path, "train:model0").ended()
    assert code == 0, out
    assert [name for name, _, _ in told(many, "ended")] == ["model0"]


@pytest.mark.parametrize("environment", ["working_dir: nowhere", "py_modules: [nowhere]"])
def test_what_ray_can_t_give_to_nodes_is_said(many: Repo, nodes: Nodes, environment: str) -> None:
    on(many, nodes.address, f", runtime_env: {{{environment}}}")
    code, out = Build(many.path, "train:model0").ended()
    assert code == 1
    assert re.search(r"models\.yaml:2: model 'model0': Ray can't make the runtime_env: .*\n  fix: mend engine.runtime_env in the catalog", out), out


def test_trainings_of_a_node_that_is_lost_are_begun_again_elsewhere(many: Repo, own_nodes: Nodes) -> None:
    on(many, own_nodes.address)
    (many.path / "hold").touch()
    build = Build(many.path, "train")
    until(lambda: len(told(many, "begun")) == 3)
    name, node, pid = told(many, "begun")[0]
    own_nodes.kill(int(node))
    until(lambda: not is_there(pid))
    until(lambda: build.says(f"{name}: .*was lost; begun again .1 of 3."))
    (many.path / "hold").unlink()
    code, out = build.ended()
    assert code == 0, out
    assert sorted(name for name, _, _ in told(many, "ended")) == sorted(MODELS)


def test_a_cluster_that_is_lost_keeps_what_is_finished(many: Repo, own_nodes: Nodes, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("RAY_gcs_rpc_server_reconnect_timeout_s", "5")  # Ray's own is 60
    on(many, own_nodes.address)
    for name in ("hold", *(f"hold-{name}" for name in MODELS)):
        (many.path / name).touch()
    build = Build(many.path, "train")
    until(lambda: len(told(many, "begun")) == 3)
    first = told(many, "begun")[0][0]
    (many.path / f"hold-{first}").unlink()
    (many.path / "hold").unlink()
    until(lambda: len(told(many, "begun")) == 4)
    until((many.path / f"adapters/{first}/receipt.json").exists)
    own_nodes.kill(0)
    code, out = build.ended()
    assert code == 1
    assert f"the Ray cluster at {own_nodes.address} was lost\n  fix: read .ollamake/ray.log" in out, out
    assert len(re.findall("^failed: ", out, flags=re.MULTILINE)) == 1
    until(lambda: not any(is_there(pid) for _, _, pid in told(many, "begun")))
    for name in MODELS:
        (many.path / f"hold-{name}").unlink(missing_ok=True)
    code, out = Build(many.path, "--engine", "local", "train").ended()
    assert code == 0
    assert sorted(name for name, _, _ in told(many, "ended")) == sorted(MODELS)


def test_a_cluster_that_does_not_answer_is_said_once(many: Repo) -> None:
    on(many, "127.0.0.1:9")
    code, out = Build(many.path, "train").ended()
    assert code == 1
    assert re.search(r"failed:\nmodels\.yaml:2: model 'model\d': no Ray cluster answers at 127\.0\.0\.1:9: ", out), out
    assert len(re.findall("^failed: ", out, flags=re.MULTILINE)) == 1


def test_without_ray_it_is_said_what_installs_it(many: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    on(many, "auto")
    monkeypatch.setitem(sys.modules, "ray", None)
    result = many.doit("train")
    assert result.code == 3
    assert result.err == "ERROR: \nmodels.yaml:2: models are trained on a Ray cluster, and Ray is not installed\n  fix: pip install 'ollamake[ray]'\n"
    assert result.out == ""


EMBEDDED = """\
version: 1
defaults:
  train: {{trainer: peft, rank: 2, epochs: {epochs}, batch_size: 2, max_tokens: 128, target_modules: [q_proj, v_proj]}}
  engine: {{retries: 2, resources: {{CPU: 1}}}}
bases:
  tiny: {{gguf: base.gguf}}
datasets:
  one: {{files: [datasets/shared.jsonl]}}
models:
{models}"""
TWELVE = tuple(f"bot{number}" for number in range(12))


def test_twelve_trainings_of_the_embedded_trainer_are_whole_though_a_node_is_lost(many: Repo, own_nodes: Nodes, tmp_path: Path) -> None:
    models = "".join(f"  {name}: {{base: tiny, data: [one], train: {{seed: {place}}}}}\n" for place, name in enumerate(TWELVE))
    (many.path / "models.yaml").write_text(EMBEDDED.format(models=models, epochs=3), encoding="utf-8")
    assert Build(many.path, "--engine", "local", "-n", "2", "train").process.wait(600) == 0
    here = {name: digest_file(many.path / f"adapters/{name}/adapter_model.safetensors") for name in TWELVE}
    configs = {name: digest_file(many.path / f"adapters/{name}/adapter_config.json") for name in TWELVE}
    for name in TWELVE:
        (many.path / f"adapters/{name}/adapter_model.safetensors").unlink()
    on(many, own_nodes.address)
    build = Build(many.path, "train")
    until(lambda: len(list(many.path.glob("adapters/*/adapter_model.safetensors"))) >= 1)
    before = programs_on(2)
    until(lambda: programs_on(2) - before)
    own_nodes.kill(2)  # in the middle of a training: what has ended there and is on its way to doit would be trained twice
    assert build.process.wait(600) == 0, build.out
    assert {name: digest_file(many.path / f"adapters/{name}/adapter_model.safetensors") for name in TWELVE} == here
    assert {name: digest_file(many.path / f"adapters/{name}/adapter_config.json") for name in TWELVE} == configs
    ends = {name: (many.path / f"build/{name}/events.jsonl").read_text(encoding="utf-8").count('"event": "done"') for name in TWELVE}
    assert ends == dict.fromkeys(TWELVE, 1)
    assert "begun again" in build.out
