"""One of several who use a cache at once: writes, reads, and is killed in the middle of writing.

Usage: cache_client.py URL SEED COUNT. Prints a line for each operation; ends with code 3 where it reads what is not as it should be.
"""

import os
import random
import signal
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ollamake.cache.key import ADAPTERS, Key
from ollamake.cache.objects import Manifest, read_files, read_manifest, written
from ollamake.cache.store import BLOCK, Store
from ollamake.cache.verified import Entry
from ollamake.digest import digest_bytes, digest_file

KEYS = [Key(ADAPTERS, digest_bytes(bytes([number])).removeprefix("sha256:")) for number in range(12)]
NAME = "adapter_model.safetensors"


def content_of(key: Key, writer: int) -> bytes:
    """What this writer has made of a key: others have made something else, as right as this."""
    return f"{key.digest} {writer}\n".encode() * random.Random(writer).randrange(1, 4000)


def write(store: Store, key: Key, content: bytes, *, dies: bool) -> bool:
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        (folder / NAME).write_bytes(content)
        manifest = Manifest(key=key, files=(Entry(name=NAME, size=len(content), digest=digest_bytes(content)),), facts={})

        def pieces() -> Iterator[bytes]:
            sent = 0
            for piece in written(manifest, folder):
                yield piece
                sent += len(piece)
                if dies and sent > len(content) - (1 << 20):
                    os.kill(os.getpid(), signal.SIGKILL)

        return store.write(key.path, pieces(), manifest.size)


def read(store: Store, key: Key) -> bytes | None:
    with tempfile.TemporaryDirectory() as name:
        path = Path(name, NAME)

        def use(read: object, _: int) -> Manifest:
            manifest = read_manifest(read, key)  # type: ignore[arg-type]
            with path.open("wb") as file:
                read_files(read, manifest, lambda _: file.write)  # type: ignore[arg-type]
            return manifest

        manifest = store.read(key.path, use)
        if manifest is None:
            return None
        assert digest_file(path) == manifest.files[0].digest
        return path.read_bytes()


def main(url: str, seed: int, count: int) -> int:
    chance = random.Random(seed)
    store = Store(url, 60)
    for number in range(count):
        key, kind = chance.choice(KEYS), chance.choice(["write", "read", "read", "write", "die"])
        if kind == "write":
            writer = chance.randrange(1 << 30)
            print(kind, write(store, key, content_of(key, writer), dies=False), flush=True)
        elif kind == "read":
            found = read(store, key)
            print(kind, found is not None, flush=True)
            if found is not None and not found.startswith(f"{key.digest} ".encode()):
                return 3
        else:
            sys.stdout.flush()
            child = os.fork()
            if not child:
                write(Store(url, 60), key, bytes([number]) * (BLOCK + (3 << 20)), dies=True)
                os._exit(0)  # it was there already: nothing was written
            _, status = os.waitpid(child, 0)
            print(kind, os.waitstatus_to_exitcode(status), flush=True)
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], int(sys.argv[2]), int(sys.argv[3])))
