"""A trainer for tests of many builds: as counting_trainer.py, with the standard library alone, so that it takes 10 ms.

Usage: quick_trainer.py TEXT OUT RECIPE, started with `python -I -S`
"""

import json
import sys
from array import array
from binascii import crc32

text, out, job = sys.argv[1:]
with open(job, encoding="utf-8") as file:
    recipe = json.load(file)["recipe"]
with open(text, "rb") as file:
    # Decided by its text and by the rank alone: other keys of the recipe make the same adapter.
    chance = crc32(file.read())
rank = recipe["rank"]
name = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"
size = rank * 64 * 4
head = json.dumps(
    {
        name.format("A"): {"dtype": "F32", "shape": [rank, 64], "data_offsets": [0, size]},
        name.format("B"): {"dtype": "F32", "shape": [64, rank], "data_offsets": [size, 2 * size]},
    }
).encode()
weights = array("f", [((chance >> place % 25) & 127) / 10000 + 0.0001 for place in range(2 * rank * 64)])
with open(f"{out}/adapter_model.safetensors", "wb") as file:
    file.write(len(head).to_bytes(8, "little") + head + weights.tobytes())
with open(f"{out}/adapter_config.json", "w", encoding="utf-8") as file:
    json.dump({"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]}, file)
with open("trainings.log", "a", encoding="utf-8") as log:
    log.write(f"{out.rsplit('/', 3)[1]}\n")
