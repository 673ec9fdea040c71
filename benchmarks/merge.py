"""How long merging an adapter takes: `python -m benchmarks.merge`.

SmolLM2-135M-Instruct (98 MB of Q4_1, fetched by `doit base`) and a rank 16 LoRA on all linear layers, merged to Q8_0, in a process of its own: all that a
build waits for beyond the interpreter's start, imports included. In turn with `cp` of the same file, and with an empty interpreter.

Prints one JSON object: smollm2_seconds (wall time of the merging process less that of an empty interpreter, median) and smollm2_cp_ratio (to `cp`).
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

ROOT = Path(__file__).parent.parent
BASE = ROOT / "bases/SmolLM2-135M-Instruct.Q4_1.gguf"
RANK, ROUNDS = 16, 7
SHAPES = {  # rows, columns
    "self_attn.q_proj": (576, 576),
    "self_attn.k_proj": (192, 576),
    "self_attn.v_proj": (192, 576),
    "self_attn.o_proj": (576, 576),
    "mlp.gate_proj": (1536, 576),
    "mlp.up_proj": (1536, 576),
    "mlp.down_proj": (576, 1536),
}
MERGE = """
import sys
from pathlib import Path
from ollamake.lora.architecture import read_architecture
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
base, adapter, target = map(Path, sys.argv[1:])
architecture = read_architecture(base)
write_merged_gguf(base, architecture.head, read_peft_adapter(adapter, architecture), "q8_0", target)
"""


def write_adapter(folder: Path) -> None:
    chance = np.random.default_rng(1)
    tensors = {}
    for layer in range(30):
        for module, (rows, columns) in SHAPES.items():
            name = f"base_model.model.model.layers.{layer}.{module}"
            tensors[f"{name}.lora_A.weight"] = chance.standard_normal((RANK, columns), dtype=np.float32)
            tensors[f"{name}.lora_B.weight"] = chance.standard_normal((rows, RANK), dtype=np.float32) / 100
    save_file(tensors, folder / "adapter_model.safetensors")
    (folder / "adapter_config.json").write_text(json.dumps({"peft_type": "LORA", "r": RANK, "lora_alpha": 2 * RANK}), encoding="utf-8")


def seconds(argv: list[str]) -> float:
    begun = time.perf_counter()
    subprocess.run(argv, check=True)
    return time.perf_counter() - begun


def main() -> None:
    subprocess.run([sys.executable, "-m", "doit", "base"], cwd=ROOT, check=True, stdout=sys.stderr)
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(temporary)
        write_adapter(folder)
        merged, copied = folder / "merged.gguf", folder / "copied.gguf"
        times: dict[str, list[float]] = {"merge": [], "cp": [], "empty": []}
        for _ in range(ROUNDS):
            times["merge"].append(seconds([sys.executable, "-c", MERGE, str(BASE), str(folder), str(merged)]))
            times["cp"].append(seconds(["cp", str(BASE), str(copied)]))
            times["empty"].append(seconds([sys.executable, "-c", ""]))
    median = {what: statistics.median(took) for what, took in times.items()}
    took = median["merge"] - median["empty"]
    print(json.dumps({"smollm2_seconds": round(took, 3), "smollm2_cp_ratio": round(took / median["cp"], 1)}))


if __name__ == "__main__":
    main()
