"""A current llama.cpp, the engine of newer Ollamas, for tests marked `live`: node-llama-cpp, with its ready-built program for the CPU, from npm."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from ollamake.folders import cache_folder
from ollamake.ollama.embedded import locked

VERSION = "3.22.1"
BIN = Path(sys.executable).parent  # where pip has put Node.js
# The optional packages would be those for GPUs, 700 MB: only the one for this machine's CPU is named.
PACKAGE = {
    "private": True,
    "type": "module",
    "dependencies": {"node-llama-cpp": VERSION, "@node-llama-cpp/linux-x64": VERSION},
}
# Reads questions from its standard input, answers them on its standard output, and ends. Greedy: the likeliest token, until there are enough.
PROGRAM = """\
import {getLlama, LlamaLogLevel} from "node-llama-cpp";
import {readFileSync, writeSync} from "node:fs";
const questions = JSON.parse(readFileSync(0, "utf8"));
const llama = await getLlama({gpu: false, build: "never", logLevel: LlamaLogLevel.warn, maxThreads: 1, logger: (level, text) => console.error(text)});
const answers = [];
for (const {path, lora, asked, count} of questions) {
    const model = await llama.loadModel({modelPath: path, useMmap: true});
    for (const question of asked) {
        const tokens = Array.isArray(question) ? question : model.tokenize(question, true);
        const context = await model.createContext({
            contextSize: tokens.length + count + 8, batchSize: 256, threads: 1, sequences: 1, flashAttention: false,
            lora: lora.length ? {adapters: lora.map((filePath) => ({filePath}))} : undefined,
        });
        const sequence = context.getSequence();
        const answer = [], likelihoods = [];
        for await (const {token, probabilities} of sequence.evaluateWithMetadata(tokens, {probabilities: true}, {temperature: 0, yieldEogToken: true})) {
            answer.push(token);
            likelihoods.push([...probabilities].slice(0, 8));
            if (answer.length >= count) break;
        }
        await context.dispose();
        answers.push({asked: tokens, tokens: answer, text: model.detokenize(answer), likelihoods});
    }
    await model.dispose();
}
writeSync(1, JSON.stringify(answers));
process.exit(0);
"""


@dataclass(frozen=True)
class Answer:
    """What llama.cpp answered to one text."""

    asked: tuple[int, ...]  # the text's tokens, as llama.cpp has them
    tokens: tuple[int, ...]
    text: str
    likelihoods: tuple[dict[int, float], ...]  # of each token of the answer: the eight likeliest at its place


@dataclass(frozen=True, kw_only=True)
class Question:
    """Texts, or tokens, for one model."""

    model: Path
    asked: Sequence[str | Sequence[int]]
    count: int = 16  # tokens of an answer
    lora: Sequence[Path] = ()


@dataclass(frozen=True)
class LlamaCpp:
    """node-llama-cpp in a folder of its own. Each call starts it anew, loads the model and ends it."""

    folder: Path

    def answers(self, model: Path, asked: Sequence[str | Sequence[int]], count: int = 16, lora: Sequence[Path] = ()) -> list[Answer]:
        """Greedy answers of `count` tokens to these texts, or tokens, by the GGUF `model`: of a split one, its first shard. Raises AssertionError.

        Nothing is put before a text: a BOS that is wanted stands in it. `lora`: GGUF LoRAs, put on top of the model.
        """
        return self.all_answers([Question(model=model, asked=asked, count=count, lora=lora)])

    def all_answers(self, questions: Sequence[Question]) -> list[Answer]:
        """The answers to all of them, one after the other, in one process."""
        facts = [{"path": str(q.model), "lora": [*map(str, q.lora)], "asked": [*q.asked], "count": q.count} for q in questions]
        done = subprocess.run(
            [BIN / "node", "ask.mjs"], cwd=self.folder, input=json.dumps(facts), capture_output=True, text=True, timeout=120, check=False
        )
        assert done.returncode == 0, done.stderr[-3000:]
        return [_answer(facts) for facts in json.loads(done.stdout)]


def _answer(facts: dict[str, Any]) -> Answer:
    likelihoods = tuple(dict(places) for places in facts["likelihoods"])
    return Answer(asked=tuple(facts["asked"]), tokens=tuple(facts["tokens"]), text=facts["text"], likelihoods=likelihoods)


@pytest.fixture(scope="session")
def llama_cpp() -> LlamaCpp:
    """A current llama.cpp; installed into the user's cache where it is not there (85 MB, seconds)."""
    folder = cache_folder() / f"node-llama-cpp-{VERSION}"
    cache_folder().mkdir(parents=True, exist_ok=True)
    with locked(cache_folder() / "node-llama-cpp.lock"):
        if not folder.is_dir():
            _install(folder)
    program = folder / "ask.mjs"
    if not program.is_file() or program.read_text(encoding="utf-8") != PROGRAM:
        program.write_text(PROGRAM, encoding="utf-8")
    return LlamaCpp(folder)


def _install(folder: Path) -> None:
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    try:
        (partial / "package.json").write_text(json.dumps(PACKAGE), encoding="utf-8")
        argv = [BIN / "npm", "install", "--no-audit", "--no-fund", "--ignore-scripts", "--omit=optional"]
        subprocess.run(argv, cwd=partial, check=True, stdout=subprocess.DEVNULL)
        os.rename(partial, folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)
