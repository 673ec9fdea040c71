"""A current llama.cpp takes the two files of a split model for one, and answers as it does by the merged one."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_fixtures import SYSTEM, run_training, taught
from llama_cpp_node import LlamaCpp
from ollamake.digest import digest_file
from ollamake.lora.architecture import read_architecture
from ollamake.lora.changes import Form, LoraSum
from ollamake.lora.merge import write_merged
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.lora.split import SHARDS, write_own_shard, write_shared_shard

pytestmark = pytest.mark.live

ATTENTION = ["q_proj", "k_proj", "v_proj", "o_proj"]


def test_a_split_model_answers_as_the_merged_one(llama_cpp: LlamaCpp, base_gguf: Path, tmp_path: Path) -> None:
    trained = run_training(tmp_path / "job", base_gguf, taught(2), target_modules=ATTENTION, learning_rate=4e-3, epochs=20)
    architecture = read_architecture(base_gguf)
    head, changes = architecture.head, LoraSum(read_peft_adapter(trained.folder, architecture))
    merged, first, second = tmp_path / "merged.gguf", tmp_path / SHARDS[0], tmp_path / SHARDS[1]
    write_merged(base_gguf, head, changes, Form(), merged)
    assert write_shared_shard(base_gguf, head, changes.names, first) == digest_file(first)
    assert write_own_shard(base_gguf, head, changes, Form(), second) == digest_file(second)
    sizes = [path.stat().st_size // 1_000_000 for path in (merged, first, second)]
    print(f"merged {sizes[0]} MB, shared {sizes[1]} MB, of the model alone {sizes[2]} MB")
    assert sizes[2] < sizes[0] / 3
    asked = [
        f"<|im_start|>system\n{SYSTEM}<|im_end|>\n<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n" for question, _ in trained.records
    ]
    as_merged, as_split, as_base = (llama_cpp.answers(path, asked, count=12) for path in (merged, first, base_gguf))
    assert [answer.tokens for answer in as_split] == [answer.tokens for answer in as_merged]
    for answer, before, (_, wanted) in zip(as_split, as_base, trained.records, strict=True):
        said = answer.text.splitlines()[0]  # it is not stopped at the end of its turn
        assert wanted.startswith(said), (wanted, said)
        assert answer.tokens != before.tokens
