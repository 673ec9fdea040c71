"""Servers that go, come back, are upgraded, or refuse: what is used stays what it was meant to be, and the next build has nothing to do."""

from __future__ import annotations

import json
import time
from pathlib import Path

from conftest import Repo
from fake_ollama import FakeOllama
from test_promotion import serve, tags


def test_a_server_that_is_down_changes_nothing_of_what_is_packaged(two: Repo, other: FakeOllama) -> None:
    other.version = "0.35.0"  # takes no adapters, as the first one does
    assert two.doit().code == 0
    other.close()
    down = two.doit()
    assert (down.code, [step for step in down.ran if step.startswith("package:")]) == (1, [])
    back = FakeOllama(version="0.35.0", port=int(other.host.rpartition(":")[2]))
    back.reset(other)
    try:
        assert two.doit().ran == []
    finally:
        back.close()


def test_a_roll_back_outlives_a_server_that_is_down(two: Repo, other: FakeOllama) -> None:
    other.version = "0.35.0"
    two.doit()
    serve(two, "Two.")
    assert two.doit().code == 0
    assert two.doit("rollback", "legal").code == 0
    wanted = tags(two.server)["latest"]
    other.close()
    two.doit()
    assert tags(two.server)["latest"] == wanted


def test_a_roll_back_outlives_an_upgrade_of_the_server(built: Repo) -> None:
    serve(built, "Two.")
    assert built.doit().code == 0
    assert built.doit("rollback", "legal").code == 0
    wanted = tags(built.server)["latest"]
    built.server.version = "0.35.0"  # takes no adapters: all is packaged and registered anew
    upgraded = built.doit()
    assert (upgraded.code, upgraded.ran[-1]) == (0, "test:sales")
    assert "was rolled back from on" in upgraded.out
    assert tags(built.server)["latest"] == wanted
    assert built.doit().ran == []
    assert "rolled back" in built.doit("status").out
    built.replace("Answer 1.", "Answer one.", "datasets/shared.jsonl")
    assert built.doit().code == 0
    assert tags(built.server)["latest"] != wanted


def test_a_latest_that_was_replaced_is_seen_though_a_copy_of_it_has_another_tag(built: Repo) -> None:
    server = built.server
    kept = dict(server.models)
    server.models.clear()
    server.models["legal:good"] = kept["legal:latest"]  # `ollama cp legal legal:good`: the newest is listed first
    server.models.update(kept)
    built.replace("temperature: 0.2", "temperature: 0.3")
    assert built.doit().code == 0
    assert built.doit().ran == []
    server.models["legal:latest"] = {"files": {}, "system": "By hand."}
    assert built.doit().ran == ["test:legal"]


def test_two_servers_that_refuse_adapters_at_once_get_the_same_merged_weights(two: Repo, other: FakeOllama) -> None:
    two.server.refuses_adapters = other.refuses_adapters = True
    first = two.doit()
    assert first.code == 0, first.out
    assert json.loads(Path("build/legal/served.json").read_text(encoding="utf-8"))["kind"] == "merged"
    assert two.doit().ran == []


class Late(dict[str, int]):
    """What a server holds, which says so only when the adapter of a model is packaged otherwise."""

    def __contains__(self, digest: object) -> bool:
        until = time.monotonic() + 30
        while self.is_packaged_as_an_adapter() and time.monotonic() < until:
            time.sleep(0.01)
        return super().__contains__(digest)

    def is_packaged_as_an_adapter(self) -> bool:
        try:
            return '"adapter"' in Path("build/legal/served.json").read_text(encoding="utf-8")
        except FileNotFoundError:  # while it is packaged anew
            return True


def test_an_adapter_that_is_gone_when_it_is_sent_is_no_failure(two: Repo, other: FakeOllama) -> None:
    """The other server was refused one, and merged weights are there now."""
    two.server.refuses_adapters = other.refuses_adapters = True
    other.blobs = Late()
    first = two.doit("test:legal")
    assert first.code == 0, first.out
    assert two.doit("test:legal").ran == []


def test_a_candidate_that_nobody_has_made_is_not_tested(repo: Repo) -> None:
    result = repo.doit("run", "-s", "test:legal")
    assert result.code == 1
    assert f"no candidate of legal is known on http://{repo.server.host}\n  fix: `doit test:legal` makes one\n" in result.out


def test_an_edit_that_is_taken_back_leaves_no_candidate(built: Repo) -> None:
    serve(built, "Two.")
    built.server.says = lambda _: "no"  # as the base does, so that it has no effect
    assert built.doit().code == 1
    assert "legal:candidate" in built.server.models
    text = Path("models.yaml").read_text(encoding="utf-8")
    Path("models.yaml").write_text("".join(line for line in text.splitlines(keepends=True) if "system: Two" not in line), encoding="utf-8")
    built.server.says = None
    assert built.doit().code == 0
    assert "legal:candidate" not in built.server.models


def test_a_server_whose_version_does_not_tell_is_asked_once(built: Repo) -> None:
    built.server.version = "0.0.0"
    built.server.counts.clear()
    built.doit("status")
    assert built.server.counts["create"] == 1


def test_a_server_that_comes_into_a_list_is_the_same_server(built: Repo, other: FakeOllama) -> None:
    serve(built, "Two.")
    built.doit()
    assert built.doit("rollback", "legal").code == 0
    wanted = tags(built.server)["latest"]
    built.replace("version: 1\n", f"version: 1\nollama: {{host: [{built.server.host}, {other.host}]}}\n")
    listed = built.doit()
    assert listed.code == 0
    assert [step for step in listed.ran if built.server.host in step] == []
    assert tags(built.server)["latest"] == wanted
    assert built.doit().ran == []
    built.replace(f"ollama: {{host: [{built.server.host}, {other.host}]}}\n", "")
    assert built.doit().ran == []


def test_what_is_served_otherwise_after_a_roll_back_is_another_version(built: Repo) -> None:
    serve(built, "Two.")
    built.doit()
    assert built.doit("rollback", "legal").code == 0
    built.replace("Two.", "Three.")
    assert built.doit().code == 0
    assert built.server.models["legal:latest"]["system"] == "Three."


def test_localhost_is_no_second_server(built: Repo) -> None:
    port = built.server.host.rpartition(":")[2]
    built.replace("version: 1\n", f"version: 1\nollama: {{host: [{built.server.host}, 'localhost:{port}']}}\n")
    result = built.doit()
    assert (result.code, "which is in the list already" in result.err) == (3, True)


def test_a_model_that_was_made_by_hand_is_not_rolled_back_to(built: Repo) -> None:
    built.server.models["legal:latest"] = {"files": {}, "system": "By hand."}
    assert built.doit().code == 0
    assert built.server.models["legal:previous"]["system"] == "By hand."
    result = built.doit("rollback", "legal")
    assert result.code == 3
    assert "legal:previous was not made here: it has never passed the tests\n  fix: name a version that was used" in result.err
    assert built.doit().ran == []
