"""What no trainer may be asked for by its own keys, because what comes out can't be served."""

from __future__ import annotations

import pytest

from ollamake.trainers.port import Objection
from ollamake.trainers.refused import BIAS, DORA, NO_LORA, QUANTIZED, STARTS_ELSEWHERE, decided, instead, only, refused, targets_refused

NAMES = {
    "load_in_4bit": QUANTIZED,
    "inner.quantization_config": QUANTIZED,
    "use_dora": DORA,
    "bias": BIAS,
    "init": STARTS_ELSEWHERE,
    "use_peft": NO_LORA,
    "peft_type": only("lora", "this makes no LoRA"),
    "lora_r": instead("rank"),
    "output_dir": decided("where the adapter is"),
}


def test_an_objection_names_the_key_its_value_the_reason_and_what_to_do() -> None:
    assert refused({"use_dora": True, "lora_r": 0}, NAMES) == (
        Objection(
            key="options.use_dora",
            text="options.use_dora: true: DoRA scales the base's own weights as well, which a LoRA in Ollama can't carry",
            fix="remove 'use_dora' from the model's train.options",
        ),
        Objection(
            key="options.lora_r",
            text="options.lora_r: 0: the catalog says this as train.rank",
            fix="write train.rank, and remove 'lora_r' from train.options",
        ),
    )


def test_a_quantized_base_is_a_matter_of_policy_alone() -> None:
    (found,) = refused({"load_in_4bit": True}, NAMES)
    assert (found.key, found.policy) == ("options.load_in_4bit", "qlora")
    assert found.fix == "remove 'load_in_4bit': a LoRA on the base's full weights fits what is served; or allow it by `policy: {qlora: allow}`"
    assert {objection.policy for objection in refused({"use_dora": True, "output_dir": "x"}, NAMES)} == {None}


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"load_in_4bit": False, "use_dora": None, "bias": "none"},
        {"bias": "None", "inner": {}},
        {"inner": "text", "init": True},
        {"init": "gaussian", "use_peft": True},
        {"peft_type": "LORA"},
        {"another": 1},
    ],
)
def test_what_asks_for_nothing_is_no_objection(options: dict[str, object]) -> None:
    assert refused(options, NAMES) == ()


@pytest.mark.parametrize(
    ("options", "keys"),
    [
        ({"inner": {"quantization_config": {"load_in_4bit": True}}}, ["options.inner.quantization_config"]),
        ({"init": "pissa_niter_4"}, ["options.init"]),
        ({"use_peft": False}, ["options.use_peft"]),
        ({"peft_type": "ADALORA"}, ["options.peft_type"]),
        ({"output_dir": None}, ["options.output_dir"]),
        ({"bias": "all", "use_dora": True}, ["options.use_dora", "options.bias"]),
    ],
)
def test_what_asks_for_something_is_one(options: dict[str, object], keys: list[str]) -> None:
    assert [objection.key for objection in refused(options, NAMES)] == keys


def test_targets_that_ollama_loads_no_lora_for_are_named() -> None:
    found = targets_refused({"target_modules": ["q_proj", "lm_head", "model.embed_tokens", "all-linear"]})
    assert [(objection.key, objection.fix) for objection in found] == [
        ("target_modules", "remove 'lm_head'"),
        ("target_modules", "remove 'model.embed_tokens'"),
        ("target_modules", "name the layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj"),
    ]
    assert found[0].text == "target_modules: 'lm_head': Ollama serves no LoRA on the output layer: it accepts one, and does not load it"
    assert targets_refused({"target_modules": ["q_proj"]}) == targets_refused({}) == ()
