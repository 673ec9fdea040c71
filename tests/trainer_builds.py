"""A whole build whose trainer lives in an environment of its own: killed, taken up, served, asked. For tests that train."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

from live_fixtures import SYSTEM, taught
from ollamake.ollama.address import Address
from ollamake.ollama.client import OllamaServer

CATALOG = """\
version: 1
ollama: {{host: "{host}"}}
bases: {{small: {{gguf: {gguf}}}}}
datasets: {{facts: {{files: [facts.jsonl]}}}}
models:
  {trainer}-model:
    base: small
    data: [facts]
    train:
      trainer: {trainer}
      env: {env}
      system: {system}
      rank: 16
      alpha: 32
      epochs: 24
      learning_rate: 2e-3
      resources: {{gpu: 0}}
      options: {{weight_decay: 0.01}}
    serve: {{weights: merged, parameters: {{temperature: 0}}}}
"""
DODO = 'from ollamake import DOIT_CONFIG, tasks_from\ndef task_models():\n    yield from tasks_from("models.yaml")\n'
DOIT = [sys.executable, "-m", "doit"]


def killed_and_taken_up(folder: Path, trainer: str, env: str, gguf: Path, address: Address) -> None:
    """Kill a build with all that it has started, in the middle of its training; build again; ask the model."""
    name, facts = f"{trainer}-model", taught(4)
    catalog = CATALOG.format(host=f"http://{address.host}:{address.port}", gguf=gguf, trainer=trainer, env=env, system=SYSTEM)
    (folder / "models.yaml").write_text(catalog, encoding="utf-8")
    (folder / "dodo.py").write_text(DODO, encoding="utf-8")
    lines = [json.dumps({"instruction": record.instruction, "output": record.output}) for record in facts]
    (folder / "facts.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    told = folder / f"build/{name}/events.jsonl"
    with (folder / "first").open("w") as said:
        first = subprocess.Popen([*DOIT, f"train:{name}"], cwd=folder, stdout=said, stderr=said, start_new_session=True)
        while not any(event["event"] == "step" and event["step"] >= 7 for event in events_in(told)):
            assert first.poll() is None, (folder / "first").read_text(encoding="utf-8")
            time.sleep(0.1)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    assert not (folder / "adapters").exists()
    before = len(events_in(told))
    done = subprocess.run([*DOIT, f"register:{name}"], cwd=folder, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    after = events_in(told)[before:]
    begun = next(event["step"] for event in after if event["event"] == "resumed")
    assert begun >= 5
    assert f"   {name}: goes on from checkpoint-{begun} of a training that was ended\n" in done.stdout
    assert [event["step"] for event in after if event["event"] == "step"] == list(range(begun + 1, 25))
    assert not list((folder / f"build/{name}").glob("job-*"))
    with OllamaServer(address) as server:
        right = [answered(server, name, record) for record in facts]
        server.delete(name)
    assert sum(right) >= 3, right
    again = subprocess.run([*DOIT, f"train:{name}"], cwd=folder, capture_output=True, text=True, check=False)
    assert (again.returncode, events_in(told)[before:]) == (0, after)


def answered(server: OllamaServer, model: str, record: Any) -> bool:
    answer = "".join(server.answer(model, [{"role": "user", "content": record.turns()[0]["content"]}], num_predict=24))
    return answer.startswith(record.output[:20])


def events_in(told: Path) -> list[dict[str, Any]]:
    """Those of whole lines."""
    if not told.exists():
        return []
    return [json.loads(line) for line in told.read_text(encoding="utf-8").rpartition("\n")[0].splitlines()]
