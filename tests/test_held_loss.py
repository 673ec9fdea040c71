"""The loss of a base and of an adapter on it, against transformers with peft."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from conftest import DODO, Repo, jsonl
from ollamake.bases.hf_folder import hf_folder
from ollamake.catalog.load import load_catalog
from ollamake.catalog.tests import Measure
from ollamake.errors import BuildError
from ollamake.stages.held_loss import losses
from ollamake.stages.tested_records import examples_asked
from ollamake.state.digests import file_digest
from ollamake.trainers.examples import read_examples

CHATS = [[("user", "Hi"), ("assistant", "Hello.")], [("user", "So?"), ("assistant", "So it is."), ("user", "And?"), ("assistant", "Yes.")]]


@pytest.fixture
def model(repo: Repo, tmp_path_factory: pytest.TempPathFactory, monkeypatch: pytest.MonkeyPatch) -> Any:
    """With a test of its loss over records that it is not trained on."""
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
    repo.replace("models:\n", "  law: {files: [law.jsonl]}\nmodels:\n")
    repo.replace("  legal:\n", "  legal:\n    tests: [{dataset: law, metric: loss, max: 9}]\n")
    records = [{"messages": [{"role": role, "content": text} for role, text in chat]} for chat in CHATS]
    (repo.path / "law.jsonl").write_text(jsonl(*records), encoding="utf-8")
    return next(model for model in load_catalog(Path("models.yaml"), trainers=["command"]).models if model.name == "legal")


@pytest.mark.live
@pytest.mark.filterwarnings("ignore::UserWarning", "ignore::DeprecationWarning", "ignore::FutureWarning")
@pytest.mark.parametrize("more", [{}, {"use_rslora": True, "alpha_pattern": {"layers.1.self_attn.q_proj": 64}, "rank_pattern": {"v_proj": 2}}])
def test_the_loss_is_that_of_transformers_with_peft(model: Any, tmp_path: Path, more: dict[str, Any]) -> None:
    import torch
    from peft import LoraConfig, get_peft_model
    from transformers import AutoModelForCausalLM, AutoTokenizer

    folder = hf_folder(Path(model.base.gguf), file_digest(model.base.gguf), tmp_path / "cache")
    torch.manual_seed(1)
    tuned = get_peft_model(
        AutoModelForCausalLM.from_pretrained(folder), LoraConfig(r=4, lora_alpha=32, target_modules=["q_proj", "v_proj", "up_proj"], **more)
    ).eval()
    for name, matrix in tuned.named_parameters():
        if "lora_B" in name:
            matrix.data.normal_(std=0.1)
    tuned.save_pretrained("adapters/legal")
    measure = model.tests[0]
    found, count = losses(model, measure, examples_asked(measure))
    lines = [json.dumps({"messages": [{"role": role, "content": text} for role, text in chat]}) + "\n" for chat in CHATS]
    Path("text.jsonl").write_text("".join(lines), encoding="utf-8")
    examples = read_examples(Path("text.jsonl"), AutoTokenizer.from_pretrained(folder), max_tokens=500)

    def loss() -> float:
        with torch.no_grad():
            sums = [
                (tuned(torch.tensor([one.ids]), labels=torch.tensor([one.labels])).loss.item() * len(one.learnt), len(one.learnt)) for one in examples
            ]
        return sum(total for total, _ in sums) / sum(number for _, number in sums)

    assert count == 2
    assert found["adapter"] == pytest.approx(loss(), rel=1e-4)
    with tuned.disable_adapter():
        assert found["base"] == pytest.approx(loss(), rel=1e-4)
    assert abs(found["base"] - found["adapter"]) > 1e-3


@pytest.mark.live
def test_an_adapter_that_is_not_there_is_an_error(model: Any) -> None:
    measure = model.tests[0]
    with pytest.raises(BuildError) as caught:
        losses(model, measure, examples_asked(measure))
    assert str(caught.value).startswith("models.yaml:12: test 'loss of law': the loss could not be measured: the adapter can't be read: ")
    assert str(caught.value).endswith("\n  fix: train it again, or look at the files of `adapter:`")


def test_records_that_are_too_long_to_train_are_not_measured(model: Any) -> None:
    measure = model.tests[0]
    assert isinstance(measure, Measure)
    with pytest.raises(BuildError) as caught:
        losses(replace(model, train=replace(model.train, max_tokens=3)), measure, examples_asked(measure))
    assert str(caught.value) == (
        "models.yaml:12: test 'loss of law': every record is longer than train.max_tokens 3\n  fix: ask about other records, or raise max_tokens"
    )


STOPPED = """
import os, pathlib, sys, time
if "ollamake.trainers.peft_measure" in sys.orig_argv:
    pathlib.Path("pid.partial").write_text(str(os.getpid()))
    os.rename("pid.partial", "pid")
    time.sleep(600)
"""


@pytest.mark.parametrize("deadly", [signal.SIGTERM, signal.SIGKILL])
@pytest.mark.usefixtures("model")
def test_the_measuring_ends_with_its_build(repo: Repo, tmp_path_factory: pytest.TempPathFactory, deadly: int) -> None:
    """It would hold gigabytes, and the cores, for minutes."""
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    site = tmp_path_factory.mktemp("site")
    (site / "sitecustomize.py").write_text(STOPPED, encoding="utf-8")
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, (str(site), os.environ.get("PYTHONPATH"))))}
    with subprocess.Popen([sys.executable, "-m", "doit", "build", "legal"], env=environment, stdout=subprocess.PIPE, text=True) as build:
        while not Path("pid").exists():
            assert build.poll() is None, build.communicate()
            time.sleep(0.02)
        pid = int(Path("pid").read_text(encoding="utf-8"))
        build.send_signal(deadly)
    until = time.monotonic() + 60
    while Path(f"/proc/{pid}").exists():
        assert time.monotonic() < until
        time.sleep(0.02)
