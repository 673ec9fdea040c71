"""llama.cpp's llama-finetune: all weights of a base, in float32. No LoRA: it makes a whole model (docs/trainers/llama.cpp.md)."""

from __future__ import annotations

import functools
import re
import shutil
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import FLOAT_GGUF, WEIGHTS, Capabilities, Command, Job, Objection, Trainer
from ollamake.trainers.refused import Refusal, decided, instead, refused

PROGRAM = "llama-finetune"
RESULT = "model.gguf"
PATIENCE = 120.0  # seconds: what a prefix names may have to start a container first
HIGHEST_RATE = 1e-4  # of AdamW; what a LoRA learns with makes a base forget its language
BUILT = (
    "git clone https://github.com/ggml-org/llama.cpp && cmake -S llama.cpp -B llama.cpp/build && "
    "cmake --build llama.cpp/build --target llama-finetune; then `env: llama.cpp/build/bin` in the model's `train:`, or put that folder on PATH"
)
_WHAT, _WINDOWS = decided("what is trained, on what, and where the result goes"), decided("how long windows are, by max_tokens and the records")
TAKEN: Mapping[str, Refusal] = {
    **dict.fromkeys(("model", "model-url", "hf-repo", "hf-file", "docker-repo", "file", "binary-file", "prompt", "output", "output-file"), _WHAT),
    **dict.fromkeys(("ctx-size", "batch-size", "ubatch-size", "parallel"), _WINDOWS),
    "epochs": instead("epochs"),
    "learning-rate": instead("learning_rate"),
    "val-split": decided("which records are held out: `holdout` of a dataset"),
    **dict.fromkeys(("lora", "lora-scaled"), Refusal(text="llama-finetune trains the base itself, and no adapter")),
}


class LlamaCppTrainer(Trainer):
    """Trains all weights but the embeddings. Its `options` are long options of llama-finetune without their dashes: `{weight-decay: 1e-4}`.

    It knows no LoRA, no batches (each window of the text is a step) and no chance: rank, alpha, target_modules, batch_size and seed mean nothing to it.
    """

    name = "llama.cpp"
    text_format = "templated"
    capabilities = Capabilities(makes=WEIGHTS, reads_base=FLOAT_GGUF, reports_progress=True)

    def missing(self, environment: Environment) -> str | None:
        """How to build llama-finetune, where it is not there."""
        return None if _found(program(environment)) else BUILT

    def versions(self, environment: Environment) -> Mapping[str, str]:
        """The build of llama.cpp, as the program tells it; of one that was built without git, the digest of the program."""
        argv = program(environment)
        if not _found(argv):
            return {}
        said = re.search(r"version: (.+)", _told(argv))
        if said is not None and "unknown" not in said[1]:
            return {"llama.cpp": said[1].strip()}
        place = shutil.which(argv[-1]) if len(argv) == 1 else None
        return {"llama.cpp": digest_file(Path(place))} if place is not None else {}

    def objections(self, recipe: Mapping[str, Any]) -> tuple[Objection, ...]:
        """Options that the catalog or ollamake decides, values that are none of an option's, and a learning rate that is a LoRA's."""
        options: Mapping[str, Any] = recipe.get("options", {})
        names = {key: TAKEN[name] for key in options if (name := key.lower().replace("_", "-")) in TAKEN}
        found = [*refused(options, names)]
        for key, value in options.items():
            if key.startswith("-"):
                found.append(
                    Objection(key=f"options.{key}", text=f"options.{key}: options are written without dashes", fix=f"write {key.lstrip('-')!r}")
                )
            elif not isinstance(value, (str, int, float)):  # a bool is an int
                text = f"options.{key}: {value!r} is no value of an option of llama-finetune"
                found.append(Objection(key=f"options.{key}", text=text, fix="write a text, a number, or true for an option without a value"))
        rate = float(recipe["learning_rate"])
        if rate > HIGHEST_RATE and str(options.get("optimizer", "adamw")).lower() == "adamw":
            text = f"learning_rate: {rate:g} is for a LoRA; when all weights are trained, a base forgets by it what it knew"
            found.append(
                Objection(key="learning_rate", text=text, fix=f"write `learning_rate: 1e-5` into the model's `train:`; at most {HIGHEST_RATE:g}")
            )
        return tuple(found)

    def plan(self, job: Job) -> Command:
        """llama-finetune behind a program that tells its progress."""
        argv = (sys.executable, "-m", "ollamake.trainers.llama_cpp_training", str(job.folder), *program(job.environment))
        return Command(argv=argv)

    def collect(self, folder: Path) -> Path:
        """The GGUF, whose tensors are the result; its keys are those of the base in float32, and none of them is served."""
        result = folder / "out" / RESULT
        if not result.is_file():
            msg = f"{PROGRAM} ended well, and left no {RESULT}"
            raise BuildError(msg, fix="look into the training's log, and make room on the disk; then run `doit` again")
        return result


def program(environment: Environment) -> tuple[str, ...]:
    """The argv of llama-finetune: on PATH, in the folder that the environment names or its bin, or behind a prefix."""
    named = environment.named
    if named is None:
        return (PROGRAM,)
    if isinstance(named, tuple):
        return environment.program(PROGRAM)
    folders = (Path(named).absolute(), Path(named).absolute() / "bin")
    return (str(next((folder / PROGRAM for folder in folders if _is_there(folder / PROGRAM)), folders[0] / PROGRAM)),)


def _is_there(path: Path) -> bool:
    return shutil.which(str(path)) is not None


def _found(argv: tuple[str, ...]) -> bool:
    """Is it there? Behind a prefix, it is asked."""
    return shutil.which(argv[0]) is not None and (len(argv) == 1 or "version" in _told(argv))


@functools.cache
def _told(argv: tuple[str, ...]) -> str:
    """What the program says of its version; empty where it can't be run."""
    try:
        done = subprocess.run(
            [*argv, "--version"], capture_output=True, encoding="utf-8", errors="replace", check=False, stdin=subprocess.DEVNULL, timeout=PATIENCE
        )
    except (OSError, subprocess.TimeoutExpired):
        return ""
    return done.stdout + done.stderr if not done.returncode else ""
