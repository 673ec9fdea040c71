"""A trainer for tests of what is around a training: a plugin of its own, which goes on from checkpoints, begins with adapters and reads the holdout.

As a program, `stepping_trainer.py JOB_FOLDER`: leaves each step that it does in steps.log of the repo. A file `die` there tells the step behind which it
kills itself (`3`), or its build (`3 build`), or says that it failed (`3 fail`).
"""

import json
import os
import signal
import sys
import time
from pathlib import Path

NAME = "base_model.model.model.layers.0.self_attn.q_proj.lora_{}.weight"


def main(folder: Path) -> None:
    job = json.loads((folder / "job.json").read_text(encoding="utf-8"))
    repo, recipe, work = folder.parent.parent.parent, job["recipe"], folder / job["work"]
    steps = -(-job["records"] // recipe["batch_size"]) * recipe["epochs"]
    done = 0 if job["checkpoint"] is None else int((folder / job["checkpoint"] / "step").read_text(encoding="utf-8"))
    tell("start", steps=steps, examples=job["records"])
    if done:
        tell("resumed", step=done, steps=steps)
    begun = "start " + (folder / job["start"] / "adapter_model.safetensors").read_bytes().hex()[-8:] if job["start"] else "base"
    note(repo, f"{job['name']} {begun} {'holdout' if job['holdout'] else 'all'}")
    for step in range(done + 1, steps + 1):
        note(repo, f"{job['name']} {step}")
        part = work / ".part"
        part.mkdir()
        (part / "step").write_text(str(step), encoding="utf-8")
        part.rename(work / f"checkpoint-{step}")
        tell("step", step=step, steps=steps, loss=1 / step)
        die(repo, step)
    rank = recipe["rank"]
    shape = {"A": [rank, 64], "B": [64, rank]}
    size = rank * 64 * 4
    head = json.dumps(
        {NAME.format(side): {"dtype": "F32", "shape": shape[side], "data_offsets": [at * size, (at + 1) * size]} for at, side in enumerate("AB")}
    )
    text = (folder / job["text"]).read_bytes()
    numbers = bytes(value % 64 for value in (text * (2 * size // len(text) + 1))[: 2 * size])
    (folder / job["out"] / "adapter_model.safetensors").write_bytes(len(head).to_bytes(8, "little") + head.encode() + numbers)
    config = {"peft_type": "LORA", "r": rank, "lora_alpha": 2 * rank, "target_modules": ["q_proj"]}
    (folder / job["out"] / "adapter_config.json").write_text(json.dumps(config), encoding="utf-8")


def tell(event: str, **facts: object) -> None:
    print(json.dumps({"event": event, **facts}), flush=True)


def note(repo: Path, line: str) -> None:
    with (repo / "steps.log").open("a", encoding="utf-8") as log:
        log.write(f"{line}\n")


def die(repo: Path, step: int) -> None:
    at = (repo / "die").read_text(encoding="utf-8").split() if (repo / "die").exists() else ["0"]
    if int(at[0]) != step:
        return
    (repo / "die").unlink()
    if at[1:] == ["fail"]:
        tell("failed", reason="this is no good rank", fix="write another", key="rank")
        sys.exit(1)
    if at[1:] == ["build"]:
        time.sleep(1)  # so that it has heard of the step
        guard = os.getppid()
        os.kill(int(Path(f"/proc/{guard}/stat").read_text(encoding="utf-8").rpartition(")")[2].split()[1]), signal.SIGKILL)
        time.sleep(60)  # its guard ends it
    os.kill(os.getpid(), signal.SIGKILL)


PLUGIN = f"""\
import sys
from ollamake.trainers.port import Capabilities, Command, Trainer

class Stepping(Trainer):
    name = "stepping"
    text_format = "chat"
    capabilities = Capabilities(resumes=True, reports_progress=True, evaluates=True, starts_from_adapter=True)

    def checkpoint(self, folder):
        found = sorted((folder / "work").glob("checkpoint-*/step"), key=lambda path: int(path.read_text()))
        return found[-1].parent if found else None

    def plan(self, job):
        return Command(argv=(sys.executable, "-I", "-S", {str(Path(__file__))!r}, str(job.folder)))
"""


if __name__ == "__main__":
    main(Path(sys.argv[1]))
