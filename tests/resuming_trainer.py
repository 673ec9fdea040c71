"""A trainer that goes on from checkpoints, as a plugin: for tests of what keeps them elsewhere."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ollamake.trainers import installed, port

PROGRAM = """\
import json, os, runpy, shutil, sys, time
from pathlib import Path
folder, place = Path.cwd(), Path(sys.argv[1])
job = json.loads((folder / "job.json").read_text())
done = int((folder / job["checkpoint"] / "step").read_text()) if job["checkpoint"] else 0
tell = lambda event, **facts: print(json.dumps({"event": event, "steps": 6, **facts}), flush=True)
tell("start", examples=1)
if done:
    tell("resumed", step=done)
for step in range(done + 1, 7):
    (folder / "work/part").mkdir()
    (folder / "work/part/step").write_text(str(step))
    (folder / "work/part").rename(folder / f"work/checkpoint-{step}")
    if step > 1:
        shutil.rmtree(folder / f"work/checkpoint-{step - 1}", ignore_errors=True)
    tell("step", step=step, loss=1 / step)
    tell("checkpoint", step=step)
    with (place / "told").open("a") as told:
        told.write(f"{os.environ.get('OLLAMAKE_NODE', '-')} {step}\\n")
    if step == 4 and (place / "fail").exists():
        (place / "fail").unlink()
        print("it is no good")
        sys.exit(3)
    while step == 4 and (place / "hold").exists():
        time.sleep(0.05)
sys.argv[1:] = [job["text"], str(folder / "out"), "job.json"]
runpy.run_path("{quick}")
tell("done", step=6)
"""
PLUGIN = """\
import sys
from ollamake.trainers.port import Capabilities, Command, Trainer

class Resuming(Trainer):
    name = "resuming"
    text_format = "chat"
    capabilities = Capabilities(resumes=True, reports_progress=True)

    def checkpoint(self, folder):
        found = sorted((folder / "work").glob("checkpoint-*/step"), key=lambda path: int(path.read_text()))
        return found[-1].parent if found else None

    def plan(self, job):
        return Command(argv=(sys.executable, "-I", "-S", "{program}", "{place}"))
"""


@pytest.fixture
def resuming(tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """The folder that its programs share; the trainer is installed for this process and its children."""
    place = tmp_path_factory.mktemp("resuming")
    info = place / "plugins/resuming-1.0.dist-info"
    info.mkdir(parents=True)
    (place / "program.py").write_text(PROGRAM.replace("{quick}", str(Path(__file__).with_name("quick_trainer.py"))), encoding="utf-8")
    (place / "plugins/resuming_plugin.py").write_text(PLUGIN.format(program=place / "program.py", place=place), encoding="utf-8")
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: resuming\nVersion: 1.0\n", encoding="utf-8")
    (info / "entry_points.txt").write_text("[ollamake.trainers]\nresuming = resuming_plugin:Resuming\n", encoding="utf-8")
    monkeypatch.syspath_prepend(str(place / "plugins"))
    monkeypatch.delitem(sys.modules, "resuming_plugin", raising=False)  # of a test before this one: it names that one's folder
    monkeypatch.setenv("PYTHONPATH", str(place / "plugins"), prepend=os.pathsep)
    port.trainer.cache_clear()
    installed.installed.cache_clear()
    yield place
    port.trainer.cache_clear()
    installed.installed.cache_clear()
