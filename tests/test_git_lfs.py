"""A clone whose adapters git-lfs has not fetched trains nothing; and git changes no byte of an adapter."""

from __future__ import annotations

import hashlib
import subprocess
from pathlib import Path

import pytest

from conftest import Repo
from ollamake.commands.init import GITATTRIBUTES
from test_lock import git

WEIGHTS = Path("adapters/legal/adapter_model.safetensors")
LOST = f"{WEIGHTS}: a pointer of git-lfs: what was trained is not here"


@pytest.fixture
def unfetched(built: Repo) -> Repo:
    """A built repo, one adapter of which is a pointer."""
    content = WEIGHTS.read_bytes()
    oid = hashlib.sha256(content).hexdigest()
    WEIGHTS.write_text(f"version https://git-lfs.github.com/spec/v1\noid sha256:{oid}\nsize {len(content)}\n", encoding="utf-8")
    return built


def test_what_was_not_fetched_is_not_trained_anew(unfetched: Repo) -> None:
    before, pointer = unfetched.trainings, WEIGHTS.read_bytes()
    plan = unfetched.doit("plan")
    assert plan.out.startswith("!  train:legal")
    assert f"it will fail: {LOST}\n" in plan.out
    result = unfetched.doit()
    assert result.code == 1
    assert f"{LOST}\n  fix: `git lfs pull`; or `doit retrain legal` trains it anew\n" in result.out
    assert (unfetched.trainings, WEIGHTS.read_bytes()) == (before, pointer)
    assert f"{WEIGHTS}: a pointer of git-lfs, in the place of the weights\n  fix: `git lfs pull`\n" in unfetched.doit("check", "legal").out
    assert unfetched.doit("retrain", "legal").code == 0
    assert unfetched.trainings == [*before, "legal"]


def test_what_was_not_fetched_is_trained_where_it_would_be_another(unfetched: Repo) -> None:
    before = unfetched.trainings
    unfetched.replace("data: [shared]", "data: [shared]\n    train: {epochs: 7}")
    assert unfetched.doit().code == 0
    assert unfetched.trainings == [*before, "legal"]


def test_what_was_not_fetched_comes_from_the_cache(built: Repo, unfetched: Repo) -> None:
    content = WEIGHTS.read_bytes()
    built.replace("version: 1\n", "version: 1\ncache: {url: shared}\n")
    assert built.doit("retrain", "legal").code == 0
    WEIGHTS.write_bytes(content)
    before = built.trainings
    assert "!" not in built.doit("plan").out
    assert built.doit().code == 0
    assert built.trainings == before
    assert not Path("adapters/.legal.before").exists()


def test_a_clone_that_changes_line_ends_trains_nothing(committed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    config = Path("adapters/legal/adapter_config.json")
    config.write_text(config.read_text(encoding="utf-8") + "\n", encoding="utf-8")  # as trainers write it, over several lines
    assert committed.doit("accept", "legal", "--because", "a line end").code == 0
    Path(".gitattributes").write_text(GITATTRIBUTES, encoding="utf-8")
    git("add", "--force", ".gitattributes", "adapters")
    git("commit", "-am", "adapters")
    before = committed.trainings
    subprocess.run(["git", "clone", "-q", "-c", "core.autocrlf=true", ".", "clone"], check=True)
    assert b"\r\n" in Path("clone/models.yaml").read_bytes()
    Path("clone/base.gguf").write_bytes(Path("base.gguf").read_bytes())
    monkeypatch.chdir("clone")
    result = Repo(Path.cwd(), committed.server).doit()
    assert (result.code, "train:legal" in result.ran) == (0, False), result.out
    assert committed.trainings == before
    assert "models.lock" not in git("diff", "--name-only", "HEAD")
