"""Bases that Ollama holds: found by their names in its folder of models, served with the template that they have there."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest

from catalogs import faults, load
from conftest import Repo, without_times
from ollama_folder import PARAMETERS, TEMPLATE, hold, manifest_path
from ollamake.catalog import Base
from ollamake.catalog.held import held_name
from ollamake.errors import Mark
from ollamake.ollama.held import Found, find, with_held_bases
from ollamake.seal import sealed
from tiny_base import write_tiny_base

CATALOG = """\
version: 1
bases:
  tiny: {BASE}
datasets:
  facts: {files: [facts.jsonl]}
models:
  legal: {base: tiny, data: [facts]}
"""


@pytest.fixture(autouse=True)
def folder(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Ollama's folder of models, empty, and nothing in the user's home."""
    home = tmp_path_factory.mktemp("home")
    monkeypatch.setenv("HOME", str(home))
    monkeypatch.setenv("OLLAMA_MODELS", str(home / "models"))
    return home / "models"


@pytest.fixture
def held(repo: Repo, folder: Path) -> Repo:
    """A repo whose base Ollama holds; nothing built yet."""
    hold(folder, Path("base.gguf"), parameters=PARAMETERS)
    Path("base.gguf").unlink()
    repo.replace("tiny: {gguf: base.gguf}", "tiny: {ollama: small}")
    return repo


def pull(folder: Path, seed: int, **more: str) -> None:
    """Have Ollama hold another model under the name."""
    write_tiny_base(Path("pulled.gguf"), seed=seed)
    hold(folder, Path("pulled.gguf"), parameters=PARAMETERS, **more)
    Path("pulled.gguf").unlink()


# What the catalog says.


def said(base: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> str:
    monkeypatch.chdir(tmp_path)
    Path("facts.jsonl").write_text("", encoding="utf-8")
    return faults({"models.yaml": CATALOG.replace("{BASE}", base)})


@pytest.mark.parametrize(
    ("base", "message"),
    [
        (
            "{gguf: base.gguf, ollama: small}",
            "models.yaml:3: base 'tiny': gguf and ollama both say where its GGUF is\n  fix: keep one of the two",
        ),
        (
            "{hf: org/base}",
            "models.yaml:3: base 'tiny': nothing says where its GGUF is\n  fix: add `gguf: PATH`, or `ollama: NAME` of a model that Ollama has",
        ),
        (
            "{ollama: a b}",
            "models.yaml:3: base 'tiny': ollama: 'a b' can't be a model in Ollama\n"
            "  fix: write it as `ollama list` does: name, name:tag or user/name:tag",
        ),
        (
            "{ollama: ../../secret}",
            "models.yaml:3: base 'tiny': ollama: '../../secret' can't be a model in Ollama\n"
            "  fix: write it as `ollama list` does: name, name:tag or user/name:tag",
        ),
    ],
)
def test_a_base_says_one_place_of_its_gguf(base: str, message: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    assert said(base, monkeypatch, tmp_path) == message


@pytest.mark.parametrize(
    ("name", "parts"),
    [
        ("llama3.2", ("registry.ollama.ai", "library", "llama3.2", "latest")),
        ("llama3.2:3b", ("registry.ollama.ai", "library", "llama3.2", "3b")),
        ("user/model:q4", ("registry.ollama.ai", "user", "model", "q4")),
        ("hf.co/Org/Some-GGUF:Q4_K_M", ("hf.co", "Org", "Some-GGUF", "Q4_K_M")),
        ("box:5000/team/model", ("box:5000", "team", "model", "latest")),
    ],
)
def test_a_name_is_what_ollama_takes_it_for(name: str, parts: tuple[str, ...]) -> None:
    found = held_name(name)
    assert found is not None
    assert found.parts == parts


# Where it is.


@pytest.mark.parametrize(
    ("name", "path"),
    [
        ("small", "registry.ollama.ai/library/small/latest"),
        ("Small:Latest", "registry.ollama.ai/library/small/latest"),
        ("user/model:q4", "registry.ollama.ai/user/model/q4"),
        ("hf.co/org/some-gguf:q4_k_m", "hf.co/Org/Some-GGUF/Q4_K_M"),
    ],
)
def test_a_model_is_found_by_its_name(name: str, path: str, folder: Path, tiny_base: Path) -> None:
    blob = hold(folder, tiny_base, path)
    assert find(name).gguf == str(blob)


def test_the_first_folder_that_has_it_counts(folder: Path, tiny_base: Path) -> None:
    home = hold(Path.home() / ".ollama/models", tiny_base)
    assert find("small").gguf == str(home)
    given = hold(folder, tiny_base)
    assert find("small").gguf == str(given)


def test_the_embedded_server_has_a_folder_too(tiny_base: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("OLLAMA_MODELS")
    blob = hold(Path(os.environ["XDG_CACHE_HOME"]) / "ollamake/models", tiny_base)
    assert find("small").gguf == str(blob)


def lack(found: Found) -> str:
    assert found.gguf == "ollama:small"
    assert found.lacks is not None
    return str(Base(name="tiny", gguf=found.gguf, hf=None, ollama="small", lacks=found.lacks, mark=Mark("models.yaml", 3)).missing())


@pytest.mark.parametrize(
    ("also", "message"),
    [
        (
            (("model", b"GGUF of the second part"),),
            "models.yaml:3: base 'tiny': small in Ollama is split into 2 files, and a base is one GGUF\n"
            "  fix: put its parts together with llama.cpp's `llama-gguf-split --merge`, and name that file as `gguf`",
        ),
        (
            (("adapter", b"GGUF of a LoRA"),),
            "models.yaml:3: base 'tiny': small in Ollama has an adapter of its own already\n"
            "  fix: name the model that it was made from: `ollama show small --modelfile` says which",
        ),
    ],
)
def test_what_is_no_base_is_refused_by_name(also: tuple[tuple[str, bytes], ...], message: str, folder: Path, tiny_base: Path) -> None:
    hold(folder, tiny_base, also=also)
    assert lack(find("small")) == message


def test_a_model_without_a_gguf_is_refused(folder: Path, tiny_base: Path) -> None:
    hold(folder, tiny_base)
    path = manifest_path(folder)
    path.write_text(path.read_text(encoding="utf-8").replace("image.model", "image.tensor"), encoding="utf-8")
    assert lack(find("small")) == "models.yaml:3: base 'tiny': small in Ollama holds no GGUF\n  fix: name a model that is one"


@pytest.mark.parametrize("content", [b"", b'{"layers": [{"mediaTy', b"[]", b'{"layers": [{}]}'])
def test_a_torn_manifest_is_said_to_be_one(content: bytes, folder: Path, tiny_base: Path) -> None:
    hold(folder, tiny_base)
    path = manifest_path(folder)
    path.write_bytes(content)
    message = f"models.yaml:3: base 'tiny': {path} is no manifest of Ollama's, or not whole\n  fix: `ollama pull small` again"
    assert lack(find("small")) == message


def test_a_blob_that_is_gone_is_said_to_be(folder: Path, tiny_base: Path) -> None:
    blob = hold(folder, tiny_base)
    blob.unlink()
    message = f"models.yaml:3: base 'tiny': small is in Ollama without its weights: no such file: {blob}\n  fix: `ollama pull small` again"
    assert lack(find("small")) == message


def test_what_can_not_be_read_is_said_not_to_be(folder: Path) -> None:
    path = manifest_path(folder)
    path.mkdir(parents=True)
    assert lack(find("small")) == (
        f"models.yaml:3: base 'tiny': small was looked for in Ollama's folder, and {path} can't be read: Is a directory\n"
        "  fix: give yourself the right to read it, or set $OLLAMA_MODELS to the folder that your Ollama has its models in"
    )


@pytest.mark.skipif(os.geteuid() == 0, reason="root may read everything")
def test_a_folder_that_may_not_be_read_is_said_to_be_one(folder: Path, tiny_base: Path) -> None:
    hold(folder, tiny_base)
    (folder / "manifests").chmod(0)
    try:
        message = lack(find("small"))
    finally:
        (folder / "manifests").chmod(0o755)
    assert "can't be read: Permission denied" in message
    assert "give yourself the right to read it" in message


# What a build makes of it.


def test_a_base_in_ollama_is_built_on_and_served_with_its_template(held: Repo, folder: Path) -> None:
    result = held.doit()
    assert result.code == 0, result.out + result.err
    assert held.trainings == ["legal", "sales"]
    legal, sales = held.server.models["legal:latest"], held.server.models["sales:latest"]
    assert (legal["template"], legal["parameters"]) == (TEMPLATE, PARAMETERS)
    assert sales["parameters"] == {**PARAMETERS, "temperature": 0.2}
    assert held.doit().ran == []
    lock = json.loads(Path("models.lock").read_text(encoding="utf-8"))
    assert "base tiny" in lock["train:legal"]["inputs"]
    assert str(folder) not in Path("models.lock").read_text(encoding="utf-8")


def test_a_template_of_the_models_own_goes_before(held: Repo) -> None:
    held.replace("    data: [shared]\n", '    data: [shared]\n    serve: {template: "{{ .Prompt }}!"}\n')
    held.doit()
    assert held.server.models["legal:latest"]["template"] == "{{ .Prompt }}!"


def test_a_base_in_ollama_and_the_same_gguf_in_a_file_are_one(held: Repo, folder: Path) -> None:
    held.doit()
    blob = find("small").gguf
    shutil.copyfile(blob, "base.gguf")
    held.replace("tiny: {ollama: small}", "tiny: {gguf: base.gguf}")
    held.doit()
    assert held.trainings == ["legal", "sales"]


def test_another_template_in_ollama_registers_again_and_trains_nothing(held: Repo, folder: Path) -> None:
    held.doit()
    assert sealed("models.yaml") is not None
    write_tiny_base(Path("same.gguf"))
    hold(folder, Path("same.gguf"), template="{{ .Prompt }}", parameters=PARAMETERS)
    assert sealed("models.yaml") is None
    result = held.doit()
    assert [name for name in result.ran if name.startswith(("train", "convert", "package"))] == []
    assert "register:legal" in result.ran
    assert '(serve.template: "{{ .System }} {{ .Prompt }}" -> "{{ .Prompt }}")' in result.out
    assert held.server.models["legal:latest"]["template"] == "{{ .Prompt }}"


def test_a_pull_of_another_base_trains_again(held: Repo, folder: Path) -> None:
    held.doit()
    assert sealed("models.yaml") is not None
    pull(folder, seed=2)
    assert sealed("models.yaml") is None
    planned = [line.split()[1] for line in held.doit("plan").out.splitlines() if line.startswith((".", "?"))]
    result = held.doit()
    assert ".  convert:legal  (base tiny changed)\n" in result.out
    assert held.trainings[2:] == ["legal", "sales"]
    assert set(result.ran) <= set(planned)


def test_a_pull_of_the_same_changes_nothing(held: Repo, folder: Path) -> None:
    held.doit()
    pull(folder, seed=1)
    result = held.doit()
    assert (result.ran, without_times(result.out)) == ([], "2 models: 2 fresh\n")


def test_a_base_that_ollama_does_not_hold_is_named_with_what_to_type(held: Repo, folder: Path) -> None:
    held.replace("ollama: small", "ollama: other:3b")
    assert held.doit("plan").code == 4
    assert held.doit("list").code == 0
    result = held.doit()
    places = f"{folder}, {Path.home()}/.ollama/models, /usr/share/ollama/.ollama/models"
    assert result.code == 1
    assert f"models.yaml:5: base 'tiny': Ollama has no other:3b on this machine (looked in {places})\n" in result.out + result.err
    assert "fix: `ollama pull other:3b`; or set $OLLAMA_MODELS to the folder that your Ollama has its models in\n" in result.out + result.err
    assert held.trainings == []


def test_a_base_that_was_removed_leaves_built_models_alone(held: Repo, folder: Path) -> None:
    held.doit()
    before = dict(held.server.models)
    manifest_path(folder).unlink()
    result = held.doit()
    assert result.code == 1
    assert "fix: `ollama pull small`" in result.out + result.err
    assert held.server.models == before
    assert held.trainings == ["legal", "sales"]


def test_an_adapter_that_is_there_is_served_on_it(held: Repo) -> None:
    held.doit("build", "legal")
    shutil.copytree("adapters/legal", "given")
    Path("given/receipt.json").unlink()
    result = held.doit("retrain", "--adapter", "given", "--name", "other", "--base", "tiny")
    assert result.code == 0, result.out + result.err
    assert held.server.models["other:latest"]["template"] == TEMPLATE


def test_an_edit_since_a_commit_is_told_of_it_as_of_any_other(held: Repo) -> None:
    held.doit()
    git = ("git", "-c", "user.name=x", "-c", "user.email=x@x.invalid")
    Path(".gitignore").write_text(".ollamake/\nbuild/\nadapters/\n", encoding="utf-8")
    for arguments in (("init", "-q"), ("add", "-A"), ("commit", "-qm", "all")):
        subprocess.run([*git, *arguments], check=True)
    assert held.doit("affected", "--since", "HEAD").out == ""
    held.replace("temperature: 0.2", "temperature: 0.3")
    said = held.doit("affected", "--since", "HEAD").out
    assert "sales" in said
    assert "legal" not in said


@pytest.mark.usefixtures("repo")
def test_only_catalogs_that_name_one_look_into_ollamas_folder() -> None:
    catalog = load({})
    assert with_held_bases(catalog) is catalog
