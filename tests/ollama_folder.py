"""A folder of models as an Ollama keeps them, for bases that it holds."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from ollamake.digest import digest_bytes, digest_file

KIND = "application/vnd.ollama.image."
TEMPLATE = "{{ .System }} {{ .Prompt }}"
PARAMETERS = {"stop": ["<|im_end|>"], "temperature": 0.7}


def layer(folder: Path, kind: str, content: bytes) -> dict[str, Any]:
    """A layer of a manifest; its blob is in the folder."""
    digest = digest_bytes(content)
    blob = folder / "blobs" / digest.replace(":", "-")
    blob.parent.mkdir(parents=True, exist_ok=True)
    blob.write_bytes(content)
    return {"mediaType": f"{KIND}{kind}", "digest": digest, "size": len(content)}


def manifest_path(folder: Path, name: str = "registry.ollama.ai/library/small/latest") -> Path:
    return folder / "manifests" / name


def hold(
    folder: Path,
    gguf: Path,
    name: str = "registry.ollama.ai/library/small/latest",
    *,
    template: str | None = TEMPLATE,
    parameters: dict[str, Any] | None = None,
    also: tuple[tuple[str, bytes], ...] = (),
) -> Path:
    """Have the folder hold this GGUF as a model, as a pull does. Returns the blob."""
    layers = [layer(folder, "model", gguf.read_bytes())]
    if template is not None:
        layers.append(layer(folder, "template", template.encode()))
    if parameters is not None:
        layers.append(layer(folder, "params", json.dumps(parameters).encode()))
    layers += [layer(folder, kind, content) for kind, content in also]
    path = manifest_path(folder, name)
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"schemaVersion": 2, "layers": layers}), encoding="utf-8")
    return folder / "blobs" / digest_file(gguf).replace(":", "-")
