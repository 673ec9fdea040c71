"""A folder of several people: what one of them makes in it, the others may use as they may use the folder itself, whatever his umask."""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from stat import S_IMODE

FILE = 0o666  # what a file may have of a folder's rights


def make_folder(folder: str, root: str) -> None:
    """Have a folder below the root, which has its rights; also the root, with those that are usual. Raises OSError."""
    Path(root).mkdir(exist_ok=True)
    for path in reversed([Path(folder), *Path(folder).parents]):
        if Path(root) in path.parents and not path.is_dir():
            path.mkdir(exist_ok=True)
            _give(path, S_IMODE(os.stat(root).st_mode))


def give_rights(file: str, root: str) -> None:
    """Give a file that we have made the rights of the root."""
    _give(Path(file), S_IMODE(os.stat(root).st_mode) & FILE)


def _give(path: Path, mode: int) -> None:
    with suppress(OSError):  # of a file system that has no such rights
        path.chmod(mode)
