"""What PyPI shows of ollamake: README.md, without the links that lead into this repo, and nowhere there. What they are called stays: paths in the sdist."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

from hatchling.metadata.plugin.interface import MetadataHookInterface


class Readme(MetadataHookInterface):
    """Reads README.md when a wheel or an sdist is built."""

    def update(self, metadata: dict[str, Any]) -> None:
        """Set the long description."""
        text = Path(self.root, "README.md").read_text(encoding="utf-8")
        metadata["readme"] = {"content-type": "text/markdown", "text": without_paths(text)}


def without_paths(text: str) -> str:
    """Markdown whose links lead to addresses alone."""
    return re.sub(r"\[([^\]]*)\]\((?!https?:)[^)]*\)", r"\1", text)
