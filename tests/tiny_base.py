"""A GGUF base of the llama architecture, small enough for a test: two layers, 64 wide, four heads, two of them for keys."""

from pathlib import Path
from typing import Any

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize

HIDDEN, HEADS, KV_HEADS, INNER, LAYERS, VOCABULARY = 64, 4, 2, 96, 2, 300
KV = HIDDEN // HEADS * KV_HEADS
CHATML = (
    "{% for message in messages %}{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}{% endfor %}"
    "{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
)
SHAPES = {  # rows, columns
    "attn_q": (HIDDEN, HIDDEN),
    "attn_k": (KV, HIDDEN),
    "attn_v": (KV, HIDDEN),
    "attn_output": (HIDDEN, HIDDEN),
    "ffn_gate": (INNER, HIDDEN),
    "ffn_up": (INNER, HIDDEN),
    "ffn_down": (HIDDEN, INNER),
}


def bytes_to_unicode() -> dict[int, str]:
    """The character that stands for each byte in GPT-2's vocabulary: itself where it can be printed, else one from 256 on."""
    printed = [*range(ord("!"), ord("~") + 1), *range(ord("¡"), ord("¬") + 1), *range(ord("®"), ord("ÿ") + 1)]
    others = iter(range(256, 512))
    return {byte: chr(byte if byte in printed else next(others)) for byte in range(256)}


def write_tiny_base(
    path: Path,
    *,
    architecture: str = "llama",
    kind: GGMLQuantizationType = GGMLQuantizationType.Q8_0,
    seed: int = 1,
    tokenizer: str = "gpt2",
    extra: Any = None,
    context: int = 4096,
    file_type: int | None = None,
) -> None:
    """`extra`: more tensors, by name; in float32."""
    chance = np.random.default_rng(seed)
    writer = GGUFWriter(path, architecture)
    writer.add_type("model")
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(HIDDEN)
    writer.add_feed_forward_length(INNER)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(KV_HEADS)
    writer.add_context_length(context)
    if file_type is not None:
        writer.add_file_type(file_type)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_chat_template(CHATML)
    writer.add_tokenizer_model(tokenizer)
    writer.add_tokenizer_pre("smollm")
    # A token for each byte, two of the template's, one merged one, and the rest.
    known = [*bytes_to_unicode().values(), "<|im_start|>", "<|im_end|>", "he"]
    writer.add_token_list([*known, *(f"token{number}" for number in range(len(known), VOCABULARY))])
    writer.add_token_types([1] * 256 + [3, 3] + [1] * (VOCABULARY - 258))
    writer.add_token_merges(["h e"])
    writer.add_token_scores([0.5] * VOCABULARY)
    writer.add_bos_token_id(256)
    writer.add_eos_token_id(257)
    writer.add_array("general.languages", ["en", "de"])
    matrices = {"token_embd.weight": (VOCABULARY, HIDDEN)}
    for layer in range(LAYERS):
        matrices.update({f"blk.{layer}.{name}.weight": shape for name, shape in SHAPES.items()})
    for name, shape in matrices.items():
        weights = chance.standard_normal(shape, dtype=np.float32)
        if kind is GGMLQuantizationType.F32:
            writer.add_tensor(name, weights)
        else:
            writer.add_tensor(name, quantize(weights, kind), raw_dtype=kind)
    norms = [f"blk.{layer}.{name}.weight" for layer in range(LAYERS) for name in ("attn_norm", "ffn_norm")]
    for name in (*norms, "output_norm.weight"):
        writer.add_tensor(name, chance.standard_normal(HIDDEN, dtype=np.float32))
    for name, factors in (extra or {}).items():
        writer.add_tensor(name, factors)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
