"""llama.cpp as a trainer: its text, its lines, its weights, and a model on its whole way with a stand-in for the program."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from ollamake.bases.float_gguf import float_gguf
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.lora.gguf_file import read_head
from ollamake.records.formats import Chat, Pair, Text
from ollamake.records.stand_ins import with_stand_ins
from ollamake.records.templated import templated
from ollamake.records.tokens import Rendering
from ollamake.trainers.contract import RECIPE, TrainerContract
from ollamake.trainers.environment import Environment
from ollamake.trainers.llama_cpp import BUILT, LlamaCppTrainer
from ollamake.trainers.llama_cpp_text import SEAM, Windows, windows_of
from ollamake.trainers.llama_cpp_training import Telling, Told, arguments, fault
from ollamake.trainers.port import Job, json_event
from test_lora import weights_of
from tiny_base import write_tiny_base

# Written by llama-finetune b11434 (SmolLM2-135M-Instruct, two epochs of two windows).
LINES = """\
0.05.512.197 I -optimizer adamw -lr0 1e-05 -wd 0 -lr-min -1 -min-epochs -1 -epochs 2 -period 1 -val 0
0.09.864.667 I epoch 0 lr=1e-05
train: [███▉    ] data=0000001/0000002 loss=1.60129±nan acc=75.78±2.68% t=00:01:14 ETA=00:01:14
1.19.789.163 I epoch 0 lr=1e-05
train: [███████▉] data=0000002/0000002 loss=1.51239±0.08889 acc=78.12±1.83% t=00:02:00 ETA=00:00:00


2.05.746.900 I epoch 1 lr=1e-05
train: [███▉    ] data=0000001/0000002 loss=1.24959±nan acc=80.86±2.46% t=00:00:59 ETA=00:00:59
3.05.684.054 I epoch 1 lr=1e-05
train: [███████▉] data=0000002/0000002 loss=1.21392±0.03568 acc=81.84±1.71% t=00:01:30 ETA=00:00:00
"""


class TestContract(TrainerContract):
    trainer = LlamaCppTrainer()
    recipe: ClassVar = {"learning_rate": 1e-5}


def keys_of(base: Path) -> dict[str, Any]:
    return read_head(base, with_arrays=True).keys


def write_text(path: Path, base: Path, *records: Any) -> Path:
    rendering = Rendering(keys_of(base))
    path.write_text("".join(templated(record, rendering, None) for record in records), encoding="utf-8")
    return path


def test_a_record_is_what_its_base_reads(tiny_base: Path) -> None:
    rendering = Rendering(keys_of(tiny_base))
    assert templated(Pair("Why?", "", "So."), rendering, "Be kind.") == (
        '{"text":"<|im_start|>system\\nBe kind.<|im_end|>\\n<|im_start|>user\\nWhy?<|im_end|>\\n<|im_start|>assistant\\nSo.<|im_end|>"}\n'
    )
    turns = Chat(tuple({"role": role, "content": role} for role in ("user", "assistant", "user", "assistant")))
    assert json.loads(templated(turns, rendering, None))["text"].count("<|im_end|>") == 4


def test_a_base_without_a_template_reads_plain_text(tiny_base: Path) -> None:
    keys = {**keys_of(tiny_base), "tokenizer.ggml.eos_token_id": 257}
    del keys["tokenizer.chat_template"]
    assert json.loads(templated(Pair("Why?", "", "So."), Rendering(keys), None)) == {"text": "### Instruction:\nWhy?\n\n### Response:\nSo.<|im_end|>"}
    assert json.loads(templated(Text("As it is."), Rendering(keys), "Be kind.")) == {"text": "As it is.<|im_end|>"}


def test_tokens_of_a_template_have_other_names_of_the_same_length() -> None:
    text = "<|im_start|>user <|im_end|> <|im_end <s>"
    stood_in = with_stand_ins(text, ["<|im_start|>", "<|im_end|>", "<s>", "<", "<|im_end|>x"])
    assert stood_in == "\x02|im_start|>user \x02|im_end|> <|im_end \x02s>"
    assert len(stood_in.encode()) == len(text.encode())


def test_a_base_in_float32_has_the_weights_of_the_base_and_readable_tokens(tiny_base: Path, tmp_path: Path) -> None:
    made = float_gguf(tiny_base, digest_file(tiny_base), tmp_path)
    assert float_gguf(tiny_base, digest_file(tiny_base), tmp_path) == made
    before, after = keys_of(tiny_base), keys_of(made)
    names = {"<|im_start|>": "\x02|im_start|>", "<|im_end|>": "\x02|im_end|>"}
    assert after["tokenizer.ggml.tokens"] == [names.get(token, token) for token in before["tokenizer.ggml.tokens"]]
    assert after["tokenizer.ggml.token_type"] == [4 if kind == 3 else kind for kind in before["tokenizer.ggml.token_type"]]
    changed = {"tokenizer.ggml.tokens", "tokenizer.ggml.token_type"}
    assert {key: value for key, value in after.items() if key not in changed} == {key: value for key, value in before.items() if key not in changed}
    expected, found = weights_of(tiny_base), weights_of(made)
    assert list(found) == list(expected)
    for name, weights in found.items():
        np.testing.assert_array_equal(weights, expected[name])


def test_the_file_type_of_a_base_in_float32_is_right(tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    write_tiny_base(path, file_type=7)
    assert keys_of(float_gguf(path, digest_file(path), tmp_path))["general.file_type"] == 0
    assert keys_of(path)["general.file_type"] == 7


def llama_windows(tokens: int, size: int) -> list[range]:
    """As common_opt_dataset_init of llama.cpp cuts them."""
    return [range(start, start + size) for start in range(0, (tokens - size - 1) // (size // 2) * (size // 2), size // 2)]


@pytest.mark.parametrize("text", [(1, 5), (1, 128), (40, 30), (3, 700), (9, 200)])
@pytest.mark.parametrize(("size", "most"), [(256, 2048), (256, 256)])
def test_each_token_of_a_text_is_in_a_window(size: int, most: int, text: tuple[int, int], tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    write_tiny_base(base, context=256)
    records, length = text
    texts = [Text(f"{number} " + "he said, " * (length // 8)) for number in range(records)]
    path = write_text(tmp_path / "text.jsonl", base, *texts)
    windows = windows_of(path, base, most)
    known, there = (Rendering(keys_of(one)).count for one in (base, float_gguf(base, digest_file(base), tmp_path)))
    tokens = sum(known(f"{json.loads(line)['text']}\n") for line in path.read_bytes().splitlines())
    ring = there(windows.text)  # by the tokenizer of the base that the program is given
    cut = llama_windows(ring, windows.size)
    assert (windows.size, windows.count) == (size, len(cut))
    assert windows.count == -(-tokens // (size // 2))
    assert set(range(tokens)) <= set().union(*cut)
    assert len(llama_windows(ring + SEAM, size)) == len(llama_windows(ring - SEAM, size)) == len(cut)


def test_windows_hold_the_longest_record_twice(tmp_path: Path) -> None:
    base = tmp_path / "base.gguf"
    write_tiny_base(base, context=1024)
    sizes = {}
    for length in (100, 300, 5000):
        path = write_text(tmp_path / "text.jsonl", base, Text("x" * length), Text("y"))
        sizes[length] = windows_of(path, base, 2048).size
    assert sizes == {100: 256, 300: 768, 5000: 1024}  # the base's context
    assert windows_of(path, base, 700).size == 512


def test_a_base_whose_tokens_cannot_be_counted_is_refused(tmp_path: Path, tiny_base: Path) -> None:
    base = tmp_path / "base.gguf"
    write_tiny_base(base, tokenizer="bert")
    path = write_text(tmp_path / "text.jsonl", tiny_base, Pair("a", "", "b"))
    with pytest.raises(BuildError) as caught:
        windows_of(path, base, 256)
    assert str(caught.value) == (
        f"{base}: its tokenizer is of a kind that is not known here, so its tokens can't be counted: model 'bert', pre 'smollm'\n"
        "  fix: train by another trainer, or on another base"
    )


def job_in(folder: Path, **more: Any) -> Job:
    base = {"gguf": "/b/base.gguf", "digest": "sha256:0", "path": "/c/float.gguf"}
    recipe = {**RECIPE, "learning_rate": 1e-5, **more.pop("recipe", {})}
    return Job(name="m", folder=folder, text=folder / "text.jsonl", records=4, base=base, recipe=recipe, cache=folder, **more)


def test_the_plan_is_this(tmp_path: Path) -> None:
    job = job_in(tmp_path, env=("docker", "run", "llama"))
    plan = LlamaCppTrainer().plan(job)
    assert plan.argv == (
        *(sys.executable, "-m", "ollamake.trainers.llama_cpp_training", str(tmp_path)),
        *("docker", "run", "llama", "llama-finetune"),
    )
    assert (plan.files, plan.follows, plan.in_job) == ({}, None, True)


def test_the_program_is_given_this(tmp_path: Path) -> None:
    options = {"weight-decay": 1e-4, "optimizer": "sgd", "verbose": True, "swa-full": False, "threads": 3}
    job = job_in(tmp_path, recipe={"options": options}).as_json()
    assert arguments(job, Windows(text="", size=512, count=3)) == [
        *("--model", "/c/float.gguf", "--file", "work/windows.txt", "--output", "out/model.gguf"),
        *("--ctx-size", "512", "--batch-size", "512", "--ubatch-size", "512"),
        *("--epochs", "3", "--learning-rate", "1e-05", "--val-split", "0", "--n-gpu-layers", "0"),
        *("--weight-decay", "0.0001", "--optimizer", "sgd", "--verbose", "--threads", "3"),
    ]
    assert "999" in arguments({**job, "gpus": 1}, Windows(text="", size=512, count=3))


OBJECTIONS = [
    ({"options": {"weight-decay": 1e-4}}, None),
    (
        {"learning_rate": 2e-4},
        "learning_rate: 0.0002 is for a LoRA; when all weights are trained, a base forgets by it what it knew | write `learning_rate: 1e-5` into the model's `train:`; at most 0.0001",
    ),
    ({"learning_rate": 2e-4, "options": {"optimizer": "sgd"}}, None),
    (
        {"options": {"ctx_size": 512}},
        "options.ctx_size: 512: ollamake decides how long windows are, by max_tokens and the records | remove 'ctx_size' from the model's train.options",
    ),
    (
        {"options": {"epochs": 2}},
        "options.epochs: 2: the catalog says this as train.epochs | write train.epochs, and remove 'epochs' from train.options",
    ),
    (
        {"options": {"lora": "x.gguf"}},
        "options.lora: 'x.gguf': llama-finetune trains the base itself, and no adapter | remove 'lora' from the model's train.options",
    ),
    ({"options": {"--wd": 1}}, "options.--wd: options are written without dashes | write 'wd'"),
    (
        {"options": {"threads": [1]}},
        "options.threads: [1] is no value of an option of llama-finetune | write a text, a number, or true for an option without a value",
    ),
]


@pytest.mark.parametrize(("said", "objection"), OBJECTIONS)
def test_what_is_said_against_a_recipe(said: dict[str, Any], objection: str | None) -> None:
    found = LlamaCppTrainer().objections({**RECIPE, "learning_rate": 1e-5, **said})
    assert [f"{one.text} | {one.fix}" for one in found] == ([objection] if objection else [])
    assert all(one.key in {"learning_rate", *(f"options.{key}" for key in said.get("options", {}))} for one in found)


def test_lines_of_the_program_are_steps_of_all_epochs() -> None:
    telling = Telling(epochs=2, tokens=256)
    events = [event for number, line in enumerate(LINES.splitlines()) if (event := telling.event(line, 10.0 * number)) is not None]
    assert [(event["step"], event["steps"], event["epoch"]) for event in events] == [(1, 4, 0.5), (2, 4, 1.0), (3, 4, 1.5), (4, 4, 2.0)]
    assert "seconds_left" not in events[0]
    assert events[-1]["seconds_left"] == 0
    assert [event["loss"] for event in events] == [1.60129, 1.42349, 1.24959, 1.17825]
    assert all(json_event(json.dumps(event)) is not None for event in events)


def test_the_loss_is_that_of_the_step_and_not_the_mean_of_its_epoch() -> None:
    telling = Telling(epochs=2, tokens=256)
    line = "train: [██      ] data={:07}/0000003 loss={}±0.1 acc=1.00±0.10% t=00:00:13 ETA=00:00:26 "
    means = [(1, "4.00000"), (2, "3.00000"), (3, "3.00000"), (1, "1.50000")]
    events = [telling.event(line.format(step, mean), number) for number, (step, mean) in enumerate(means)]
    assert [event and event["loss"] for event in events] == [4, 2, 3, 1.5]


FAULTS = [
    ("error: invalid argument: --weight-decoy", "options.weight-decoy", "options: llama-finetune knows no --weight-decoy"),
    (
        'error while handling argument "--optimizer": invalid --optimizer, valid options: adamw, sgd',
        "options.optimizer",
        "options: llama-finetune does not take this value of --optimizer: invalid --optimizer, valid options: adamw, sgd",
    ),
    (
        "ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 21474836480",
        "",
        "there is not memory enough to train all of the base's weights in float32: ggml_backend_cpu_buffer_type_alloc_buffer: failed to allocate buffer of size 21474836480",
    ),
]


@pytest.mark.parametrize(("line", "key", "reason"), FAULTS)
def test_faults_of_the_program_are_those_of_a_key(line: str, key: str, reason: str) -> None:
    told = fault(line)
    assert told is not None
    assert (told.event["key"], told.event["reason"]) == (key, reason)


def test_a_loss_that_is_no_number_ends_the_training() -> None:
    with pytest.raises(Told) as caught:
        Telling(epochs=1, tokens=256).event("train: [ ] data=0000001/0000042 loss=nan±nan acc=0.00±0.00% t=00:00:12 ETA=00:08:12", 0)
    assert caught.value.event["key"] == "learning_rate"


def test_the_program_is_looked_for_in_the_environment(stand_in: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    trainer = LlamaCppTrainer()
    monkeypatch.setenv("PATH", "/usr/bin:/bin")
    assert trainer.missing(Environment()) == trainer.missing(Environment(str(tmp_path))) == trainer.missing(Environment(("no-such-prefix",))) == BUILT
    assert trainer.missing(Environment(("false",))) == BUILT
    for named in (str(stand_in), str(stand_in / "bin")):
        assert trainer.missing(Environment(named)) is None
    assert trainer.missing(Environment(("env", f"PATH={stand_in}/bin:/usr/bin"))) is None
    monkeypatch.setenv("PATH", f"{stand_in}/bin:/usr/bin:/bin")
    assert trainer.missing(Environment()) is None


def test_the_version_is_the_build_or_else_the_program_itself(stand_in: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    digest = digest_file(stand_in / "bin/llama-finetune")
    assert LlamaCppTrainer().versions(Environment(str(stand_in))) == {"llama.cpp": digest}
    monkeypatch.setenv("STAND_IN_BUILD", "0.6.0 (build 11434, commit 1a2b3c4)")
    assert LlamaCppTrainer().versions(Environment(str(stand_in / "bin/../bin"))) == {"llama.cpp": "0.6.0 (build 11434, commit 1a2b3c4)"}
