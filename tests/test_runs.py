"""When does a step run? Each test is a promise, kept by counting what real doit, a real trainer program and a server were asked to do."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path

import pytest

from conftest import Repo, without_times

ALL = [
    *("validate:shared", "validate:tone"),
    *("convert:legal", "train:legal", "package:legal", "register:legal", "test:legal"),
    *("convert:sales", "train:sales", "package:sales", "register:sales", "test:sales"),
]


def test_everything_is_built(repo: Repo) -> None:
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert sorted(result.ran) == sorted(ALL)
    assert repo.trainings == ["legal", "sales"]
    assert set(repo.server.models) == {"legal:latest", "sales:latest"}
    assert result.out.splitlines()[-1].startswith("2 models: 2 rebuilt in ")


def test_nothing_runs_when_nothing_changed(built: Repo) -> None:
    creates = built.server.counts["create"]
    result = built.doit()
    assert (result.code, result.ran) == (0, [])
    assert without_times(result.out) == "2 models: 2 fresh\n"
    assert built.server.counts["create"] == creates


def test_the_server_is_asked_once_for_the_whole_catalog(built: Repo) -> None:
    before = built.server.counts["/api/tags"]
    built.doit()
    assert built.server.counts["/api/tags"] == before + 1


def test_touch_changes_nothing(built: Repo) -> None:
    for path in (*built.path.glob("datasets/*"), built.path / "base.gguf", built.path / "models.yaml", *built.path.glob("adapters/*/*")):
        os.utime(path, ns=(1, 1))
    assert built.doit().ran == []


def test_a_file_with_new_content_and_its_old_time_is_found(built: Repo) -> None:
    path = built.records("tone")
    stat = path.stat()
    built.replace("Gladly", "Kindly", "datasets/tone.jsonl")
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))
    assert "train:sales" in built.doit().ran


@pytest.mark.parametrize(
    "reformat",
    [
        pytest.param(lambda text: "\n\n".join(text.splitlines()), id="blank lines"),
        pytest.param(lambda text: text.replace("\n", "\r\n"), id="CRLF"),
        pytest.param(lambda text: "\ufeff" + text, id="BOM"),
        pytest.param(lambda text: text.replace('": "', '"  :\t"').replace("{", "  { "), id="white space"),
        pytest.param(lambda text: "".join(json.dumps(dict(reversed(json.loads(line).items()))) + "\n" for line in text.splitlines()), id="key order"),
    ],
)
def test_reformatting_a_dataset_does_not_retrain(built: Repo, reformat) -> None:
    path = built.records("shared")
    path.write_bytes(reformat(path.read_text(encoding="utf-8")).encode())
    result = built.doit()
    assert sorted(result.ran) == ["convert:legal", "convert:sales", "validate:shared"]
    assert built.trainings == ["legal", "sales"]


def test_a_record_of_the_shared_dataset_trains_both_models(built: Repo) -> None:
    built.replace("Answer 3.", "Another answer.", "datasets/shared.jsonl")
    result = built.doit()
    assert sorted(result.ran) == sorted(set(ALL) - {"validate:tone"})
    assert built.trainings[2:] == ["legal", "sales"]
    assert ".  validate:shared  (datasets/shared.jsonl changed)\n" in result.out


def test_a_record_of_the_other_dataset_trains_only_the_model_that_reads_it(built: Repo) -> None:
    built.replace("Gladly not 1.", "No.", "datasets/tone.jsonl")
    assert built.doit().ran == ["validate:tone", "convert:sales", "train:sales", "package:sales", "register:sales", "test:sales"]
    assert built.trainings[2:] == ["sales"]


def test_a_recipe_key_trains_that_model(built: Repo) -> None:
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    result = built.doit()
    assert result.ran == ["train:legal", "package:legal", "register:legal", "test:legal"]
    assert ".  train:legal  (train.alpha: 4.0 -> 6.0; train.rank: 2 -> 3)\n" in result.out


def test_a_serve_key_registers_again_and_trains_nothing(built: Repo) -> None:
    built.replace("temperature: 0.2", "temperature: 0.3")
    result = built.doit()
    assert result.ran == ["register:sales", "test:sales"]
    assert built.server.models["sales:latest"]["parameters"] == {"temperature": 0.3}
    assert '.  register:sales  (serve.parameters: {"temperature": 0.2} -> {"temperature": 0.3})\n' in result.out


def test_a_comment_changes_nothing(built: Repo) -> None:
    built.replace("version: 1", "# about us\nversion: 1  # of the format")
    assert built.doit().ran == []


def test_a_new_base_trains_every_model_on_it(built: Repo) -> None:
    from tiny_base import write_tiny_base

    write_tiny_base(built.path / "base.gguf", seed=2)
    assert "train:legal" in built.doit().ran
    assert built.trainings[2:] == ["legal", "sales"]


def test_a_model_that_was_removed_or_replaced_by_hand_is_registered_again(built: Repo) -> None:
    digest = built.server.digest("legal:latest")
    del built.server.models["legal:latest"]
    built.server.models["sales:latest"] = {"files": {}}
    result = built.doit()
    assert result.ran == ["register:legal", "test:legal", "register:sales", "test:sales"]
    assert f".  register:legal  (legal is no longer on http://{built.server.host})\n" in result.out
    assert f".  register:sales  (sales on http://{built.server.host} was replaced by hand)\n" in result.out
    assert built.server.digest("legal:latest") == digest


def test_another_server_gets_its_own_models(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    from fake_ollama import FakeOllama

    first = built.server.host
    other = FakeOllama()
    try:
        monkeypatch.setenv("OLLAMA_HOST", other.host)
        assert built.doit().ran == ["register:legal", "test:legal", "register:sales", "test:sales"]
        assert set(other.models) == {"legal:latest", "sales:latest"}
        monkeypatch.setenv("OLLAMA_HOST", first)
        assert built.doit().ran == []
    finally:
        other.close()


def test_a_server_that_takes_no_adapters_gets_merged_weights(built: Repo) -> None:
    assert "adapters" in built.server.models["legal:latest"]
    built.server.version = "0.34.1"
    assert sorted(built.doit().ran) == ["package:legal", "package:sales", "register:legal", "register:sales", "test:legal", "test:sales"]
    assert set(built.server.models["legal:latest"]) == {"files"}
    assert not (built.path / "build/legal/adapter.gguf").exists()
    assert built.doit().ran == []


def test_build_is_safe_to_delete(built: Repo) -> None:
    import shutil

    shutil.rmtree(built.path / "build")
    result = built.doit()
    assert "train:legal" not in result.ran
    assert built.trainings == ["legal", "sales"]
    assert built.doit().ran == []


def test_one_model_is_built_with_what_it_needs(repo: Repo) -> None:
    result = repo.doit("test:legal")
    assert result.ran == ["validate:shared", "convert:legal", "train:legal", "package:legal", "register:legal", "test:legal"]
    assert result.out.splitlines()[-1].startswith("1 model: 1 rebuilt in ")


def test_steps_run_in_parallel(repo: Repo, capfd: pytest.CaptureFixture[str]) -> None:
    result = repo.doit("-n", "2", "validate", "convert", "train")
    assert result.code == 0, capfd.readouterr()
    assert sorted(repo.trainings) == ["legal", "sales"]
    assert repo.doit().code == 0
    assert sorted(repo.trainings) == ["legal", "sales"]


def test_clean_never_takes_an_adapter(built: Repo) -> None:
    built.doit("clean", "-a")
    assert Path("adapters/legal/adapter_model.safetensors").exists()
    assert {path.name for path in Path("build").rglob("*") if path.is_file()} == {"events.jsonl", "train.log"}  # what tells of the adapters
    assert "train:legal" not in built.doit().ran


def test_clean_says_what_it_can_not_read(built: Repo) -> None:
    shutil.rmtree(".ollamake")
    Path(".ollamake").touch()
    result = built.doit("clean")
    assert (result.code, "Traceback" in result.err) == (3, False)
    assert result.err.startswith(f"ERROR: \n{built.path / '.ollamake/journal.jsonl'} can't be read: ")
    assert Path("build/legal/text.jsonl").exists()


def test_a_training_is_not_repeated_because_its_step_could_not_run(built: Repo) -> None:
    good = built.records("tone").read_bytes()
    built.records("tone").write_bytes(b"no record\n")
    assert built.doit("--continue").code != 0
    built.records("tone").write_bytes(good)
    assert "train:sales" not in built.doit().ran

    Path("base.gguf").rename("away.gguf")
    result = built.doit()
    assert result.code == 1
    assert "\nconvert:legal failed:\nmodels.yaml:5: base 'tiny': no such file: base.gguf\n  fix: put the GGUF there, or mend `gguf`\n" in result.out
    Path("away.gguf").rename("base.gguf")
    assert built.doit().ran == []

    built.replace("target_modules: [q_proj]", "target_modules: [q_prj]")
    assert built.doit().code == 1
    built.replace("target_modules: [q_prj]", "target_modules: [q_proj]")
    assert built.doit().code == 0
    assert built.trainings == ["legal", "sales"]


def test_a_training_is_not_repeated_because_doit_forgot_it(built: Repo) -> None:
    import shutil

    Path("models.lock").unlink()
    shutil.rmtree(".ollamake")
    shutil.rmtree("build")
    result = built.doit()
    assert result.code == 0
    assert built.trainings == ["legal", "sales"]
    assert result.out.splitlines()[-1].startswith("2 models: 2 rebuilt in ")


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("rank: 2,", "rank: 2.0, epochs: 3.0, learning_rate: 0.0002, alpha: 4,", id="other ways to write a number"),
        pytest.param("base.gguf", "bases/tiny.gguf", id="the base is moved"),
        pytest.param("  sales:\n", "  sales:  # we sell\n", id="comment"),
    ],
)
def test_what_is_no_change_trains_nothing(built: Repo, old: str, new: str) -> None:
    Path("bases").mkdir()
    Path("bases/tiny.gguf").write_bytes(Path("base.gguf").read_bytes())
    built.replace(old, new)
    assert built.doit().code == 0
    assert built.trainings == ["legal", "sales"]


def test_the_order_of_layers_is_no_change(repo: Repo) -> None:
    repo.replace("target_modules: [q_proj]", "target_modules: [q_proj, v_proj]")
    repo.doit("train")
    repo.replace("target_modules: [q_proj, v_proj]", "target_modules: [v_proj, q_proj]")
    assert repo.doit("train").ran == []


def test_the_order_of_files_is_a_change(built: Repo) -> None:
    built.records("zone").write_text('{"instruction": "a", "output": "b"}\n', encoding="utf-8")
    built.replace("[datasets/tone.jsonl]", "[datasets/tone.jsonl, datasets/zone.jsonl]")
    built.doit()
    built.replace("[datasets/tone.jsonl, datasets/zone.jsonl]", "[datasets/zone.jsonl, datasets/tone.jsonl]")
    result = built.doit()
    assert result.ran == ["validate:tone", "convert:sales", "train:sales", "package:sales", "register:sales", "test:sales"]


def test_a_base_that_is_replaced_during_a_training_makes_it_stale(built: Repo) -> None:
    from tiny_base import write_tiny_base

    write_tiny_base(Path("new.gguf"), seed=5)
    (line,) = [line for line in Path("models.yaml").read_text(encoding="utf-8").splitlines() if "counting_trainer" in line]
    program = Path(line.partition("command: [")[2].split(", ")[1])
    Path("trainer.py").write_text(f"{program.read_text(encoding='utf-8')}\nPath('new.gguf').replace('base.gguf')\n", encoding="utf-8")
    built.replace(str(program), "trainer.py")
    assert built.doit("train:legal").code == 0
    Path("new.gguf").write_bytes(Path("base.gguf").read_bytes())
    result = built.doit("train:legal")
    assert ".  train:legal  (base tiny changed)\n" in result.out
    Path("new.gguf").write_bytes(Path("base.gguf").read_bytes())
    assert built.doit("train:legal").ran == []


@pytest.mark.parametrize(
    ("path", "runs"),
    [
        ("build/legal/text.jsonl", ["convert:legal"]),
        ("build/legal/adapter.gguf", ["package:legal"]),
        ("build/datasets/shared.json", ["validate:shared"]),
        ("adapters/legal/adapter_model.safetensors", ["train:legal"]),
    ],
)
def test_a_target_that_was_damaged_is_made_again(built: Repo, path: str, runs: list[str]) -> None:
    good = Path(path).read_bytes()
    Path(path).write_bytes(good[:-1] + bytes([good[-1] ^ 1]))
    result = built.doit()
    assert result.ran == runs
    assert f".  {runs[0]}  ({path} is not what was made)\n" in result.out
    assert Path(path).read_bytes() == good


@pytest.mark.parametrize("content", ["[]", '"x"', '{"files": 3}', '{"files": {"adapter.gguf": 3}}', ""])
def test_a_served_json_of_another_shape_is_made_again(built: Repo, content: str) -> None:
    Path("build/legal/served.json").write_text(content, encoding="utf-8")
    assert built.doit().ran == ["package:legal"]


def test_weights_type_is_heeded_while_no_server_answers(built: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    built.server.version = "0.40.0"
    built.doit()
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    assert built.doit("package").ran == []
    built.replace("{parameters: {temperature: 0.2}}", "{weights_type: f16}")
    assert built.doit("package").ran == ["package:sales"]
