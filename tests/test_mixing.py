"""What a model is trained on of its datasets: how much, in which order, how long; and what `doit check` and `doit show` tell of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from conftest import DODO, Repo
from ollamake.lora.gguf_file import read_head
from ollamake.records.mixing import held_out, shuffled, times, within
from ollamake.records.tokens import Rendering, tokens_by_loss
from tiny_base import write_tiny_base

COUNT = 400
prints = st.lists(st.integers(0, 2**64 - 1), unique=True).map(lambda values: np.array(values, np.uint64))


def write_shared(repo: Repo, count: int = COUNT) -> list[str]:
    lines = [json.dumps({"instruction": f"Question {number}?", "output": f"Answer {number}."}) for number in range(count)]
    repo.records("shared").write_text("\n".join(lines) + "\n", encoding="utf-8")
    return lines


def text_of(repo: Repo, model: str = "legal") -> list[str]:
    """The questions in the text of the model, in their order."""
    assert repo.doit(f"convert:{model}").code == 0
    lines = (repo.path / f"build/{model}/text.jsonl").read_text(encoding="utf-8").splitlines()
    return [json.loads(line)["messages"][0]["content"] for line in lines]


@given(prints, st.floats(0, 1, exclude_max=True))
def test_what_is_held_out_depends_on_the_record_alone(values: Any, share: float) -> None:
    whole = held_out(values, share)
    assert [bool(held_out(values[place : place + 1], share)[0]) for place in range(len(values))] == whole.tolist()
    assert not (held_out(values, share / 2) & ~whole).any()  # a smaller share is a part of it


@given(prints, st.floats(0.01, 4))
def test_a_weight_is_how_often_a_record_is_read(values: Any, weight: float) -> None:
    counts = times(values, weight)
    assert set(counts.tolist()) <= {int(weight), int(weight) + 1}
    assert (times(values, weight * 2) >= counts).all()


@given(prints, st.integers(1, 10), st.integers(0, 2**32 - 1))
def test_a_limit_and_an_order_are_of_the_records(values: Any, limit: int, seed: int) -> None:
    kept = within(values, limit)
    assert len(kept) == min(limit, len(values))
    assert (np.diff(kept) > 0).all()
    order = shuffled(values, seed)
    assert sorted(order.tolist()) == list(range(len(values)))
    half = values[::2]
    assert values[order][np.isin(values[order], half)].tolist() == half[shuffled(half, seed)].tolist()  # others move none of them


def test_these_records_are_chosen_on_every_machine() -> None:
    values = np.arange(1, 21, dtype=np.uint64)
    assert np.flatnonzero(held_out(values, 0.2)).tolist() == [10, 14, 19]
    assert times(values, 1.5).tolist() == [1, 2, 1, 1, 2, 2, 1, 1, 1, 1, 1, 2, 2, 1, 1, 2, 1, 2, 2, 2]
    assert within(values, 5).tolist() == [2, 7, 8, 15, 19]
    assert shuffled(values, 42).tolist() == [17, 0, 2, 11, 15, 1, 8, 4, 10, 13, 14, 3, 12, 6, 18, 5, 16, 9, 7, 19]


def test_a_share_is_held_out_and_adding_records_moves_no_other(repo: Repo) -> None:
    lines = write_shared(repo)
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 5%}")
    before = text_of(repo)
    assert COUNT * 0.91 < len(before) < COUNT * 0.99
    assert json.loads(Path("build/datasets/shared.json").read_text(encoding="utf-8"))["held_out"] == COUNT - len(before)
    more = [json.dumps({"instruction": f"More {number}?", "output": "x"}) for number in range(50)]
    repo.records("shared").write_text("\n".join([*more, *lines]), encoding="utf-8")
    assert [question for question in text_of(repo) if question.startswith("Question")] == before


def test_weight_and_limit_of_a_portion(repo: Repo) -> None:
    write_shared(repo)
    whole = text_of(repo)
    repo.replace("    data: [shared]\n", "    data: [{dataset: shared, weight: 0.3}]\n")
    part = text_of(repo)
    assert COUNT * 0.2 < len(part) < COUNT * 0.4
    assert part == [question for question in whole if question in set(part)]
    repo.replace("weight: 0.3", "weight: 2.3")
    assert sorted(text_of(repo)) == sorted([*whole, *whole, *part])
    repo.replace("weight: 2.3", "limit: 7")
    assert len(text_of(repo)) == 7


def test_a_shuffled_text_is_the_same_twice_and_another_by_another_seed(repo: Repo) -> None:
    write_shared(repo)
    whole = text_of(repo)
    repo.replace("    data: [shared]\n", "    data: [shared]\n    shuffle: true\n")
    first = text_of(repo)
    assert first != whole
    assert sorted(first) == sorted(whole)
    repo.replace("    shuffle: true\n", "    shuffle: true\n    train: {seed: 7}\n")
    assert text_of(repo) != first
    repo.replace("seed: 7", "seed: 42")
    assert text_of(repo) == first


@pytest.mark.parametrize(
    ("old", "new", "whole"),
    [
        (
            "data: [shared]",
            "data: [{dataset: shraed}]",
            "models.yaml:12: model 'legal': unknown dataset 'shraed'\n  fix: write 'shared' (known: shared, tone)",
        ),
        (
            "data: [shared]",
            "data: [{dataset: shared, wieght: 2}]",
            "models.yaml:12: models.legal.data[0]: unknown key 'wieght'\n  fix: write 'weight' (known: dataset, limit, weight)",
        ),
        (
            "shared.jsonl]",
            "shared.jsonl], holdout: 120%",
            'models.yaml:7: datasets.shared.holdout: "120%" is not what may stand here\n  fix: Share of the records that no model is trained on: 5% or 0.05.',
        ),
        (
            "shared.jsonl]",
            "shared.jsonl], rules: {duplicate: error}",
            "models.yaml:7: datasets.shared.rules: unknown key 'duplicate'\n  fix: write 'duplicates'",
        ),
        (
            "shared.jsonl]",
            "shared.jsonl], rules: {secrets: drop}",
            'models.yaml:7: datasets.shared.rules.secrets: "drop" is not known\n  fix: known: error, off, warning',
        ),
        (
            "shared.jsonl]",
            "shared.jsonl], fields: {instrction: q}",
            "models.yaml:7: datasets.shared.fields: unknown key 'instrction'\n  fix: write 'instruction'",
        ),
        ("shared.jsonl]", "shared.jsonl], format: alpacca", "models.yaml:7: datasets.shared.format: \"alpacca\" is not known\n  fix: write 'alpaca'"),
        (
            "shared.jsonl]",
            "shared.jsonl], schema: no.json",
            "models.yaml:7: dataset 'shared': no such file: no.json\n  fix: put the JSON Schema there, or mend `schema`",
        ),
    ],
)
def test_a_mistake_in_the_catalog_is_named_at_its_line(repo: Repo, old: str, new: str, whole: str) -> None:
    text = (repo.path / "models.yaml").read_text(encoding="utf-8")
    (repo.path / "models.yaml").write_text(text.replace(old, new, 1), encoding="utf-8")
    result = repo.doit()
    assert (result.code, result.err[: len("ERROR: \n" + whole)]) == (3, f"ERROR: \n{whole}")


def test_a_record_that_another_dataset_holds_out_is_a_leak(repo: Repo) -> None:
    lines = write_shared(repo)
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], holdout: 50%}")
    kept = text_of(repo)
    number = next(number for number in range(COUNT) if f"Question {number}?" not in kept)
    chat = {"messages": [{"role": "user", "content": f"Question {number}?"}, {"role": "assistant", "content": f"Answer {number}."}]}
    repo.records("tone").write_text(json.dumps(chat) + "\n", encoding="utf-8")  # said in another format, it is the same
    said = f"the same record as datasets/shared.jsonl:{number + 1}, which is held out [leaks]\n  fix: delete one of the two\n"
    result = repo.doit("convert:sales")
    assert (result.code, f"datasets/tone.jsonl:1: {said}" in result.out) == (1, True)
    assert f"datasets/tone.jsonl:1: {said}" in repo.doit("check", "tone").out
    repo.replace("tone: {files: [datasets/tone.jsonl]}", "tone: {files: [datasets/tone.jsonl], rules: {leaks: warning}}")
    result = repo.doit("convert:sales")
    assert (result.code, f"datasets/tone.jsonl:1: warning: {said}" in result.out) == (0, True)
    assert lines
    repo.records("tone").write_text("\n".join(lines) + "\n", encoding="utf-8")  # all of them
    told = [line for line in repo.doit("check", "tone").out.splitlines() if "[leaks]" in line]
    assert len(told) == 21
    assert told[-1].endswith(f": warning: and {COUNT - len(kept) - 20} more behind this [leaks]")
    repo.replace("    data: [shared, tone]", "    data: [shared, {dataset: tone, limit: 1}]")  # what is not read leaks nothing
    assert len([line for line in repo.doit("check", "tone").out.splitlines() if "[leaks]" in line]) <= 1


def test_tools_that_a_template_leaves_out_are_told(repo: Repo) -> None:
    call = {"role": "assistant", "content": "", "tool_calls": [{"function": {"name": "add", "arguments": {}}}]}
    turns = [{"role": "user", "content": "1 + 1?"}, call, {"role": "tool", "content": "2"}, {"role": "assistant", "content": "2."}]
    repo.records("tone").write_text(json.dumps({"messages": turns, "tools": [{"name": "add"}]}) + "\n", encoding="utf-8")
    whole = (
        "datasets/tone.jsonl:1: warning: the base's chat template leaves out the tools of this record\n"
        "  fix: train a base whose template knows tools, or take them out of the records\n"
    )
    assert whole in repo.doit("convert:sales").out
    assert whole in repo.doit("check", "tone").out


LONG = {"instruction": "Say it.", "output": "he " * 400 + "end"}


def test_a_record_that_is_too_long_is_an_error_unless_the_rule_drops_or_cuts_it(repo: Repo) -> None:
    lines = write_shared(repo, 3)
    repo.records("shared").write_text("\n".join([*lines, json.dumps(LONG)]), encoding="utf-8")
    repo.replace("rank: 2", "rank: 2, max_tokens: 200")
    tokens = 2 + len("user\nSay it.\n") + 2 + len("assistant\n") + 800 + 3
    whole = (
        f"datasets/shared.jsonl:4: {tokens} tokens, more than max_tokens 200 [too-long]\n"
        f"  fix: shorten it, or write `max_tokens: {tokens}` into the model's `train:`, or `too-long: drop` into the dataset's `rules:`\n"
    )
    result = repo.doit("convert:legal")
    assert (result.code, f"\nconvert:legal failed:\n{whole}" in result.out) == (1, True), result.out
    assert "it will fail: datasets/shared.jsonl:4: " in repo.doit("plan", "legal").out
    assert whole in repo.doit("check").out

    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], rules: {too-long: drop}}")
    result = repo.doit("convert:legal")
    assert (
        f"   legal: 4 records; tokens: median 40, p90 {tokens}, p99 {tokens}, longest {tokens} (at most 200); 1 too long and dropped\n" in result.out
    )
    assert len(text_of(repo)) == 3

    repo.replace("too-long: drop", "too-long: truncate")
    assert "; 1 too long and cut\n" in repo.doit("convert:legal").out
    (*_, cut) = (repo.path / "build/legal/text.jsonl").read_text(encoding="utf-8").splitlines()
    answer = json.loads(cut)["messages"][1]["content"]
    assert LONG["output"].startswith(answer)
    rendering = Rendering(read_head(Path("base.gguf"), with_arrays=True).keys)
    assert rendering.template is not None
    assert sum(rendering.count(text) for text, _ in rendering.template.segments(json.loads(cut)["messages"])) in range(199, 201)


@pytest.mark.parametrize("key", ["instruction", "output"])
def test_a_text_of_megabytes_is_not_counted_to_its_end(repo: Repo, key: str) -> None:
    lines = write_shared(repo, 3)
    huge = {"instruction": "Say it.", "output": "So.", key: "he said " * 500_000}
    repo.records("shared").write_text("\n".join([*lines, json.dumps(huge)]), encoding="utf-8")
    result = repo.doit("convert:legal")
    longest = len("<|im_start|>")
    assert result.code == 1
    least = int(result.out.split("shared.jsonl:4: at least ")[1].split(" ")[0])
    assert 2048 < least < 2048 * longest * 2
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], rules: {too-long: truncate}}")
    result = repo.doit("convert:legal")
    assert (result.code, "1 too long and cut" in result.out) == ((0, True) if key == "output" else (1, False))
    assert (", by its prompt alone: to cut the answer would leave nothing of it [too-long]\n" in result.out) == (key == "instruction")


def test_what_a_base_can_not_count_is_said(repo: Repo) -> None:
    write_tiny_base(Path("base.gguf"), tokenizer="unknown")
    assert "tokens not counted: the base has no chat template or tokenizer that is known here\n" in repo.doit("convert:legal").out


def test_only_what_a_model_says_carries_loss(tmp_path: Path) -> None:
    write_tiny_base(tmp_path / "base.gguf")
    rendering = Rendering(read_head(tmp_path / "base.gguf", with_arrays=True).keys)
    assert rendering.template is not None
    assert rendering.tokenizer is not None
    turns = [("user", "Hi"), ("assistant", "he"), ("user", "So?"), ("assistant", "é")]
    segments = rendering.template.segments([{"role": role, "content": content} for role, content in turns])
    assert segments == [
        ("<|im_start|>user\nHi<|im_end|>\n<|im_start|>assistant\n", False),
        ("he<|im_end|>", True),
        ("\n<|im_start|>user\nSo?<|im_end|>\n<|im_start|>assistant\n", False),
        ("é<|im_end|>", True),
    ]
    learnt = [(number, text) for number, text, is_learnt in tokens_by_loss(rendering.tokenizer, segments) if is_learnt]
    assert learnt == [(258, "he"), (257, "<|im_end|>"), (195, "é"), (169, "é"), (257, "<|im_end|>")]


def test_check_says_all_of_chosen_datasets_and_builds_nothing(repo: Repo) -> None:
    repo.records("tone").write_text('{"instruction": "Why?", "output": "So."}\n' * 2 + '{"instruction": "Why?"}\n', encoding="utf-8")
    result = repo.doit("check", "tone")
    assert result.code == 1
    assert result.out == (
        "datasets/tone.jsonl:2: warning: the same record as datasets/tone.jsonl:1 [duplicates]\n  fix: delete one of the two\n"
        "datasets/tone.jsonl:3: missing key 'output' [missing-key]\n  fix: add 'output' to the record\n"
        "tone: 2 records (alpaca); characters: median 7, p90 7, p99 7, longest 7; 1 line left out; 1 error, 1 warning\n"
    )
    assert not Path("build").exists()
    assert repo.doit("check", "datasets/tone.jsonl").out == result.out
    good = repo.doit("check", "shared")
    assert (good.code, good.out) == (
        0,
        "shared: 5 records (alpaca); characters: median 20, p90 20, p99 20, longest 20; no fault\n"
        "legal: 5 records; tokens: median 40, p90 40, p99 40, longest 40 (at most 2048)\n"
        "sales: 7 records; tokens: median 40, p90 40, p99 40, longest 40 (at most 2048)\n",
    )
    facts = json.loads(repo.doit("check", "--json").out)
    assert [(dataset["dataset"], dataset["records"], dataset["errors"]) for dataset in facts["datasets"]] == [
        ("shared", 5, {}),
        ("tone", 2, {"missing-key": 1}),
    ]
    assert facts["datasets"][1]["found"][0] == {
        "path": "datasets/tone.jsonl",
        "line": 3,
        "rule": "missing-key",
        "severity": "error",
        "message": "missing key 'output'",
        "fix": "add 'output' to the record",
    }
    assert [model["model"] for model in facts["models"]] == ["legal"]
    assert repo.doit("check", "tnoe").err == (
        "ERROR: \nno dataset or model 'tnoe' in the catalog, and no dataset has a file of this name\n  fix: write 'tone' (known: legal, sales, shared, tone)\n"
    )


def test_a_dataset_that_can_not_be_read_hides_no_other(repo: Repo) -> None:
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/none*.jsonl]}")
    repo.replace("tone: {files: [datasets/tone.jsonl]}", "tone: {files: [datasets/tone.jsonl]}\n  gone: {files: [datasets/gone.jsonl]}")
    result = repo.doit("check")
    *refused, tone = result.out.splitlines()
    assert (result.code, refused) == (
        1,
        [
            "models.yaml:7: dataset 'shared': no file matches its `files`",
            "  fix: put it there, or mend the path in the catalog",
            "models.yaml:9: dataset 'gone': no such file: datasets/gone.jsonl",
            "  fix: put it there, or mend the path in the catalog",
        ],
    )
    assert tone.startswith("tone: 3 records (alpaca); ")
    assert list(json.loads(repo.doit("check", "--json").out)["refused"]) == ["shared", "gone"]


def test_nothing_is_trained_on_nothing(repo: Repo) -> None:
    whole = (
        "models.yaml:10: model 'legal': no record is left to train on\n  fix: look at `holdout`, `weight`, and `too-long` of the datasets' `rules`\n"
    )
    repo.replace("    data: [shared]\n", "    data: [{dataset: shared, weight: 0.0001}]\n")
    result = repo.doit("train:legal")
    assert (result.code, f"\nconvert:legal failed:\n{whole}" in result.out) == (1, True)
    assert whole in repo.doit("check", "shared").out
    assert "it will fail: models.yaml:10: model 'legal': no record is left to train on" in repo.doit("plan", "legal").out


def test_check_passes_over_a_file_of_no_dataset(repo: Repo) -> None:
    Path("datasets/other.jsonl").write_text("no", encoding="utf-8")
    result = repo.doit("check", "datasets/other.jsonl")
    assert (result.code, result.out, result.err) == (0, "", "datasets/other.jsonl: in no dataset\n")


def test_check_needs_no_base(repo: Repo) -> None:
    Path("base.gguf").unlink()
    result = repo.doit("check", "shared")
    assert (result.code, result.out.splitlines()[1:]) == (0, [f"{name}: tokens not counted: base.gguf is not there" for name in ("legal", "sales")])


def test_show_prints_a_record_as_the_model_reads_it(repo: Repo) -> None:
    assert repo.doit("show", "legal", "--record", "3").out == (
        "datasets/shared.jsonl:3 (shared): 40 tokens, 10 of them with loss\n\n"
        "<|im_start|>user\nQuestion 2?<|im_end|>\n<|im_start|>assistant\n[[Answer 2.<|im_end|>]]\n\n"
        'with loss: "A" "n" "s" "w" "e" "r" " " "2" "." "<|im_end|>"\n'
    )
    facts = json.loads(repo.doit("show", "legal", "-r", "3", "--json").out)
    assert facts["at"] == "datasets/shared.jsonl:3"
    assert "".join(token["text"] for token in facts["tokens"]) == facts["text"]
    assert repo.doit("show", "legal", "--text").out == (
        '{"messages":[{"content":"Question 0?","role":"user"},{"content":"Answer 0.","role":"assistant"}]}\n'
    )
    result = repo.doit("show", "legal", "--record", "6")
    assert (result.code, result.err) == (
        3,
        "ERROR: \nmodel 'legal' has no record 6\n  fix: the number is that of the record in the model's text; `doit check` says how many there are\n",
    )


def test_show_counts_records_before_any_is_dropped_and_a_line_needs_no_base(repo: Repo) -> None:
    repo.replace("shared: {files: [datasets/shared.jsonl]}", "shared: {files: [datasets/shared.jsonl], rules: {too-long: drop}}")
    repo.replace("rank: 2,", "rank: 2, max_tokens: 20,")
    assert "40 tokens, more than max_tokens 20, 10 of them with loss" in repo.doit("show", "legal", "--record", "3").out
    Path("base.gguf").unlink()
    assert "Question 2?" in repo.doit("show", "legal", "--record", "3", "--text").out


def test_what_the_terminal_can_not_write_is_written_by_its_number(repo: Repo) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    repo.records("shared").write_text('{"instrüction": "a", "output": "b"}\n', encoding="utf-8")
    for words, key in ((["check"], "instr\\xfcction"), (["check", "--json"], "instr\\u00fcction")):
        environment = {**os.environ, "PYTHONIOENCODING": "ascii", "PYTHONUTF8": "0"}
        done = subprocess.run([sys.executable, "-m", "doit", *words, "shared"], capture_output=True, text=True, env=environment, check=False)
        assert (done.returncode, done.stderr, key in done.stdout) == (1, "", True)


def test_after_an_edit_only_what_is_new_is_read_and_the_verdict_is_the_same(repo: Repo) -> None:
    """By the index of the last check: the marker is that of a check without one."""
    lines = write_shared(repo, 5000)
    assert repo.doit("validate:shared").code == 0
    repo.records("shared").write_text("\n".join([*lines, lines[7], lines[8]]), encoding="utf-8")
    result = repo.doit("validate:shared")
    assert "datasets/shared.jsonl:5001: warning: the same record as datasets/shared.jsonl:8 [duplicates]\n" in result.out
    with_index = Path("build/datasets/shared.json").read_bytes()
    for path in ("shared.json", "shared.rows", "shared.index"):
        Path("build/datasets", path).unlink()
    assert repo.doit("validate:shared").code == 0
    assert Path("build/datasets/shared.json").read_bytes() == with_index


def test_a_dataset_may_be_called_as_the_index_of_another_would_be(repo: Repo) -> None:
    repo.replace("  tone:", "  shared.index:")
    repo.replace("tone]", "shared.index]")
    assert repo.doit("validate:shared.index", "validate:shared").ran == ["validate:shared.index", "validate:shared"]
    assert repo.doit("validate").ran == []


def test_a_damaged_index_is_not_believed(built: Repo) -> None:
    marker = Path("build/datasets/shared.json").read_bytes()
    for path, content in (
        ("shared.rows", b"x"),
        ("shared.index", b"{}"),
        ("shared.index", b'{"rows": 0, "files": 7}'),
        ("shared.index", b"\xff"),
    ):
        Path("build/datasets", path).write_bytes(content)
        built.records("shared").write_bytes(built.records("shared").read_bytes() + b"\n")
        assert built.doit("validate:shared").ran == ["validate:shared"]
        assert Path("build/datasets/shared.json").read_bytes() == marker
    for name in ("shared.rows", "shared.index"):  # a bit that turned
        path = Path("build/datasets", name)
        content = bytearray(path.read_bytes())
        content[len(content) // 2] ^= 1
        path.write_bytes(content)
        built.records("shared").write_bytes(built.records("shared").read_bytes() + b"\n")
        assert built.doit("plan", "legal").code == 4
        assert built.doit("validate:shared").ran == ["validate:shared"]
        assert Path("build/datasets/shared.json").read_bytes() == marker


def test_a_record_beyond_the_base_s_context_is_an_error_whatever_max_tokens_says(repo: Repo) -> None:
    with repo.records("shared").open("a", encoding="utf-8") as file:
        file.write("".join(map(json.dumps, [{"instruction": "Say it often.", "output": "word " * 1000}])) + "\n")
    repo.replace("rank: 2", "rank: 2, max_tokens: 10000")
    result = repo.doit("convert:legal")
    assert result.code == 1
    assert (
        " tokens, more than the base's context of 4096 [too-long]\n  fix: shorten it, or write `too-long: drop` into the dataset's `rules:`\n"
        in result.out
    )
