"""An adapter here -> a repo on the Hugging Face Hub, with a card that says what it was made of."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

from ollamake.catalog.outside import Push
from ollamake.hub.api import hub_api
from ollamake.hub.card import About, card
from ollamake.hub.failures import failures_of


def upload(push: Push, files: Sequence[str], about: About) -> str:
    """Have the repo hold these files and their card; it is made where it is not there. Returns the commit. Raises BuildError and OSError."""
    assert push.hub is not None  # or else nobody asks
    what = f"{push.mark}: model {about.name!r}: can't push to {push.hub}"
    with failures_of(what, push.hub, f"doit push {about.name}"):
        from huggingface_hub import CommitOperationAdd
        from huggingface_hub.utils import disable_progress_bars

        added = [CommitOperationAdd(Path(path).name if Path(path).suffix else f"{about.name}.gguf", path) for path in files]  # a blob of Ollama's
        added.append(CommitOperationAdd("README.md", card(about).encode()))
        disable_progress_bars()
        api = hub_api()
        api.create_repo(push.hub, private=push.private, exist_ok=True)
        message = f"{about.name}: {about.weights.removeprefix('sha256:')[:12]}" + (f", made at {about.commit}" if about.commit else "")
        return str(api.create_commit(push.hub, added, commit_message=message).oid)
