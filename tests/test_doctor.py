"""`doit doctor`: what is here, and what installs the rest."""

from __future__ import annotations

import json
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from conftest import Repo
from ollamake.trainers.environment import Environment
from ollamake.trainers.packages import install
from ollamake.trainers.peft import PeftTrainer


def told(repo: Repo) -> dict[str, dict[str, object]]:
    result = repo.doit("doctor", "--json")
    assert result.err == ""
    return {one["trainer"]: one for one in json.loads(result.out)["trainers"]}


def test_trainers_that_are_used_and_run_are_no_fault(repo: Repo) -> None:
    result = repo.doit("doctor")
    assert result.code == 0, result.out
    (line,) = [line for line in result.out.splitlines() if line.startswith("+ command ")]
    assert line.split(maxsplit=2)[2] == "runs here, used by 2 models"
    assert told(repo)["command"]["models"] == 2


def test_a_trainer_that_is_used_and_not_there_is_a_fault_with_what_installs_it(repo: Repo) -> None:
    repo.replace("    base: tiny\n    data: [shared]\n", "    base: tiny\n    data: [shared]\n    train: {trainer: peft, env: envs/peft}\n")
    result = repo.doit("doctor")
    assert result.code == 1
    said = {line.strip() for line in result.out.splitlines()}
    assert any(line.startswith("- peft") and line.endswith("no such folder: envs/peft, used by 1 model") for line in said), said
    assert "install: python3 -m venv envs/peft && envs/peft/bin/pip install 'ollamake[peft]'" in said
    peft = told(repo)["peft"]
    assert (peft["models"], peft["runs_here"], peft["env"]) == (1, False, "envs/peft")


def test_it_needs_no_catalog(repo: Repo) -> None:
    Path("models.yaml").unlink()
    result = repo.doit("doctor")
    assert result.code == 0
    assert result.out.startswith("ollamake  ")


def test_a_faulty_catalog_is_said(repo: Repo) -> None:
    repo.replace("version: 1", "version: 2")
    result = repo.doit("doctor")
    assert (result.code, result.out) == (3, "")
    assert "models.yaml:1: version: 2 is not known" in result.err


def test_versions_are_those_of_the_environment() -> None:
    venv = str(Path(sys.executable).parent.parent)
    here = Environment().versions(["pytest", "no-such-package"])
    assert list(here) == ["pytest"]
    assert Environment(venv).versions(["pytest", "no-such-package"]) == here
    assert Environment(("env", f"PATH={venv}/bin")).versions(["pytest", "no-such-package"]) == here
    assert Environment(("no-such-program",)).versions(["pytest"]) == {}
    assert Environment(venv).missing(["pytest", "no-such-package"]) == ("no-such-package",)


@pytest.mark.parametrize(
    ("environment", "argv"),
    [
        (Environment(), (sys.executable, "-m", "trl")),
        (Environment(("conda", "run", "-n", "x")), ("conda", "run", "-n", "x", "python", "-m", "trl")),
    ],
)
def test_python_is_that_of_the_environment(environment: Environment, argv: tuple[str, ...]) -> None:
    assert environment.python("-m", "trl") == argv


def test_an_environment_that_can_not_be_meant_so_is_told_how_it_is_written(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("envs/trl/bin").mkdir(parents=True)
    Path("envs/trl/pyvenv.cfg").touch()
    Path("envs/trl/bin/python").touch()
    Path("file").touch()

    def said(named: str | tuple[str, ...]) -> tuple[str | None, str]:
        return Environment(named).fault, Environment(named).pip("trl")

    listed = "a text is the folder of a venv; the words of a command stand in a list: `env: [no-conda, run, -n, trl]`"
    assert said("no-conda run -n trl") == ("no such folder: no-conda run -n trl", listed)
    assert said(("no-conda", "run")) == ("no such program: no-conda", "install no-conda, or write `env: FOLDER`, the folder of a venv")
    assert said(("env", "python3")) == (None, "leave out the last word, 'python3': `python` is put behind the words of `env`")
    venv = "write `env: envs/trl`: it is the folder of a venv that is named"
    assert said("envs/trl/bin/python") == ("not a folder: envs/trl/bin/python", venv)
    assert said("envs/trl/bin") == (None, venv)
    assert said("file") == ("not a folder: file", "write `env: FOLDER`, the folder of a venv")
    assert said("my envs") == ("no such folder: my envs", "python3 -m venv 'my envs' && 'my envs'/bin/pip install trl")
    assert said("envs/trl") == (None, "envs/trl/bin/pip install trl")


def test_packages_that_exclude_ollamakes_own_get_an_environment(tmp_path: Path) -> None:
    lacking = Environment(), {"no-such-package": "1"}
    said = "python3 -m venv envs/trl && envs/trl/bin/pip install 'trl[peft]>=1'; then write `env: envs/trl` into the model's `train:`"
    assert install(*lacking, "trl[peft]>=1") == said
    assert install(Environment(str(tmp_path)), lacking[1], "trl") == f"python3 -m venv {tmp_path} && {tmp_path}/bin/pip install trl"


def test_the_embedded_trainer_needs_ollamake_in_its_environment(tmp_path: Path) -> None:
    packages = tmp_path / "lib/python3.11/site-packages"
    for name in ("torch", "transformers", "ollamake"):
        assert PeftTrainer().missing(Environment(str(tmp_path))) is not None
        (packages / f"{name}-9.dist-info").mkdir(parents=True)
        (packages / f"{name}-9.dist-info/METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 9\n", encoding="utf-8")
    assert PeftTrainer().missing(Environment(str(tmp_path))) is None


def test_a_catalog_that_is_named_and_not_there_is_an_error_and_one_that_is_not_there_is_said(repo: Repo) -> None:
    result = repo.doit("doctor", "--catalog", "other.yaml")
    assert (result.code, result.out) == (3, "")
    assert result.err == "ERROR: \n--catalog other.yaml: no such file\n  fix: name a catalog that is there, or none\n"
    assert json.loads(repo.doit("doctor", "--json").out)["catalog"] == "models.yaml"
    Path("models.yaml").unlink()
    assert "\ncatalog   none here: " in repo.doit("doctor").out
    assert json.loads(repo.doit("doctor", "--json").out)["catalog"] is None


def test_what_is_there_of_a_trainer_that_is_not_is_no_part_of_what_is_lacking(repo: Repo) -> None:
    repo.replace("    base: tiny\n    data: [shared]\n", "    base: tiny\n    data: [shared]\n    train: {trainer: trl, env: envs/trl}\n")
    packages = repo.path / "envs/trl/lib/python3.11/site-packages/torch-9.dist-info"
    packages.mkdir(parents=True)
    (packages / "METADATA").write_text("Metadata-Version: 2.1\nName: torch\nVersion: 9\n", encoding="utf-8")
    result = repo.doit("doctor")
    assert result.code == 1
    (line,) = [line for line in result.out.splitlines() if line.startswith("- trl ")]
    assert line.split(maxsplit=2)[2] == "not installed in envs/trl, used by 1 model; of what it needs, there is torch 9"


@pytest.mark.parametrize("sees_others", [True, False])
def test_a_venv_may_see_the_packages_of_its_python(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, *, sees_others: bool) -> None:
    monkeypatch.delenv("PYTHONPATH", raising=False)
    venv.create(tmp_path / "env", system_site_packages=sees_others, with_pip=False)
    (site,) = (tmp_path / "env").glob("lib/python3*/site-packages")
    own = site / "own-1.5.dist-info"
    own.mkdir()
    (own / "METADATA").write_text("Metadata-Version: 2.1\nName: own\nVersion: 1.5\n", encoding="utf-8")
    ask = "import sys; from importlib.metadata import distributions as d; print(*{i.name for i in d() if i.name != 'own'})"
    program = tmp_path / "env" / "bin" / "python"
    others = subprocess.run([program, "-c", ask], capture_output=True, text=True, check=True).stdout.split()
    found = Environment(str(tmp_path / "env")).versions(["own", *others])
    assert found["own"] == "1.5"
    assert set(found) == {"own", *others}
