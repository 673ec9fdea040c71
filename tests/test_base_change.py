"""What becomes of models whose base is another one than they were trained on, by `policy: {on_base_change: ...}`. Counted on real doit."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from conftest import Repo, without_times
from ollamake.digest import digest_file
from ollamake.seal import sealed
from tiny_base import write_tiny_base


def change_base() -> tuple[str, str]:
    """Another base comes to its place. Returns the digests of both."""
    then = digest_file(Path("base.gguf"))
    shutil.copyfile("base.gguf", "base.before")
    write_tiny_base(Path("base.gguf"), seed=2)
    return then, digest_file(Path("base.gguf"))


def policy(repo: Repo, what: str) -> None:
    repo.replace("version: 1\n", f"version: 1\npolicy: {{on_base_change: {what}}}\n")


def short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:12]


def served_from(name: str) -> str:
    return str(json.loads(Path(f"build/{name}/served.json").read_text(encoding="utf-8"))["base"])


@pytest.fixture
def given(built: Repo) -> Repo:
    """Everything built; `legal` is served from an adapter that is given."""
    shutil.copytree("adapters/legal", "given")
    Path("given/receipt.json").unlink()
    built.replace("    data: [shared]\n", "    adapter: given\n")
    assert built.doit().code == 0
    return built


@pytest.mark.parametrize("what", ["", "rebuild"])
def test_rebuild_trains_every_model_on_it_and_is_the_default(built: Repo, what: str) -> None:
    if what:
        policy(built, what)
    _, now = change_base()
    result = built.doit()
    assert (result.code, result.err) == (0, "")
    assert ".  convert:legal  (base tiny changed)\n" in result.out
    assert built.trainings[2:] == ["legal", "sales"]
    assert [served_from(name) for name in ("legal", "sales")] == [now, now]


def test_steps_in_processes_see_that_the_adapter_was_trained_for_the_new_base(built: Repo) -> None:
    """The trainer makes the same bytes for both bases: the lock as it was when the processes began tells of the base of then."""
    _, now = change_base()
    result = built.doit("-n", "2")
    assert result.code == 0, result.out + result.err
    assert [served_from(name) for name in ("legal", "sales")] == [now, now]


# warn


def test_warn_leaves_everything_as_it_is_and_says_so_each_time(built: Repo) -> None:
    policy(built, "warn")
    then, now = change_base()
    said = (
        f"models.yaml:6: warning: base 'tiny' is another one than legal and sales came from ({short(then)} then, {short(now)} now): "
        "left as they are\n"
    )
    for sealed_since in (False, True):
        result = built.doit()
        assert (result.code, result.ran, result.err) == (0, [], said), sealed_since
        assert without_times(result.out) == "2 models: 2 fresh\n"
    assert sealed("models.yaml") is not None
    plan = built.doit("plan")
    assert (plan.code, plan.out, plan.err) == (0, "nothing to do: everything is fresh\n", said)
    rows = json.loads(built.doit("status", "--json").out)
    told = [row["drift"] for row in (rows["models"] if isinstance(rows, dict) else rows)]
    said = "base tiny is another one than it came from (DIGEST then, DIGEST now)"
    assert [[re.sub("[0-9a-f]{12}", "DIGEST", line) for line in lines] for lines in told] == [[said]] * 2
    assert built.trainings == ["legal", "sales"]


def test_warn_is_silent_where_the_base_is_the_same(built: Repo) -> None:
    policy(built, "warn")
    Path("base.gguf").touch()
    assert built.doit().err == ""


def test_under_warn_a_model_that_trains_for_another_reason_is_made_for_the_base_that_is_there(built: Repo) -> None:
    policy(built, "warn")
    then, now = change_base()
    built.replace("    data: [shared]\n", "    data: [shared]\n    train: {rank: 3}\n")
    result = built.doit()
    assert (result.code, built.trainings[2:]) == (0, ["legal"])
    assert [served_from(name) for name in ("legal", "sales")] == [now, then]
    said = f"models.yaml:6: warning: base 'tiny' is another one than sales came from ({short(then)} then, {short(now)} now): left as they are\n"
    assert [built.doit().err for _ in range(2)] == [said, said]


def test_under_warn_an_adapter_is_never_packaged_with_another_base(built: Repo) -> None:
    policy(built, "warn")
    before = Path("build/legal/served.json").read_bytes()
    then, now = change_base()
    built.replace("    data: [shared]\n", "    data: [shared]\n    serve: {weights: merged}\n")
    message = (
        "models.yaml:6: model 'legal': its adapter comes from another base 'tiny' than the one that is there, and would be wrong with it\n"
        f"  then: {then}\n  now:  {now}\n"
        "  fix: put the base of then back; or train it for this one: `doit train:legal` with `policy: {on_base_change: rebuild}`\n"
    )
    plan = built.doit("plan")
    assert "!  package:legal" in plan.out
    assert "it will fail: models.yaml:6: model 'legal': its adapter comes from another base 'tiny'" in plan.out
    result = built.doit()
    assert result.code == 1
    assert message in result.out + result.err
    assert Path("build/legal/served.json").read_bytes() == before
    assert built.trainings == ["legal", "sales"]
    shutil.copyfile("base.before", "base.gguf")
    assert built.doit().code == 0
    assert served_from("legal") == then


def test_a_single_step_that_is_asked_for_mixes_nothing_either(built: Repo) -> None:
    change_base()
    result = built.doit("-s", "package:legal")
    assert result.code == 1
    assert "its adapter comes from another base" in result.out + result.err


def test_what_was_accepted_for_the_base_that_is_there_is_packaged_with_it(built: Repo) -> None:
    _, now = change_base()
    assert built.doit("accept", "legal", "--because", "the same weights, another name inside").code == 0
    assert built.doit("build", "legal").code == 0
    assert served_from("legal") == now
    assert built.trainings == ["legal", "sales"]


def test_under_warn_a_fresh_clone_trains_nothing(built: Repo) -> None:
    policy(built, "warn")
    change_base()
    Path("models.lock").unlink()
    result = built.doit("plan")
    assert [line for line in result.out.splitlines() if "train:" in line and line.startswith(".")] == []
    built.doit()
    assert built.trainings == ["legal", "sales"]


def test_under_warn_an_edit_of_serve_registers_again(built: Repo) -> None:
    policy(built, "warn")
    built.replace("sales:\n", "sales:\n    tags: [x]\n")
    change_base()
    built.replace("temperature: 0.2", "temperature: 0.3")
    result = built.doit()
    assert result.code == 0, result.out + result.err
    assert [name for name in result.ran if name.startswith("register")] == ["register:sales"]
    assert built.server.models["sales:latest"]["parameters"] == {"temperature": 0.3}


def test_under_warn_a_server_without_the_base_of_then_gets_no_other(built: Repo) -> None:
    policy(built, "warn")
    then, now = change_base()
    del built.server.models["sales:latest"]
    built.server.blobs.pop(then)
    result = built.doit()
    assert result.code == 1
    assert (
        "model 'sales': its adapter comes from another base 'tiny' than the one that is there, and the server has that no more\n"
        f"  then: {then}\n  now:  {now}\n" in result.out + result.err
    )
    assert now not in built.server.blobs


# fail


def test_fail_ends_the_run_before_anything_of_these_models_runs(built: Repo) -> None:
    policy(built, "fail")
    then, now = change_base()
    built.replace("temperature: 0.2", "temperature: 0.3")
    before = dict(built.server.models)
    message = (
        "models.yaml:6: base 'tiny' is another one than legal and sales came from, and policy.on_base_change is fail\n"
        f"  then: {then}\n  now:  {now}\n"
        "  fix: put the base of then back; or write `policy: {on_base_change: rebuild}`, and `doit` makes them anew for this one\n"
    )
    plan = built.doit("plan")
    assert plan.code == 4
    assert [line.split()[:2] for line in plan.out.splitlines() if line.startswith("!")] == [["!", "convert:legal"], ["!", "convert:sales"]]
    said = "; ".join(map(str.strip, message.splitlines()[:3]))
    assert [said in line for line in plan.out.splitlines() if line.startswith("!")] == [True, True], plan.out
    for arguments in ((), ("-c",)):
        result = built.doit(*arguments)
        assert (result.code == 0, result.ran) == (False, [])
        assert message in result.out + result.err
    assert (built.trainings, built.server.models) == (["legal", "sales"], before)
    single = built.doit("-s", "register:sales")
    assert single.code == 1
    assert message in single.out + single.err


def test_fail_is_silent_where_the_base_is_the_same_and_for_what_was_never_trained(repo: Repo) -> None:
    policy(repo, "fail")
    assert repo.doit().code == 0
    result = repo.doit()
    assert (result.code, result.ran, result.err) == (0, [], "")


def test_the_base_of_then_ends_the_failure(built: Repo) -> None:
    policy(built, "fail")
    change_base()
    assert built.doit().code == 1
    shutil.copyfile("base.before", "base.gguf")
    result = built.doit()
    assert (result.code, result.ran) == (0, [])


def test_fail_guards_a_clone_without_its_lock_by_what_the_adapter_has_brought(built: Repo) -> None:
    policy(built, "fail")
    change_base()
    Path("models.lock").unlink()
    assert built.doit().code == 1
    assert built.trainings == ["legal", "sales"]


# Adapters that are given.


@pytest.mark.parametrize("what", ["warn", "fail"])
def test_a_given_adapter_is_guarded_by_what_it_was_packaged_with(given: Repo, what: str) -> None:
    policy(given, what)
    then, now = change_base()
    result = given.doit()
    assert (result.code, served_from("legal")) == (0 if what == "warn" else 1, then)
    assert "base 'tiny' is another one than legal and sales came from" in result.out + result.err
    given.replace("    adapter: given\n", "    adapter: given\n    serve: {weights: merged}\n")
    again = given.doit("build", "legal")
    assert (again.code, served_from("legal")) == (1, then)
    Path("given/adapter_config.json").write_text(Path("given/adapter_config.json").read_text(encoding="utf-8") + "\n", encoding="utf-8")
    other = given.doit("build", "legal")  # another adapter: it is the user who knows for which base
    assert other.code == 0, other.out + other.err
    assert served_from("legal") == now


def test_a_given_adapter_is_packaged_anew_by_default(given: Repo) -> None:
    _, now = change_base()
    assert given.doit("build", "legal").code == 0
    assert served_from("legal") == now


def test_the_value_of_the_policy_is_checked(repo: Repo) -> None:
    policy(repo, "warm")
    result = repo.doit()
    assert (
        "models.yaml:2: policy.on_base_change: \"warm\" is not known\n  fix: write 'warn' (known: fail, rebuild, warn)\n" in result.out + result.err
    )
