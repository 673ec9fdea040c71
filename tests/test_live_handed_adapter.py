"""docs/why-not-the-adapter.md is true: what `python -m benchmarks.handed_adapter` shows, on the adapter of the other tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from live_fixtures import ROOT, Trained

pytestmark = [pytest.mark.live, pytest.mark.filterwarnings("default")]  # transformers, peft and torch warn of their own
PAGE = (ROOT / "docs/why-not-the-adapter.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("trained", ["q and k"], indirect=True)
def test_ollama_serves_another_model_than_it_is_handed(trained: Trained, base_gguf: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(ROOT))
    from benchmarks.handed_adapter import Fact, Handed, embedded_server, right_answers, told

    facts = [Fact(question, answer) for question, answer in trained.records[:6]]
    right = right_answers(trained.folder, base_gguf, facts)
    monkeypatch.setenv("OLLAMA_MODELS", "")  # the program sets it; behind this test it is as it was
    with embedded_server(tmp_path) as address:
        found = told(Handed(address, base_gguf), trained.folder, right, facts, tmp_path)
    ways, order, malformed = found["ways"], found["order"], found["malformed"]
    assert ways["transformers and peft"]["recall"] >= 5
    assert ways["Ollama's import"]["agree"] <= 3
    assert ways["GGUF LoRA"]["agree"] >= 5
    assert ways["merged q8_0"]["agree"] >= 5
    ours = order["ollamake's GGUF LoRA"]
    for matrix, said in order["Ollama's import"].items():
        assert f"    {matrix:9}  {said:42}  {ours[matrix]}\n" in PAGE
    for name, said in malformed.items():
        assert f"    {name}\n" in PAGE
        assert said["ollamake"] in PAGE
    assert malformed["DoRA"]["ollama"].startswith("the server dies at create")
