"""What is released: its version, its licences, and that wheel and sdist work where there is no repo."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import sysconfig
import tarfile
import zipfile
from dataclasses import dataclass
from pathlib import Path

import pytest

import ollamake
from conftest import HERE
from test_lock import git

ROOT = HERE.parent
PACKAGE = Path(ollamake.__file__).parent
CHANGES = ("Added", "Changed", "Deprecated", "Removed", "Fixed", "Security")
# Packages whose types are not looked at; those that a user has not installed cost nothing there, and minutes here.
LARGE = (
    *(
        "axolotl",
        "datasets",
        "doit",
        "fsspec",
        "gguf",
        "httpx",
        "jinja2",
        "jsonschema",
        "libgguf",
        "llamafactory",
        "numpy",
        "ollama",
        "peft",
        "pyarrow",
    ),
    *("pydantic", "ray", "rensa", "rich", "safetensors", "threadpoolctl", "tokenizers", "torch", "transformers", "trl", "unsloth"),
)
ENVIRONMENT = {key: value for key, value in os.environ.items() if key not in {"PYTHONPATH", "MYPYPATH"}}
VERSION = r"\d+\.\d+\.\d+(?:(?:a|b|rc)\d+)?"
PORTS = '''\
"""A program of somebody else's, which uses what plugins use."""

from ollamake import DOIT_CONFIG, tasks_from
from ollamake.errors import BuildError
from ollamake.trainers.environment import Environment
from ollamake.trainers.port import Trainer, trainer

found: Trainer = trainer("peft")
missing: str | None = found.missing(Environment())
reveal_type(found.name)
reveal_type(list(tasks_from("models.yaml")))
error = BuildError("no", fix=3)
'''


def test_what_is_bundled_of_others_has_its_licence_beside_it_and_is_named() -> None:
    text = (ROOT / "THIRD_PARTY.md").read_text(encoding="utf-8")
    named = dict(re.findall(r"^\| `src/ollamake/([^`]+)` \| .* \| ([\w.+-]+) \|$", text, flags=re.MULTILINE))
    for vendor in PACKAGE.rglob("vendor"):
        for folder in (path for path in vendor.iterdir() if path.is_dir()):
            assert folder.relative_to(PACKAGE).as_posix() in named
            assert list(folder.glob("LICENSE*")), f"{folder}: no licence beside it"


def test_the_changelog_has_the_form_that_a_release_looks_for() -> None:
    text = (ROOT / "CHANGELOG.md").read_text(encoding="utf-8")
    versions = re.findall(r"^## (.*)$", text, flags=re.MULTILINE)
    assert versions[0] == "[Unreleased]"
    for version in versions[1:]:
        assert re.fullmatch(rf"\[{VERSION}\] - 20\d\d-\d\d-\d\d", version)
    assert set(re.findall(r"^### (.*)$", text, flags=re.MULTILINE)) <= set(CHANGES)


def test_what_pypi_shows_has_no_link_that_leads_nowhere_there(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(ROOT)
    from hatch_build import without_paths

    shown = without_paths((ROOT / "README.md").read_text(encoding="utf-8"))
    assert re.findall(r"\]\((?!https?:)[^)]*\)", shown) == []
    assert "[Ollama](https://ollama.com)" in shown
    assert "All pages: docs/index.md." in shown


def test_types_are_shipped() -> None:
    assert (PACKAGE / "py.typed").read_bytes() == b""


@dataclass(frozen=True)
class Built:
    """A wheel and an sdist, and a folder that has the latter unpacked."""

    wheel: Path
    sdist: Path
    unpacked: Path


def python(*arguments: str | Path, cwd: Path, program: str | Path = sys.executable) -> subprocess.CompletedProcess[str]:
    return subprocess.run([program, *arguments], cwd=cwd, capture_output=True, text=True, check=False, env=ENVIRONMENT)


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Built:
    if not (ROOT / "src").is_dir():
        pytest.skip("this is an sdist that is tested on an installed wheel: there is nothing to build")
    out = tmp_path_factory.mktemp("dist")
    done = python("-m", "build", "--no-isolation", "--outdir", out, ROOT, cwd=out)
    assert done.returncode == 0, done.stderr
    (wheel,), (sdist,) = out.glob("*.whl"), out.glob("*.tar.gz")
    with tarfile.open(sdist) as archive:
        archive.extraction_filter = getattr(tarfile, "data_filter", None)  # Pythons of before 2023 have none
        archive.extractall(out)
    return Built(wheel, sdist, out / sdist.name.removesuffix(".tar.gz"))


@pytest.mark.thorough
def test_the_sdist_has_what_is_in_git_and_nothing_else(built: Built) -> None:
    if not (ROOT / ".git").exists():
        pytest.skip("no git here to compare with")
    known = set(git("-C", str(ROOT), "ls-files", "--cached", "--others", "--exclude-standard").splitlines())
    there = {path.relative_to(built.unpacked).as_posix() for path in built.unpacked.rglob("*") if path.is_file()}
    assert there == {*(path for path in known if (ROOT / path).exists()), "PKG-INFO"}


@pytest.mark.thorough
def test_the_wheel_has_the_package_its_types_and_every_licence(built: Built) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        names = {name for name in archive.namelist() if not name.endswith("/")}
        (metadata,) = (archive.read(name).decode() for name in names if name.endswith(".dist-info/METADATA"))
    ours = {name for name in names if name.startswith("ollamake/")}
    assert ours == {
        path.relative_to(ROOT / "src").as_posix() for path in (ROOT / "src/ollamake").rglob("*") if path.is_file() and "__pycache__" not in path.parts
    }
    assert "ollamake/py.typed" in ours
    licences = {name.partition(".dist-info/licenses/")[2] for name in names} - {""}
    assert licences >= {"LICENSE", "THIRD_PARTY.md"}
    assert {name for name in licences if "/vendor/" in name} == {
        f"src/{name}" for name in ours if "/vendor/" in name and re.search("LICENSE|LEGAL", Path(name).name)
    }
    assert "\nLicense-Expression: Apache-2.0\n" in metadata
    assert "All pages: docs/index.md." in metadata
    done = python("-m", "twine", "check", "--strict", built.wheel, built.sdist, cwd=built.unpacked)
    assert done.returncode == 0, done.stdout


@pytest.fixture(scope="module")
def installed(built: Built, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of a new environment with the wheel in it; the packages that it needs are those of this one."""
    folder = tmp_path_factory.mktemp("venv")
    python("-m", "venv", "--without-pip", folder, cwd=folder)
    program = folder / "bin/python"
    done = python("-m", "pip", "--python", program, "install", "-q", "--no-deps", "--no-index", built.wheel, cwd=folder)
    assert done.returncode == 0, done.stderr
    (site,) = folder.glob("lib/python*/site-packages")
    paths = dict.fromkeys([sysconfig.get_path("purelib"), *(path for path in sys.path if path.endswith("site-packages"))])
    (site / "needed.pth").write_text("".join(f"{path}\n" for path in paths), encoding="utf-8")
    return program


@pytest.mark.thorough
def test_tests_of_the_sdist_pass_on_the_wheel_where_there_is_no_repo(built: Built, installed: Path, tmp_path: Path) -> None:
    shutil.copytree(built.unpacked, tmp_path, dirs_exist_ok=True, ignore=shutil.ignore_patterns("src"))
    where = python("-c", "import ollamake; print(ollamake.__file__)", cwd=tmp_path, program=installed)
    assert Path(where.stdout.strip()).is_relative_to(installed.parents[1])
    some = ("tests/test_docs.py", "tests/test_init.py", "tests/test_plugins.py", "tests/test_toy_trainer.py")
    done = python(
        "-m", "pytest", "-q", "-p", "no:cacheprovider", "-m", "not live and not thorough and not trainers", *some, cwd=tmp_path, program=installed
    )
    assert done.returncode == 0, done.stdout


@pytest.mark.thorough
def test_programs_of_others_are_checked_by_the_types_of_the_wheel(installed: Path, tmp_path: Path) -> None:
    (tmp_path / "program.py").write_text(PORTS, encoding="utf-8")
    shutil.copyfile(ROOT / "docs/trainers/toy_trainer.py", tmp_path / "toy_trainer.py")
    large = ",".join(f"{name}.*" for name in LARGE)
    (tmp_path / "mypy.ini").write_text(
        f"[mypy]\nstrict = true\n[mypy-{large}]\nfollow_imports = skip\nignore_missing_imports = true\n", encoding="utf-8"
    )
    done = python("-m", "mypy", "program.py", "toy_trainer.py", cwd=tmp_path, program=installed)
    assert re.sub(r"^program.py:(\d+): ", r"\1: ", done.stdout, flags=re.MULTILINE).splitlines()[:3] == [
        '10: note: Revealed type is "str"',
        '11: note: Revealed type is "list[dict[str, Any]]"',
        '12: error: Argument "fix" to "BuildError" has incompatible type "int"; expected "str | None"  [arg-type]',
    ], done.stdout


@pytest.mark.thorough
@pytest.mark.parametrize(
    ("tags", "commits", "version"),
    [
        (None, 0, r"0\.1\.0\.dev0"),
        ((), 2, r"0\.1\.0\.dev2\+g[0-9a-f]+"),
        (("release-2026-11-26", "v8-plan", "v1.0"), 1, r"0\.1\.0\.dev1\+g[0-9a-f]+"),
        (("v0.3.0rc1",), 1, r"0\.3\.0rc1"),
        (("v0.2.0", "other-9.9.9"), 1, r"0\.2\.0"),
    ],
)
def test_the_version_is_that_of_the_tag_and_without_one_there_is_one_too(
    tmp_path: Path, tags: tuple[str, ...] | None, commits: int, version: str
) -> None:
    for name in ("pyproject.toml", "hatch_build.py", "README.md", "LICENSE", "THIRD_PARTY.md"):
        shutil.copyfile(ROOT / name, tmp_path / name)
    if tags is not None:
        git("-C", str(tmp_path), "init", "-q")
        git("-C", str(tmp_path), "add", ".")
        for number in range(commits):
            git("-C", str(tmp_path), "commit", "-q", "--allow-empty", "-m", str(number))
        for tag in tags:
            git("-C", str(tmp_path), "tag", tag)
    done = python("-m", "hatchling", "version", cwd=tmp_path)
    assert re.fullmatch(version, done.stdout.strip()), done.stdout + done.stderr
