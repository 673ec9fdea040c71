"""How long merging an adapter takes: `python -m benchmarks.merge`.

SmolLM2-135M-Instruct (98 MB of Q4_1, fetched by `doit base`), merged to Q8_0; and a llama of 1.1 billion weights (TinyLlama's shapes, made here of one
random block, again and again), in F16 merged to F16 and in Q8_0 merged to Q8_0. Each with a rank 16 LoRA, on q and v or on all linear layers, in a process
of its own: all that a build waits for beyond the interpreter's start, imports and the digest of what was written included. In turn with `cp` of the same
file, and with an empty interpreter; medians. A round is measured when the one before is on the disk, as `cp` would else wait for what the merge has left.

The files lie below `--folder` (default: the folder of this repo's build), 10 GB for a while; all of it is removed at the end.

Prints one JSON object: `..._seconds` (wall time of the merging process less that of an empty interpreter), `..._cp_ratio` (that to `cp`), and `peak_rss_mb`
(the most memory that any of the merging processes had).
"""

from __future__ import annotations

import argparse
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import NamedTuple

import numpy as np
from gguf import GGMLQuantizationType, GGUFWriter, quantize
from safetensors.numpy import save_file

ROOT = Path(__file__).parent.parent
SMOLLM2 = ROOT / "bases/SmolLM2-135M-Instruct.Q4_1.gguf"
RANK = 16
ATTENTION = ("self_attn.q_proj", "self_attn.k_proj", "self_attn.v_proj", "self_attn.o_proj")
ALL = (*ATTENTION, "mlp.gate_proj", "mlp.up_proj", "mlp.down_proj")
Q_AND_V = (ATTENTION[0], ATTENTION[2])
GGUF_NAMES = dict(zip(ALL, ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_gate", "ffn_up", "ffn_down"), strict=True))
BLOCK = 1 << 21  # weights of which a synthetic base is made, again and again
MERGE = """
import resource, sys
from pathlib import Path
from ollamake.lora.architecture import read_architecture
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
base, adapter, target = map(Path, sys.argv[1:4])
architecture = read_architecture(base)
write_merged_gguf(base, architecture.head, read_peft_adapter(adapter, architecture), sys.argv[4], target)
print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)
"""


class Llama(NamedTuple):
    """The shapes of a llama."""

    layers: int
    hidden: int
    heads: int
    kv_heads: int
    inner: int
    vocabulary: int

    @property
    def shapes(self) -> dict[str, tuple[int, int]]:
        """Rows and columns of each of a layer's matrices."""
        hidden, inner, kv = self.hidden, self.inner, self.hidden // self.heads * self.kv_heads
        sizes = ((hidden, hidden), (kv, hidden), (kv, hidden), (hidden, hidden), (inner, hidden), (inner, hidden), (hidden, inner))
        return dict(zip(ALL, sizes, strict=True))


SMALL = Llama(30, 576, 9, 3, 1536, 49152)
LARGE = Llama(22, 2048, 32, 4, 5632, 32000)


def write_base(path: Path, llama: Llama, kind: GGMLQuantizationType) -> None:
    """A base of these shapes, of one random block: its weights mean nothing, and take as long as others."""
    block = quantize(np.random.default_rng(1).standard_normal(BLOCK, dtype=np.float32) / 50, kind).view(np.uint8).reshape(-1)
    writer = GGUFWriter(path, "llama")
    for add, value in (
        (writer.add_block_count, llama.layers),
        (writer.add_embedding_length, llama.hidden),
        (writer.add_head_count, llama.heads),
        (writer.add_head_count_kv, llama.kv_heads),
        (writer.add_feed_forward_length, llama.inner),
    ):
        add(value)
    writer.add_type("model")
    writer.add_token_list([f"token{number}" for number in range(llama.vocabulary)])
    matrices = {"token_embd.weight": (llama.vocabulary, llama.hidden), "output.weight": (llama.vocabulary, llama.hidden)}
    for layer in range(llama.layers):
        matrices |= {f"blk.{layer}.{GGUF_NAMES[module]}.weight": shape for module, shape in llama.shapes.items()}
    norms = ["output_norm.weight", *(f"blk.{layer}.{name}.weight" for layer in range(llama.layers) for name in ("attn_norm", "ffn_norm"))]
    sizes = {name: rows * columns * block.nbytes // BLOCK for name, (rows, columns) in matrices.items()}
    for name, shape in matrices.items():
        writer.add_tensor_info(name, shape, np.dtype(np.float16), sizes[name], raw_dtype=kind)
    for name in norms:
        writer.add_tensor_info(name, (llama.hidden,), np.dtype(np.float32), 4 * llama.hidden)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_ti_data_to_file()
    for size in sizes.values():
        writer.write_tensor_data(np.resize(block, size))
    for _ in norms:
        writer.write_tensor_data(np.ones(llama.hidden, dtype=np.float32))
    writer.close()


def write_adapter(folder: Path, llama: Llama, modules: tuple[str, ...]) -> Path:
    chance = np.random.default_rng(1)
    tensors = {}
    for layer in range(llama.layers):
        for module in modules:
            rows, columns = llama.shapes[module]
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = chance.standard_normal((RANK, columns), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = chance.standard_normal((rows, RANK), dtype=np.float32) / 100
    folder.mkdir()
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}), encoding="utf-8")
    return folder


def timed(argv: list[str]) -> tuple[float, str]:
    """Seconds, and what it printed."""
    begun = time.perf_counter()
    done = subprocess.run(argv, check=True, stdout=subprocess.PIPE, text=True)
    return time.perf_counter() - begun, done.stdout


def measured(base: Path, adapters: Mapping[str, Path], weights_type: str, folder: Path, rounds: int) -> dict[str, float]:
    """The median seconds of `cp`, an empty interpreter, and the merging of each adapter; `rss` in MB."""
    merged, copied = folder / "merged.gguf", folder / "copied.gguf"
    times: dict[str, list[float]] = {"cp": [], "empty": [], **{name: [] for name in adapters}}
    peak = 0.0
    subprocess.run(["cp", base, copied], check=True)  # from here on the base is in the cache
    for _ in range(rounds):
        for name, seen in times.items():
            for written in (merged, copied):
                written.unlink(missing_ok=True)
            os.sync()
            if name == "cp":
                seen.append(timed(["cp", str(base), str(copied)])[0])
            elif name == "empty":
                seen.append(timed([sys.executable, "-c", ""])[0])
            else:
                took, said = timed([sys.executable, "-c", MERGE, str(base), str(adapters[name]), str(merged), weights_type])
                seen.append(took)
                peak = max(peak, int(said) / (1e6 if sys.platform == "darwin" else 1024))
    print({name: [round(took, 2) for took in all_took] for name, all_took in times.items()}, file=sys.stderr)
    for written in (merged, copied):
        written.unlink(missing_ok=True)
    return {"rss": peak, **{name: statistics.median(took) for name, took in times.items()}}


def main() -> None:
    parser = argparse.ArgumentParser()
    parser.add_argument("--folder", type=Path, default=ROOT, help="where the large files lie for a while")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    subprocess.run([sys.executable, "-m", "doit", "base"], cwd=ROOT, check=True, stdout=sys.stderr)
    facts: dict[str, float] = {}
    peaks = []
    with tempfile.TemporaryDirectory(prefix=".merge-", dir=given.folder) as temporary:
        folder = Path(temporary)
        found = measured(SMOLLM2, {"all": write_adapter(folder / "small", SMALL, ALL)}, "q8_0", folder, 2 * given.rounds)
        facts |= result("smollm2", found, "all")
        peaks.append(found["rss"])
        adapters = {"qv": write_adapter(folder / "qv", LARGE, Q_AND_V), "all_linear": write_adapter(folder / "all", LARGE, ALL)}
        for kind, weights_type, prefix in ((GGMLQuantizationType.F16, "f16", ""), (GGMLQuantizationType.Q8_0, "q8_0", "q8_")):
            base = folder / "base.gguf"
            write_base(base, LARGE, kind)
            facts[f"{prefix or 'f16_'}base_mb"] = round(base.stat().st_size / 1e6)
            found = measured(base, adapters, weights_type, folder, given.rounds)
            for name in adapters:
                facts |= result(f"{prefix}{name}", found, name)
            peaks.append(found["rss"])
            base.unlink()
    facts["peak_rss_mb"] = round(max(peaks))
    print(json.dumps(facts))


def result(label: str, found: Mapping[str, float], name: str) -> dict[str, float]:
    took = found[name] - found["empty"]
    return {f"{label}_seconds": round(took, 3), f"{label}_cp_ratio": round(took / found["cp"], 2)}


if __name__ == "__main__":
    main()
