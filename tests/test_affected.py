"""`doit affected --since REV`: what edits change, by git and the lock alone."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from conftest import CATALOG, DODO, Repo, jsonl
from test_lock import git

ALL = "validate convert train? package? register? test?"


def short() -> str:
    return git("rev-parse", "HEAD").strip()[:8]


def affected(repo: Repo, *arguments: str, since: str = "main") -> dict[str, tuple[str, str]]:
    """Name -> the steps and the reasons."""
    result = repo.doit("affected", "--since", since, *arguments)
    assert result.code == 0, result.err
    rows = [line.split("  ", 1) for line in result.out.splitlines()]
    return {name: tuple(part.strip() for part in rest.strip().split("  ", 1)) for name, rest in rows}  # type: ignore[misc]


def as_json(repo: Repo, *arguments: str, since: str = "main") -> dict[str, Any]:
    result = repo.doit("affected", "--json", "--since", since, *arguments)
    assert result.code == 0, result.err
    facts: dict[str, Any] = json.loads(result.out)
    return facts


def test_without_an_edit_nothing_is_affected(committed: Repo) -> None:
    Path("datasets/tone.jsonl").touch()
    committed.replace("models:\n", "models:  # a comment\n")
    result = committed.doit("affected", "--since", "HEAD")
    assert (result.code, result.out, result.err) == (0, "", f"no model is affected since {short()}\n")


def test_an_edited_record_affects_the_models_that_read_it(committed: Repo) -> None:
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    result = committed.doit("affected", "--since", "HEAD")
    assert result.out == f"sales  {ALL}  datasets/tone.jsonl changed\n"
    assert result.err == f"1 model is affected since {short()}\n"
    git("commit", "-am", "kinder")
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "datasets/tone.jsonl changed")}
    assert affected(committed, since="HEAD") == {}


def test_a_new_file_that_a_pattern_comes_to_counts_before_it_is_added(committed: Repo) -> None:
    committed.replace("datasets/tone.jsonl]", "datasets/tone*.jsonl]")
    git("commit", "-am", "a pattern")
    Path("datasets/tone-2.jsonl").write_text(jsonl({"instruction": "More?", "output": "More."}), encoding="utf-8")
    assert affected(committed) == {"sales": (ALL, "datasets/tone-2.jsonl is new")}
    git("add", ".")
    assert affected(committed) == {"sales": (ALL, "datasets/tone-2.jsonl is new")}
    git("commit", "-m", "more")
    Path("datasets/tone-2.jsonl").unlink()
    assert affected(committed) == {"sales": (ALL, "datasets/tone-2.jsonl is no longer read")}


def test_a_file_that_is_deleted_is_said(committed: Repo) -> None:
    Path("datasets/tone.jsonl").unlink()
    assert affected(committed)["sales"][1] == "datasets/tone.jsonl is not there"


@pytest.mark.parametrize(
    ("old", "new", "steps", "why"),
    [
        ("    data: [shared]\n", "    data: [shared]\n    train: {epochs: 4}\n", "train package? register? test?", "train.epochs: 3 -> 4 (models.yaml:13)"),
        ("    data: [shared]\n", "    data: [shared]\n    serve: {weights_type: f16}\n", "package register? test?", 'serve.weights_type: "q8_0" -> "f16" (models.yaml:13)'),
        ("    data: [shared]\n", "    data: [shared]\n    serve: {system: Hm}\n", "register test?", 'serve.system: nothing -> "Hm" (models.yaml:13)'),
    ],
)  # fmt: skip
def test_a_key_affects_the_steps_that_it_is_of(committed: Repo, old: str, new: str, steps: str, why: str) -> None:
    committed.replace(old, new)
    assert affected(committed) == {"legal": (steps, why)}


def test_a_tag_affects_nothing(committed: Repo) -> None:
    committed.replace("    data: [shared]\n", "    data: [shared]\n    tags: [desk]\n")
    assert affected(committed) == {}


def test_models_that_are_added_renamed_or_gone_are_told(committed: Repo) -> None:
    commit = short()
    committed.replace("  legal:\n", "  lawyer:\n")
    committed.replace("  sales:\n", "  young:\n    base: tiny\n    data: [tone]\n  vendor:\n")
    committed.replace("temperature: 0.2", "temperature: 0.4")
    result = committed.doit("affected", "--since", "main")
    assert result.out == (
        f"lawyer  convert train package register test  new since {commit}; it was legal\n"
        f"young   convert train package register test  new since {commit}\n"
        f"vendor  convert train package register test  new since {commit}\n"
    )
    assert result.err == f"3 models are affected since {commit}\nsales is gone since {commit}; Ollama may have it still: `ollama rm sales`\n"
    facts = as_json(committed)
    assert [(model["model"], model["change"], model.get("was")) for model in facts["models"]] == [
        ("lawyer", "renamed", "legal"),
        ("young", "added", None),
        ("vendor", "added", None),
    ]
    assert facts["gone"] == ["sales"]


def test_a_dataset_that_no_model_reads_is_told_as_its_step(committed: Repo) -> None:
    committed.replace("models:\n", "  spare: {files: [datasets/spare.jsonl]}\nmodels:\n")
    Path("datasets/spare.jsonl").write_text(jsonl({"instruction": "More?", "output": "More."}), encoding="utf-8")
    assert affected(committed) == {"validate:spare": ("validate", f"new since {short()}")}
    assert affected(committed, "sales") == {}


def test_the_commit_that_both_have_in_common_is_compared_with(committed: Repo) -> None:
    git("checkout", "-b", "branch")
    committed.replace("temperature: 0.2", "temperature: 0.4")
    git("commit", "-am", "warmer")
    git("checkout", "main")
    committed.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")  # which the branch has not got
    git("commit", "-am", "others work")
    git("checkout", "branch")
    assert affected(committed) == {"sales": ("register test?", 'serve.parameters: {"temperature": 0.2} -> {"temperature": 0.4} (models.yaml:16)')}  # fmt: skip


def test_programs_get_steps_and_reasons(committed: Repo) -> None:
    commit = git("rev-parse", "HEAD").strip()
    committed.replace("    data: [shared]\n", "    data: [shared]\n    serve: {weights_type: f16}\n")
    assert as_json(committed, "legal") == {
        "since": "main",
        "commit": commit,
        "models": [
            {
                "model": "legal",
                "change": "changed",
                "steps": [
                    {
                        "step": "package:legal",
                        "stage": "package",
                        "name": "legal",
                        "runs": "yes",
                        "reasons": [
                            {
                                "kind": "key",
                                "what": "serve.weights_type",
                                "old": "q8_0",
                                "new": "f16",
                                "at": "models.yaml:13",
                                "text": 'serve.weights_type: "q8_0" -> "f16"',
                            }
                        ],
                    },
                    {
                        "step": "register:legal",
                        "stage": "register",
                        "name": "legal",
                        "runs": "perhaps",
                        "reasons": [
                            {
                                "kind": "perhaps behind",
                                "what": "package:legal",
                                "old": "its GGUF",
                                "new": "registers",
                                "text": "package:legal will run; registers unless its GGUF comes out the same",
                            }
                        ],
                    },
                    {
                        "step": "test:legal",
                        "stage": "test",
                        "name": "legal",
                        "runs": "perhaps",
                        "reasons": [
                            {
                                "kind": "perhaps behind perhaps",
                                "what": "register:legal",
                                "old": "its model",
                                "new": "tests",
                                "text": "register:legal may run; tests unless its model comes out the same",
                            }
                        ],
                    },
                ],
            }
        ],
        "datasets": [],
        "gone": [],
    }


def test_only_selected_models_are_told(committed: Repo) -> None:
    committed.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert set(affected(committed)) == {"legal", "sales"}
    assert set(affected(committed, "data:tone")) == {"sales"}
    assert set(affected(committed, "--exclude", "sales")) == {"legal"}


def test_since_selects_what_is_affected(committed: Repo) -> None:
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert committed.doit("build", "since:main").ran == [
        "validate:tone",
        "convert:sales",
        "train:sales",
        "package:sales",
        "register:sales",
        "test:sales",
    ]
    assert committed.doit("ls", "since:main,data:shared").out == "sales  tiny  shared, tone\n"
    result = committed.doit("build", "since:HEAD,legal")
    assert (result.code, result.out, result.err) == (0, "", "no model is selected: since:HEAD,legal\n")


def test_a_lock_that_was_built_meanwhile_tells_that_the_text_is_the_same(committed: Repo) -> None:
    path = Path("datasets/tone.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n"), encoding="utf-8")
    assert affected(committed) == {"sales": (ALL, "datasets/tone.jsonl changed")}
    committed.doit()
    assert affected(committed) == {"sales": ("validate convert", "datasets/tone.jsonl changed")}
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")  # of which the lock knows nothing
    assert affected(committed) == {"sales": (ALL, "datasets/tone.jsonl changed")}


def test_a_base_that_is_not_in_git_is_compared_by_the_lock(committed: Repo) -> None:
    from tiny_base import write_tiny_base

    write_tiny_base(Path("base.gguf"), seed=9)
    assert affected(committed) == {}  # nobody has said so yet
    committed.doit("build", "legal")
    assert {name: why for name, (_, why) in affected(committed).items()} == {"legal": "base tiny changed", "sales": "base tiny changed"}


def test_neither_data_nor_weights_nor_a_lock_have_to_be_there(committed: Repo, tmp_path_factory: pytest.TempPathFactory) -> None:
    committed.replace("datasets/tone.jsonl]", "datasets/ton*.jsonl]")
    git("commit", "-am", "a pattern")
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    git("commit", "-am", "kinder")
    sparse = tmp_path_factory.mktemp("sparse")
    git("clone", "--no-checkout", "--filter=blob:none", f"file://{committed.path}", str(sparse))
    for command in (("sparse-checkout", "set", "--no-cone", "/models.yaml", "/dodo.py"), ("checkout", "main")):
        git("-C", str(sparse), *command)
    assert sorted(path.name for path in sparse.iterdir()) == [".git", "dodo.py", "models.yaml"]
    done = subprocess.run([sys.executable, "-m", "doit", "affected", "--since", "HEAD~1"], cwd=sparse, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (0, f"sales  {ALL}  datasets/tone.jsonl changed\n")


def test_data_that_is_not_in_git_is_compared_by_the_lock_be_it_there_or_not(committed: Repo) -> None:
    Path("data").mkdir()
    Path("datasets/tone.jsonl").rename("data/tone.jsonl")
    committed.replace("datasets/tone.jsonl]", "data/*.jsonl]")
    committed.replace("/build/", "/build/\n/data/", ".gitignore")
    committed.doit()
    git("add", ".")
    git("commit", "-am", "data elsewhere")
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", "data/tone.jsonl")
    assert affected(committed) == {}  # nobody has said so yet
    committed.doit()
    assert affected(committed) == {"sales": (ALL.replace("train?", "train"), "data/tone.jsonl changed")}
    shutil.rmtree("data")
    assert affected(committed) == {"sales": (ALL.replace("train?", "train"), "data/tone.jsonl changed")}


def test_files_of_git_lfs_are_compared_by_their_pointers(committed: Repo) -> None:
    pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:{}\nsize 12\n"
    path = Path("datasets/tone.jsonl")
    path.write_text(pointer.format("a" * 64), encoding="utf-8")
    git("commit", "-am", "to git-lfs")
    assert affected(committed) == {}
    path.write_text(pointer.format("b" * 64), encoding="utf-8")
    assert affected(committed) == {"sales": (ALL, "datasets/tone.jsonl changed")}


def test_a_catalog_that_had_faults_then_is_said_and_taken_as_new(committed: Repo) -> None:
    committed.replace("base: tiny", "bsae: tiny")
    git("commit", "-am", "a mistake")
    commit = short()
    committed.replace("bsae: tiny", "base: tiny")
    why = f"the catalog had faults at {commit}: models.yaml:10: models.legal: missing key 'base'"
    assert affected(committed) == dict.fromkeys(("legal", "sales"), ("validate convert train package register test", why))


def test_a_catalog_that_was_not_there_then_is_new(committed: Repo) -> None:
    git("mv", "models.yaml", "other.yaml")
    git("commit", "-m", "away")
    commit = short()
    git("mv", "other.yaml", "models.yaml")
    assert affected(committed) == dict.fromkeys(("legal", "sales"), ("validate convert train package register test", f"new since {commit}"))


def test_a_repo_may_be_a_folder_of_a_larger_one(committed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    shutil.rmtree(".git")
    Path("repo").mkdir()
    for path in list(committed.path.iterdir()):
        if path.name != "repo":
            path.rename(committed.path / "repo" / path.name)
    Path("repo/models.yaml").write_text(
        Path("repo/models.yaml").read_text(encoding="utf-8").replace("datasets/tone.jsonl", "../data/t*.jsonl"), encoding="utf-8"
    )
    Path("data").mkdir()
    Path("repo/datasets/tone.jsonl").rename("data/tone.jsonl")
    git("init", "-b", "main")
    git("add", ".")
    git("commit", "-m", "first")
    monkeypatch.chdir("repo")
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", "data/tone.jsonl")
    assert affected(committed) == {"sales": (ALL, "../data/tone.jsonl changed")}


def test_each_catalog_of_a_dodo_is_compared_with_its_own(committed: Repo) -> None:
    second = CATALOG.replace("  legal:", "  lawyer:").replace("  sales:", "  vendor:").replace("  shared:", "  common:").replace("[shared", "[common")
    Path("other.yaml").write_text(second.replace("  tone:", "  manner:").replace(", tone]", ", manner]"), encoding="utf-8")
    both = DODO + '    yield from tasks_from("other.yaml")\n'
    Path("dodo.py").write_text(both, encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "two catalogs")
    committed.replace("temperature: 0.2", "temperature: 0.4", "other.yaml")
    done = subprocess.run([sys.executable, "-m", "doit", "affected", "--since", "main"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (
        0,
        'vendor  register test?  serve.parameters: {"temperature": 0.2} -> {"temperature": 0.4} (other.yaml:16)\n',
    )


def test_few_processes_of_git_are_asked_however_many_models_there_are(committed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    models = "".join(f"  model-{number}:\n    base: tiny\n    data: [shared]\n" for number in range(8))
    Path("models.yaml").write_text(CATALOG + models, encoding="utf-8")
    committed.doit()
    git("commit", "-am", "more models")
    path = Path("datasets/shared.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace("\n", "\n\n"), encoding="utf-8")
    committed.doit()
    trace = committed.path.parent / "git-trace"
    monkeypatch.setenv("GIT_TRACE", str(trace))
    assert {steps for steps, _ in affected(committed).values()} == {"validate convert"}
    asked = [line for line in trace.read_text(encoding="utf-8").splitlines() if "built-in: git " in line]
    assert len(asked) == 10, asked


def test_it_writes_nothing_and_does_not_wait_for_a_build(committed: Repo) -> None:
    from ollamake.state.run_lock import RunLock

    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    Path("datasets/shared.jsonl").touch()
    lock = RunLock(committed.path)
    lock.hold()
    try:
        before = {path: path.stat().st_mtime_ns for path in committed.path.rglob("*")}
        assert set(affected(committed)) == {"sales"}
        assert {path: path.stat().st_mtime_ns for path in committed.path.rglob("*")} == before
    finally:
        lock.release()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        ((), "usage: doit affected --since REV [SELECTOR...]"),
        (
            ("--since", "mian"),
            "\nno commit 'mian' in this clone\n  fix: write 'main' (known: main), "
            "or fetch it: `git fetch origin`; in GitHub Actions, actions/checkout with `fetch-depth: 0`",
        ),
        (("--since", "main", "leagl"), "\nno model 'leagl' in the catalog\n  fix: write 'legal' (known: legal, sales)"),
        (("--since", "other"), "\nother and HEAD have no commit in common\n  fix: name a commit that this branch comes from"),
    ],
)
def test_mistakes_are_said(committed: Repo, arguments: tuple[str, ...], said: str) -> None:
    if "other" in arguments:
        git("checkout", "--orphan", "other")
        git("commit", "-m", "another beginning")
        git("checkout", "main")
    result = committed.doit("affected", *arguments)
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: {said}\n")


def test_a_shallow_clone_is_told_to_fetch_more(committed: Repo, tmp_path_factory: pytest.TempPathFactory) -> None:
    git("checkout", "-b", "branch")
    for number in range(3):
        git("commit", "--allow-empty", "-m", f"number {number}")
    shallow = tmp_path_factory.mktemp("shallow")
    git("clone", "--depth", "1", "--no-single-branch", f"file://{committed.path}", str(shallow))
    done = subprocess.run(
        [sys.executable, "-m", "doit", "affected", "--since", "origin/main"], cwd=shallow, capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr == (
        "ERROR: \norigin/main and HEAD have no commit in common, as far as this shallow clone goes\n"
        "  fix: fetch all: `git fetch --unshallow`; in GitHub Actions, actions/checkout with `fetch-depth: 0`\n"
    )


def test_outside_of_a_clone_it_says_so(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(built.path.parent))
    result = built.doit("affected", "--since", "main")
    assert (result.code, result.err) == (3, "ERROR: \nnot in a git repo: there is no commit to compare with\n  fix: run it in a clone of the repo\n")


def test_without_git_it_says_so(committed: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    result = committed.doit("affected", "--since", "main")
    assert (result.code, result.err) == (3, "ERROR: \ngit is not installed\n  fix: install it: https://git-scm.com\n")


# Links, submodules, absolute paths, and files that only some know.


def commit(message: str = "more") -> None:
    git("add", ".")
    git("commit", "-m", message)


@pytest.fixture
def lockless(committed: Repo) -> Repo:
    """The same without a lock, in git or here: git alone tells."""
    git("rm", "-q", "models.lock")
    shutil.rmtree(".ollamake")
    commit("no lock")
    return committed


@pytest.mark.parametrize("target", ["../shared/tone.jsonl", "{root}/shared/tone.jsonl"])
def test_a_dataset_that_is_a_link_is_compared_by_what_it_leads_to(committed: Repo, target: str) -> None:
    Path("shared").mkdir()
    Path("datasets/tone.jsonl").rename("shared/tone.jsonl")
    Path("datasets/tone.jsonl").symlink_to(target.format(root=committed.path))
    commit()
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", "shared/tone.jsonl")
    assert affected(committed) == {"sales": (ALL, "datasets/tone.jsonl changed")}
    commit()
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "datasets/tone.jsonl changed")}
    shutil.copy("shared/tone.jsonl", "shared/other.jsonl")
    git("add", ".")
    Path("datasets/tone.jsonl").unlink()
    Path("datasets/tone.jsonl").symlink_to("../shared/other.jsonl")
    assert affected(committed) == {}  # the same content
    committed.replace("Kindly", "Softly", "shared/other.jsonl")
    assert affected(committed) == {"sales": (ALL, "datasets/tone.jsonl changed")}


@pytest.mark.parametrize("named", ["data/tone.jsonl", "data/*.jsonl", "d*/tone.jsonl"])
def test_a_folder_that_is_a_link_is_followed(committed: Repo, named: str) -> None:
    Path("shared/a").mkdir(parents=True)
    Path("shared/b").mkdir()
    Path("datasets/tone.jsonl").rename("shared/a/tone.jsonl")
    shutil.copy("shared/a/tone.jsonl", "shared/b/tone.jsonl")
    committed.replace("Gladly", "Kindly", "shared/b/tone.jsonl")
    Path("data").symlink_to("shared/a")
    committed.replace("datasets/tone.jsonl", named)
    commit()
    assert affected(committed) == {}
    Path("data").unlink()
    Path("data").symlink_to("shared/b")
    assert affected(committed) == {"sales": (ALL, "data/tone.jsonl changed")}
    commit()
    committed.replace("Kindly", "Softly", "shared/b/tone.jsonl")
    Path("shared/b/more.jsonl").write_text(jsonl({"instruction": "More?", "output": "More."}), encoding="utf-8")
    assert affected(committed)["sales"][1].startswith("data/more.jsonl is new; data/tone" if "*.j" in named else "data/tone.jsonl changed")


def test_a_link_that_leads_out_of_the_clone_to_another_place_than_before_is_told(lockless: Repo, tmp_path_factory: pytest.TempPathFactory) -> None:
    outside = tmp_path_factory.mktemp("outside")
    Path("datasets/tone.jsonl").rename(outside / "tone.jsonl")
    Path("datasets/tone.jsonl").symlink_to(outside / "tone.jsonl")
    commit()
    result = lockless.doit("affected", "--since", "HEAD")
    said = "neither git nor the lock of both sides has these, and they are taken for the same: base tiny, datasets/tone.jsonl\n"
    assert (result.out, result.err) == ("", f"{said}no model is affected since {short()}\n")
    Path("datasets/tone.jsonl").unlink()
    Path("datasets/tone.jsonl").symlink_to(outside / "other.jsonl")
    assert affected(lockless) == {"sales": (ALL, "datasets/tone.jsonl changed")}


def test_a_catalog_that_is_a_link_is_read_as_it_was_then(committed: Repo) -> None:
    Path("catalogs").mkdir()
    Path("models.yaml").rename("catalogs/warm.yaml")
    shutil.copy("catalogs/warm.yaml", "catalogs/cold.yaml")
    committed.replace("temperature: 0.2", "temperature: 0.1", "catalogs/cold.yaml")
    Path("models.yaml").symlink_to("catalogs/warm.yaml")
    commit()
    assert affected(committed) == {}
    committed.replace("temperature: 0.2", "temperature: 0.4", "catalogs/warm.yaml")
    assert affected(committed) == {"sales": ("register test?", 'serve.parameters: {"temperature": 0.2} -> {"temperature": 0.4} (models.yaml:16)')}
    git("checkout", "catalogs")
    Path("models.yaml").unlink()
    Path("models.yaml").symlink_to("catalogs/cold.yaml")
    assert affected(committed) == {"sales": ("register test?", 'serve.parameters: {"temperature": 0.2} -> {"temperature": 0.1} (models.yaml:16)')}


@pytest.mark.parametrize("named", ["tone.jsonl", "t*.jsonl"])
@pytest.mark.parametrize("alias", ["", "/root", "/data"])
def test_an_absolute_path_into_the_clone_is_compared_by_git(
    committed: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, named: str, alias: str
) -> None:
    elsewhere = tmp_path_factory.mktemp("elsewhere")
    (elsewhere / "root").symlink_to(committed.path)
    (elsewhere / "data").symlink_to(committed.path / "datasets")
    monkeypatch.setenv("DATA", {"": f"{committed.path}/datasets", "/root": f"{elsewhere}/root/datasets", "/data": f"{elsewhere}/data"}[alias])
    committed.replace("version: 1\n", "version: 1\nenv: [DATA]\n")
    committed.replace("datasets/tone.jsonl", f'"${{DATA}}/{named}"')
    commit()
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert affected(committed) == {"sales": (ALL, "${DATA}/tone.jsonl changed")}
    commit()
    if "*" in named:
        Path("datasets/tone-2.jsonl").write_text(jsonl({"instruction": "More?", "output": "More."}), encoding="utf-8")
        assert affected(committed) == {"sales": (ALL, "${DATA}/tone-2.jsonl is new")}
        commit()
        Path("datasets/tone-2.jsonl").unlink()
        assert affected(committed) == {"sales": (ALL, "${DATA}/tone-2.jsonl is no longer read")}


def test_an_absolute_path_out_of_the_clone_is_in_no_folder_of_it(tmp_path: Path) -> None:
    from ollamake.git import Clone

    (tmp_path / "in/data").mkdir(parents=True)
    clone = Clone(root=tmp_path, prefix="in/", is_shallow=False)
    assert clone.path("/data/a.jsonl") == "/data/a.jsonl"
    assert (
        clone.path("data/a.jsonl")
        == clone.path(f"{tmp_path}/in/data/a.jsonl")
        == clone.path(f"../../{tmp_path.name}/in/data/a.jsonl")
        == "in/data/a.jsonl"
    )
    assert clone.path("../../a.jsonl") == f"{tmp_path.parent}/a.jsonl"


@pytest.fixture
def submodule(committed: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder that the submodule `sub` was cloned from, with a commit before the one that is checked out."""
    for name, value in (("COUNT", "1"), ("KEY_0", "protocol.file.allow"), ("VALUE_0", "always")):
        monkeypatch.setenv(f"GIT_CONFIG_{name}", value)
    source = tmp_path_factory.mktemp("source")
    Path("datasets/tone.jsonl").rename(source / "tone.jsonl")
    git("-C", str(source), "init", "-b", "main")
    git("-C", str(source), "add", ".")
    git("-C", str(source), "commit", "-m", "first")
    git("submodule", "add", f"file://{source}", "sub")
    committed.replace("datasets/tone.jsonl", "sub/tone.jsonl")
    commit()
    return source


def bump(source: Path, *files: tuple[str, str, str]) -> None:
    for file, old, new in files:
        (source / file).write_text((source / file).read_text(encoding="utf-8").replace(old, new), encoding="utf-8")
    (source / "read.me").touch()
    git("-C", str(source), "add", ".")
    git("-C", str(source), "commit", "-m", "bump")
    git("-C", "sub", "pull", "origin", "main")


def test_files_of_a_submodule_are_compared_one_by_one(committed: Repo, submodule: Path) -> None:
    assert affected(committed) == {}
    bump(submodule)
    assert affected(committed) == {}
    bump(submodule, ("tone.jsonl", "Gladly", "Kindly"))
    assert affected(committed) == {"sales": (ALL, "sub/tone.jsonl changed")}
    commit()
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "sub/tone.jsonl changed")}
    committed.replace("Kindly", "Softly", "sub/tone.jsonl")
    assert affected(committed) == {"sales": (ALL, "sub/tone.jsonl changed")}


def test_files_of_a_submodule_that_is_not_here_are_compared_by_its_commit(committed: Repo, submodule: Path) -> None:
    bump(submodule, ("tone.jsonl", "Gladly", "Kindly"))
    commit()
    git("submodule", "deinit", "-f", "sub")
    assert affected(committed) == {}
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "sub/tone.jsonl changed")}


def test_a_pattern_into_a_submodule_that_is_not_here_and_was_bumped_is_refused(committed: Repo, submodule: Path) -> None:
    committed.replace("sub/tone.jsonl", "sub/*.jsonl")
    commit()
    bump(submodule, ("tone.jsonl", "Gladly", "Kindly"))
    commit()
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "sub/tone.jsonl changed")}
    git("submodule", "deinit", "-f", "sub")
    assert affected(committed, since="HEAD") == {}
    result = committed.doit("affected", "--since", "HEAD~1")
    said = "sub/*.jsonl: git has another commit of the submodule sub since, and its files are not here"
    assert (result.code, result.out, result.err) == (3, "", f"ERROR: \n{said}\n  fix: `git submodule update --init sub`\n")


def test_included_catalogs_may_have_any_name(committed: Repo) -> None:
    head, models = Path("models.yaml").read_text(encoding="utf-8").split("models:\n")
    Path("models.yaml").write_text(f"{head}include: [more.json]\n", encoding="utf-8")
    Path("more.json").write_text(f"version: 1\nmodels:\n{models}", encoding="utf-8")
    commit()
    assert affected(committed) == {}
    committed.replace("temperature: 0.2", "temperature: 0.4", "more.json")
    assert affected(committed) == {"sales": ("register test?", 'serve.parameters: {"temperature": 0.2} -> {"temperature": 0.4} (more.json:9)')}


def test_what_neither_git_nor_a_lock_knows_is_taken_for_the_same_and_said(lockless: Repo) -> None:
    lockless.replace("datasets/tone.jsonl", "data/*.jsonl")
    Path("data").mkdir()
    Path("datasets/tone.jsonl").rename("data/tone.jsonl")
    lockless.replace("/build/", "/build/\n/data/", ".gitignore")
    commit()
    said = "neither git nor the lock of both sides has these, and they are taken for the same: base tiny, data/tone.jsonl\n"
    result = lockless.doit("affected", "--since", "HEAD")
    assert (result.code, result.out, result.err) == (0, "", f"{said}no model is affected since {short()}\n")
    result = lockless.doit("ls", "since:HEAD")
    assert (result.code, result.out, result.err) == (0, "", f"{said}no model is selected: since:HEAD\n")
    lockless.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    assert affected(lockless) == dict.fromkeys(("legal", "sales"), (ALL, "datasets/shared.jsonl changed"))


def test_a_catalog_that_git_ignores_is_taken_for_the_same_and_said(committed: Repo) -> None:
    head, models = Path("models.yaml").read_text(encoding="utf-8").split("models:\n")
    Path("models.yaml").write_text(f"{head}include: [own.yaml]\n", encoding="utf-8")
    Path("own.yaml").write_text(f"version: 1\nmodels:\n{models}", encoding="utf-8")
    committed.replace("/build/", "/build/\n/own.yaml", ".gitignore")
    commit()
    result = committed.doit("affected", "--since", "HEAD")
    said = "neither git nor the lock of both sides has these, and they are taken for the same: own.yaml\n"
    assert (result.out, result.err) == ("", f"{said}no model is affected since {short()}\n")


def test_data_that_comes_into_git_is_compared_with_what_the_lock_said(committed: Repo) -> None:
    committed.replace("/build/", "/build/\n/datasets/", ".gitignore")
    git("rm", "-q", "-r", "--cached", "datasets")
    commit("data out of git")
    assert affected(committed, since="HEAD~1") == {}  # it is the same
    git("add", "-f", "datasets")
    git("commit", "-m", "data in git")
    assert affected(committed, since="HEAD~1") == {}
    committed.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert affected(committed, since="HEAD~1") == {"sales": (ALL, "datasets/tone.jsonl changed")}
    committed.doit()
    git("commit", "-am", "kinder")
    assert {name: why for name, (_, why) in affected(committed, since="HEAD~2").items()} == {"sales": "datasets/tone.jsonl changed"}
    git("rm", "-q", "-r", "--cached", "datasets")
    committed.replace("Kindly", "Softly", "datasets/tone.jsonl")
    assert affected(committed, since="HEAD") == {"sales": (ALL, "datasets/tone.jsonl changed")}


def test_a_model_that_is_gone_is_told_as_the_former_name_of_one_alone(committed: Repo) -> None:
    commit_ = short()
    committed.replace("  legal:\n", "  lawyer:\n    base: tiny\n    data: [shared]\n  notary:\n")
    result = committed.doit("affected", "--since", "main")
    assert result.out == (
        f"lawyer  convert train package register test  new since {commit_}; it was legal\nnotary  convert train package register test  new since {commit_}\n"
    )


def test_of_two_models_that_are_gone_each_is_told(committed: Repo) -> None:
    committed.replace("  legal:\n", "  lawyer:\n    base: tiny\n    data: [shared]\n  notary:\n")
    commit()
    committed.replace("  lawyer:\n    base: tiny\n    data: [shared]\n  notary:\n", "  legal:\n")
    facts = as_json(committed)
    assert ([(model["model"], model["was"]) for model in facts["models"]], facts["gone"]) == ([("legal", "lawyer")], ["notary"])


@pytest.mark.parametrize("name", ['"tone.jsonl', "to\nne.jsonl", "tone\r", 'tone "é".jsonl'])
def test_files_may_have_any_name(committed: Repo, name: str) -> None:
    Path("datasets/tone.jsonl").rename(name)
    committed.replace("[datasets/tone.jsonl]", f"[{json.dumps(name)}]")
    commit()
    assert affected(committed) == {}
    Path(name).touch()
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", name)
    (sales,) = as_json(committed)["models"]
    assert sales["steps"][0]["reasons"][0]["text"] == f"{name} changed"


def test_a_catalog_that_moved_is_said_to_have_been_elsewhere(committed: Repo) -> None:
    git("mv", "models.yaml", "other.yaml")
    git("commit", "-m", "away")
    git("mv", "other.yaml", "models.yaml")
    result = committed.doit("affected", "--since", "HEAD")
    assert result.err == f"models.yaml was not there at {short()}: all of its models are new\n2 models are affected since {short()}\n"


def test_only_files_that_patterns_ask_for_are_laid_out(committed: Repo, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from ollamake.git import clone_here
    from ollamake.mirror import Mirror

    for path in ("sources/a.py", "sources/b.jsonl", "datasets/deep/c.jsonl", "datasets/c.txt"):
        Path(path).parent.mkdir(exist_ok=True)
        Path(path).touch()
    Path("datasets/linked").symlink_to("../sources")
    commit()
    monkeypatch.chdir("datasets")
    top = tmp_path / "mirror"
    mirror = Mirror(str(top), clone_here().tree_at("HEAD"), beside=["datasets/known.jsonl"], content=lambda _: b"")

    def laid_out() -> list[str]:
        return sorted(path.name for path in top.rglob("*") if path.is_file() and not path.is_symlink())

    assert laid_out() == []
    assert mirror.matching("tone.jsonl") == ["tone.jsonl"]
    assert laid_out() == ["tone.jsonl"]
    assert mirror.matching("*.jsonl") == ["known.jsonl", "shared.jsonl", "tone.jsonl"]
    assert mirror.matching("*/*.jsonl") == ["deep/c.jsonl", "linked/b.jsonl"]
    assert mirror.matching("../*/c.*") == ["../datasets/c.txt"]
    assert mirror.matching(f"{Path.cwd()}/c.*") == [f"{Path.cwd()}/c.txt"]
    assert "a.py" not in laid_out()
    assert mirror.matching("no*.jsonl") == mirror.matching("/no/*.jsonl") == mirror.matching("no.jsonl") == []


@pytest.mark.parametrize("place", ["data", "{outside}"])
def test_data_that_a_variable_names_is_compared_by_the_lock_be_it_there_or_not(
    committed: Repo, monkeypatch: pytest.MonkeyPatch, tmp_path_factory: pytest.TempPathFactory, place: str
) -> None:
    folder = Path(place.format(outside=tmp_path_factory.mktemp("outside") / "data"))
    folder.mkdir()
    monkeypatch.setenv("DATA", str(folder))
    Path("datasets/tone.jsonl").rename(folder / "tone.jsonl")
    committed.replace("version: 1\n", "version: 1\nenv: [DATA]\n")
    committed.replace("datasets/tone.jsonl", '"${DATA}/*.jsonl"')
    committed.replace("/build/", "/build/\n/data/", ".gitignore")
    committed.doit()
    commit()
    assert affected(committed) == {}
    committed.replace("Gladly", "Kindly", str(folder / "tone.jsonl"))
    committed.doit()
    said = {"sales": (ALL.replace("train?", "train"), "${DATA}/tone.jsonl changed")}
    assert affected(committed) == said
    shutil.rmtree(folder)
    assert affected(committed) == said
