"""`engine:` in the catalog, and `doit --engine`."""

from __future__ import annotations

from pathlib import Path

import pytest

from conftest import Repo
from ollamake.catalog.load import load_catalog
from ollamake.catalog.places import Engine

RAY = 'engine: {kind: ray, address: "127.0.0.1:1", resources: {CPU: 2}, retries: 1, checkpoints: kept}\n'
HEAD = "write HOST:PORT of its head, such as 10.0.0.2:6379, and let this machine belong to it: `ray start --address=HOST:PORT --num-cpus=0`"


def engines(repo: Repo) -> dict[str, Engine]:
    return {model.name: model.engine for model in load_catalog(repo.path / "models.yaml", trainers=["command"]).models}


def test_models_are_trained_here_unless_the_catalog_says_otherwise(repo: Repo) -> None:
    assert list(engines(repo).values()) == [Engine(), Engine()]


def test_what_is_nearer_to_a_model_goes_before_key_by_key(repo: Repo) -> None:
    repo.replace("version: 1\n", f"version: 1\n{RAY}")
    repo.replace("defaults:\n", "defaults:\n  engine: {retries: 0}\n")
    repo.replace("    data: [shared, tone]\n", "    data: [shared, tone]\n    engine: {resources: {GPU: 1}, checkpoints: 's3://bucket/kept'}\n")
    found = engines(repo)
    kept = str(repo.path / "kept")
    assert found["legal"] == Engine(kind="ray", address="127.0.0.1:1", resources={"CPU": 2}, retries=0, checkpoints=kept)
    assert found["sales"] == Engine(kind="ray", address="127.0.0.1:1", resources={"CPU": 2, "GPU": 1}, retries=0, checkpoints="s3://bucket/kept")


def test_a_model_may_stay_here_where_others_go_to_a_cluster(repo: Repo) -> None:
    repo.replace("version: 1\n", f"version: 1\n{RAY}")
    repo.replace("  legal:\n", "  legal:\n    engine: {kind: local}\n")
    assert {name: engine.kind for name, engine in engines(repo).items()} == {"legal": "local", "sales": "ray"}


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{kind: rai}", "models.yaml:2: engine.kind: \"rai\" is not known\n  fix: write 'ray' (known: local, ray)"),
        (
            "{adress: a}",
            "models.yaml:2: engine: unknown key 'adress'\n  fix: write 'address' (known: address, checkpoints, kind, resources, retries, runtime_env)",
        ),
        ("{kind: ray, retries: -1}", "models.yaml:2: engine.retries: -1 is below 0"),
        (
            "{kind: ray, runtime_env: {pipp: [a]}}",
            "models.yaml:2: engine.runtime_env: unknown key 'pipp'\n"
            "  fix: write 'pip' (known: conda, config, env_vars, excludes, image_uri, pip, py_executable, py_modules, uv, working_dir)",
        ),
    ],
)
def test_what_an_engine_can_not_be_is_said_at_its_line(repo: Repo, said: str, fault: str) -> None:
    repo.replace("version: 1\n", f"version: 1\nengine: {said}\n")
    result = repo.doit()
    assert (result.code, result.err.strip()) == (3, f"ERROR: \n{fault}")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{resources: {gpu: 1}}", "engine: no node has a resource 'gpu': Ray's names differ by their case\n  fix: write 'GPU'"),
        ("{resources: {GPU: 1.5}}", "engine: GPU 1.5: more than one can't be shared\n  fix: write a whole number"),
        (
            "{address: 'ray://10.0.0.2:10001'}",
            f"engine.address: ray:// is Ray Client, which brings nothing back while a training runs\n  fix: {HEAD}",
        ),
        ("{address: 'http://10.0.0.2:8265'}", f"engine.address: http:// is no cluster's, but of a service on it\n  fix: {HEAD}"),
        (
            "{checkpoints: 's3://me:secret@store/kept'}",
            "engine.checkpoints: a password has no place in it\n"
            "  fix: leave it out: credentials come from the environment, or where its library looks for them",
        ),
        (
            "{checkpoints: 's3://store/kept?sig=secret'}",
            "engine.checkpoints: it has `?` or `#` in it, and may hold a key\n"
            "  fix: leave what begins there out: credentials come from the environment, or where its library looks for them",
        ),
        ("{checkpoints: 's3:store/kept'}", "engine.checkpoints: 's3:store/kept' is neither a folder nor a url\n  fix: write s3://..."),
        (
            "{checkpoints: ~/kept}",
            "engine.checkpoints: '~/kept': `~` is no folder here\n  fix: write `${HOME}/...`, with `env: [HOME]`, or the whole path",
        ),
    ],
)
def test_what_an_engine_would_wait_for_in_vain_is_said_at_its_line(repo: Repo, said: str, fault: str) -> None:
    repo.replace("version: 1\n", f"version: 1\nengine: {said}\n")
    result = repo.doit()
    assert (result.code, result.err.strip()) == (3, "ERROR: \n" + "\n".join(f"models.yaml:2: model '{name}': {fault}" for name in ("legal", "sales")))


def test_an_address_of_the_environment_that_no_training_can_be_sent_to(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("ray")
    monkeypatch.setenv("RAY_ADDRESS", "ray://10.0.0.2:10001")
    repo.replace("version: 1\n", "version: 1\nengine: {kind: ray}\n")
    result = repo.doit("train:legal")
    assert result.code == 1
    said = "models.yaml:2: model 'legal': RAY_ADDRESS: ray:// is Ray Client, which brings nothing back while a training runs\n  fix: write HOST:PORT"
    assert said in result.out


def test_the_engine_is_one_for_all_catalogs(repo: Repo) -> None:
    Path("more.yaml").write_text(f"version: 1\n{RAY}", encoding="utf-8")
    repo.replace("version: 1\n", "version: 1\ninclude: [more.yaml]\n")
    assert "more.yaml:2: the engine is one for all catalogs\n  fix: move it to models.yaml" in repo.doit().err


def test_another_engine_trains_nothing_again(built: Repo) -> None:
    before = built.trainings
    built.replace("version: 1\n", f"version: 1\n{RAY}")
    result = built.doit()
    assert (result.code, result.ran, built.trainings) == (0, [], before)
    result = built.doit("--engine", "ray")
    assert (result.code, result.ran, built.trainings) == (0, [], before)


def test_a_run_may_train_here_whatever_the_catalog_says(repo: Repo) -> None:
    repo.replace("version: 1\n", f"version: 1\n{RAY}")
    result = repo.doit("--engine", "local", "train")
    assert (result.code, sorted(repo.trainings)) == (0, ["legal", "sales"])


def test_an_engine_that_there_is_not_is_refused(repo: Repo) -> None:
    result = repo.doit("--engine", "slurm")
    assert result.code == 3
    assert "ray" in result.err
