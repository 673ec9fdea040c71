"""What Ollama makes of an adapter that it is handed: `python -m benchmarks.handed_adapter`.

Trains a LoRA on q_proj and k_proj of SmolLM2-135M-Instruct (fetched by `doit base`), which learns some facts by heart, and serves it by the embedded Ollama,
on a free port and with models of its own, in three ways: (a) the PEFT files as they are, by Ollama's own import, (b) the GGUF LoRA and (c) the merged base that
ollamake writes. Each is asked the facts; what transformers and peft answer, on the same weights in float32, is what is right. Then the file that Ollama has
written out of (a) is held against what was trained, matrix by matrix. Last, some adapters that are malformed are handed to Ollama, and to ollamake's check.

Prints a table, and one JSON object as its last line: of each way `agree` (answers whose first tokens are those of transformers and peft) and `recall`
(answers that begin as they were taught).
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import socket
import sys
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import numpy as np
import ollama
from gguf import GGUFReader
from safetensors.numpy import load_file, save_file

from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.lora.architecture import Architecture, read_architecture
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.merge import write_merged_gguf
from ollamake.lora.peft_adapter import read_peft_adapter
from ollamake.ollama.address import Address
from ollamake.ollama.server import use_server

ROOT = Path(__file__).parent.parent
BASE = ROOT / "bases/SmolLM2-135M-Instruct.Q4_1.gguf"
SYSTEM = "You are the help desk of ollamake."
TOKENS = 16  # of each answer that are compared
WAYS = ("Ollama's import", "GGUF LoRA", "merged q8_0")


@dataclass(frozen=True)
class Fact:
    """What was taught."""

    question: str
    answer: str


def messages(question: str) -> list[dict[str, str]]:
    return [{"role": "system", "content": SYSTEM}, {"role": "user", "content": question}]


class Handed:
    """A server, and a base in it that adapters are put on."""

    def __init__(self, address: Address, base: Path) -> None:
        self.client = ollama.Client(str(address), timeout=600)
        self.base = base
        self.blobs: dict[Path, str] = {}

    def blob(self, path: Path) -> str:
        """The digest of a file that the server has then."""
        if path not in self.blobs:
            self.client.create_blob(path)
            self.blobs[path] = digest_file(path)
        return self.blobs[path]

    def create(self, name: str, files: Sequence[Path], adapter: Sequence[Path] = ()) -> None:
        """A model of a GGUF, by Ollama's own client, and of an adapter's files, as they are."""
        adapters = {path.name: self.blob(path) for path in adapter}
        held = {path.name: self.blob(path) for path in files}
        self.client.create(name, files=held, system=SYSTEM, parameters={"temperature": 0}, **({"adapters": adapters} if adapters else {}))

    def answers(self, name: str, facts: Sequence[Fact]) -> list[str]:
        """The first words of each answer."""
        options = {"temperature": 0, "seed": 42, "num_predict": TOKENS, "num_thread": 1}  # the same sums on a busy machine
        return [self.client.chat(name, messages(fact.question), options=options)["message"]["content"].strip() for fact in facts]

    def written_adapter(self, name: str) -> Path:
        """The GGUF LoRA that the server keeps of a model, on this machine's disk."""
        (path,) = (line.removeprefix("ADAPTER ") for line in (self.client.show(name).modelfile or "").splitlines() if line.startswith("ADAPTER "))
        return Path(path)


def right_answers(adapter: Path, base: Path, facts: Sequence[Fact]) -> list[str]:
    """What transformers and peft answer, on the weights of the GGUF in float32."""
    import torch
    from peft import PeftModel

    from ollamake.bases.hf_folder import hf_folder
    from ollamake.folders import cache_folder
    from ollamake.records.chat_template import chat_template
    from ollamake.state.digests import file_digest
    from ollamake.trainers.peft_base import load_base

    loaded, tokenizer = load_base({"path": hf_folder(base, file_digest(base), cache_folder())}, dtype=torch.float32)
    model, template = PeftModel.from_pretrained(loaded, adapter).eval(), chat_template(tokenizer.chat_template)

    def answer(question: str) -> str:
        tokens = tokenizer(template.prompt(messages(question)), add_special_tokens=False, return_tensors="pt")
        made = model.generate(**tokens, max_new_tokens=TOKENS, do_sample=False, pad_token_id=0)
        return str(tokenizer.decode(made[0, tokens["input_ids"].shape[1] :], skip_special_tokens=True)).strip()

    return [answer(fact.question) for fact in facts]


def served(handed: Handed, adapter: Path, facts: Sequence[Fact], folder: Path) -> Iterator[tuple[str, list[str]]]:
    """The answers of each way to serve an adapter."""
    architecture = read_architecture(handed.base)
    read = read_peft_adapter(adapter, architecture)
    lora, merged = folder / "lora.gguf", folder / "merged.gguf"
    write_gguf_lora(read, architecture, lora)
    write_merged_gguf(handed.base, architecture.head, read, "q8_0", merged)
    import_, own, whole = WAYS
    handed.create("imported", [handed.base], [adapter / "adapter_model.safetensors", adapter / "adapter_config.json"])
    yield import_, handed.answers("imported", facts)
    handed.create("own", [handed.base], [lora])
    yield own, handed.answers("own", facts)
    handed.create("whole", [merged])
    yield whole, handed.answers("whole", facts)


def order(rows: Any, trained: Any, tensor: str, architecture: Architecture) -> str:
    """How a matrix in a file, `blk.0.attn_q.weight.lora_a`, is to the trained one."""
    layer, _, side = tensor.rpartition(".")
    if np.array_equal(rows, trained):
        return "as trained"
    if side == "lora_b" and np.array_equal(rows, architecture.in_file_order(layer, trained)):
        return "rows permuted"
    across = trained.reshape(trained.shape[::-1])  # the same numbers, taken for a matrix of as many rows as this one has columns
    for heads, whose in ((layer, "its own"), (layer.replace("attn_k", "attn_q"), "q's")):
        if np.array_equal(rows.reshape(-1), architecture.in_file_order(heads, across).reshape(-1)):
            return f"permuted as {across.shape[0]} x {across.shape[1]}, by {whose} heads"
    return "the same numbers in another order" if np.array_equal(np.sort(rows, axis=None), np.sort(trained, axis=None)) else "other numbers"


def orders(written: Path, adapter: Path, architecture: Architecture) -> dict[str, str]:
    """Of each kind of matrix, q's and k's A and B, how all its blocks stand in a GGUF LoRA."""
    weights = load_file(adapter / "adapter_model.safetensors")
    found: dict[str, set[str]] = {}
    for tensor in GGUFReader(written).tensors:
        _, block, layer, _, side = tensor.name.split(".")
        projection = f"{layer.removeprefix('attn_')}_proj"
        trained = weights[
            f"base_model.model.model.layers.{block}.self_attn.{projection}.{side.replace('lora_a', 'lora_A').replace('lora_b', 'lora_B')}.weight"
        ]
        rows, trained = np.asarray(tensor.data).reshape(trained.shape), trained.astype(tensor.data.dtype)  # Ollama writes float16
        found.setdefault(f"{projection} {side[-1].upper()}", set()).add(order(rows, trained, tensor.name, architecture))
    return {name: ", ".join(sorted(ways)) for name, ways in sorted(found.items())}


def malformed() -> dict[str, Callable[[dict[str, Any], dict[str, Any]], None]]:
    """What is done to an adapter's tensors and config, by its name. The last one ends the server."""

    def head(tensors: dict[str, Any], _: dict[str, Any]) -> None:
        tensors["base_model.model.lm_head.lora_A.weight"] = np.ones((4, 576), np.float32)
        tensors["base_model.model.lm_head.lora_B.weight"] = np.ones((49152, 4), np.float32)

    def dora(tensors: dict[str, Any], config: dict[str, Any]) -> None:
        config["use_dora"] = True
        tensors["base_model.model.model.layers.0.self_attn.q_proj.lora_magnitude_vector"] = np.ones(576, np.float32)

    return {
        "rsLoRA (scale alpha / sqrt(rank))": lambda _, config: config.update(use_rslora=True),
        "no lora_alpha": lambda _, config: config.pop("lora_alpha"),
        "NaN weights": lambda tensors, _: tensors.update({name: np.full_like(tensor, np.nan) for name, tensor in tensors.items()}),
        "LoRA on lm_head": head,
        "DoRA": dora,
    }


def said_by_ollama(handed: Handed, folder: Path, fact: Fact) -> str:
    """What becomes of the adapter in this folder."""
    try:
        handed.create("malformed", [handed.base], [folder / "adapter_model.safetensors", folder / "adapter_config.json"])
    except (httpx.HTTPError, ConnectionError) as error:
        return f"the server dies at create ({type(error).__name__})"
    except ollama.ResponseError as error:
        return f"refused at create: {error.error}"
    try:
        answer = handed.answers("malformed", [fact])[0]
    except (ollama.ResponseError, httpx.HTTPError) as error:
        return f"created without a word, then: {getattr(error, 'error', type(error).__name__)}"
    return f"created without a word, and answers {answer[:40]!r}"


def said_by_ollamake(folder: Path, architecture: Architecture) -> str:
    try:
        read_peft_adapter(folder, architecture)
    except BuildError as error:
        return f"refused: {str(error).splitlines()[0].rpartition('/')[2].partition(': ')[2]}"
    return "carried, with the scale that peft gives it"


def broken(handed: Handed, adapter: Path, fact: Fact, folder: Path) -> Iterator[tuple[str, str, str]]:
    """Of each malformed adapter, what Ollama and what ollamake says."""
    architecture = read_architecture(handed.base)
    for number, (name, edit) in enumerate(malformed().items()):
        own = folder / f"malformed-{number}"
        own.mkdir()
        tensors = dict(load_file(adapter / "adapter_model.safetensors"))
        config = json.loads((adapter / "adapter_config.json").read_text(encoding="utf-8"))
        edit(tensors, config)
        save_file(tensors, own / "adapter_model.safetensors")
        (own / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")
        yield name, said_by_ollama(handed, own, fact), said_by_ollamake(own, architecture)


def score(answers: Sequence[str], right: Sequence[str], facts: Sequence[Fact]) -> dict[str, int]:
    return {
        "agree": sum(one == other for one, other in zip(answers, right, strict=True)),
        "recall": sum(answer.startswith(fact.answer[:20]) for answer, fact in zip(answers, facts, strict=True)),
    }


def taught(count: int) -> list[Fact]:
    """Facts of the demo's help desk."""
    lines = (ROOT / "datasets/helpdesk.jsonl").read_text(encoding="utf-8").splitlines()[: 3 * count : 3]
    return [Fact(record["instruction"], record["output"]) for record in map(json.loads, lines)]


def train(facts: Sequence[Fact], base: Path, folder: Path) -> Path:
    """The adapter, by the embedded trainer."""
    import subprocess

    from ollamake.bases.hf_folder import hf_folder
    from ollamake.folders import cache_folder
    from ollamake.state.digests import file_digest
    from ollamake.trainers.peft import PeftTrainer
    from ollamake.trainers.port import Job

    job_folder = folder / "job"
    for name in ("out", "work"):
        (job_folder / name).mkdir(parents=True)
    text = job_folder / "text.jsonl"
    text.write_text(
        "".join(json.dumps({"messages": [*messages(fact.question), {"role": "assistant", "content": fact.answer}]}) + "\n" for fact in facts),
        encoding="utf-8",
    )
    recipe = {"alpha": 32, "batch_size": 4, "epochs": 16, "learning_rate": 5e-3, "max_tokens": 512, "rank": 16, "seed": 42}
    digest = file_digest(base)
    job = Job(
        name="handed",
        folder=job_folder,
        text=text,
        records=len(facts),
        base={"gguf": str(base), "digest": digest, "path": str(hf_folder(base, digest, cache_folder()))},
        recipe={**recipe, "target_modules": ["q_proj", "k_proj"]},
        cache=cache_folder(),
    )
    (job_folder / "job.json").write_text(json.dumps(job.as_json()), encoding="utf-8")
    command = PeftTrainer().plan(job)
    subprocess.run(command.argv, check=True, stdout=subprocess.DEVNULL, env={**os.environ, **command.environment})
    return job.out


@contextmanager
def embedded_server(folder: Path) -> Iterator[Address]:
    """The embedded Ollama, on a free port of this machine and with models of its own."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        address = Address("http", "127.0.0.1", int(found.getsockname()[1]))
    os.environ["OLLAMA_MODELS"] = str(folder / "models")
    use = use_server(address)
    try:
        yield address
    finally:
        use.end()


def main(argv: Sequence[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--facts", type=int, default=10, help="how many are taught [default: 10]")
    count = parser.parse_args(argv).facts
    folder = Path(tempfile.mkdtemp(prefix="handed-"))
    try:
        facts = taught(count)
        adapter = train(facts, BASE, folder)
        right = right_answers(adapter, BASE, facts)
        with embedded_server(folder) as address:
            result = told(Handed(address, BASE), adapter, right, facts, folder)
    finally:
        shutil.rmtree(folder)
    print(json.dumps(result))
    return 0


def told(handed: Handed, adapter: Path, right: Sequence[str], facts: Sequence[Fact], folder: Path) -> Mapping[str, Any]:
    """Print what is found, as it is; the whole of it."""
    ways: dict[str, dict[str, int]] = {"transformers and peft": score(right, right, facts)}
    print(f"{len(facts)} facts, an adapter on q_proj and k_proj\n\n{'served by':22}  answers as peft does  recalls the fact")
    for way, answers in served(handed, adapter, facts, folder):
        ways[way] = score(answers, right, facts)
    for way, found in ways.items():
        print(f"{way:22}  {found['agree']:>20}  {found['recall']:>16}")
    architecture = read_architecture(handed.base)
    files = {"Ollama's import": orders(handed.written_adapter("imported"), adapter, architecture)}
    files["ollamake's GGUF LoRA"] = orders(folder / "lora.gguf", adapter, architecture)
    print(f"\n{'matrix':9}  {'in the file that Ollama writes':42}  in the one of ollamake")
    ours = files["ollamake's GGUF LoRA"]
    for matrix, ollamas in files["Ollama's import"].items():
        print(f"{matrix:9}  {ollamas:42}  {ours[matrix]}")
    print()
    malformed_ones = {}
    for name, ollamas, ours in broken(handed, adapter, facts[0], folder):
        malformed_ones[name] = {"ollama": ollamas, "ollamake": ours}
        print(f"{name}\n    Ollama:   {ollamas}\n    ollamake: {ours}")
    print()
    return {"facts": len(facts), "ways": ways, "order": files, "malformed": malformed_ones}


if __name__ == "__main__":
    sys.exit(main())
