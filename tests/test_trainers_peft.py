"""The embedded trainer from outside: its options, its checkpoints, and that a build imports none of what it needs."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

import pytest

from ollamake.trainers.peft import PeftTrainer
from ollamake.trainers.peft_checkpoints import STATE, TENSORS, read_state, write_checkpoint
from ollamake.trainers.port import Objection

RIGHT = {
    "weight_decay": 0.01,
    "warmup_share": 0.1,
    "lr_schedule": "cosine",
    "max_grad_norm": 0.5,
    "lora_dropout": 0.05,
    "gradient_checkpointing": True,
}
KNOWN = "known: gradient_checkpointing, lora_dropout, lr_schedule, max_grad_norm, warmup_share, weight_decay"


def objections(**options: object) -> tuple[Objection, ...]:
    return PeftTrainer().objections({"options": options, "target_modules": ["q_proj"]})


def test_the_options_are_these() -> None:
    assert objections(**RIGHT) == ()
    page = (Path(__file__).parent.parent / "docs/trainers/peft.md").read_text(encoding="utf-8")
    assert [key for key in RIGHT if f"| `{key}` |" not in page] == []


@pytest.mark.parametrize(
    ("key", "value", "text", "fix"),
    [
        ("wieght_decay", 0.1, "the embedded trainer has no such option", f"write 'weight_decay' ({KNOWN})"),
        ("zzz", 0.1, "the embedded trainer has no such option", KNOWN),
        ("lora_r", 8, "the catalog says this as train.rank", "write train.rank, and remove 'lora_r' from train.options"),
        ("weight_decay", "0.1", '"0.1": this has to be a number from 0 to below 1', "mend or remove 'weight_decay' in the model's train.options"),
        ("max_grad_norm", True, "true: this has to be a number above 0", "mend or remove 'max_grad_norm' in the model's train.options"),
        (
            "lr_schedule",
            "step",
            '"step": this has to be one of linear, cosine, constant',
            "mend or remove 'lr_schedule' in the model's train.options",
        ),
        ("lora_dropout", 1, "1: this has to be a share, from 0 to below 1", "mend or remove 'lora_dropout' in the model's train.options"),
    ],
)
def test_other_options_are_refused_with_their_key(key: str, value: object, text: str, fix: str) -> None:
    assert objections(**{key: value}) == (Objection(key=f"options.{key}", text=f"options.{key}: {text}", fix=fix),)


def test_a_checkpoint_takes_the_place_of_those_before_it(tmp_path: Path) -> None:
    for step in (9, 10):
        write_checkpoint(tmp_path / "work", step, {"step": step}, b"tensors")
    assert [path.name for path in (tmp_path / "work").iterdir()] == ["checkpoint-10"]
    found = PeftTrainer().checkpoint(tmp_path)
    assert found == tmp_path / "work/checkpoint-10"
    state = read_state(found)
    assert state is not None
    assert state["step"] == 10


def test_a_checkpoint_that_is_not_whole_is_none(tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "work", 3, {"step": 3}, b"tensors")
    whole = tmp_path / "work/checkpoint-3"
    for name in (TENSORS, STATE):
        content = (whole / name).read_bytes()
        (whole / name).write_bytes(content[:-3])
        assert PeftTrainer().checkpoint(tmp_path) is None
        (whole / name).write_bytes(content)
    assert PeftTrainer().checkpoint(tmp_path) == whole
    (whole / STATE).write_text(json.dumps({"format": 0, "bytes": 7}), encoding="utf-8")
    assert PeftTrainer().checkpoint(tmp_path) is None


def test_a_build_imports_no_torch_for_it() -> None:
    program = "import sys; from ollamake.trainers.peft import PeftTrainer; print([name for name in ('torch', 'numpy', 'safetensors') if name in sys.modules])"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
