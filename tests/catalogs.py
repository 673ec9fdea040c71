"""Catalogs of several files, in the working directory."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import pytest

from ollamake.catalog import Catalog
from ollamake.catalog.kept import Kept
from ollamake.catalog.load import load_catalog
from ollamake.errors import FaultyFileError


def write(files: Mapping[str, str]) -> None:
    for name, text in files.items():
        Path(name).parent.mkdir(parents=True, exist_ok=True)
        Path(name).write_text(text, encoding="utf-8")


def load(files: Mapping[str, str], environ: Mapping[str, str] | None = None, kept: Kept | None = None) -> Catalog:
    write(files)
    return load_catalog(Path("models.yaml"), trainers=("command", "peft"), environ=environ or {}, kept=kept)


def faults(files: Mapping[str, str], environ: Mapping[str, str] | None = None) -> str:
    with pytest.raises(FaultyFileError) as caught:
        load(files, environ)
    return str(caught.value)
