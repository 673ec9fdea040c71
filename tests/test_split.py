"""Served weights in two files: together they are the merged model, and the first is the same file for all models of the base with the same layers."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import gguf
import numpy as np
import pytest

from conftest import DODO, Repo
from ollamake.digest import digest_file
from ollamake.lora.architecture import read_architecture
from ollamake.lora.changes import Form, LoraSum
from ollamake.lora.gguf_file import read_head
from ollamake.lora.merge import write_merged
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.split import SHARDS, write_own_shard, write_shared_shard
from ollamake.stages.shared import SHARED, share_shard
from test_lora import adapter_tensors, write_adapter
from test_merge import largest_file

SPLIT = "serve: {weights: split}"


def fields(path: Path) -> dict[str, object]:
    return {key: (field.types[-1], field.contents()) for key, field in gguf.GGUFReader(path).fields.items() if not key.startswith("GGUF.")}


def data(path: Path) -> dict[str, tuple[int, bytes]]:
    return {tensor.name: (int(tensor.tensor_type), tensor.data.tobytes()) for tensor in gguf.GGUFReader(path).tensors}


def test_the_two_shards_are_the_merged_model(tmp_path: Path, tiny_base: Path) -> None:
    architecture = read_architecture(tiny_base)
    of_q_alone = {name: numbers for name, numbers in adapter_tensors().items() if "q_proj" in name}
    changes = LoraSum(read_peft_adapter(write_adapter(tmp_path / "adapter", of_q_alone), architecture))
    merged, first, second = tmp_path / "merged.gguf", tmp_path / SHARDS[0], tmp_path / SHARDS[1]
    write_merged(tiny_base, architecture.head, changes, Form(), merged)
    digests = (
        write_shared_shard(tiny_base, architecture.head, changes.names, first),
        write_own_shard(tiny_base, architecture.head, changes, Form(), second),
    )
    assert digests == (digest_file(first), digest_file(second))
    whole = data(merged)
    assert {**data(first), **data(second)} == whole
    assert set(data(second)) == {"blk.0.attn_q.weight", "blk.1.attn_q.weight"}
    assert not set(data(first)) & set(data(second))
    count = (gguf.GGUFValueType.UINT16, 2)
    total = (gguf.GGUFValueType.INT32, len(whole))
    number = [("split.no", (gguf.GGUFValueType.UINT16, place)) for place in (0, 1)]
    assert fields(first) == {**fields(tiny_base), **dict(number[:1]), "split.count": count, "split.tensors.count": total}
    architecture_key = {"general.architecture": (gguf.GGUFValueType.STRING, "llama")}
    assert fields(second) == {**architecture_key, **dict(number[1:]), "split.count": count, "split.tensors.count": total}


def test_a_base_that_was_split_into_one_file_has_each_key_once(tmp_path: Path) -> None:
    base, shared = tmp_path / "base.gguf", tmp_path / SHARDS[0]
    writer = gguf.GGUFWriter(base, "llama")
    writer.add_uint16("split.no", 0)
    writer.add_uint16("split.count", 1)
    writer.add_name("tiny")
    writer.add_int32("split.tensors.count", 2)
    for name in ("a.weight", "b.weight"):
        writer.add_tensor(name, np.ones((4, 32), dtype=np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    write_shared_shard(base, read_head(base), frozenset({"a.weight"}), shared)
    assert fields(shared) == {**fields(base), "split.count": (gguf.GGUFValueType.UINT16, 2)}
    assert list(data(shared)) == ["b.weight"]


@pytest.fixture
def split(repo: Repo) -> Repo:
    """A repo whose two models are split, with adapters on the same layers; nothing packaged yet."""
    repo.replace("    data: [shared]\n", f"    data: [shared]\n    {SPLIT}\n")
    repo.replace("    serve: {parameters: {temperature: 0.2}}\n", "    serve: {weights: split, parameters: {temperature: 0.2}}\n")
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    assert repo.doit("train:legal", "train:sales").code == 0
    return repo


def served(name: str) -> dict[str, str]:
    facts = json.loads(Path(f"build/{name}/served.json").read_text(encoding="utf-8"))
    assert facts["kind"] == "split"
    files: dict[str, str] = facts["files"]
    assert list(files) == list(SHARDS)
    assert files == {shard: digest_file(Path(f"build/{name}/{shard}")) for shard in SHARDS}
    return files


def kept() -> list[Path]:
    return sorted(Path(SHARED).glob("*.gguf"))


def test_models_of_a_base_share_the_first_file_on_the_disk(split: Repo) -> None:
    result = split.doit("package:legal", "package:sales")
    assert result.code == 0, result.out + result.err
    assert served("legal")[SHARDS[0]] == served("sales")[SHARDS[0]]
    assert served("legal")[SHARDS[1]] != served("sales")[SHARDS[1]]
    (shared,) = kept()
    assert all(os.path.samefile(shared, f"build/{name}/{SHARDS[0]}") for name in ("legal", "sales"))
    assert shared.stat().st_nlink == 3
    assert sorted(path.name for path in Path("build/legal").glob("*.gguf*")) == list(SHARDS)
    assert split.doit("package:legal", "package:sales").ran == []


def test_it_is_made_once_by_two_builds_at_once(split: Repo) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "doit", "run", "-n", "2", "package:legal", "package:sales"], capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert served("legal")[SHARDS[0]] == served("sales")[SHARDS[0]]
    assert [path.stat().st_nlink for path in kept()] == [3]
    assert split.doit("package:legal", "package:sales").ran == []


def test_who_comes_second_waits_and_writes_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    written = []

    def write(target: Path) -> str:
        written.append(target)
        time.sleep(0.2)
        target.write_bytes(b"shard")
        return digest_file(target)

    with ThreadPoolExecutor(4) as builds:
        for name in "abcd":
            Path(f"build/{name}").mkdir(parents=True)
        shared = [builds.submit(share_shard, "sha256:base", frozenset({"q"}), write, Path(f"build/{name}/{SHARDS[0]}")) for name in "abcd"]
        assert len({one.result() for one in shared}) == 1
    assert len(written) == 1
    assert [path.stat().st_nlink for path in kept()] == [5]


def test_where_there_is_no_room_no_part_of_a_shard_is_left(split: Repo) -> None:
    with largest_file(20_000):
        result = split.doit("package:legal")
    assert result.code == 1
    assert "build/legal/split-00002-of-00002.gguf can't be written: File too large\n  fix: " in result.out
    assert [*Path("build").rglob("*gguf*")] == [*Path("build").rglob("served.json")] == []
    assert split.doit("package:legal").ran == ["package:legal"]
    served("legal")


def test_what_no_model_has_any_more_is_removed(split: Repo) -> None:
    split.doit("package:legal", "package:sales")
    split.replace("weights: split", "weights: merged")
    assert split.doit("package:legal").ran == ["package:legal"]
    assert [path.stat().st_nlink for path in kept()] == [2]
    assert split.doit("package:sales").ran == ["package:sales"]
    assert kept() == []
    assert [path.name for path in Path(SHARED).iterdir()] == ["lock"]
    assert sorted(path.name for path in Path("build/legal").glob("*.gguf*")) == ["merged.gguf"]


def test_a_shared_file_that_was_damaged_is_made_again_for_all(split: Repo) -> None:
    split.doit("package:legal", "package:sales")
    before = served("legal")
    with Path(f"build/legal/{SHARDS[0]}").open("r+b") as file:
        file.seek(-40, os.SEEK_END)
        file.write(b"x" * 8)
    assert split.doit("package:legal", "package:sales").ran == ["package:legal", "package:sales"]
    assert served("legal") == before
    assert served("sales")[SHARDS[0]] == before[SHARDS[0]]
    assert [path.stat().st_nlink for path in kept()] == [3]


def test_another_base_has_another_shared_file(split: Repo, tmp_path: Path) -> None:
    split.doit("package:legal", "package:sales")
    before = served("legal")
    content = bytearray((tmp_path / "base.gguf").read_bytes())
    content[-1] ^= 1  # of the last norm
    (tmp_path / "base.gguf").write_bytes(content)
    split.doit("package:legal", "package:sales")
    assert served("legal")[SHARDS[0]] == served("sales")[SHARDS[0]] != before[SHARDS[0]]
    assert len(kept()) == 1


def test_auto_is_never_split(repo: Repo, ollama: object) -> None:
    del ollama
    for version in ("0.9.3", "0.34.1", "0.40.0"):
        repo.server.version = version
        repo.doit("package:legal")
        assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] in {"adapter", "merged"}
