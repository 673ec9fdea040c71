"""Native keys of trainers that make more of an adapter than what Ollama serves, or less, or that the catalog has a key of its own for.

Each trainer says which of its keys is which: `refused(recipe["options"], {"use_dora": DORA, "lora_r": instead("rank")})`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from ollamake.trainers.port import Objection

QLORA = "qlora"  # the policy of the catalog's that decides about it
OUTPUT_LAYERS = ("lm_head", "output")
EMBEDDINGS = ("embed_tokens", "wte", "word_embeddings", "tok_embeddings", "token_embd")
EVERY_LAYER = ("all-linear", "all")  # words of trainers' own for target_modules


def says_something(value: Any) -> bool:
    """Whether a key's value asks for anything: not for `false`, `null`, an empty list, nor for the word none."""
    return bool(value) and not (isinstance(value, str) and value.lower() in {"none", "null", "false"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """What is wrong with a native key, where its value is one that `when` holds for."""

    text: str  # behind the key and its value
    fix: str = "remove {key!r} from the model's train.options"
    policy: str | None = None
    when: Callable[[Any], bool] = says_something


QLORA_TOLD = (
    "trained on a base in 4 or 8 bits (QLoRA), a LoRA learns to mend the errors of that quantization, and is served on a base that has other ones"
)
QUANTIZED = Refusal(
    text=QLORA_TOLD,
    fix="remove {key!r}: a LoRA on the base's full weights fits what is served; or allow it by `policy: {{qlora: allow}}`",
    policy=QLORA,
)
DORA = Refusal(text="DoRA scales the base's own weights as well, which a LoRA in Ollama can't carry")
WHOLE_MODULES = Refusal(text="layers that are trained whole are no LoRA, and can't be served as one")
BIAS = Refusal(text="a bias that is trained is no LoRA, and can't be served as one")
EMBEDDED = Refusal(text="what is trained of the embeddings or of the output layer can't be served by Ollama as a LoRA")
STARTS_ELSEWHERE = Refusal(
    text="this start changes the base's own weights, so the LoRA does not fit the base that is served",
    when=lambda value: isinstance(value, str) and value.lower().startswith(("pissa", "olora", "corda", "loftq", "eva", "lora_ga")),
)
PARAMETERS = Refusal(text="LoRA on single parameters can't be served by Ollama: it takes those of whole linear layers")
NO_LORA = Refusal(
    text="full fine-tuning makes no LoRA",
    fix="remove {key!r}, or train by `trainer: llama.cpp`, which makes whole weights",
    when=lambda value: value is False,
)
MERGED = Refusal(text="merging is done when the model is packaged, into the base that is served")
PUBLISHES = Refusal(text="a training publishes nothing: its result is checked, packaged and tested first")


def only(value: str, text: str) -> Refusal:
    """For a key that can have this value alone: `only("lora", "this makes no LoRA")`."""
    return Refusal(text=text, fix=f"remove {{key!r}}, or write {value!r}", when=lambda given: str(given).lower() != value.lower())


def instead(key: str) -> Refusal:
    """For what the catalog has a key of its own for: `rank`, or `resources.gpu`."""
    return Refusal(
        text=f"the catalog says this as train.{key}", fix=f"write train.{key}, and remove {{key!r}} from train.options", when=lambda _: True
    )


def decided(what: str) -> Refusal:
    """For what ollamake decides: `decided("where checkpoints are")`."""
    return Refusal(text=f"ollamake decides {what}", when=lambda _: True)


def refused(options: Mapping[str, Any], names: Mapping[str, Refusal]) -> tuple[Objection, ...]:
    """What can be said against these native keys, in the order of `names`; a name with dots is a key inside of another one's mapping."""
    found = []
    for name, refusal in names.items():
        there, value = _value(options, name)
        if there and refusal.when(value):
            fix = refusal.fix.format(key=name)
            found.append(Objection(key=f"options.{name}", text=f"options.{name}: {_told(value)}: {refusal.text}", fix=fix, policy=refusal.policy))
    return tuple(found)


def targets_refused(recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
    """What can be said against train.target_modules of any trainer, without knowing the base."""
    found = []
    for name in recipe.get("target_modules", ()):
        last = str(name).rsplit(".", 1)[-1]
        if last in OUTPUT_LAYERS or last in EMBEDDINGS:
            kind = "the output layer" if last in OUTPUT_LAYERS else "the embeddings"
            text = f"target_modules: {name!r}: Ollama serves no LoRA on {kind}: it accepts one, and does not load it"
            found.append(Objection(key="target_modules", text=text, fix=f"remove {name!r}"))
        elif last in EVERY_LAYER:
            text = f"target_modules: {name!r} is a word of some trainers, and no layer"
            found.append(
                Objection(key="target_modules", text=text, fix="name the layers: q_proj, k_proj, v_proj, o_proj, gate_proj, up_proj, down_proj")
            )
    return tuple(found)


def one_gpu(gpus: int, trainer: str) -> tuple[Objection, ...]:
    """More GPUs than one, for a trainer that has no use for them."""
    if gpus < 2:
        return ()
    fix = "write `resources: {gpu: 1}`, or train by one that shares a batch among them: trl, axolotl or llamafactory"
    return (Objection(key="resources.gpu", text=f"resources: trainer {trainer!r} trains on one GPU, and {gpus} are asked for", fix=fix),)


def _value(options: Mapping[str, Any], name: str) -> tuple[bool, Any]:
    value: Any = options
    for part in name.split("."):
        if not isinstance(value, Mapping) or part not in value:
            return False, None
        value = value[part]
    return True, value


def _told(value: Any) -> str:
    told = {True: "true", False: "false", None: "null"}.get(value) if isinstance(value, bool) or value is None else repr(value)
    assert told is not None
    return told if len(told) <= 60 else f"{told[:57]}..."
