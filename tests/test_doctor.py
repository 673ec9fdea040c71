"""`doit doctor`: what is here, and what installs the rest."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import pytest

from conftest import Repo
from ollamake.trainers.environment import Environment


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
