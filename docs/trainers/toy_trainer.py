"""A trainer that learns nothing: it writes a LoRA of ones on q_proj of the first block."""

import json
import sys
from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from ollamake.lora.architecture import read_architecture
from ollamake.trainers.port import Capabilities, Command, Job, Trainer


class ToyTrainer(Trainer):
    name = "toy"
    text_format = "chat"
    capabilities = Capabilities(reports_progress=True, deterministic=True)

    def plan(self, job: Job) -> Command:
        return Command(argv=(sys.executable, __file__, str(job.folder)))


if __name__ == "__main__":
    folder = Path(sys.argv[1])
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    rank, module = job["recipe"]["rank"], "base_model.model.model.layers.0.self_attn.q_proj"
    shapes = {tensor.name: tensor.shape for tensor in read_architecture(Path(job["base"]["gguf"])).head.tensors}
    columns, rows = shapes["blk.0.attn_q.weight"]
    weights = {f"{module}.lora_A.weight": np.ones((rank, columns), np.float32), f"{module}.lora_B.weight": np.ones((rows, rank), np.float32)}
    save_file(weights, folder / "out" / "adapter_model.safetensors")
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": job["recipe"]["alpha"], "target_modules": ["q_proj"]}
    (folder / "out" / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
    print(json.dumps({"event": "step", "step": 1, "steps": 1, "loss": 0.0}))
