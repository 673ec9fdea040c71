"""The system prompt that a model is served with."""

from __future__ import annotations

from pathlib import Path

from ollamake.catalog import Model
from ollamake.lora.gguf_file import read_keys
from ollamake.records.chat_template import chat_template


def system_of(model: Model) -> str | None:
    """What the catalog says, else what the base's own template writes where none is given.

    The model was trained with the latter, and Ollama would leave it out. Raises BuildError where the base can't be read.
    """
    if model.serve.system is not None:
        return model.serve.system
    source = read_keys(Path(model.base.gguf)).get("tokenizer.chat_template")
    return chat_template(source).default_system() if isinstance(source, str) else None
