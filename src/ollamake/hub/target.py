"""An adapter here -> a repo on the Hugging Face Hub, with a card that says what it was made of."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path

from ollamake.catalog.outside import Push
from ollamake.hub.card import About, card
from ollamake.hub.failures import failures_of


def upload(push: Push, files: Sequence[str], about: About) -> str:
    """Have the repo hold these files and their card; it is made where it is not there. Returns the commit. Raises BuildError and OSError."""
    assert push.hub is not None  # or else nobody asks
    what = f"{push.mark}: model {about.name!r}: can't push to {push.hub}"
    with tempfile.TemporaryDirectory() as folder, failures_of(what, push.hub):
        from huggingface_hub import HfApi
        from huggingface_hub.utils import disable_progress_bars

        for path in map(Path, files):
            shutil.copyfile(path, Path(folder, path.name))
        Path(folder, "README.md").write_text(card(about), encoding="utf-8")
        disable_progress_bars()
        api = HfApi()
        api.create_repo(push.hub, private=push.private, exist_ok=True)
        message = f"{about.name}: {about.weights.removeprefix('sha256:')[:12]}" + (f", made at {about.commit}" if about.commit else "")
        return str(api.upload_folder(repo_id=push.hub, folder_path=folder, commit_message=message).oid)
