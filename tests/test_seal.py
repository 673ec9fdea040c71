"""The seal by which a run without work is known at a glance: it breaks with each thing that it is about, and with nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from conftest import DODO, Repo, without_times
from ollamake.seal import sealed
from tiny_base import write_tiny_base


@pytest.fixture
def with_seal(built: Repo) -> Repo:
    """Everything built, and sealed; `tone` has a pattern, and one more base is named by a folder."""
    built.replace("[datasets/tone.jsonl]", "[datasets/ton*.jsonl]")
    built.replace("  tiny: {gguf: base.gguf}\n", "  tiny: {gguf: base.gguf, hf: somewhere/base}\n")
    assert built.doit().code == 0
    assert sealed("models.yaml") is not None
    return built


def edit(path: str) -> Callable[[Repo], None]:
    def change(_: Repo) -> None:
        content = Path(path).read_bytes()
        stat = os.stat(path)
        Path(path).write_bytes(content[:-2] + b"!" + content[-1:])
        os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))  # the same size and the same time

    return change


def move_over(path: str) -> Callable[[Repo], None]:
    """Another file of the same size and time comes to the place."""

    def change(_: Repo) -> None:
        other = Path("other")
        other.write_bytes(Path(path).read_bytes())
        stat = os.stat(path)
        os.utime(other, ns=(stat.st_atime_ns, stat.st_mtime_ns))
        other.replace(path)

    return change


def another_trainer(_: Repo) -> None:
    from ollamake.trainers.command import CommandTrainer

    CommandTrainer.text_format = "text"


FILES = (
    *(
        "models.yaml",
        "models.lock",
        "base.gguf",
        "datasets/shared.jsonl",
        "datasets/tone.jsonl",
        "build/datasets/tone.json",
        "build/legal/text.jsonl",
    ),
    *("adapters/sales/adapter_config.json", "adapters/sales/adapter_model.safetensors", "build/sales/served.json", "build/sales/adapter.gguf"),
)


@pytest.mark.parametrize(
    "change",
    [
        *(pytest.param(edit(path), id=f"edit {path}") for path in FILES),
        *(pytest.param(lambda _, path=path: Path(path).unlink(), id=f"delete {path}") for path in FILES),
        pytest.param(move_over("base.gguf"), id="another inode"),
        pytest.param(lambda _: write_tiny_base(Path("base.gguf"), seed=3), id="another base"),
        pytest.param(lambda _: Path("datasets/tones.jsonl").write_text('{"instruction": "a", "output": "b"}\n'), id="one more file of a pattern"),
        pytest.param(lambda repo: repo.server.models.pop("legal:latest"), id="a model is gone"),
        pytest.param(lambda repo: repo.server.models.update({"legal:latest": {"files": {}}}), id="a model was replaced"),
        pytest.param(lambda repo: setattr(repo.server, "version", "0.40.0"), id="another version of the server"),
        pytest.param(lambda _: os.environ.update(OLLAMA_HOST="gpu-box.invalid"), id="another server"),
        pytest.param(another_trainer, id="the trainer reads another format"),
        pytest.param(lambda _: Path(".ollamake/journal.jsonl").touch(), id="a build was killed"),
        pytest.param(lambda _: next(Path(".ollamake/seals").iterdir()).write_text("{}"), id="the seal is damaged"),
        pytest.param(lambda _: next(Path(".ollamake/records").iterdir()).unlink(), id="the memory of this machine is gone"),
    ],
)
def test_a_seal_breaks_with_what_it_is_about(with_seal: Repo, change: Callable[[Repo], None], monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.trainers.command import CommandTrainer

    monkeypatch.setenv("OLLAMA_HOST", os.environ["OLLAMA_HOST"])
    monkeypatch.setattr(CommandTrainer, "text_format", CommandTrainer.text_format)
    change(with_seal)
    assert sealed("models.yaml") is None


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda _: Path("datasets/other.jsonl").touch(), id="a file that nothing reads"),
        pytest.param(lambda repo: repo.server.models.update({"other:latest": {}}), id="a model of somebody else's"),
        pytest.param(lambda _: Path("somewhere/base").mkdir(parents=True), id="the folder of a base comes"),
        pytest.param(lambda _: Path("build/legal/train.log").unlink(), id="a log"),
        pytest.param(lambda _: Path("adapters/legal/receipt.json").unlink(), id="a receipt"),
    ],
)
def test_a_seal_does_not_break_with_anything_else(with_seal: Repo, change: Callable[[Repo], None]) -> None:
    change(with_seal)
    assert sealed("models.yaml") is not None


def test_pinned_versions_are_in_the_seal(with_seal: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.trainers.command import CommandTrainer

    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "2"})
    assert sealed("models.yaml") is not None
    with_seal.replace("rank: 2,", "rank: 2, pin: versions,")
    with_seal.doit()
    assert sealed("models.yaml") is not None
    monkeypatch.setattr(CommandTrainer, "versions", lambda *_: {"engine": "3"})
    assert sealed("models.yaml") is None


def test_where_the_server_says_nothing_about_weights_its_version_does_not_matter(built: Repo) -> None:
    built.replace("version: 1\ndefaults:\n", "version: 1\ndefaults:\n  serve: {weights: merged}\n")
    assert built.doit().code == 0
    built.server.version = "0.40.0"
    assert sealed("models.yaml") is not None


def test_a_run_of_a_part_and_one_that_failed_do_not_seal(repo: Repo) -> None:
    repo.doit("register:legal", "register:sales")
    assert sealed("models.yaml") is None
    repo.replace("Answer 1.", "One.", "datasets/shared.jsonl")
    repo.server.unloadable = True
    assert repo.doit().code == 1
    assert sealed("models.yaml") is None


def test_a_sealed_run_reads_no_catalog_and_asks_the_server_once(with_seal: Repo) -> None:
    Path("dodo.py").write_text(DODO, encoding="utf-8")
    program = """
import sys
from doit.doit_cmd import DoitMain
code = DoitMain().run([])
print(code, [name for name in ("yaml", "jsonschema", "numpy", "gguf", "httpx", "ollama", "rich", "multiprocessing.pool", "ollamake.run") if name in sys.modules])
"""
    before = dict(with_seal.server.counts)
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert (without_times(done.stdout), done.stderr) == ("2 models: 2 fresh\n0 []\n", "")
    assert with_seal.server.counts["/api/tags"] == before["/api/tags"] + 1


def test_a_warning_is_said_by_a_sealed_run_too(with_seal: Repo) -> None:
    with_seal.replace("models:\n", "  spare: {files: [datasets/tone.jsonl]}\nmodels:\n")
    said = "models.yaml:9: warning: no model uses the dataset 'spare'\n"
    assert [with_seal.doit().err for _ in range(2)] == [said, said]
    assert sealed("models.yaml") is not None


@pytest.mark.parametrize("arguments", [("list",), ("train:legal",), ("info", "train:legal"), ("-a", "-s", "validate:tone"), ("clean", "-n")])
def test_steps_that_are_named_are_there_however_fresh(with_seal: Repo, arguments: tuple[str, ...]) -> None:
    result = with_seal.doit(*arguments)
    assert (result.code, result.err) == (0, "")


def test_two_catalogs_in_one_repo(with_seal: Repo) -> None:
    other = Path("models.yaml").read_text(encoding="utf-8").replace("legal", "third").replace("sales", "fourth").replace("shared:", "shared2:")
    Path("more.yaml").write_text(other.replace("[shared", "[shared2").replace("tone:", "tone2:").replace("tone]", "tone2]"), encoding="utf-8")
    Path("dodo.py").write_text(DODO + '    yield from tasks_from("more.yaml")\n', encoding="utf-8")

    def doit() -> str:
        return subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=True).stdout

    assert "4 models: 2 fresh, 2 rebuilt" in doit()
    assert doit().startswith("4 models: 4 fresh")
    assert sealed("models.yaml") is not None
    assert sealed("more.yaml") is not None
    with_seal.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert "4 models: 2 fresh, 2 rebuilt" in doit()
    assert doit().startswith("4 models: 4 fresh")


def test_catalogs_whose_paths_are_alike_have_a_seal_each(with_seal: Repo) -> None:
    first = Path("models.yaml").read_text(encoding="utf-8")
    second = first.replace("legal", "third").replace("sales", "fourth").replace("shared:", "shared2:").replace("[shared", "[shared2")
    second = second.replace("tone:", "tone2:").replace("tone]", "tone2]").replace("base.gguf", "../base.gguf").replace("[datasets/", "[../datasets/")
    Path("a").mkdir()
    Path("a/models.yaml").write_text(second, encoding="utf-8")
    Path("models.yaml").rename("a_models.yaml")
    Path("dodo.py").write_text(DODO.replace("models.yaml", "a_models.yaml") + '    yield from tasks_from("a/models.yaml")\n', encoding="utf-8")

    def doit() -> str:
        return subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=True).stdout

    assert "4 models: 2 fresh, 2 rebuilt" in doit()
    assert doit().startswith("4 models: 4 fresh")
    with_seal.replace("temperature: 0.2", "temperature: 0.3", "a_models.yaml")
    assert "4 models: 3 fresh, 1 rebuilt" in doit()
