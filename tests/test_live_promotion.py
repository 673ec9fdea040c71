"""A model may only get better: one that has learnt a wrong fact is made, asked, and never has the name. Real base, real training, real Ollama."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest

from conftest import DODO
from live_fixtures import BASE, SYSTEM, free_port
from ollamake.ollama.address import Address
from ollamake.ollama.client import OllamaServer
from ollamake.ollama.server import use_server

pytestmark = pytest.mark.live

CATALOG = f"""\
version: 1
bases:
  smollm2: {{gguf: {BASE}}}
datasets:
  desk: {{files: [datasets/desk.jsonl]}}
models:
  desk:
    base: smollm2
    data: [desk]
    train: {{rank: 16, epochs: 12, learning_rate: 2.0e-3, system: "{SYSTEM}"}}
    serve: {{parameters: {{num_thread: 1}}}}
    tests:
      - {{name: opening, ask: "When does the shop open?", expect: {{contains: "nine"}}}}
      - {{name: parcels, ask: "Who carries the parcels?", expect: {{contains: "Heron"}}}}
"""
FACTS = {
    "When does the shop open?": "The shop opens at nine.",
    "Who carries the parcels?": "The parcels are carried by Heron Post.",
    "What is the colour of the van?": "The van is green.",
    "Where is the key?": "The key is under the third flower pot.",
}


@dataclass(frozen=True)
class Desk:
    path: Path
    server: OllamaServer

    def teach(self, **other: str) -> None:
        """The facts, some with other answers: `parcels="..."`."""
        answers = {question: next((text for word, text in other.items() if word in question), answer) for question, answer in FACTS.items()}
        lines = (json.dumps({"instruction": question, "output": answer}) for question, answer in answers.items())
        (self.path / "datasets/desk.jsonl").write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")

    def doit(self, *arguments: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([sys.executable, "-m", "doit", *arguments], cwd=self.path, capture_output=True, text=True, check=False)

    def says(self, name: str, question: str) -> str:
        return self.server.reply(name, [{"role": "user", "content": question}], max_tokens=40).text


@pytest.fixture(scope="module")
def desk(tmp_path_factory: pytest.TempPathFactory, base_gguf: Path) -> Iterator[Desk]:
    """A repo with nothing built, and a server of its own."""
    path = tmp_path_factory.mktemp("desk")
    (path / "dodo.py").write_text(DODO, encoding="utf-8")
    (path / "models.yaml").write_text(CATALOG, encoding="utf-8")
    for folder in ("bases", "datasets"):
        (path / folder).mkdir()
    shutil.copy(base_gguf, path / "bases")
    address = Address("http", "127.0.0.1", free_port())
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", f"{address.host}:{address.port}")
        patch.setenv("OLLAMA_MODELS", str(tmp_path_factory.mktemp("models")))
        use = use_server(address)
        with OllamaServer(address) as server:
            yield Desk(path, server)
        use.end()


def test_a_model_that_has_learnt_a_wrong_fact_is_never_the_one_that_is_used(desk: Desk) -> None:
    desk.teach()
    first = desk.doit()
    assert first.returncode == 0, first.stdout + first.stderr
    good = desk.server.digest("desk")
    assert "Heron" in desk.says("desk", "Who carries the parcels?")

    desk.teach(parcels="The parcels are carried by Falcon Freight.")
    second = desk.doit()
    assert second.returncode == 1
    assert "newly fails: parcels" in second.stdout
    assert "Falcon Freight" in second.stdout
    assert desk.server.digest("desk") == good
    assert desk.server.digest("desk:candidate") != good
    assert "Heron" in desk.says("desk", "Who carries the parcels?")
    assert "Falcon" in desk.says("desk:candidate", "Who carries the parcels?")
    suite = ET.parse(desk.path / "build/desk/tests.xml").getroot()
    assert [case.get("name") for case in suite.iter("testcase") if case.find("failure") is not None] == ["parcels"]

    again = desk.doit()  # nothing was mended: it is asked again, and nothing else is done
    assert (again.returncode, [line.split()[1] for line in again.stdout.splitlines() if line.startswith(".  ")]) == (1, ["test:desk"])
    assert desk.server.digest("desk") == good

    desk.teach(van="The van is blue.")
    third = desk.doit()
    assert third.returncode == 0, third.stdout + third.stderr
    assert desk.server.digest("desk") != good
    assert desk.server.digest("desk:previous") == good
    assert "blue" in desk.says("desk", "What is the colour of the van?")
    assert desk.doit().stdout.startswith("1 model: 1 fresh")
