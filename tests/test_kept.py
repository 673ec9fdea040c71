"""What loads keep for the next one: it makes no difference but time, and what is damaged counts for nothing."""

from __future__ import annotations

from pathlib import Path

import pytest

from catalogs import faults, load, write
from conftest import Repo
from ollamake.catalog.kept import Kept
from ollamake.catalog.load import load_catalog
from ollamake.errors import FaultyFileError

ROOT = "version: 1\ninclude: [a/models.yaml]\nenv: [{TEAM: x}]\nmodels:\n  m: {base: s, data: [t], train: {system: '${TEAM}'}}\n"
PART = "version: 1\nbases: {s: {gguf: s.gguf}}\ndatasets: {t: {files: ['*.jsonl']}}\n"
FILES = {"models.yaml": ROOT, "a/models.yaml": PART}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    write({"a/t.jsonl": ""})
    return tmp_path


def kept_by(files: dict[str, str], environ: dict[str, str] | None = None) -> bytes:
    kept = Kept()
    load(files, environ, kept)
    return kept.encoded()


def test_a_load_of_what_is_kept_comes_to_the_same(folder: Path) -> None:
    kept = Kept(kept_by(FILES))
    assert load(FILES, kept=kept) == load(FILES)
    assert not kept.is_new


def test_the_environment_and_the_disk_are_looked_at_each_time(folder: Path) -> None:
    content = kept_by(FILES, {"TEAM": "hush"})
    assert b"hush" not in content
    assert load(FILES, {"TEAM": "other"}, Kept(content)).models[0].train.system == "other"
    write({"a/u.jsonl": ""})
    assert load(FILES, kept=Kept(content)).datasets[0].files == ("a/t.jsonl", "a/u.jsonl")


def test_an_edited_file_is_read_and_the_others_are_kept(folder: Path) -> None:
    kept = Kept(kept_by(FILES))
    edited = {**FILES, "a/models.yaml": PART.replace("{gguf", "{hf: org/x, gguf")}
    assert load(edited, kept=kept).models[0].base.hf == "org/x"
    assert kept.is_new
    with pytest.raises(FaultyFileError):
        load({**FILES, "models.yaml": ROOT.replace("base:", "bsae:")}, kept=Kept(kept.encoded()))


def test_what_has_faults_is_not_kept(folder: Path) -> None:
    kept = Kept()
    with pytest.raises(FaultyFileError):
        load({**FILES, "a/models.yaml": PART.replace("gguf", "ggfu")}, kept=kept)
    again = Kept(kept.encoded())
    with pytest.raises(FaultyFileError, match=r"^a/models.yaml:2: bases.s: unknown key 'ggfu'"):
        load_catalog(Path("models.yaml"), trainers=("peft",), environ={}, kept=again)


@pytest.mark.parametrize(
    "damage", [lambda content: content[:-1], lambda content: content[:40] + b"?" + content[41:], lambda _: b"", lambda _: b"?" * 99]
)
def test_what_is_damaged_counts_for_nothing(folder: Path, damage) -> None:
    kept = Kept(damage(kept_by(FILES)))
    assert load(FILES, kept=kept) == load(FILES)
    assert kept.is_new


def test_what_another_ollamake_has_kept_counts_for_nothing(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ollamake.catalog.kept.FORMAT", 0)
    content = kept_by(FILES)
    monkeypatch.undo()
    monkeypatch.chdir(folder)
    kept = Kept(content)
    load(FILES, kept=kept)
    assert kept.is_new


def test_what_can_t_be_kept_is_read_each_time(folder: Path) -> None:
    files = {**FILES, "models.yaml": ROOT.replace("train: {", f"serve: {{parameters: {{seed: {10**29}}}}}, train: {{")}
    assert load(files, kept=Kept(kept_by(files))).models[0].serve.parameters == {"seed": 10**29}


def test_a_build_keeps_what_it_reads_and_one_that_only_looks_does_not(repo: Repo) -> None:
    kept = Path(".ollamake/catalogs/models.yaml.msgpack")
    repo.doit("plan")
    assert not kept.exists()
    repo.doit("validate")
    first = kept.read_bytes()
    kept.write_bytes(b"damaged")
    assert repo.doit("validate").code == 0
    assert kept.read_bytes() == first


def test_a_folder_that_can_t_be_written_is_no_fault(repo: Repo) -> None:
    Path(".ollamake/catalogs").mkdir(parents=True)
    Path(".ollamake/catalogs/models.yaml.msgpack").mkdir()
    assert repo.doit("validate").code == 0


def test_a_fault_is_said_the_same_whether_the_rest_is_kept_or_not(folder: Path) -> None:
    bad = {**FILES, "models.yaml": ROOT.replace("base: s", "base: z")}
    said = "models.yaml:5: model 'm': unknown base 'z'\n  fix: known: s"
    assert faults(bad) == said
    kept = Kept()
    for _ in range(2):
        with pytest.raises(FaultyFileError) as caught:
            load(bad, kept=kept)
        assert str(caught.value) == said
        kept = Kept(kept.encoded())
