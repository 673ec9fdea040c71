"""Checkpoints of trainings that lose their machine: kept anywhere, fetched whole or not at all, and no training waits or fails for them."""

from __future__ import annotations

import io
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import threading
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from ollamake.cache.verified import ChangedError, DamagedError
from ollamake.digest import canonical_json, digest_value
from ollamake.engines.checkpoint_object import head_of, read_files, read_head, written
from ollamake.engines.checkpoints import Keeping, Kept, check_url
from ollamake.errors import BuildError
from ollamake.trainers.port import Event

KEY = f"sha256:{'4f' * 32}"


@pytest.fixture(params=["folder", "memory", "s3", "azure", "gcs"])
def url(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[str]:
    """Of a real place that fsspec knows."""
    if request.param == "memory":
        yield "memory://checkpoints"
        from fsspec.implementations.memory import MemoryFileSystem

        MemoryFileSystem.store.clear()
        MemoryFileSystem.pseudo_dirs[:] = [""]
    elif request.param == "folder":
        (tmp_path / "nfs").mkdir()
        yield str(tmp_path / "nfs" / "checkpoints")
    else:
        yield f"{request.getfixturevalue(request.param)}/checkpoints"


@pytest.fixture
def folder_url(tmp_path: Path) -> str:
    (tmp_path / "nfs").mkdir()
    return str(tmp_path / "nfs" / "checkpoints")


def checkpoint(work: Path, step: int, *, size: int = 10_000) -> Path:
    """One such as trainers write; each of its files tells the step."""
    folder = work / f"checkpoint-{step}"
    (folder / "global_step").mkdir(parents=True)
    (folder / "state.json").write_text(f'{{"step": {step}}}')
    (folder / "tensors.safetensors").write_bytes(random.Random(step).randbytes(size))
    (folder / "global_step" / "rng.bin").write_bytes(f"chance {step}".encode())
    (folder / "latest").write_bytes(b"")
    return folder


def contents(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def objects(url: str, key: str = KEY) -> list[tuple[int, str]]:
    """The steps and the paths of what is kept of a job."""
    return [(int(one.path.split("/")[1].split(".")[0]), one.path) for one in Kept(url, key)._listed()]


def read_object(url: str, path: str) -> bytes:
    kept = Kept(url, KEY)
    found = kept._store.read(path, lambda read, size: read(size))
    assert found is not None
    return found


def write_object(url: str, path: str, content: bytes) -> None:
    Kept(url, KEY)._store.write(path, [content], len(content), replace=True)


def test_a_training_goes_on_elsewhere_from_the_last_checkpoint(url: str, tmp_path: Path) -> None:
    there = Kept(url, KEY)
    assert there.fetch(tmp_path / "new") is None
    for step in (5, 40, 100):
        assert there.keep(checkpoint(tmp_path / "work", step), step)
    found = Kept(url, KEY).fetch(tmp_path / "elsewhere")
    assert found == tmp_path / "elsewhere" / "checkpoint-100"
    assert contents(found) == contents(tmp_path / "work" / "checkpoint-100")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["checkpoint-100"]
    assert [step for step, _ in objects(url)] == [40, 100]  # and the one before it
    assert sorted(path.name for path in (tmp_path / "work").iterdir()) == [
        "checkpoint-100",
        "checkpoint-40",
        "checkpoint-5",
    ]  # nothing else is left there
    assert Kept(url, f"sha256:{'00' * 32}").fetch(tmp_path / "other") is None  # of another job


def test_nothing_is_left_when_the_adapter_is_there(url: str, tmp_path: Path) -> None:
    there, other = Kept(url, KEY), Kept(url, f"sha256:{'00' * 32}")
    for kept in (there, other):
        kept.keep(checkpoint(tmp_path / kept.key[7:9], 5), 5)
    write_object(url, "tmp/killed.partial", b"of a writer that was killed")
    there.clear()
    there.clear()
    assert Kept(url, KEY)._store.listed("") == []
    assert Kept(url, KEY).fetch(tmp_path / "new") is None
    assert other.fetch(tmp_path / "new") is not None


def flipped(content: bytes) -> bytes:
    place = len(content) - 500
    return content[:place] + bytes([content[place] ^ 1]) + content[place + 1 :]


@pytest.mark.parametrize(
    "damage",
    [
        *(flipped, lambda content: content[:-1], lambda content: content[:20], lambda _: b"", lambda content: content + b"!"),
        lambda content: content.replace(b"4f4f", b"5f4f", 1),
        lambda _: b"PK\x03\x04" + bytes(5000),
    ],
    ids=["a bit", "its end", "almost all", "all", "more", "another job", "a zip file"],
)
def test_one_that_is_damaged_is_none(folder_url: str, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    the_one_before_is_taken(folder_url, tmp_path, damage)


def test_one_that_is_damaged_in_an_object_store_is_none(s3: str, tmp_path: Path) -> None:
    the_one_before_is_taken(s3, tmp_path, flipped)


def the_one_before_is_taken(url: str, tmp_path: Path, damage: Callable[[bytes], bytes]) -> None:
    for step in (40, 100):
        Kept(url, KEY).keep(checkpoint(tmp_path / "work", step), step)
    last = objects(url)[-1][1]
    write_object(url, last, damage(read_object(url, last)))
    found = Kept(url, KEY).fetch(tmp_path / "elsewhere")
    assert found == tmp_path / "elsewhere" / "checkpoint-40"
    assert contents(found) == contents(tmp_path / "work" / "checkpoint-40")
    assert [path.name for path in (tmp_path / "elsewhere").iterdir()] == ["checkpoint-40"]
    assert [step for step, _ in objects(url)] == [40]  # it is in nobody's way any more


def test_where_all_are_damaged_a_training_begins_anew(folder_url: str, tmp_path: Path) -> None:
    for step in (40, 100):
        Kept(folder_url, KEY).keep(checkpoint(tmp_path / "work", step), step)
    for _, path in objects(folder_url):
        write_object(folder_url, path, b"no checkpoint")
    assert Kept(folder_url, KEY).fetch(tmp_path / "elsewhere") is None


KILLED = """
import os, signal, sys
from pathlib import Path
from ollamake.cache import verified
from ollamake.engines import checkpoints
verified.PIECE = 1000
url, folder = sys.argv[1:]
count = 0
def goes_on():
    global count
    count += 1
    if count == 50:
        os.kill(os.getpid(), signal.SIGKILL)
    return True
checkpoints.Kept(url, "sha256:" + "4f" * 32).keep(Path(folder), 100, goes_on=goes_on)
"""


@pytest.mark.parametrize("place", ["folder_url", "s3", "azure", "gcs"])
def test_a_machine_that_is_lost_in_the_middle_leaves_no_half_of_one(place: str, request: pytest.FixtureRequest, tmp_path: Path) -> None:
    url = request.getfixturevalue(place)
    Kept(url, KEY).keep(checkpoint(tmp_path / "work", 40), 40)
    done = subprocess.run([sys.executable, "-c", KILLED, url, str(checkpoint(tmp_path / "lost", 100, size=200_000))], check=False)
    assert done.returncode == -signal.SIGKILL
    assert [step for step, _ in objects(url)] == [40]
    found = Kept(url, KEY).fetch(tmp_path / "elsewhere")
    assert found is not None
    assert contents(found) == contents(tmp_path / "work" / "checkpoint-40")
    Kept(url, KEY).clear()
    assert Kept(url, KEY)._store.listed("") == []


def test_a_machine_that_comes_back_mixes_nothing(url: str, tmp_path: Path) -> None:
    """Two that train one job: what is fetched meanwhile is always one of the two's, whole."""
    errors: list[BaseException] = []
    last_step = 14 if url.startswith(("s3", "az", "gs")) else 38  # a call of those takes a while
    steps = {"lost": range(1, last_step, 3), "new": range(2, last_step + 1, 3)}
    Kept(url, KEY).keep(checkpoint(tmp_path / "first", 0), 0)

    def train(name: str) -> None:
        try:
            kept = Kept(url, KEY)
            for step in steps[name]:
                assert kept.keep(checkpoint(tmp_path / name, step), step)
        except BaseException as error:  # noqa: BLE001 - told in the test's own thread
            errors.append(error)

    writers = [threading.Thread(target=train, args=(name,)) for name in steps]
    for writer in writers:
        writer.start()
    found = 0
    while any(writer.is_alive() for writer in writers) or not found:
        one = Kept(url, KEY).fetch(tmp_path / "elsewhere")
        assert one is None or contents(one) == contents(checkpoint(tmp_path / f"again-{found}", int(one.name.removeprefix("checkpoint-"))))
        found += one is not None
    for writer in writers:
        writer.join()
    assert errors == []
    last = Kept(url, KEY).fetch(tmp_path / "elsewhere")
    assert last is not None
    assert last.name == f"checkpoint-{last_step}"
    assert 1 <= len(objects(url)) <= 3  # two, and one that came when the others were counted


def test_a_checkpoint_that_its_trainer_removes_while_it_is_sent_is_kept(folder_url: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "work", 40)
    before = contents(folder)

    def goes_on() -> bool:
        shutil.rmtree(folder, ignore_errors=True)
        return True

    assert Kept(folder_url, KEY).keep(folder, 40, goes_on=goes_on)
    found = Kept(folder_url, KEY).fetch(tmp_path / "elsewhere")
    assert found is not None
    assert contents(found) == before
    assert list((tmp_path / "work").iterdir()) == []


def test_a_checkpoint_that_leads_to_another_is_not_kept_and_that_is_said(folder_url: str, tmp_path: Path) -> None:
    """transformers notes the best one so far by its path on the node that is lost: the adapter would be that of the last step, without a word."""
    folder = checkpoint(tmp_path / "work", 40)
    (folder / "trainer_state.json").write_text('{"global_step": 40, "best_model_checkpoint": null}')
    assert Kept(folder_url, KEY).keep(folder, 40)
    (folder / "trainer_state.json").write_text('{"global_step": 40, "best_model_checkpoint": "/tmp/job/work/checkpoint-20"}')
    with pytest.raises(BuildError) as caught:
        Kept(folder_url, KEY).keep(folder, 41)
    assert str(caught.value) == (
        "checkpoints are not kept: with `keep: best` or `patience` those of this trainer lead to each other\n"
        "  fix: know that the training begins anew should its node be lost; the trainer `peft` has no such limit"
    )
    assert [step for step, _ in objects(folder_url)] == [40]


def test_files_that_are_links_are_kept_as_what_they_lead_to(folder_url: str, tmp_path: Path) -> None:
    folder = checkpoint(tmp_path / "work", 40)
    (tmp_path / "tokenizer.json").write_text("{}")
    (folder / "tokenizer.json").symlink_to("../../tokenizer.json")
    assert Kept(folder_url, KEY).keep(folder, 40)
    found = Kept(folder_url, KEY).fetch(tmp_path / "elsewhere")
    assert found is not None
    assert contents(found) == contents(folder)
    assert not (found / "tokenizer.json").is_symlink()


def test_a_checkpoint_that_is_gone_or_no_longer_whole_is_not_kept(folder_url: str, tmp_path: Path) -> None:
    kept = Kept(folder_url, KEY)
    (tmp_path / "work").mkdir()
    assert not kept.keep(tmp_path / "work" / "checkpoint-1", 1)
    assert not kept.keep(checkpoint(tmp_path / "work", 2), 2, is_whole=lambda: False)
    assert not kept.keep(checkpoint(tmp_path / "work", 3), 3, goes_on=lambda: False)
    assert objects(folder_url) == []
    assert not [path for path in (tmp_path / "work").iterdir() if path.name.startswith(".")]


# What fails


def refused(url: str, work: Path, **options: float) -> tuple[str, str]:
    """What is said where checkpoints can be neither fetched nor kept."""
    said = []
    folder = checkpoint(work, 1)
    for use in (lambda kept: kept.fetch(work), lambda kept: kept.keep(folder, 1)):
        with pytest.raises(BuildError) as caught:
            use(Kept(url, KEY, **options))
        said.append(str(caught.value))
    Kept(url, KEY, **options).clear()  # is no error
    return said[0], said[1]


def test_a_folder_that_is_not_mounted_is_said(tmp_path: Path) -> None:
    said = refused(f"{tmp_path}/nowhere/checkpoints", tmp_path / "work")
    text = "checkpoints can't be {}: {}/nowhere/checkpoints is not there: no such folder: {}/nowhere/checkpoints\n  fix: make it, or mend engine.checkpoints"
    assert said == (text.format("fetched", tmp_path, tmp_path), text.format("kept", tmp_path, tmp_path))


def test_a_server_that_is_down_is_said_without_credentials(s3: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", "http://127.0.0.1:9")
    fetched, kept = refused(s3, tmp_path, timeout=1.0, stall=1.0)
    assert fetched == f"checkpoints can't be fetched: {s3} does not answer: nothing for 1 s"
    assert kept == f"checkpoints can't be kept: {s3} does not answer: nothing for 1 s"
    assert "testing-secret" not in fetched + kept


def test_a_bucket_that_is_not_there_is_said(s3: str, tmp_path: Path) -> None:
    with pytest.raises(
        BuildError,
        match=r"checkpoints can't be kept: s3://taem/models is not there: .*bucket does not exist\n  fix: make it, or mend engine.checkpoints",
    ):
        Kept("s3://taem/models", KEY).keep(checkpoint(tmp_path, 1), 1)


@pytest.fixture
def silent() -> Iterator[str]:
    """The url of a server that takes what comes, and never answers."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_a_server_that_never_answers_is_waited_for_no_longer_than_said(s3: str, silent: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("AWS_ENDPOINT_URL", silent)
    fetched, _ = refused(s3, tmp_path, timeout=0.5, stall=0.5)
    assert fetched == f"checkpoints can't be fetched: {s3} does not answer: nothing for 0.5 s"


@pytest.mark.parametrize(
    ("url", "text"),
    [
        ("s4://team/x", "engine.checkpoints: s4://team/x can't be had: nothing knows s4://\n  fix: write s3:// in engine.checkpoints"),
        (
            "memory://x",
            "engine.checkpoints: memory://x is the memory of one process: nothing that is lost is found there\n  fix: write a folder that all nodes share, or s3://, gs://, az:// or sftp://",
        ),
    ],
)
def test_a_url_that_is_none_is_found_before_anything_is_sent(url: str, text: str) -> None:
    with pytest.raises(BuildError) as caught:
        check_url(url)
    assert str(caught.value) == text


def test_urls_that_are_known_need_no_network() -> None:
    for url in ("s3://no-such-bucket-anywhere/x", "/mnt/nfs/checkpoints", "file:///mnt/nfs"):
        check_url(url)


def test_a_library_that_is_missing_is_named_with_what_installs_it() -> None:
    program = "import sys; sys.modules['s3fs'] = None\nfrom ollamake.engines.checkpoints import check_url\ntry: check_url('s3://team/x')\nexcept Exception as error: print(error)"
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True)
    assert done.stdout == (
        "engine.checkpoints: s3://team/x can't be had: the library that knows s3:// is not installed\n  fix: pip install 'ollamake[s3]'\n"
    )


# While a training runs


class LostError(Exception):
    """How a training ends that does not end well."""


class Work:
    """A trainer's folder: it has the last checkpoint alone."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.at: Path | None = None

    def write(self, step: int) -> Event:
        before, self.at = self.at, checkpoint(self.folder, step)
        if before is not None:
            shutil.rmtree(before)
        return Event(kind="checkpoint", step=step, steps=100)

    def newest(self) -> Path | None:
        return self.at


class Slow(Kept):
    """A store that takes as long as it is told to."""

    def __init__(self, url: str) -> None:
        super().__init__(url, KEY)
        self.began, self.go_on = threading.Semaphore(0), threading.Semaphore(0)
        self.ended: list[tuple[str, bool]] = []

    def keep(self, folder: Path, step: int, **options: Callable[[], bool]) -> bool:
        goes_on = options["goes_on"]

        def slowly() -> bool:
            if not goes_on():
                return False
            if not self.ended or self.ended[-1][0] != folder.name:
                self.ended.append((folder.name, False))
                self.began.release()
                self.go_on.acquire()
            return goes_on()

        done = super().keep(folder, step, is_whole=options["is_whole"], goes_on=slowly)
        if done:
            self.ended[-1] = (folder.name, True)
        return done


def test_the_last_of_those_that_come_while_one_is_sent_is_kept_and_the_training_waits_for_none(folder_url: str, tmp_path: Path) -> None:
    work, kept, said = Work(tmp_path / "work"), Slow(folder_url), []
    with suppress(LostError), Keeping(kept, work.newest, said.append) as keeping:
        keeping.hear(work.write(1))
        kept.began.acquire()
        for step in (2, 3, 4):  # the first is on its way, and no longer in its folder
            keeping.hear(work.write(step))
        keeping.hear(Event(kind="step", step=5))
        kept.go_on.release()
        kept.began.acquire()
        kept.go_on.release()
        raise LostError
    assert kept.ended == [("checkpoint-1", True), ("checkpoint-4", True)]
    assert [step for step, _ in objects(folder_url)] == [1, 4]
    assert said == []
    assert not keeping._thread.is_alive()


def test_when_the_training_has_ended_well_what_is_on_its_way_is_given_up(folder_url: str, tmp_path: Path) -> None:
    work, kept, said = Work(tmp_path / "work"), Slow(folder_url), []
    with Keeping(kept, work.newest, said.append) as keeping:
        keeping.hear(work.write(1))
        kept.began.acquire()
        keeping.give_up()
        kept.go_on.release()
    assert kept.ended == [("checkpoint-1", False)]
    assert objects(folder_url) == []
    assert said == []
    assert not keeping._thread.is_alive()
    kept.clear()
    assert list(Path(folder_url).rglob("*")) == []


def test_a_training_that_fails_gets_its_last_checkpoint_away(folder_url: str, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with suppress(LostError), Keeping(Kept(folder_url, KEY), work.newest, pytest.fail) as keeping:
        keeping.hear(work.write(7))
        raise LostError
    assert [step for step, _ in objects(folder_url)] == [7]


def test_a_store_that_fails_costs_one_note(tmp_path: Path) -> None:
    work, said, told = Work(tmp_path / "work"), [], threading.Semaphore(0)

    def newest() -> Path | None:
        told.release()
        return work.newest()

    with Keeping(Kept(f"{tmp_path}/nowhere/checkpoints", KEY), newest, said.append) as keeping:
        for step in range(1, 6):
            keeping.hear(work.write(step))
            told.acquire()
            told.acquire()  # once for the folder, once when its files are held
    assert len(said) == 1
    assert said[0].startswith(f"checkpoints can't be kept: {tmp_path}/nowhere/checkpoints is not there")


def test_a_store_that_comes_back_is_used_again(tmp_path: Path) -> None:
    work, said, failed = Work(tmp_path / "work"), [], threading.Event()

    def say(text: str) -> None:
        said.append(text)
        failed.set()

    url = f"{tmp_path}/nfs/team/checkpoints"
    with suppress(LostError), Keeping(Kept(url, KEY), work.newest, say) as keeping:
        keeping.hear(work.write(1))
        failed.wait()
        (tmp_path / "nfs" / "team").mkdir(parents=True)
        keeping.hear(work.write(2))
        raise LostError
    assert len(said) == 1
    assert [step for step, _ in objects(url)] == [2]


def test_a_trainer_that_trips_over_what_it_removes_itself_is_asked_again(folder_url: str, tmp_path: Path) -> None:
    work, fails = Work(tmp_path / "work"), iter([FileNotFoundError(2, "No such file or directory")])

    def newest() -> Path | None:
        for error in fails:
            raise error
        return work.newest()

    with suppress(LostError), Keeping(Kept(folder_url, KEY), newest, pytest.fail) as keeping:
        keeping.hear(work.write(7))
        raise LostError
    assert [step for step, _ in objects(folder_url)] == [7]


def test_the_step_is_that_of_the_folder_where_the_trainer_is_ahead_of_what_it_told(folder_url: str, tmp_path: Path) -> None:
    work = Work(tmp_path / "work")
    with suppress(LostError), Keeping(Kept(folder_url, KEY), work.newest, pytest.fail) as keeping:
        event = work.write(40)
        work.write(50)
        keeping.hear(event)
        raise LostError
    assert [step for step, _ in objects(folder_url)] == [50]


# All of it, in any order


class AnyOrder(RuleBasedStateMachine):
    """Machines that keep, are lost while they do, and go on; objects that are damaged. What is fetched is always the best that is there, whole."""

    def __init__(self) -> None:
        super().__init__()
        self.place = Path(tempfile.mkdtemp())
        self.url = f"memory://{self.place.name}"
        self.kept: dict[str, int] = {}  # objects that are whole -> step
        self.step = 0

    def teardown(self) -> None:
        Kept(self.url, KEY).clear()
        shutil.rmtree(self.place)

    def folder(self, step: int) -> Path:
        work = self.place / "work"
        shutil.rmtree(work, ignore_errors=True)
        return checkpoint(work, step, size=100)

    def note(self) -> None:
        """What is there now, of what is known to be whole."""
        there = {path: step for step, path in objects(self.url)}
        self.kept = {path: step for path, step in there.items() if path not in self.damaged}

    @initialize()
    def begin(self) -> None:
        self.damaged: set[str] = set()

    @rule(steps=st.integers(1, 9))
    def keep(self, steps: int) -> None:
        self.step += steps
        assert Kept(self.url, KEY).keep(self.folder(self.step), self.step)
        self.note()
        assert self.step in self.kept.values()

    @rule()
    def keep_what_a_lost_machine_has_left(self) -> None:
        """It is behind."""
        step = max(0, self.step - 5)
        Kept(self.url, KEY).keep(self.folder(step), step)
        self.note()

    @rule(pieces=st.integers(0, 4))
    def be_lost(self, pieces: int) -> None:
        left = iter(range(pieces))
        assert not Kept(self.url, KEY).keep(self.folder(self.step + 1), self.step + 1, goes_on=lambda: next(left, None) is not None)

    @precondition(lambda self: self.kept)
    @rule(data=st.data())
    def damage(self, data: st.DataObject) -> None:
        path = data.draw(st.sampled_from(list(self.kept)))  # in the order that they were written: their names are of chance
        content = read_object(self.url, path)
        write_object(self.url, path, content[: data.draw(st.integers(0, len(content) - 1))])
        self.damaged.add(path)
        self.note()

    @rule()
    def fetch(self) -> None:
        found = Kept(self.url, KEY).fetch(self.place / "elsewhere")
        assert (None if found is None else int(found.name.removeprefix("checkpoint-"))) == max(self.kept.values(), default=None)
        assert found is None or contents(found) == contents(self.folder(max(self.kept.values())))
        self.step = max(self.kept.values(), default=0)
        self.note()

    @rule()
    def finish(self) -> None:
        Kept(self.url, KEY).clear()
        self.step = 0
        self.note()
        assert self.kept == {}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=30, stateful_step_count=20, suppress_health_check=[HealthCheck.too_slow])


# The object


def as_object(folder: Path) -> bytes:
    return b"".join(written(head_of(folder, job=KEY, name=folder.name, step=3), folder))


def unpacked(content: bytes, folder: Path) -> dict[str, bytes]:
    read = io.BytesIO(content).read
    head = read_head(read, KEY)
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    read_files(read, head, folder)
    return contents(folder)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(
    files=st.dictionaries(st.from_regex(r"([A-Z]{1,2}/){0,2}[a-z .~-]{0,3}[a-z]", fullmatch=True), st.binary(max_size=200), min_size=1, max_size=5)
)
def test_any_files_come_back_as_they_were(files: dict[str, bytes], tmp_path: Path) -> None:
    folder = tmp_path / "from" / "checkpoint-3"
    shutil.rmtree(folder, ignore_errors=True)
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    assert unpacked(as_object(folder), tmp_path / "to") == files


@settings(max_examples=100, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow])
@given(data=st.data())
def test_no_damage_passes(data: st.DataObject, tmp_path: Path) -> None:
    folder = tmp_path / "from" / "checkpoint-3"
    if not folder.exists():
        checkpoint(tmp_path / "from", 3, size=500)
    whole = as_object(folder)
    place, end = sorted((data.draw(st.integers(0, len(whole))), data.draw(st.integers(0, len(whole)))))
    damaged = whole[:place] + data.draw(st.binary(max_size=20)) + whole[end:]
    with suppress(DamagedError):
        assert unpacked(damaged, tmp_path / "to") == contents(folder), "it was taken"
    assert unpacked(whole, tmp_path / "to") == contents(folder)


@pytest.mark.parametrize("name", ["../x", "/x", "a/../x", "a//x", "", ".", "a\\x", "C:x", "a/", "x\0"])
def test_no_name_leads_out_of_the_folder(name: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedError):
        unpacked(forged([name]), tmp_path / "to")
    assert list(tmp_path.rglob("x*")) == []


@pytest.mark.parametrize("names", [["x", "x"], ["x", "x/y"], []])
def test_names_that_can_not_be_in_one_folder_are_refused(names: list[str], tmp_path: Path) -> None:
    with pytest.raises(DamagedError):
        unpacked(forged(names), tmp_path / "to")


@pytest.mark.parametrize("name", ["..", ".hidden", "a/b", "", "/tmp"])
def test_no_checkpoint_is_called_so(name: str, tmp_path: Path) -> None:
    with pytest.raises(DamagedError):
        unpacked(forged(["x"], folder=name), tmp_path / "to")


def forged(names: list[str], folder: str = "checkpoint-3") -> bytes:
    """An object that is right but for its names."""
    files = [{"name": name, "size": 0, "digest": "sha256:e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855"} for name in names]
    body = {"format": 1, "job": KEY, "name": folder, "step": 3, "files": files}
    text = canonical_json({"digest": digest_value(body), "checkpoint": body}).encode()
    return b"%012d\n" % len(text) + text


def test_a_file_that_changes_while_it_is_written_is_found(tmp_path: Path) -> None:
    folder = checkpoint(tmp_path, 3)
    head = head_of(folder, job=KEY, name=folder.name, step=3)
    os.truncate(folder / "tensors.safetensors", 100)
    with pytest.raises(ChangedError):
        list(written(head, folder))
