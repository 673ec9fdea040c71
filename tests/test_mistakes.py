"""What a user sees who made a mistake: the exit code, and the whole message."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from conftest import DODO, HERE, Repo
from test_lora import adapter_tensors, write_adapter


def test_a_faulty_catalog_is_exit_code_3_without_a_traceback(repo: Repo) -> None:
    repo.replace("base: tiny", "base: tyni")
    result = repo.doit()
    assert (result.code, result.out) == (3, "")
    assert result.err == (
        "ERROR: \n"
        "models.yaml:11: model 'legal': unknown base 'tyni'\n  fix: write 'tiny' (known: tiny)\n"
        "models.yaml:14: model 'sales': unknown base 'tyni'\n  fix: write 'tiny' (known: tiny)\n"
    )


def test_a_base_that_is_not_there(repo: Repo) -> None:
    (repo.path / "base.gguf").unlink()
    result = repo.doit()
    assert result.code == 1
    said = "models.yaml:5: base 'tiny': no such file: base.gguf\n  fix: put the GGUF there, or mend `gguf`"
    assert f"\nconvert:legal failed:\n{said}\n" in result.out


def test_a_base_whose_download_broke_off_trains_nothing(repo: Repo) -> None:
    base = repo.path / "base.gguf"
    base.write_bytes(base.read_bytes()[:-100])
    result = repo.doit()
    assert result.code == 1
    assert "train:legal failed:\nbase.gguf: it ends in the middle of tensor 'output_norm.weight'\n  fix: fetch the file again\n" in result.out
    assert repo.trainings == []


def test_a_folder_is_no_file_of_a_dataset(repo: Repo) -> None:
    repo.replace("files: [datasets/tone.jsonl]", "files: [datasets]")
    said = "ERROR: \nmodels.yaml:8: dataset 'tone': no file matches 'datasets'\n  fix: write 'datasets/*.jsonl'"
    for command in ((), ("plan",), ("check",)):
        assert repo.doit(*command).err.startswith(said)


@pytest.mark.parametrize("command", [("plan",), ("ls", "state:stale"), ("status",)])
def test_a_file_that_can_not_be_read_is_named_where_it_is_looked_at(built: Repo, command: tuple[str, ...]) -> None:
    config = Path("adapters/legal/adapter_config.json")
    config.unlink()
    config.mkdir()
    said = f"ERROR: \n{config}: Is a directory\n  fix: give yourself the right to read and write there\n"
    result = built.doit(*command)
    assert (result.code, result.err) == (3, said)


def test_an_adapter_that_is_not_there(repo: Repo) -> None:
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    result = repo.doit("register:legal")
    assert result.code == 1
    said = (
        "models.yaml:10: package 'legal': no such file: mine/adapter_config.json, mine/adapter_model.safetensors\n"
        "  fix: put it there, or mend the path in the catalog"
    )
    assert f"\npackage:legal failed:\n{said}\n" in result.out


def test_no_server_answers(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("OLLAMA_HOST", "gpu-box.invalid")
    result = repo.doit("register:legal")
    assert result.code == 1
    assert result.ran == ["validate:shared", "convert:legal", "train:legal", "package:legal", "register:legal"]
    said = "nothing answers at http://gpu-box.invalid:11434\n  fix: start Ollama on that machine, or set $OLLAMA_HOST to one that runs"
    assert f"\nregister:legal failed:\n{said}\n" in result.out


def test_ollama_is_installed_and_does_not_run(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    program = repo.path / "ollama"
    program.write_text("#!/bin/sh\nexit 1\n", encoding="utf-8")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(repo.path))
    monkeypatch.setenv("OLLAMA_HOST", "127.0.0.1:1")
    result = repo.doit("register:legal")
    said = "nothing answers at http://127.0.0.1:1, but Ollama is installed\n  fix: start it: `ollama serve`, or `systemctl start ollama`"
    assert f"\nregister:legal failed:\n{said}\n" in result.out


def test_a_model_that_does_not_load_is_an_error_of_its_registration(built: Repo) -> None:
    digest = built.server.digest("sales:latest")
    built.server.unloadable = True
    built.replace("temperature: 0.2", "temperature: 0.9")
    result = built.doit()
    assert result.code == 1
    assert "\nregister:sales failed:\nsales:candidate can't answer: " in result.out
    assert "llama runner process has terminated: exit status 2\n  fix: look into the server's log" in result.out
    assert built.server.digest("sales:latest") == digest  # the one before stays
    assert set(built.server.models) == {"legal:latest", "sales:latest"}
    assert result.out.splitlines()[-1].startswith("2 models: 1 fresh, 1 failed in ")
    built.server.unloadable = False
    assert built.doit().ran == ["register:sales", "test:sales"]


def test_a_base_whose_template_the_server_does_not_know(repo: Repo) -> None:
    repo.server.template = "{{ .Prompt }}"
    result = repo.doit("register:legal")
    said = (
        "models.yaml:10: model 'legal': Ollama 0.9.3 does not know the chat template of base 'tiny'\n"
        "  fix: write the template in Ollama's own form as serve.template (see https://docs.ollama.com/template)"
    )
    assert f"\nregister:legal failed:\n{said}\n" in result.out
    repo.replace("temperature: 0.2}", 'temperature: 0.2}, template: "{{ .Prompt }}!"')
    assert repo.doit("register:sales").code == 0


def failing_trainer(repo: Repo, program: str) -> str:
    path = repo.path / "trainer.py"
    path.write_text(program, encoding="utf-8")
    (command,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if "counting_trainer" in line]
    repo.replace(command, f'  train: {{trainer: command, command: [{sys.executable}, trainer.py, "{{out}}"], target_modules: [q_proj]}}')
    result = repo.doit("train:legal")
    assert result.code == 1
    assert not (repo.path / "adapters").exists()
    return result.out.partition("train:legal failed:\n")[2]


def test_a_trainer_that_fails_is_shown_with_the_end_of_its_log(repo: Repo) -> None:
    out = failing_trainer(repo, "import sys; sys.exit('loading\\n\\nCUDA out of memory')")
    assert out.startswith(
        "models.yaml:10: model 'legal': trainer 'command' ended with exit code 1; build/legal/train.log ends:\n"
        "    loading\n    CUDA out of memory\n"
        "  fix: read build/legal/train.log; then run `doit` again\n"
    )
    assert "\nfailed: train:legal: models.yaml:10: model 'legal': trainer 'command' ended with exit code 1; see build/legal/train.log\n" in out


def test_a_trainer_that_is_killed(repo: Repo) -> None:
    out = failing_trainer(repo, "import os; os.kill(os.getpid(), 9)")
    assert "trainer 'command' was ended by signal 9 (out of memory?)\n" in out


def test_a_trainer_that_leaves_no_adapter(repo: Repo) -> None:
    out = failing_trainer(repo, "print('done')")
    said = (
        "models.yaml:3: model 'legal': trainer 'command': the training has left no adapter: adapter_config.json and adapter_model.safetensors are not in its `out`\n"
        "  fix: read build/legal/train.log; then run `doit` again\n"
    )
    assert said in out
    assert Path("build/legal/train.log").read_text(encoding="utf-8") == "done\n"


@pytest.mark.parametrize("command", [[], ["plan"], ["ls"]])
def test_who_reads_may_go_away(repo: Repo, command: list[str]) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    read, write = os.pipe()
    os.close(read)
    done = subprocess.run([sys.executable, "-m", "doit", *command], stdout=write, stderr=subprocess.PIPE, text=True, check=False)
    os.close(write)
    assert (done.returncode, done.stderr) == (141, "")
    assert repo.doit().code == 0


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="only Linux has a disk that is always full")
@pytest.mark.parametrize("command", [[], ["plan"]])
def test_a_log_on_a_full_disk_is_no_traceback(repo: Repo, command: list[str]) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    with Path("/dev/full").open("w") as full:
        done = subprocess.run([sys.executable, "-m", "doit", *command], stdout=full, stderr=subprocess.PIPE, text=True, check=False)
    said = "ERROR: \nnothing more can be written: No space left on device\n  fix: make room on the disk, then run it again: what is done stays done\n"
    assert (done.returncode, done.stderr) == (2, said)


def test_json_is_utf_8_whatever_the_locale_says(repo: Repo) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    Path("datasets/tone.jsonl").rename("datasets/Töne 🎵.jsonl")
    repo.replace("datasets/tone.jsonl", "datasets/Töne 🎵.jsonl")
    variables = {**os.environ, "PYTHONIOENCODING": "ascii"}
    done = subprocess.run([sys.executable, "-m", "doit", "ls", "--files", "--json"], env=variables, capture_output=True, check=False)
    assert json.loads(done.stdout.decode("utf-8"))["datasets"]["tone"] == ["datasets/Töne 🎵.jsonl"]
    Path("Modelfile").write_text("FROM x\nADAPTER a\nSYSTEM Grüße 🎵\n", encoding="utf-8")
    done = subprocess.run([sys.executable, "-m", "doit", "import", "Modelfile"], env=variables, capture_output=True, check=False)
    assert "Grüße 🎵" in done.stdout.decode("utf-8")


def test_a_program_that_is_not_there(repo: Repo) -> None:
    (command,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if "counting_trainer" in line]
    repo.replace(command, "  train: {trainer: command, command: [./tain.sh], target_modules: [q_proj]}")
    out = repo.doit("train:legal").out
    said = "models.yaml:3: model 'legal': the trainer can't be started: ./tain.sh: No such file or directory\n  fix: mend train.command"
    assert f"\ntrain:legal failed:\n{said}" in out


def test_a_layer_that_the_base_does_not_have(repo: Repo) -> None:
    repo.replace("target_modules: [q_proj]", "target_modules: [q_prj]")
    out = repo.doit("train:legal").out
    assert "models.yaml:3: model 'legal': base 'tiny' has no layer 'q_prj' that takes a LoRA\n  fix: train.target_modules: write 'q_proj'" in out
    assert repo.trainings == []


def test_one_failure_does_not_keep_the_rest_from_being_built(repo: Repo) -> None:
    repo.records("tone").write_text("no record\n", encoding="utf-8")
    result = repo.doit("--continue")
    assert result.code != 0
    assert repo.trainings == ["legal"]
    assert set(repo.server.models) == {"legal:latest"}
    assert "\nnot done for that: convert:sales, train:sales, package:sales, register:sales, test:sales\n" in result.out
    assert result.out.splitlines()[-1].startswith("2 models: 1 rebuilt, 1 failed in ")


def test_warnings_are_said_and_stop_nothing(repo: Repo) -> None:
    repo.replace("models:\n", "  spare: {files: [datasets/tone.jsonl]}\nmodels:\n")
    result = repo.doit("validate")
    assert result.code == 0
    assert result.err == "models.yaml:9: warning: no model uses the dataset 'spare'\n"


def started(program: list[str]) -> subprocess.Popen[str]:
    """A build in a process of its own, whose trainer has begun: it has made the file `started`."""
    doit = subprocess.Popen(program, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    until = time.monotonic() + 60
    while not Path("started").exists():
        assert time.monotonic() < until
        time.sleep(0.01)
    return doit


def test_ctrl_c_ends_a_training_and_leaves_no_half_adapter(repo: Repo) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    slow = "import time, pathlib; pathlib.Path('started').touch(); time.sleep(60); pathlib.Path('ended').touch()"
    (repo.path / "trainer.py").write_text(slow, encoding="utf-8")
    (command,) = [line for line in (repo.path / "models.yaml").read_text(encoding="utf-8").splitlines() if "counting_trainer" in line]
    repo.replace(command, f"  train: {{trainer: command, command: [{sys.executable}, trainer.py], target_modules: [q_proj]}}")
    doit = started([sys.executable, "-m", "doit", "train:legal"])
    doit.send_signal(signal.SIGINT)
    out, err = doit.communicate(timeout=60)
    assert doit.returncode == 130
    assert (err, "Traceback" in out) == ("", False)
    assert not Path("adapters").exists()
    # What was done before is kept.
    assert repo.doit("convert:legal").ran == []


ORPHAN = """\
import sys, time, pathlib, subprocess
pathlib.Path("started").touch()
time.sleep(60)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_a_build_that_is_ended_ends_its_trainer_and_keeps_what_was_done(repo: Repo, number: signal.Signals) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    assert repo.doit("train:legal").code == 0
    (repo.path / "trainer.py").write_text(ORPHAN, encoding="utf-8")
    repo.replace("    data: [shared, tone]\n", f"    data: [shared, tone]\n    train: {{command: [{sys.executable}, trainer.py]}}\n")
    doit = started([sys.executable, "-m", "doit", "train"])
    (trainer,) = Path(f"/proc/{doit.pid}/task/{doit.pid}/children").read_text(encoding="utf-8").split()
    doit.send_signal(number)
    out, err = doit.communicate(timeout=60)
    assert (doit.returncode, err) == (128 + number, "")
    assert out.splitlines()[-2] == "ended; what is done stays done. Go on with: doit train"
    assert out.splitlines()[-1].startswith("2 models: 1 fresh, 1 unfinished in ")
    assert not Path(f"/proc/{trainer}").exists()
    assert sorted(path.name for path in Path("build/sales").iterdir()) == ["convert-sales.receipt.json", "events.jsonl", "text.jsonl", "train.log"]
    assert repo.doit("train:legal").ran == []


def test_a_build_under_nohup_goes_on_when_its_terminal_is_closed(repo: Repo) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    program = (
        "import signal, sys; signal.signal(signal.SIGHUP, signal.SIG_IGN); from doit.__main__ import main; sys.argv[1:] = ['train:legal']; main()"
    )
    slow = (
        f"import time, pathlib, runpy, sys; pathlib.Path('started').touch(); time.sleep(0.5); runpy.run_path({str(HERE / 'counting_trainer.py')!r})"
    )
    (repo.path / "trainer.py").write_text(slow, encoding="utf-8")
    repo.replace(f"{HERE}/counting_trainer.py", "trainer.py")
    doit = started([sys.executable, "-c", program])
    doit.send_signal(signal.SIGHUP)
    out, err = doit.communicate(timeout=60)
    assert (doit.returncode, err) == (0, ""), out
    assert repo.trainings == ["legal"]


def test_an_adapter_folder_that_is_a_link_is_followed(repo: Repo) -> None:
    Path("disk/legal").mkdir(parents=True)
    Path("adapters").mkdir()
    Path("adapters/legal").symlink_to(Path("disk/legal").absolute())
    assert repo.doit("train:legal").code == 0
    assert Path("adapters/legal").is_symlink()
    assert Path("disk/legal/adapter_model.safetensors").exists()


def test_what_is_in_the_way_of_an_adapter_is_said_before_training(repo: Repo) -> None:
    Path("adapters").mkdir()
    Path("adapters/legal").touch()
    out = repo.doit("train:legal").out
    assert "\ntrain:legal failed:\nadapters/legal is in the way: it is not a folder\n  fix: move it away, then run `doit` again\n" in out
    assert repo.trainings == []


def test_a_file_that_may_not_be_read(built: Repo) -> None:
    Path("datasets/tone.jsonl").unlink()
    Path("datasets/tone.jsonl").symlink_to("tone.jsonl")  # to itself: nobody can read it, root neither
    result = built.doit()
    assert (result.code, "Traceback" in result.out + result.err) == (3, False)
    assert "no file matches 'datasets/tone.jsonl'" in result.err


def test_an_adapter_is_replaced_whole(built: Repo) -> None:
    (built.path / "adapters/legal/left-over.txt").touch()
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    assert built.doit().code == 0
    assert sorted(path.name for path in (built.path / "adapters/legal").iterdir()) == [
        *("adapter_config.json", "adapter_model.safetensors", "receipt.json")
    ]
    assert sorted(path.name for path in (built.path / "adapters").iterdir()) == ["legal", "sales"]


def test_an_adapter_that_somebody_has_put_there_is_not_lost(built: Repo) -> None:
    weights = built.path / "adapters/legal/adapter_model.safetensors"
    weights.write_bytes(content := (built.path / "adapters/sales/adapter_model.safetensors").read_bytes())
    out = built.doit().out
    assert "   legal: what was in its place, and was not made here, is in adapters/.legal.before until it is trained again\n" in out
    assert (built.path / "adapters/.legal.before/adapter_model.safetensors").read_bytes() == content
    assert weights.read_bytes() != content


def test_a_memory_of_this_machine_that_was_damaged_is_none(built: Repo) -> None:
    (records,) = (path for path in (built.path / ".ollamake/records").iterdir() if path.name.startswith("127.0.0.1"))
    for content in (json.dumps({"register:legal": {"inputs": {}}}), "[]", '{"register:legal": 3}', '{"register', ""):
        records.write_text(content, encoding="utf-8")
        assert "register:legal" in built.doit().ran
        assert built.doit().ran == []


@pytest.mark.parametrize("content", ["[]", "", '{"record": {}}', '{"record'])
def test_a_receipt_that_was_damaged_explains_nothing_and_harms_nothing(built: Repo, content: str) -> None:
    Path("build/legal/package-legal.receipt.json").write_text(content, encoding="utf-8")
    Path("adapters/legal/receipt.json").write_text(content, encoding="utf-8")
    assert built.doit().ran == []
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    assert ".  train:legal  (its keys of the catalog changed)\n" in built.doit().out


def test_weights_that_were_deleted_are_packaged_again(built: Repo) -> None:
    (built.path / "build/legal/adapter.gguf").unlink()
    result = built.doit()
    assert result.ran == ["package:legal"]
    assert ".  package:legal  (build/legal/adapter.gguf is gone)\n" in result.out


def test_an_adapter_for_another_base_is_refused(repo: Repo) -> None:
    tensors = {name.replace("layers.0", "layers.7"): tensor for name, tensor in adapter_tensors().items()}
    write_adapter(repo.path / "mine", tensors)
    repo.replace("    data: [shared]\n", "    adapter: mine\n")
    result = repo.doit("register:legal")
    assert "\npackage:legal failed:\nmine: tensor 'base_model.model.model.layers.7.mlp.down_proj.lora_A.weight': the base has no module" in result.out
    assert not (repo.path / "build/legal").exists() or not list((repo.path / "build/legal").glob("*.gguf"))
