"""`doit cache`, and what the catalog may say of a cache."""

from __future__ import annotations

import json
import os
import subprocess
import time
from pathlib import Path

import pytest

from catalogs import faults, load
from conftest import Repo

HEAD = "version: 1\nbases: {tiny: {gguf: base.gguf}}\nmodels: {legal: {base: tiny, adapter: there}}\n"


@pytest.fixture
def shared(repo: Repo) -> Path:
    repo.replace("version: 1\n", "version: 1\ncache: {url: cache}\n")
    return repo.path / "cache"


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("adapters/*/*.tar"))


def git(*arguments: str) -> None:
    subprocess.run(["git", "-c", "user.name=me", "-c", "user.email=me@example.com", *arguments], check=True, capture_output=True)


@pytest.fixture
def in_git(repo: Repo, shared: Path) -> Repo:
    git("init", "-q", "-b", "main")
    (repo.path / ".gitignore").write_text("/build\n/.ollamake\n/adapters\n/cache\n/trainings.log\n", encoding="utf-8")
    git("add", "-A")
    git("commit", "-qm", "begin")
    return repo


def test_status_says_what_is_there(repo: Repo, shared: Path) -> None:
    before = repo.doit("cache")
    assert before.out == "cache (models.yaml:2)\n    adapters  0 objects, 0 bytes\n" + "".join(
        f"    {name}  not known: its text is not made yet\n" for name in ("legal", "sales")
    )
    repo.doit("train:legal", "convert:sales")
    assert repo.doit("cache", "status").out.splitlines()[2:] == ["    legal  in the cache", "    sales  not in the cache"]
    (facts,) = json.loads(repo.doit("cache", "status", "--json").out)
    assert (facts["answers"], facts["adapters"]["objects"], facts["models"]["legal"]) == (True, 1, "in the cache")


def test_status_of_a_fresh_clone_goes_by_its_lock(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    for folder in ("build", "adapters"):
        os.rename(folder, f"{folder}.away")
    assert repo.doit("cache", "status").out.count("  in the cache") == 2
    repo.replace("rank: 2,", "rank: 4,")
    assert repo.doit("cache", "status").out.count("  not in the cache") == 2


def test_status_of_a_place_that_is_not_there(repo: Repo) -> None:
    repo.replace("version: 1\n", "version: 1\ncache: {url: /no/such/disk/cache, write: false}\n")
    done = repo.doit("cache", "status")
    assert done.code == 1
    assert done.out == (
        "/no/such/disk/cache (models.yaml:2, write: false)\n    is not there: no such folder: /no/such/disk\n      fix: make it, or mend cache.url\n"
    )
    assert repo.doit("cache", "verify").err == (
        "ERROR: \nmodels.yaml:2: the cache at /no/such/disk/cache is not there: no such folder: /no/such/disk\n  fix: make it, or mend cache.url\n"
    )


def test_verify_names_what_is_damaged(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    assert repo.doit("cache", "verify").out.endswith(": all as they were written\n")
    one, _ = objects(shared)
    one.write_bytes(one.read_bytes()[:-1])
    (shared / "adapters/notes.txt").write_text("mine", encoding="utf-8")
    done = repo.doit("cache", "verify")
    assert done.code == 1
    assert f"damaged: adapters/{one.parent.name}/{one.name}: it is cut off\n" in done.out
    assert "damaged: adapters/notes.txt: is no object of ollamake's\n" in done.out
    assert ": 3 objects, " in done.out
    assert len(json.loads(repo.doit("cache", "verify", "--json").out)[0]["damaged"]) == 2


def test_prune_removes_what_is_old(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    old, young = objects(shared)
    os.utime(old, (time.time() - 40 * 86400,) * 2)
    dry = repo.doit("cache", "prune", "--older-than", "30d", "--dry-run")
    assert dry.out.startswith(f"would remove adapters/{old.parent.name}/{old.name} (")
    assert old.exists()
    assert repo.doit("cache", "prune", "--older-than", "30d").code == 0
    assert objects(shared) == [young]


def test_prune_removes_what_killed_writers_have_left(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    (shared / "tmp").mkdir(exist_ok=True)
    old, young = "0a" * 16, "1b" * 16
    for name, age in {old: 2 * 86400, young: 60}.items():
        path = shared / f"tmp/{name}.partial"
        path.write_bytes(b"half")
        os.utime(path, (time.time() - age,) * 2)
    done = repo.doit("cache", "prune")
    assert f"removed tmp/{old}.partial (4 bytes): was being written by somebody who was ended\n" in done.out
    assert [path.name for path in (shared / "tmp").iterdir()] == [f"{young}.partial"]
    assert len(objects(shared)) == 2


def test_prune_removes_nothing_of_others_that_lies_in_tmp(repo: Repo, shared: Path) -> None:
    mine = repo.path / "mine/notes.partial"
    mine.parent.mkdir()
    mine.write_text("mine", encoding="utf-8")
    os.utime(mine, (1, 1))
    shared.mkdir()
    (shared / "tmp").symlink_to(mine.parent)
    assert repo.doit("cache", "prune").out.startswith("nothing to remove\n")
    assert mine.exists()


def test_prune_keeps_what_any_branch_refers_to(in_git: Repo, shared: Path) -> None:
    repo = in_git
    repo.doit("train")
    git("add", "-A")
    git("commit", "-qm", "built")
    git("checkout", "-qb", "other")
    repo.replace("rank: 2,", "rank: 4,")
    repo.doit("train")
    git("commit", "-qam", "rank 4")
    repo.replace("rank: 4,", "rank: 8,")
    repo.doit("train")
    assert len(objects(shared)) == 6
    assert repo.doit("cache", "prune", "--unreferenced").out.endswith("nothing to remove\n")  # those of rank 8 are in the working tree
    git("checkout", "-q", ".")
    done = repo.doit("cache", "prune", "--unreferenced")
    assert done.out.count("no lock of this repo refers to it") == 2
    git("checkout", "-q", "main")
    assert repo.doit("cache", "prune", "--unreferenced").out == "nothing to remove\n"
    git("branch", "-qD", "other")
    # What was trained at a commit that is gone is not for this clone to judge, until git forgets it.
    assert repo.doit("cache", "prune", "--unreferenced").out.count("no lock of this repo refers to it") == 2
    assert len(objects(shared)) == 2


def test_prune_keeps_what_other_repos_have_put_there(in_git: Repo, shared: Path) -> None:
    repo = in_git
    repo.doit("train")
    git("add", "-A")
    git("commit", "-qm", "built")
    git("checkout", "-q", "--orphan", "another")
    git("commit", "-qm", "another repo")
    git("branch", "-qD", "main")
    git("rm", "-q", "--cached", "models.lock")
    git("commit", "-qm", "no lock")
    (repo.path / "models.lock").unlink()
    git("reflog", "expire", "--expire=now", "--all")
    git("gc", "-q", "--prune=now")
    done = repo.doit("cache", "prune", "--unreferenced")
    assert done.out.count(": was trained at no commit that this clone has\n") == 2
    assert len(objects(shared)) == 2


def test_push_puts_there_what_was_trained_before_there_was_a_cache(built: Repo) -> None:
    built.replace("version: 1\n", "version: 1\ncache: {url: cache}\n")
    trained = list(built.trainings)
    os.rename("build", "built")  # a clone has no texts, before it has built anything
    dry = built.doit("cache", "push", "--dry-run").out
    assert dry.startswith("would put legal: adapters/")
    assert not Path("cache").exists()
    done = built.doit("cache", "push")
    assert [line.split(":")[0] for line in done.out.splitlines()] == ["put legal", "put sales", "cache"]
    assert built.doit("cache", "push").out == "cache: put 0 adapters there, 0 bytes; 2 there already\n"
    assert built.doit("cache", "verify").code == 0
    os.rename("adapters", "away")
    taken = built.doit("train")
    assert (taken.out.splitlines()[-1].startswith("2 adapters from the cache ("), built.trainings) == (True, trained), taken.out
    os.rename("cache", "lost")  # what was taken goes to another cache, too
    (facts,) = json.loads(built.doit("cache", "push", "--json").out)
    assert ([one["model"] for one in facts["put"]], facts["there"], facts["left"]) == (["legal", "sales"], [], [])
    assert [path.name for path in objects(Path("cache"))] == [path.name for path in objects(Path("lost"))]
    assert built.doit("cache", "verify").code == 0


def test_push_leaves_what_it_can_not_vouch_for(built: Repo) -> None:
    built.replace("version: 1\n", "version: 1\ncache: {url: cache}\n")
    Path("adapters/legal/receipt.json").unlink()
    with Path("adapters/sales/adapter_config.json").open("a", encoding="utf-8") as file:
        file.write("\n")
    assert built.doit("cache", "push").out == (
        "left: legal: it has no receipt that says of what it was trained\n"
        "left: sales: its files are not those of its receipt\n"
        "cache: put 0 adapters there, 0 bytes; 0 there already\n"
    )
    built.replace("{url: cache}", "{url: cache, write: false}")
    assert built.doit("cache", "push").err == (
        "ERROR: \nmodels.yaml:2: nothing is written to this cache: it has `write: false`\n  fix: remove `write: false` from `cache`\n"
    )


@pytest.mark.parametrize(
    ("typed", "error"),
    [
        (("verfy",), "doit cache: unknown word 'verfy'\n  fix: write 'verify' (known: prune, push, status, verify)\n"),
        (("prune", "--older-than", "soon"), "doit cache prune: --older-than 'soon' is no age\n  fix: write 12h, 30d or 8w\n"),
        (("prune", "--unreferenced"), "not in a git repo: there is no commit to compare with\n  fix: run it in a clone of the repo\n"),
    ],
)
def test_mistakes_are_said(repo: Repo, shared: Path, typed: tuple[str, ...], error: str) -> None:
    shared.mkdir()
    assert repo.doit("cache", *typed).err == f"ERROR: \n{error}"


def test_a_repo_without_a_cache_is_told_how_to_have_one(repo: Repo) -> None:
    assert repo.doit("cache").err.startswith("ERROR: \nno catalog of this dodo.py has a cache\n  fix: write `cache: {url: ...}` into it")


@pytest.mark.parametrize(
    ("said", "fault"),
    [
        ("{url: 's3://me:secret@host/x'}", "cache.url: a password has no place in it"),
        ("{url: 'az://box/x?sig=secret'}", "cache.url: it has `?` or `#` in it, and may hold a key"),
        (r"{url: 'C:\team\cache'}", r"cache.url: 'C:\\team\\cache' is a path of Windows"),
        (r"{url: '\\nas\cache'}", r"cache.url: '\\\\nas\\cache' is a path of Windows"),
        ("{url: ~/cache}", "cache.url: '~/cache': `~` is no folder here"),
        ("{url: $TEAM/cache}", "cache.url: '$TEAM/cache': `$TEAM` names no variable here\n  fix: write `${TEAM}`, with `env: [TEAM]`"),
        ("{url: 's3://$TEAM/cache'}", "cache.url: 's3://$TEAM/cache': `$TEAM` names no variable here"),
        ("{url: 's3://'}", "cache.url: 's3://' names no place"),
        ("{url: 'S 3://x/y'}", "cache.url: 'S 3' is no kind of store"),
        ("{url: 's3:/team/models'}", "cache.url: 's3:/team/models' is neither a folder nor a url"),
        ("{url: x, packed: much}", "cache.packed: 'much' is not a size"),
        ("{url: x, timeout: 0}", "cache.timeout: 0 is not above 0"),
        ("../team", 'cache: "../team" is not a mapping\n  fix: write {url: ../team}'),
        ("{read: false}", "cache: missing key 'url'"),
        ("{url: x, wirte: false}", "cache: unknown key 'wirte'"),
    ],
)
def test_faults_of_a_cache_are_said_at_their_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, fault: str) -> None:
    monkeypatch.chdir(tmp_path)
    found = faults({"models.yaml": f"{HEAD}cache: {said}\n", "base.gguf": "", "there": ""})
    assert found.startswith(f"models.yaml:4: {fault}"), found
    assert "fix: " in found or "timeout" in said
    assert "secret" not in found


def test_a_kind_of_url_that_nothing_knows_is_refused_before_anything_is_trained(repo: Repo) -> None:
    repo.replace("version: 1\n", "version: 1\ncache: {url: s4://team/models}\n")
    done = repo.doit()
    assert (done.code, done.err) == (3, "ERROR: \nmodels.yaml:2: cache.url: nothing knows s4://\n  fix: write s3:// in cache.url\n")


def test_a_place_that_can_only_be_read_is_said_to_be_so(repo: Repo) -> None:
    repo.replace("version: 1\n", "version: 1\ncache: {url: 'http://127.0.0.1:9/models'}\n")
    done = repo.doit("train:legal")
    text = "models.yaml:2: warning: the cache at http://127.0.0.1:9/models can't be written to: http:// is for reading alone; nothing more is written to it"
    assert (done.code, f"   {text} in this run\n     fix: write `write: false` into `cache:`\n" in done.out) == (0, True), done.out


def test_a_password_of_the_environment_is_refused_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = faults({"models.yaml": f"{HEAD}env: [BOX]\ncache: {{url: '${{BOX}}/x'}}\n", "base.gguf": ""}, {"BOX": "sftp://me:secret@host"})
    assert "models.yaml:5: cache.url: a password has no place in it" in found
    assert "secret" not in found


def test_a_folder_is_below_the_catalog_and_sizes_are_bytes(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    cache = load({"models.yaml": f"{HEAD}cache: {{url: ../team, packed: 1.5GB}}\n", "base.gguf": ""}).cache
    assert cache is not None
    assert (cache.url, cache.packed, cache.read, cache.write, cache.timeout) == ("../team", 1_500_000_000, True, True, 10.0)


def test_the_cache_is_one_for_all_catalogs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    found = faults({"models.yaml": f"{HEAD}include: [other.yaml]\n", "other.yaml": "version: 1\ncache: {url: x}\n", "base.gguf": ""})
    assert "other.yaml:2: the cache is one for all catalogs\n  fix: move it to models.yaml" in found
