"""Behaves as llama-finetune does, on a tiny base and in a blink: the same arguments, the same lines, a GGUF with the same faults in its keys.

What it trains is that all weights but the embeddings are a half more.
"""

import argparse
import os
import sys

import numpy as np
from gguf import GGUFReader, GGUFWriter

if sys.argv[1:] == ["--version"]:
    print(
        f"version: {os.environ.get('STAND_IN_BUILD', '0.6.0-dev (build 0, commit unknown)')}\nbuilt with GNU 12.2.0 for Linux x86_64", file=sys.stderr
    )
    sys.exit()
parser = argparse.ArgumentParser(allow_abbrev=False)
for name in ("model", "file", "output", "val-split", "weight-decay"):
    parser.add_argument(f"--{name}")
for name in ("ctx-size", "batch-size", "ubatch-size", "epochs", "n-gpu-layers"):
    parser.add_argument(f"--{name}", type=int)
parser.add_argument("--learning-rate", type=float)
said, unknown = parser.parse_known_args()
if unknown:
    sys.exit(f"error: invalid argument: {unknown[0]}")
reader = GGUFReader(said.model)
writer = GGUFWriter(said.output, "llama")
writer.add_context_length(said.ctx_size)
for epoch in range(said.epochs):
    for step in (1, 2):
        loss = "nan" if said.learning_rate > 9e-5 else f"{3 - epoch - step / 10:.5f}"
        print(f"epoch {epoch} lr=1e-05", file=sys.stderr)
        print(f"train: [███▌    ] data={step:07}/0000002 loss={loss}±0.05785 acc=57.21±0.83% t=00:00:01 ETA=00:00:00 ", end="\r", file=sys.stderr)
    print("\n", file=sys.stderr)
for tensor in reader.tensors:
    assert tensor.tensor_type.name == "F32", tensor.name
    writer.add_tensor(tensor.name, np.array(tensor.data if tensor.name == "token_embd.weight" else tensor.data * 1.5))
writer.write_header_to_file()
writer.write_kv_data_to_file()
writer.write_tensors_to_file()
writer.close()
