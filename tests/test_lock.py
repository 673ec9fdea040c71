"""models.lock and what lies under .ollamake/: text that git merges, that says when it is damaged, and that is not believed where it lies."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from conftest import Repo, without_times
from ollamake.seal import sealed
from ollamake.state.lock_file import lock_text, read_lock

TAKE_BACK = (
    "take the committed one back: `git checkout models.lock`; or delete it: `doit` repeats no training whose adapter is there with its receipt"
)


def lock() -> str:
    return Path("models.lock").read_text(encoding="utf-8")


def test_a_block_for_each_step_sorted_and_nothing_of_this_machine_or_day(built: Repo) -> None:
    value = json.loads(lock())
    assert list(value) == ["convert:legal", "convert:sales", "train:legal", "train:sales", "validate:shared", "validate:tone", "version"]
    for step, block in value.items():
        if step != "version":
            assert sorted(block) == ["inputs", "keys", "targets", "versions"]
            for digest in (*block["inputs"].values(), *block["targets"].values(), block["keys"]):
                assert re.fullmatch("sha256:[0-9a-f]{64}", digest)
            stage = step.partition(":")[0]
            assert block["versions"] == {stage: {"validate": 2, "convert": 3, "train": 1}[stage]}
    assert value["train:legal"]["inputs"].keys() == {"base tiny", "build/legal/text.jsonl"}
    assert str(built.path) not in lock()
    assert "202" not in re.sub("[0-9a-f]{64}", "", lock())
    assert lock_text(read_lock(lock(), "models.lock")) == lock()


def test_local_things_may_be_deleted_at_any_time(built: Repo) -> None:
    before = lock()
    shutil.rmtree(".ollamake")
    result = built.doit()
    assert set(result.ran) == {"package:legal", "package:sales", "register:legal", "register:sales", "test:legal", "test:sales"}
    assert lock() == before
    assert built.doit().ran == []


def test_a_run_that_has_nothing_to_do_writes_nothing(built: Repo) -> None:
    def written() -> dict[Path, int]:
        return {path: path.stat().st_mtime_ns for path in Path().rglob("*") if path.is_file() and path.name != "run.json"}

    built.doit()
    before = written()
    assert built.doit().ran == []
    assert written() == before


def fresh_clone(built: Repo, folder: Path, *, receipts: bool) -> Repo:
    folder.mkdir()
    for name in ("models.yaml", "models.lock", "base.gguf", "trainings.log", "datasets", "adapters"):
        (shutil.copytree if Path(name).is_dir() else shutil.copyfile)(name, folder / name)
    if not receipts:
        for path in folder.glob("adapters/*/receipt.json"):
            path.unlink()
    for number, path in enumerate(sorted(folder.rglob("*"))):
        os.utime(path, ns=(number, number))
    os.chdir(folder)
    return Repo(folder, built.server)


@pytest.mark.parametrize("receipts", [True, False])
def test_a_fresh_clone_with_lock_and_adapters_trains_nothing(built: Repo, tmp_path_factory: pytest.TempPathFactory, receipts: bool) -> None:
    before = lock()
    clone = fresh_clone(built, tmp_path_factory.mktemp("elsewhere") / "clone", receipts=receipts)
    plan = clone.doit("plan")
    assert "train" not in plan.out.replace("1 training", "")
    result = clone.doit()
    assert result.code == 0, result.out + result.err
    assert [step for step in result.ran if step.startswith("train")] == []
    assert len(result.ran) == 10  # what is cheap
    assert clone.trainings == ["legal", "sales"]
    assert lock() == before
    assert clone.doit().ran == []


@pytest.mark.parametrize("receipts", [True, False])
def test_a_fresh_clone_without_the_lock_believes_an_adapter_that_has_its_receipt(
    built: Repo, tmp_path_factory: pytest.TempPathFactory, receipts: bool
) -> None:
    before = lock()
    clone = fresh_clone(built, tmp_path_factory.mktemp("elsewhere") / "clone", receipts=receipts)
    Path("models.lock").unlink()
    assert clone.doit().code == 0
    assert clone.trainings == ["legal", "sales"] if receipts else ["legal", "sales", "legal", "sales"]
    assert lock() == before


def git(*arguments: str) -> str:
    identity = ("-c", "user.name=Nobody", "-c", "user.email=nobody@example.com", "-c", "commit.gpgsign=false")
    return subprocess.run(["git", *identity, *arguments], capture_output=True, text=True, check=False).stdout


def test_git_merges_two_branches_that_trained_different_models(built: Repo) -> None:
    git("init", "-b", "main")
    Path(".gitignore").write_text("/build/\n/.ollamake/\n/trainings.log\n", encoding="utf-8")
    git("add", ".")
    git("commit", "-m", "built")
    for branch, model in (("one", "legal"), ("two", "sales")):
        git("checkout", "-b", branch, "main")
        data = {"legal": "    data: [shared]\n", "sales": "    data: [shared, tone]\n"}[model]
        built.replace(data, f"{data}    train: {{rank: 3}}\n")
        assert built.doit().code == 0
        git("commit", "-am", f"{model} has rank 3")
    assert built.trainings.count("legal") + built.trainings.count("sales") == 4
    said = git("merge", "one", "-m", "merged")
    assert "CONFLICT" not in said, said
    assert built.doit().code == 0
    assert built.trainings == ["legal", "sales", "legal", "sales"]
    assert git("status", "--porcelain") == ""


def test_conflict_marks_are_named_with_their_line_and_the_way_out(built: Repo) -> None:
    lines = lock().splitlines(keepends=True)
    Path("models.lock").write_text("".join([*lines[:7], "<<<<<<< HEAD\n", *lines[7:9], "=======\n", lines[8], ">>>>>>> theirs\n", *lines[9:]]))
    before = lock()
    for command in ((), ("plan",), ("why", "legal"), ("list", "-s"), ("forget", "train:legal")):
        result = built.doit(*command)
        assert (result.code, result.out) == (3, "")
        assert result.err == (
            "ERROR: \nmodels.lock:8: a merge has left its marks: '<<<<<<< HEAD'\n"
            "  fix: take one side: `git checkout --ours models.lock` or `--theirs`; then `doit` builds what differs, "
            "and repeats no training whose adapter is there\n"
        )
    assert lock() == before


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        (lambda text: text[:300], "models.lock:6: not JSON: Unterminated string starting at"),
        (lambda _: "", "models.lock:1: not JSON: Expecting value"),
        (lambda text: text.replace("convert:legal", "convert:l\udce4gal", 1), "models.lock:2: not UTF-8"),
        (lambda _: "[]\n", "models.lock:1: not a lock of format 1"),
        (lambda text: text.replace('"version": 1\n', '"version": 2\n'), "models.lock:1: not a lock of format 1"),
        (lambda text: text.replace('    "keys": ', '    "kyes": ', 1), "models.lock:2: no block of a step: 'convert:legal'"),
        (lambda text: text.replace('"convert:sales"', '"convert:legal"'), "models.lock:16: 'convert:legal' stands twice in one block"),
    ],
)
def test_a_damaged_lock_is_an_error_that_names_the_line_and_the_way_out(built: Repo, damage, said: str) -> None:
    damaged = damage(lock())
    Path("models.lock").write_text(damaged, encoding="utf-8", errors="surrogateescape")
    result = built.doit()
    assert result.code == 3
    assert result.err.startswith(f"ERROR: \n{said}"), result.err
    assert f"\n  fix: {TAKE_BACK}" in result.err
    assert Path("models.lock").read_text(encoding="utf-8", errors="surrogateescape") == damaged
    Path("models.lock").unlink()  # as the message says
    assert built.doit().code == 0
    assert built.trainings == ["legal", "sales"]


@pytest.mark.parametrize("step", ["validate:tone", "convert:legal", "train:legal"])
@pytest.mark.parametrize("part", ["inputs", "keys", "targets", "no inputs", "no targets"])
def test_a_lock_that_lies_is_found(built: Repo, step: str, part: str) -> None:
    good = lock()
    value = json.loads(good)
    lie = "sha256:" + 64 * "0"
    value[step][part.rsplit(maxsplit=1)[-1]] = lie if part == "keys" else {} if part.startswith("no ") else dict.fromkeys(value[step][part], lie)
    del value["version"]
    Path("models.lock").write_text(lock_text(value), encoding="utf-8")
    result = built.doit()
    assert result.ran == ([] if step == "train:legal" else [step])  # the adapter's own receipt says what is so
    assert lock() == good
    Path("models.lock").write_text(lock_text(value), encoding="utf-8")
    Path("adapters/legal/receipt.json").unlink()
    assert built.doit().ran == [step]
    assert lock() == good


def test_a_model_that_leaves_the_catalog_leaves_the_lock(built: Repo) -> None:
    good = lock()
    text = Path("models.yaml").read_text(encoding="utf-8")
    Path("models.yaml").write_text(text[: text.index("  sales:")], encoding="utf-8")
    built.doit()
    assert "sales" not in lock()
    Path("models.yaml").write_text(text, encoding="utf-8")
    assert [step for step in built.doit().ran if step.startswith("train")] == []
    assert lock() == good


def test_forget_has_a_step_done_again(built: Repo) -> None:
    assert built.doit("forget", "train:legal").code == 0
    result = built.doit()
    assert ".  train:legal  (not built yet)\n" in result.out
    assert built.trainings == ["legal", "sales", "legal"]
    assert built.doit("forget", "--all").code == 0
    built.doit()
    assert built.trainings == ["legal", "sales", "legal", "legal", "sales"]


def test_always_execute_trains_what_is_named(built: Repo) -> None:
    assert built.doit("-a", "-s", "train:legal").ran == ["train:legal"]
    assert built.trainings == ["legal", "sales", "legal"]


def test_a_failed_step_is_not_forgotten(built: Repo) -> None:
    good = lock()
    built.replace("target_modules: [q_proj]", "target_modules: [q_prj]")
    assert built.doit().code == 1
    assert lock() == good
    built.replace("target_modules: [q_prj]", "target_modules: [q_proj]")
    assert built.doit().ran == []


DODO = """\
from pathlib import Path
from ollamake import DOIT_CONFIG, tasks_from

def task_models():
    yield from tasks_from("models.yaml")

def task_tone():
    return {"actions": ["cp tone.txt datasets/tone.jsonl", "echo made >> made.log"], "file_dep": ["tone.txt"], "targets": ["datasets/tone.jsonl"]}

def task_tally():
    return {"actions": ["echo reported >> made.log"], "file_dep": ["adapters/legal/adapter_config.json"], "task_dep": [%s]}
"""


@pytest.mark.parametrize("target", ["datasets/tone.jsonl", "./datasets/tone.jsonl", "ABSOLUTE", None])
@pytest.mark.parametrize("named", ['"train:legal"', '"train"', ""])
def test_tasks_of_the_users_own_live_beside_the_steps(built: Repo, named: str, target: str | None) -> None:
    """One makes a dataset, one reads an adapter; with or without a seal, each runs when it has to, in the right order."""
    written = "[]" if target is None else f"[{str(built.path / 'datasets/tone.jsonl')!r}]" if target == "ABSOLUTE" else f"[{target!r}]"
    text = (DODO % named).replace('["datasets/tone.jsonl"]', written)
    # As doit has it: what another task makes comes first where its name is the same, else in the order of the file.
    if target != "datasets/tone.jsonl":
        head, models, tone = text.partition('def task_models():\n    yield from tasks_from("models.yaml")\n\n')
        first, tally, rest = tone.partition("def task_tally")
        text = head + first + models + tally + rest
    Path("dodo.py").write_text(text, encoding="utf-8")
    shutil.copyfile("datasets/tone.jsonl", "tone.txt")

    def doit() -> str:
        return subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=True).stdout

    assert without_times(doit()).endswith("2 models: 2 fresh\n")
    assert Path("made.log").read_text(encoding="utf-8") == "made\nreported\n"
    for _ in range(2):
        assert without_times(doit()).endswith("2 models: 2 fresh\n")
    assert sealed("models.yaml") is not None
    assert Path("made.log").read_text(encoding="utf-8") == "made\nreported\n"
    built.replace("Gladly", "Kindly", "tone.txt")
    out = doit()
    assert "train:sales" in out
    assert "1 fresh, 1 rebuilt" in out
    assert Path("made.log").read_text(encoding="utf-8") == "made\nreported\nmade\n"
    assert "sales" in built.trainings[2:]
    assert "tone" not in lock().replace("datasets/tone", "").replace("validate:tone", "")


def test_tasks_that_come_into_a_run_by_others(built: Repo) -> None:
    more = """
def task_which():
    return {"actions": [lambda: {"task_dep": ["register:sales"]}], "uptodate": [True]}

def task_mine():
    return {"actions": ["echo mine >> made.log"], "calc_dep": ["which"]}

def task_told():
    return {"actions": ["echo told >> made.log"], "uptodate": [result_dep("register")], "verbosity": 0}
"""
    Path("dodo.py").write_text("from doit.tools import result_dep\n" + (DODO % "") + more, encoding="utf-8")
    shutil.copyfile("datasets/tone.jsonl", "tone.txt")

    def doit(*arguments: str) -> str:
        done = subprocess.run([sys.executable, "-m", "doit", *arguments], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        return done.stdout

    doit()
    doit("mine")
    doit()
    count = Path("made.log").read_text(encoding="utf-8").split().count("told")
    doit()
    assert Path("made.log").read_text(encoding="utf-8").split().count("told") == count == 1
    built.replace("temperature: 0.2", "temperature: 0.7")
    doit()
    assert Path("made.log").read_text(encoding="utf-8").split().count("told") == 2


def test_steps_whose_tasks_are_made_late(repo: Repo) -> None:
    late = """
from doit import create_after
def task_first():
    return {"actions": ["echo first"]}

@create_after(executed="first", creates=["validate", "convert", "train", "package", "register", "test"])
def task_models():
    yield from tasks_from("models.yaml")
"""
    Path("dodo.py").write_text("from ollamake import DOIT_CONFIG, tasks_from\n" + late, encoding="utf-8")
    for count in (2, 2):
        done = subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=False)
        assert (done.returncode, done.stderr) == (0, ""), done.stdout
        assert len(repo.trainings) == count


def test_a_dodo_file_that_has_nothing_to_do_with_ollamake_is_doits_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("dodo.py").write_text(
        'def task_a():\n    return {"actions": ["echo a > a.txt"], "targets": ["a.txt"], "uptodate": [True]}\n'
        'def task_b():\n    return {"actions": ["false"], "file_dep": ["a.txt"]}\n',
        encoding="utf-8",
    )
    for arguments in ((), ("-n", "2"), ("a",), ("list",), ("forget", "a")):
        done = subprocess.run([sys.executable, "-m", "doit", *arguments], capture_output=True, text=True, check=False)
        assert "ollamake" not in done.stdout + done.stderr
        assert "models" not in done.stdout + done.stderr
    assert sorted(path.name for path in Path().iterdir() if not path.name.startswith((".doit.db", "__pycache__"))) == ["a.txt", "dodo.py"]
    done = subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout.startswith("-- a\n.  b\nTaskFailed - taskid:b\n")) == (1, True), done.stdout


@pytest.mark.parametrize("path", ['"./models.yaml"', 'os.path.abspath("models.yaml")', 'pathlib.Path("models.yaml")'])
def test_however_a_catalog_is_named_the_lock_is_the_same(built: Repo, path: str) -> None:
    before = lock()
    Path("dodo.py").write_text(
        f"import os, pathlib\nfrom ollamake import DOIT_CONFIG, tasks_from\ndef task_models():\n    yield from tasks_from({path})\n", encoding="utf-8"
    )
    done = subprocess.run([sys.executable, "-m", "doit"], capture_output=True, text=True, check=False)
    assert (done.returncode, without_times(done.stdout), done.stderr) == (0, "2 models: 2 fresh\n", "")
    assert lock() == before
    done = subprocess.run([sys.executable, "-m", "doit", "accept", "legal", "--because", "x"], capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


@pytest.mark.parametrize("content", ["", '{"step": "train:legal", "pl', '{"step": "train:legal"}\n', "3\n"])
def test_a_journal_that_says_nothing_is_dropped(built: Repo, content: str) -> None:
    journal = Path(".ollamake/journal.jsonl")
    journal.write_text(content, encoding="utf-8")
    assert built.doit().ran == []
    assert not journal.exists()
    assert sealed("models.yaml") is not None


def test_reset_dep_and_the_like_leave_the_lock_as_it_is(built: Repo) -> None:
    before = lock()
    built.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    assert "Traceback" not in built.doit("reset-dep").err
    assert "train:sales" in built.doit().ran
    assert lock() != before
