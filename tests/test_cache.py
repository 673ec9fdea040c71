"""Trained once for everybody: what one clone has trained, another takes, and nothing else."""

from __future__ import annotations

import json
import os
import shutil
import tempfile
from collections.abc import Callable
from contextlib import ExitStack
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import Repo
from ollamake.cache.key import Key, key_at
from ollamake.cache.objects import read_files, read_manifest, written
from ollamake.digest import digest_file


def objects(folder: Path) -> list[Path]:
    return sorted(folder.glob("adapters/*/*.tar"))


@pytest.mark.parametrize("lock", [True, False])
def test_a_second_clone_trains_nothing(repo: Repo, shared: Path, clone: Callable[..., Repo], lock: bool) -> None:
    first = repo.doit()
    assert first.code == 0, first.out + first.err
    assert (repo.trainings, len(objects(shared))) == (["legal", "sales"], 2)
    other = clone(lock=lock)
    done = other.doit()
    assert done.code == 0, done.out + done.err
    assert other.trainings == []
    assert "train:legal" in done.ran
    assert done.out.splitlines()[-1].startswith("2 adapters from the cache (")
    for name in ("legal", "sales"):
        for file in ("adapter_model.safetensors", "adapter_config.json"):
            assert (other.path / f"adapters/{name}/{file}").read_bytes() == (repo.path / f"adapters/{name}/{file}").read_bytes()
    assert other.doit().ran == []
    assert (other.path / "models.lock").read_bytes() == (repo.path / "models.lock").read_bytes()


@pytest.mark.parametrize("words", [(), ("-n", "2")])
def test_who_may_train_nothing_takes_what_there_is(repo: Repo, shared: Path, clone: Callable[..., Repo], words: tuple[str, ...]) -> None:
    assert repo.doit().code == 0
    other = clone()
    never = ("build", "--max-train-minutes", "0", *words)
    done = other.doit(*never)
    assert (done.code, other.trainings) == (0, []), done.out + done.err
    other.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    done = other.doit(*never, "legal")
    assert (done.code, other.trainings) == (1, [])
    said = "models.yaml:11: model 'legal': the cache has no adapter of just this, and --max-train-minutes 0 allows no training\n"
    assert f"train:legal failed:\n{said}  fix: have it trained by a machine that writes into the cache: `doit train:legal`\n" in done.out
    assert other.doit("retrain", "sales", *never[1:]).code == 1
    assert other.trainings == []
    assert other.doit("build", "legal").code == 0
    assert other.trainings == ["legal"]


def test_what_is_put_into_a_folder_has_the_rights_of_the_folder(repo: Repo, shared: Path) -> None:
    shared.mkdir()
    shared.chmod(0o2775)
    before = os.umask(0o077)
    try:
        assert repo.doit("train:legal").code == 0
    finally:
        os.umask(before)
    (path,) = objects(shared)
    assert [oct(one.stat().st_mode & 0o7777) for one in (path.parent.parent, path.parent, shared / "tmp", path)] == ["0o2775"] * 3 + ["0o664"]


@pytest.mark.parametrize("kind", ["s3", "azure", "gcs"])
def test_two_clones_share_a_store(repo: Repo, kind: str, request: pytest.FixtureRequest, clone: Callable[..., Repo]) -> None:
    repo.replace("version: 1\n", f"version: 1\ncache: {{url: {request.getfixturevalue(kind)}}}\n")
    first = repo.doit()
    assert (first.code, "the cache at" in first.out) == (0, False), first.out + first.err
    other = clone(lock=False)
    assert ", 2 adapters from the cache" in other.doit("plan").out
    done = other.doit()
    assert (done.code, other.trainings) == (0, []), done.out + done.err
    assert done.out.splitlines()[-1].startswith("2 adapters from the cache (")
    status = other.doit("cache", "status").out
    assert "adapters  2 objects" in status
    assert "testing-" not in first.out + done.out + status


def test_a_model_that_was_renamed_takes_its_adapter(repo: Repo, shared: Path) -> None:
    assert repo.doit("train").code == 0
    repo.replace("  legal:\n", "  contracts:\n")
    done = repo.doit("train")
    assert (done.code, repo.trainings) == (0, ["legal", "sales"]), done.out + done.err
    assert "   contracts: from the cache: trained " in done.out
    receipt = json.loads((repo.path / "adapters/contracts/receipt.json").read_text(encoding="utf-8"))
    assert set(receipt["record"]["inputs"]) == {"base tiny", "build/contracts/text.jsonl"}
    assert set(receipt["record"]["targets"]) == {"adapters/contracts/adapter_config.json", "adapters/contracts/adapter_model.safetensors"}
    assert repo.doit("plan", "contracts").out.count("train:") == 0


def test_what_is_another_training_is_not_taken(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    repo.replace("rank: 2,", "rank: 2, seed: 7,")
    repo.doit("train:legal")
    assert repo.trainings == ["legal", "sales", "legal"]
    repo.replace(", seed: 7", "")
    done = repo.doit("train:legal")
    assert (done.code, len(repo.trainings)) == (0, 3)
    assert "legal: from the cache" in done.out


def test_two_processes_of_a_run_share_the_cache(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("-n", "2")
    other = clone(lock=False)
    done = other.doit("-n", "2")
    assert (done.code, other.trainings) == (0, []), done.out + done.err
    assert done.out.splitlines()[-1].startswith("2 adapters from the cache (")


def test_a_training_that_is_asked_for_is_done(repo: Repo, shared: Path) -> None:
    repo.doit("train")
    there = [path.read_bytes() for path in objects(shared)]
    done = repo.doit("-a", "train:legal")
    assert repo.trainings == ["legal", "sales", "legal"], done.out
    assert [path.read_bytes() for path in objects(shared)] == there


@pytest.mark.parametrize(("key", "there"), [("read", True), ("write", False)])
def test_a_cache_may_be_one_way(repo: Repo, shared: Path, clone: Callable[..., Repo], key: str, there: bool) -> None:
    repo.replace(f"{{url: {shared}}}", f"{{url: {shared}, {key}: false}}")
    repo.doit("train")
    assert bool(objects(shared)) == there
    other = clone()
    other.doit("train")
    assert other.trainings == ["legal", "sales"]


def test_what_a_clone_has_taken_is_told_by_why_history_and_status(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit()
    other = clone()
    assert other.doit().code == 0
    why = other.doit("why", "legal").out
    assert ", by others; taken from the cache " in why
    assert ", by others: from the cache" in why
    assert "adapter from the cache" in other.doit("history", "legal").out
    then, now = (json.loads((path / "adapters/legal/receipt.json").read_text(encoding="utf-8")) for path in (repo.path, other.path))
    assert [now[name] for name in ("seconds", "finished", "commit")] == [then[name] for name in ("seconds", "finished", "commit")]
    assert now["record"] == then["record"]
    assert other.doit().ran == []


DAMAGES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "cut off": (lambda content: content[: len(content) // 2], "it is cut off"),
    "empty": (lambda _: b"", "it is cut off"),
    "damaged": (lambda content: content[:-1500] + b"\1" + content[-1499:], "adapter_model.safetensors is not as it was written"),
    "foreign": (lambda _: b"PK\3\4" + bytes(5000), "it does not begin as one of ours does"),
    "longer": (lambda content: content + b"more", "it does not end where it should"),
}


@pytest.mark.parametrize("kind", DAMAGES)
def test_a_damaged_object_is_refused_and_replaced(repo: Repo, shared: Path, clone: Callable[..., Repo], kind: str) -> None:
    repo.doit("train:legal")
    (path,) = objects(shared)
    whole = path.read_bytes()
    damage, why = DAMAGES[kind]
    path.write_bytes(damage(whole))
    other = clone()
    done = other.doit("train:legal")
    assert (done.code, other.trainings) == (0, ["legal"]), done.out + done.err
    assert f"   legal: warning: adapters/{path.parent.name}/{path.name} in the cache is refused: {why}; made here instead\n" in done.out
    assert clone().doit("train:legal").out.count("from the cache: ") == 1
    assert not list(shared.glob("tmp/*"))


def test_an_object_under_the_name_of_another_is_refused(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("train")
    one, two = objects(shared)
    shutil.copyfile(one, two)
    other = clone()
    done = other.doit("train")
    assert (done.code, len(other.trainings)) == (0, 1)
    assert "in the cache is refused: it is that of another key; made here instead" in done.out


def forged(path: Path, change: Callable[[dict[str, Any], Path], None]) -> None:
    """Write the object anew, as somebody may who has read our code; `change` edits the receipt and the files."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        with path.open("rb") as file:
            manifest = read_manifest(file.read, key_at("/".join(path.parts[-3:])) or Key("", ""))
            with ExitStack() as stack:
                read_files(file.read, manifest, lambda entry: stack.enter_context((folder / entry.name).open("wb")).write)
        facts = json.loads(json.dumps(manifest.facts))
        change(facts, folder)
        files = tuple(replace(entry, size=(folder / entry.name).stat().st_size, digest=digest_file(folder / entry.name)) for entry in manifest.files)
        path.write_bytes(b"".join(written(replace(manifest, facts=facts, files=files), folder)))


def of_another_base(facts: dict[str, Any], _: Path) -> None:
    facts["record"]["inputs"]["base tiny"] = f"sha256:{'0' * 64}"


def no_adapter(facts: dict[str, Any], folder: Path) -> None:
    (folder / "adapter_model.safetensors").write_bytes(b"\x80\x04no safetensors")
    facts["record"]["targets"]["adapters/legal/adapter_model.safetensors"] = digest_file(folder / "adapter_model.safetensors")


def another_file(_: dict[str, Any], folder: Path) -> None:
    (folder / "adapter_config.json").write_text("{}", encoding="utf-8")


def no_version(facts: dict[str, Any], _: Path) -> None:
    facts["record"]["versions"]["torch"] = "2.6\x1b[2J"


def no_number(facts: dict[str, Any], _: Path) -> None:
    facts["seconds"] = "\x1b[31mmany"


def no_moment(facts: dict[str, Any], _: Path) -> None:
    facts["finished"] = "2026-99-99T99:99:99Z"


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (of_another_base, "its receipt is of another training"),
        (no_adapter, "adapter_model.safetensors"),
        (another_file, "its files are not those of its receipt"),
        (no_moment, "its receipt can't be read"),
        (no_number, "its receipt can't be read"),
        (no_version, "its receipt can't be read"),
    ],
)
def test_a_forged_object_is_refused(repo: Repo, shared: Path, clone: Callable[..., Repo], change: Any, why: str) -> None:
    repo.doit("train:legal")
    (path,) = objects(shared)
    forged(path, change)
    other = clone()
    done = other.doit("train:legal")
    assert (done.code, other.trainings) == (0, ["legal"]), done.out + done.err
    assert "in the cache is refused: " in done.out
    assert why in done.out


def test_a_text_that_was_edited_meanwhile_is_not_shared(repo: Repo, shared: Path) -> None:
    trainer = repo.path / "editing.py"
    body = (Path(__file__).parent / "counting_trainer.py").read_text(encoding="utf-8")
    trainer.write_text(body + "\nPath('build/legal/text.jsonl').open('a').write('\\n')\n", encoding="utf-8")
    repo.replace(f"{Path(__file__).parent}/counting_trainer.py", "editing.py")
    done = repo.doit("train:legal")
    assert done.code == 0, done.out
    assert objects(shared) == []


def test_merged_weights_are_shared_where_asked(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.replace(f"{{url: {shared}}}", f"{{url: {shared}, packed: 1GB}}")
    repo.replace("bases:\n", "  serve: {weights: merged}\nbases:\n")
    assert repo.doit().code == 0
    assert len(list(shared.glob("packed/*/*.tar"))) == 2
    other = clone()
    done = other.doit()
    assert done.code == 0, done.out + done.err
    assert "   legal: merged weights from the cache\n" in done.out
    assert (other.path / "build/legal/merged.gguf").read_bytes() == (repo.path / "build/legal/merged.gguf").read_bytes()
    assert (other.path / "build/legal/served.json").read_bytes() == (repo.path / "build/legal/served.json").read_bytes()
    assert other.doit().ran == []


def test_packed_weights_go_when_there_is_no_room(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    size = (repo.path / "base.gguf").stat().st_size
    repo.replace(f"{{url: {shared}}}", f"{{url: {shared}, packed: {1.7 * size / 1e6:.6f}MB}}")
    repo.replace("bases:\n", "  serve: {weights: merged}\nbases:\n")
    assert repo.doit("package:legal").code == 0
    (first,) = shared.glob("packed/*/*.tar")
    os.utime(first, (1, 1))
    repo.doit("package:sales")
    (second,) = shared.glob("packed/*/*.tar")
    assert second != first
    repo.replace(f"packed: {1.7 * size / 1e6:.6f}MB", "packed: 0.000001MB")
    shutil.rmtree(repo.path / "build/legal")
    assert "do not fit into cache.packed, and are not shared" in repo.doit("package:legal").out


def test_a_cache_makes_nothing_stale(built: Repo) -> None:
    built.replace("version: 1\n", "version: 1\ncache: {url: one}\n")
    assert built.doit().ran == []
    built.replace("url: one", "url: two, write: false")
    assert built.doit().ran == []
    assert not (built.path / "one").exists()


def test_a_build_that_was_killed_while_it_took_an_adapter_leaves_nothing(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("train:legal")
    other = clone()
    left = other.path / "build/legal/taken-abc"
    left.mkdir(parents=True)
    (left / "adapter_config.json").write_text("half", encoding="utf-8")
    assert other.doit("train:legal").code == 0
    assert (other.trainings, left.exists()) == ([], False)
    assert not list((other.path / "build/legal").glob("taken-*"))


def test_what_a_build_has_delivered_and_not_put_there_is_put_there_by_the_next(repo: Repo, shared: Path) -> None:
    repo.doit("train:legal")
    (path,) = objects(shared)
    path.unlink()
    (repo.path / "models.lock").unlink()  # as it is where the build was killed while it wrote to the cache
    shutil.rmtree(repo.path / ".ollamake", ignore_errors=True)
    done = repo.doit("train:legal")
    assert (done.code, repo.trainings, objects(shared)) == (0, ["legal"], [path]), done.out + done.err


def test_a_cache_of_whom_nothing_is_left_is_filled_again(repo: Repo, shared: Path, clone: Callable[..., Repo]) -> None:
    repo.doit("train:legal")
    shutil.rmtree(shared)
    other = clone()
    assert other.doit("train:legal").code == 0
    assert (other.trainings, len(objects(shared))) == (["legal"], 1)
