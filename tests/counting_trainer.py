"""A trainer for tests that count: a real program that writes a real, tiny adapter, decided by its text alone, and leaves a line in trainings.log.

Usage: counting_trainer.py TEXT OUT RECIPE
"""

import hashlib
import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

text, out, job = map(Path, sys.argv[1:])
recipe = json.loads(job.read_text(encoding="utf-8"))["recipe"]
chance = np.random.default_rng(int(hashlib.sha256(text.read_bytes()).hexdigest()[:8], 16))
print(json.dumps({"event": "start", "steps": 2, "examples": 1, "tokens": 10}))
print("a line that is no event")
module = "base_model.model.model.layers.0.self_attn.q_proj"
rank = recipe["rank"]
weights = {
    f"{module}.lora_A.weight": chance.standard_normal((rank, 64), dtype=np.float32),
    f"{module}.lora_B.weight": chance.standard_normal((64, rank), dtype=np.float32),
}
print(json.dumps({"event": "step", "step": 2, "steps": 2, "loss": 0.5, "tokens_per_second": 10.0, "seconds_left": 0.0}), flush=True)
save_file(weights, out / "adapter_model.safetensors")
config = {"peft_type": "LORA", "r": rank, "lora_alpha": recipe["alpha"], "target_modules": ["q_proj"]}
(out / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
with Path("trainings.log").open("a", encoding="utf-8") as log:
    log.write(f"{out.parent.parent.name}\n")
