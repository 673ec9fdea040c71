"""Steps side by side, builds side by side, and files that are edited while they are read."""

from __future__ import annotations

import contextlib
import io
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path
from types import SimpleNamespace
from typing import cast

import pytest

from conftest import DODO, HERE, Repo
from ollamake.reporter import Reporter
from ollamake.whole import Whole

DOIT = [sys.executable, "-m", "doit"]
# Notes when it begins and ends, what it sees of the machine, and how many run beside it.
NOTING = f"""\
import json, os, runpy, sys, time
from pathlib import Path

name = Path(sys.argv[2]).parent.parent.name
running = Path("running")
running.mkdir(exist_ok=True)
(running / name).touch()
until = time.monotonic() + 60
while len(os.listdir(running)) < int(os.environ.get("TOGETHER", "1")) and time.monotonic() < until:
    time.sleep(0.01)
beside = len(os.listdir(running))
time.sleep(0.2)
with open("noted", "a") as file:
    file.write(json.dumps({{"name": name, "beside": beside, "gpus": os.environ.get("CUDA_VISIBLE_DEVICES")}}) + "\\n")
(running / name).unlink()
runpy.run_path({str(HERE / "counting_trainer.py")!r})
"""

# Goes in front of NOTING: says that it has started, and waits for the test.
HELD = """\
import pathlib, time
pathlib.Path("started").touch()
until = time.monotonic() + 60
while not pathlib.Path("go on").exists() and time.monotonic() < until:
    time.sleep(0.01)
"""


def with_trainer(repo: Repo, program: str) -> None:
    (repo.path / "dodo.py").write_text(DODO, encoding="utf-8")
    Path("trainer.py").write_text(program, encoding="utf-8")
    repo.replace(f"{HERE}/counting_trainer.py", "trainer.py")


def four_models(repo: Repo, resources: str = "") -> None:
    with_trainer(repo, NOTING)
    with Path("models.yaml").open("a", encoding="utf-8") as file:
        file.writelines(f"  {name}: {{base: tiny, data: [shared]}}\n" for name in ("third", "fourth"))
    if resources:
        repo.replace("rank: 2,", f"rank: 2, resources: {resources},")


def noted() -> list[dict[str, object]]:
    return [json.loads(line) for line in Path("noted").read_text(encoding="utf-8").splitlines()]


@pytest.mark.parametrize("parallel", [("-n", "4"), ("-n", "4", "-P", "thread"), ("-n", "1"), ()])
def test_one_training_at_a_time_and_what_is_cheap_overtakes(repo: Repo, parallel: tuple[str, ...]) -> None:
    four_models(repo)
    done = subprocess.run([*DOIT, *parallel], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert [note["beside"] for note in noted()] == [1, 1, 1, 1]
    assert sorted(repo.trainings) == ["fourth", "legal", "sales", "third"]
    order = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(".  ")]
    trainings = [place for place, step in enumerate(order) if step.startswith("train:")]
    assert all(place < trainings[1] for place, step in enumerate(order) if step.startswith(("validate:", "convert:")))
    first = order[trainings[0]].partition(":")[2]
    assert order.index(f"register:{first}") < trainings[-1]  # not behind the last training
    assert subprocess.run(DOIT, capture_output=True, text=True, check=True).stdout.startswith("4 models: 4 fresh")


def test_as_many_trainings_as_gpus_and_each_sees_its_own(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "3,5")
    monkeypatch.setenv("TOGETHER", "2")
    done = subprocess.run([*DOIT, "-n", "4"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert max(int(str(note["beside"])) for note in noted()) == 2
    assert {note["gpus"] for note in noted()} == {"3", "5"}


def test_a_training_that_takes_both_gpus_runs_alone(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo, "{gpu: 2}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert subprocess.run([*DOIT, "-n", "4"], capture_output=True, check=False).returncode == 0
    assert [(note["beside"], note["gpus"]) for note in noted()] == 4 * [(1, "0,1")]


def test_a_training_on_the_cpu_is_shown_no_gpu(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo, "{gpu: 0}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    assert subprocess.run([*DOIT, "-n", "4"], capture_output=True, check=False).returncode == 0
    assert [(note["beside"], note["gpus"]) for note in noted()] == 4 * [(1, "")]


def test_more_gpus_than_there_are(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo, "{gpu: 3}")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    done = subprocess.run([*DOIT, "-n", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    said = r"model '\1': train.resources asks for 3 GPUs, and this machine has 2\n  fix: write `resources: {gpu: 2}`\n"
    assert re.search(rf"\ntrain:(\w+) failed:\n{said}", done.stdout)  # whichever comes first


def test_resources_are_no_part_of_the_recipe(built: Repo) -> None:
    built.replace("rank: 2,", "rank: 2, resources: {gpu: 0},")
    assert built.doit().ran == []


def test_trainings_of_two_repos_do_not_share_the_cpu(repo: Repo, tmp_path_factory: pytest.TempPathFactory) -> None:
    with_trainer(repo, f"{HELD}pathlib.Path('ended').touch()\n{NOTING}")
    other = tmp_path_factory.mktemp("other")
    shutil.copytree(repo.path, other, dirs_exist_ok=True)
    program = f"import pathlib; assert pathlib.Path({str(repo.path / 'ended')!r}).exists()\n" + NOTING
    (other / "trainer.py").write_text(program, encoding="utf-8")
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    second = subprocess.Popen([*DOIT, "train:legal"], cwd=other, stdout=subprocess.PIPE, text=True)
    assert line_with("waiting for", second) == f"   legal: waiting for the CPU: the training of legal, process {first.pid} has it\n"
    Path("go on").touch()
    said = [one.communicate(timeout=60)[0] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said


def line_with(text: str, process: subprocess.Popen[str]) -> str:
    """The next line with this text that the process says."""
    assert process.stdout is not None
    line = next((line for line in process.stdout if text in line), None)
    assert line is not None
    return line


def that_waits(*arguments: str) -> subprocess.CompletedProcess[str]:
    """A doit beside a training that is HELD, which goes on when this one has said that it waits; when it has ended."""
    process = subprocess.Popen([*DOIT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert process.stderr is not None
    said = process.stderr.readline()
    Path("go on").touch()
    out, err = process.communicate(timeout=60)
    return subprocess.CompletedProcess(process.args, process.returncode, out, said + err)


def wait_for(path: Path) -> None:
    until = time.monotonic() + 60
    while not path.exists():
        assert time.monotonic() < until
        time.sleep(0.01)


@pytest.mark.parametrize("command", [(), ("-n", "4"), ("forget", "train:sales"), ("build", "legal")])
def test_a_second_doit_says_who_builds_and_waits(repo: Repo, command: tuple[str, ...]) -> None:
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "-n", "2"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    second = that_waits(*command)
    out, err = first.communicate(timeout=60)
    assert (first.returncode, err) == (0, ""), out
    assert second.returncode == 0, second.stdout + second.stderr
    assert second.stderr.startswith(f"   `doit -n 2` (process {first.pid}, since ")
    assert second.stderr.endswith(") is building here: waiting for its end\n")
    assert sorted(repo.trainings) == ["legal", "sales"]
    assert "fresh" in second.stdout or command[:1] == ("forget",)
    last = subprocess.run(DOIT, capture_output=True, text=True, check=False).stdout
    assert ("train:sales" in last) == (command[:1] == ("forget",)), last


def test_looking_does_not_wait(repo: Repo) -> None:
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "train"], stdout=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    plan = subprocess.run([*DOIT, "plan", "--json"], capture_output=True, text=True, check=False)
    Path("go on").touch()
    assert {step["step"] for step in json.loads(plan.stdout)["steps"]} >= {"train:legal", "train:sales"}
    assert "validate:shared" not in plan.stdout
    first.communicate(timeout=60)


@pytest.mark.parametrize("parallel", [(), ("-n", "4")])
def test_a_file_that_is_edited_while_a_step_reads_it_makes_it_stale_and_the_end_says_so(repo: Repo, parallel: tuple[str, ...]) -> None:
    with_trainer(repo, f"import pathlib\npath = pathlib.Path('base.gguf'); path.write_bytes(path.read_bytes() + b'x')\n{NOTING}")
    done = subprocess.run([*DOIT, *parallel, "train:legal"], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert done.stdout.splitlines()[-2:][0] == "stale again: base tiny was edited while train:legal ran; the next `doit` does it again"
    assert json.loads(Path("models.lock").read_text(encoding="utf-8"))["train:legal"]["edited"] == ["base tiny"]
    assert Path("adapters/legal/adapter_model.safetensors").exists()  # kept
    Path("trainer.py").write_text(NOTING, encoding="utf-8")
    content = Path("base.gguf").read_bytes()
    Path("base.gguf").write_bytes(content[:-1])  # as it was at the beginning: nobody knows which one was read
    result = repo.doit("train:legal")
    assert ".  train:legal  (base tiny was edited while it ran)\n" in result.out
    assert repo.doit("train:legal").ran == []
    Path("base.gguf").write_bytes(content)
    assert ".  train:legal  (base tiny changed)\n" in repo.doit("train:legal").out


def test_a_dataset_that_is_edited_during_a_training_is_stale_next_time(repo: Repo) -> None:
    edit = "import pathlib\npath = pathlib.Path('datasets/tone.jsonl'); path.write_text(path.read_text().replace('Gladly', 'Kindly'))\n"
    with_trainer(repo, f"{edit}{NOTING}")
    result = subprocess.run(DOIT, capture_output=True, text=True, check=False)
    assert result.returncode == 0
    result = repo.doit()
    assert "validate:tone" in result.ran
    assert "train:sales" in result.ran
    assert "train:legal" not in result.ran


def test_a_process_that_is_killed_ends_the_run_and_loses_nothing(repo: Repo) -> None:
    program = """
import os, signal
from pathlib import Path
def parent(pid):
    return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
if Path("kill").exists():
    Path("kill").unlink()
    os.kill(parent(os.getppid()), signal.SIGKILL)
"""
    with_trainer(repo, program + NOTING)
    Path("kill").touch()
    done = subprocess.run([*DOIT, "-n", "2"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 128 + 15
    assert done.stderr == "   a process of this run was ended by signal 9: the run ends\n"
    assert done.stdout.splitlines()[-1].startswith("2 models: 2 unfinished in ")
    assert repo.doit().code == 0
    assert sorted(set(repo.trainings)) == ["legal", "sales"]


def test_a_process_that_a_library_ends_ends_the_run(repo: Repo) -> None:
    task = "def task_library():\n    import os\n    return {'actions': [lambda: os._exit(3)]}\n"
    (repo.path / "dodo.py").write_text(f"{DODO}\n{task}", encoding="utf-8")
    done = subprocess.run([*DOIT, "-n", "2", "library"], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (128 + 15, "   a process of this run ended with exit code 3: the run ends\n")


@pytest.fixture
def small_disk(tmp_path_factory: pytest.TempPathFactory) -> object:
    path = tmp_path_factory.mktemp("disk")
    if subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "tmpfs", str(path)], capture_output=True, check=False).returncode:
        pytest.skip("a small disk can't be mounted: not root")
    yield path
    os.chdir("/")
    subprocess.run(["umount", str(path)], check=True)


@pytest.mark.parametrize("left", [0, 1, 2, 3, 5, 8, 12, 20])  # blocks of 4 KiB
def test_a_full_disk_is_said_and_the_old_state_stays_whole(built: Repo, small_disk: Path, left: int) -> None:
    shutil.copytree(built.path, small_disk, dirs_exist_ok=True)
    os.chdir(small_disk)
    repo = Repo(small_disk, built.server)
    before = {path: path.read_bytes() for path in (Path("models.lock"), *Path("adapters").rglob("adapter_*"))}
    repo.replace("rank: 2,", "rank: 4,")
    repo.replace("Answer 1.", "Answer one.", "datasets/shared.jsonl")
    with Path("full").open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    os.truncate("full", os.path.getsize("full") - 4096 * left)
    result = repo.doit()
    if result.code == 0:  # it was just enough
        assert left > 8
        return
    assert result.code in {1, 2, 3}, result.out + result.err
    assert "No space left on device" in result.out + result.err
    assert "src/ollamake" not in result.out + result.err  # no traceback of ours
    done = {step for step in result.ran if f"{step} failed" not in result.out}
    if not any(step.startswith("train") for step in done):
        assert {path: path.read_bytes() for path in before if path.name != "models.lock"} == {
            path: content for path, content in before.items() if path.name != "models.lock"
        }
    json.loads(Path("models.lock").read_bytes())
    Path("full").unlink()
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert not done & set(result.ran) or "models.lock" in result.out
    assert repo.doit().ran == []


def test_a_full_disk_below_the_adapters_costs_no_training(repo: Repo, small_disk: Path) -> None:
    with_trainer(repo, NOTING)
    Path("adapters").symlink_to(small_disk)
    with (small_disk / "full").open("wb") as file, contextlib.suppress(OSError):
        while True:
            os.write(file.fileno(), bytes(4096))
    result = repo.doit("train:legal")
    assert result.code == 1
    said = "No space left on device\n  fix: make room on the disk, then run `doit` again\n"
    assert "\ntrain:legal failed:\n" in result.out
    assert said in result.out
    assert repo.trainings == ["legal"]
    (small_disk / "full").unlink()
    assert repo.doit("train:legal").code == 0
    assert repo.trainings == ["legal"]
    assert (small_disk / "legal/adapter_model.safetensors").exists()
    assert not list(Path("build/legal").glob("job-*"))


def test_a_file_that_comes_to_match_a_pattern_during_a_build_is_found_by_the_next(repo: Repo) -> None:
    repo.replace("[datasets/shared.jsonl]", "[datasets/shared*.jsonl]")
    add = 'import pathlib\npathlib.Path("datasets/shared2.jsonl").write_text(\'{"instruction": "a", "output": "b"}\\n\')\n'
    with_trainer(repo, add + NOTING)
    assert subprocess.run(DOIT, capture_output=True, check=False).returncode == 0
    assert "validate:shared" in repo.doit().ran


def test_clean_waits_for_a_build_and_leaves_its_jobs(repo: Repo) -> None:
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    clean = that_waits("clean", "-a")
    assert first.wait(60) == 0, first.communicate()
    assert (clean.returncode, "is building here: waiting for its end" in clean.stderr) == (0, True)
    first.communicate()
    assert {path.name for path in Path("build/legal").iterdir()} == {"events.jsonl", "train.log"}  # what tells of the adapter
    assert not Path("build/datasets").exists()
    assert repo.doit("train:legal").ran == ["validate:shared", "convert:legal"]


def test_builds_are_kept_apart_though_all_local_things_are_deleted(repo: Repo) -> None:
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    shutil.rmtree(".ollamake")
    second = that_waits("train:legal")
    assert "   another doit is building here: waiting for its end\n" in second.stderr
    assert (first.wait(60), second.returncode) == (0, 0)
    first.communicate()
    assert repo.trainings == ["legal"]
    assert {"validate:shared", "convert:legal", "train:legal"} <= json.loads(Path("models.lock").read_text(encoding="utf-8")).keys()
    assert repo.doit("train:legal").ran == []


def test_a_doit_in_a_step_of_the_same_repo_is_refused_and_does_not_wait_for_ever(repo: Repo) -> None:
    with_trainer(repo, "import subprocess, sys; sys.exit(subprocess.run([sys.executable, '-m', 'doit', 'validate']).returncode)")
    done = subprocess.run([*DOIT, "train:legal"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 1
    assert "this repo is being built by the doit that has started this one\n" in done.stdout


def test_a_lock_that_is_pulled_during_a_build_is_kept(built: Repo) -> None:
    pulled = "import json, pathlib\npath = pathlib.Path('models.lock'); lock = json.loads(path.read_text())\n"
    pulled += "lock['train:sales']['accepted'] = 'pulled'; path.write_text(json.dumps(lock))\n"
    with_trainer(built, pulled + NOTING)
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    built.doit("accept", "sales", "legal", "--because", "another program")
    built.replace("rank: 3", "rank: 4")
    assert built.doit("train:legal").code == 0
    lock = json.loads(Path("models.lock").read_text(encoding="utf-8"))
    assert lock["train:sales"]["accepted"] == "pulled"
    assert "accepted" not in lock["train:legal"]


def test_a_base_that_is_replaced_while_a_training_waits_for_the_cpu_is_what_it_is_trained_on(
    repo: Repo, tmp_path_factory: pytest.TempPathFactory
) -> None:
    from tiny_base import write_tiny_base

    other = tmp_path_factory.mktemp("other")
    shutil.copytree(repo.path, other, dirs_exist_ok=True)
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    (other / "dodo.py").write_text(DODO, encoding="utf-8")
    second = subprocess.Popen([*DOIT, "train:legal"], cwd=other, stdout=subprocess.PIPE, text=True)
    line_with("waiting for the CPU", second)
    write_tiny_base(other / "base.gguf", seed=7)
    Path("go on").touch()
    said = [one.communicate(timeout=60)[0] for one in (first, second)]
    assert (first.returncode, second.returncode) == (0, 0), said
    assert "stale again" not in said[1]
    os.chdir(other)
    assert Repo(other, repo.server).doit("train:legal").ran == ["convert:legal"]  # it had read the base before


def test_ctrl_c_while_waiting_for_another_build_is_no_traceback(repo: Repo) -> None:
    with_trainer(repo, HELD + NOTING)
    first = subprocess.Popen([*DOIT, "train:legal"], stdout=subprocess.PIPE, text=True)
    wait_for(Path("started"))
    second = subprocess.Popen(DOIT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True)
    assert second.stderr is not None
    assert "waiting for its end" in second.stderr.readline()
    second.send_signal(signal.SIGINT)
    out, err = second.communicate(timeout=60)
    assert (second.returncode, out, err) == (130, "", "")
    Path("go on").touch()
    assert first.wait(60) == 0
    first.communicate()


def test_what_a_trainer_leaves_behind_ends_with_it(repo: Repo) -> None:
    with_trainer(repo, "import subprocess\nsubprocess.Popen(['sleep', '300'])\n" + NOTING)
    done = subprocess.run([*DOIT, "train:legal"], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == 0


def test_without_fork_steps_run_in_threads(repo: Repo) -> None:
    with_trainer(repo, NOTING)
    program = (
        "import multiprocessing, sys; multiprocessing.set_start_method('spawn'); from doit.__main__ import main; sys.argv[1:] = ['-n', '3']; main()"
    )
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout + done.stderr
    assert sorted(repo.trainings) == ["legal", "sales"]


def test_with_two_processes_and_two_gpus_cheap_steps_still_overtake(repo: Repo, monkeypatch: pytest.MonkeyPatch) -> None:
    four_models(repo)
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    done = subprocess.run([*DOIT, "-n", "2"], capture_output=True, text=True, check=False)
    assert done.returncode == 0
    order = [line.split()[1] for line in done.stdout.splitlines() if line.startswith(".  ")]
    trainings = [place for place, step in enumerate(order) if step.startswith("train:")]
    assert all(place < trainings[1] for place, step in enumerate(order) if step.startswith(("validate:", "convert:")))


@pytest.mark.parametrize("moment", [0.0, 0.05, 0.1, 0.2, 0.3, 0.4])
@pytest.mark.parametrize("parallel", [(), ("-n", "3")])
def test_a_build_that_is_ended_by_hand_at_any_moment_is_taken_up(repo: Repo, parallel: tuple[str, ...], moment: float) -> None:
    with_trainer(repo, NOTING)
    build = subprocess.Popen([*DOIT, *parallel], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, start_new_session=True)
    assert build.stdout is not None
    build.stdout.readline()
    time.sleep(moment)
    for _ in range(2):  # people press it twice
        with contextlib.suppress(ProcessLookupError):
            os.killpg(build.pid, signal.SIGINT)
    out, err = build.communicate(timeout=60)
    assert build.returncode in {0, 130}, out + err
    assert "Traceback" not in out + err
    finished = {path.parent.name for path in Path("adapters").glob("[!.]*/receipt.json")}
    before = list(repo.trainings)
    result = repo.doit()
    assert result.code == 0, result.out + result.err
    assert not finished & set(repo.trainings[len(before) :])
    assert repo.doit().ran == []


def test_a_run_that_was_ended_reports_though_ctrl_c_comes_again_while_threads_are_there() -> None:
    out, idle = io.StringIO(), threading.Event()
    reporter = Reporter(out, {})
    reporter.initialize({}, [])
    reporter.states["legal"], reporter.waiting["legal"] = "fresh", {"train:legal"}

    def end_again() -> None:
        os.kill(os.getpid(), signal.SIGINT)
        time.sleep(0.05)

    ended = SimpleNamespace(reporter=reporter, dep_manager=SimpleNamespace(close=lambda: None), teardown=end_again, final_result=0)
    thread = threading.Thread(target=idle.wait)
    thread.start()
    try:
        with pytest.raises(SystemExit):
            reporter.ending.end(signal.SIGINT, None)
        Whole.finish(cast("Whole", ended))
    finally:
        idle.set()
        thread.join()
        for number, handler in reporter.ending.handlers.items():
            signal.signal(number, handler)
    assert out.getvalue().splitlines()[-1].startswith("1 model: 1 unfinished in ")


def test_processes_that_a_run_ends_do_not_end_it_once_more(repo: Repo) -> None:
    """Ctrl-C gives 130, however slowly a machine comes to the end of the run."""
    with_trainer(repo, HELD + NOTING)
    slow = "\nfrom ollamake.whole import Whole\nfinish = Whole.finish\ndef slowly(run):\n    import time\n    time.sleep(2)\n    return finish(run)\n"
    (repo.path / "dodo.py").write_text(DODO + slow + "Whole.finish = slowly\n", encoding="utf-8")
    build = subprocess.Popen([*DOIT, "-n", "2", "train:legal"], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
    wait_for(Path("started"))
    build.send_signal(signal.SIGINT)  # to this process alone, as by `kill`
    out = build.communicate(timeout=60)[0]
    assert build.returncode == 130, out
    assert "ended; what is done stays done." in out


def started_with(repo: Repo, *arguments: str, dodo: str) -> subprocess.Popen[str]:
    (repo.path / "dodo.py").write_text(f"{DODO}\n{dodo}", encoding="utf-8")
    return subprocess.Popen([*DOIT, *arguments], stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


# Says that it is reached, and waits for the test.
HOLDS = """
def hold():
    import pathlib, time
    pathlib.Path("reached").touch()
    until = time.monotonic() + 60
    while not pathlib.Path("go on").exists() and time.monotonic() < until:
        time.sleep(0.01)
"""


@pytest.mark.parametrize("parallel", [(), ("-n", "2"), ("-n", "2", "-P", "thread")])
def test_ctrl_c_that_comes_again_before_the_run_has_come_to_its_end_costs_no_report(repo: Repo, parallel: tuple[str, ...]) -> None:
    """A terminal gives it to all processes; each that dies of it may end the run once more."""
    with_trainer(repo, "import time\nfrom pathlib import Path\nPath('started').touch()\ntime.sleep(60)\n")
    held = "from ollamake.whole import Whole\nfinish = Whole.finish\nWhole.finish = lambda run: hold() or finish(run)\n"
    build = started_with(repo, *parallel, "train:legal", dodo=HOLDS + held)
    wait_for(Path("started"))
    build.send_signal(signal.SIGINT)
    wait_for(Path("reached"))
    build.send_signal(signal.SIGINT)
    Path("go on").touch()
    out = build.communicate(timeout=60)[0]
    assert build.returncode == 130, out
    assert out.splitlines()[-1].startswith("1 model: 1 unfinished in ")


def test_ctrl_c_while_a_run_waits_for_a_teardown_at_its_end_costs_no_report(repo: Repo) -> None:
    held = "def task_held():\n    return {'actions': ['true'], 'teardown': [hold]}\n"
    build = started_with(repo, "convert:legal", "held", dodo=HOLDS + held)
    wait_for(Path("reached"))
    build.send_signal(signal.SIGINT)
    out = build.communicate(timeout=60)[0]
    assert build.returncode == 130, out
    assert out.splitlines()[-1].startswith("1 model: 1 rebuilt in ")


@pytest.mark.parametrize("words", [("run",), ("run", "--json"), ("plan",)])
def test_ctrl_c_while_the_dodo_file_is_read_is_no_traceback(repo: Repo, words: tuple[str, ...]) -> None:
    build = started_with(repo, *words, dodo=f"{HOLDS}hold()\n")
    wait_for(Path("reached"))
    build.send_signal(signal.SIGINT)
    out = build.communicate(timeout=60)[0]
    assert build.returncode == 130
    assert [json.loads(line).get("exit_code", 130) for line in out.splitlines()] == (2 * [130] if "--json" in words else [])
