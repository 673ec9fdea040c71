"""The plan names the steps that a run does, and a seal is never wrong, whatever is edited in between: random sequences of edits."""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from conftest import HERE, Repo, jsonl, without_times
from fake_ollama import FakeOllama
from ollamake.digest import digest_file
from ollamake.seal import sealed
from tiny_base import write_tiny_base

pytestmark = pytest.mark.thorough

DATASETS = ("shared", "tone", "faq")
MODELS = {"a": ["shared"], "b": ["shared", "tone"], "c": ["tone"], "d": ["tone", "faq"], "e": ["faq"]}
COMMAND = [sys.executable, "-I", "-S", str(HERE / "quick_trainer.py"), "{text}", "{out}", "{recipe}"]


@dataclass
class World:
    """A repo as a person edits it."""

    repo: Repo
    recipe: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in MODELS})
    serve: dict[str, dict[str, Any]] = field(default_factory=lambda: {name: {} for name in MODELS})
    defaults: dict[str, Any] = field(default_factory=lambda: {"rank": 2})
    records: dict[str, list[dict[str, str]]] = field(
        default_factory=lambda: {
            name: [{"instruction": f"{name} {number}?", "output": f"Answer {number}."} for number in range(4)] for name in DATASETS
        }
    )
    gone: set[str] = field(default_factory=set)  # models that the catalog does not have now
    comment: int = 0

    def write_catalog(self) -> None:
        catalog = {
            "version": 1,
            "defaults": {"train": {"trainer": "command", "command": COMMAND, "target_modules": ["q_proj"], **self.defaults}},
            "bases": {"tiny": {"gguf": "base.gguf"}},
            "datasets": {name: {"files": [f"datasets/{name}*.jsonl"]} for name in DATASETS},
            "models": {
                name: {"base": "tiny", "data": data, "train": self.recipe[name], "serve": self.serve[name]}
                for name, data in MODELS.items()
                if name not in self.gone
            },
        }
        Path("models.yaml").write_text(f"# {self.comment}\n{json.dumps(catalog, indent=1)}\n", encoding="utf-8")

    def write_dataset(self, name: str) -> None:
        Path(f"datasets/{name}.jsonl").write_text(jsonl(*self.records[name]), encoding="utf-8")


# The edits. Each takes the world and two small numbers.


def record(world: World, which: int, how: int) -> None:
    name = DATASETS[which % 3]
    world.records[name][how % len(world.records[name])]["output"] = f"Edited {how}."
    world.write_dataset(name)


def record_back(world: World, which: int, how: int) -> None:
    name = DATASETS[which % 3]
    world.records[name] = World(world.repo).records[name]
    world.write_dataset(name)


def add_record(world: World, which: int, how: int) -> None:
    name = DATASETS[which % 3]
    world.records[name].append({"instruction": f"New {how}?", "output": "Yes."})
    world.write_dataset(name)


def break_record(world: World, which: int, how: int) -> None:
    with Path(f"datasets/{DATASETS[which % 3]}.jsonl").open("a", encoding="utf-8") as file:
        file.write("no record\n")


def reformat(world: World, which: int, how: int) -> None:
    path = Path(f"datasets/{DATASETS[which % 3]}.jsonl")
    path.write_text(path.read_text(encoding="utf-8").replace(": ", " : ").replace("\n", "\n\n"), encoding="utf-8")


def touch(world: World, which: int, how: int) -> None:
    for path in (Path("models.yaml"), Path("base.gguf"), Path(f"datasets/{DATASETS[which % 3]}.jsonl")):
        os.utime(path, ns=(how, how))


def old_time(world: World, which: int, how: int) -> None:
    path = Path(f"datasets/{DATASETS[which % 3]}.jsonl")
    stat = path.stat()
    record(world, which, how)
    os.utime(path, ns=(stat.st_atime_ns, stat.st_mtime_ns))


def another_file(world: World, which: int, how: int) -> None:
    path = Path(f"datasets/{DATASETS[which % 3]}-more.jsonl")
    if path.exists():
        path.unlink()
    else:
        path.write_text(jsonl({"instruction": f"More {how}?", "output": "More."}), encoding="utf-8")


def recipe(world: World, which: int, how: int) -> None:
    world.recipe["abcde"[which % 5]] = {"rank": 2 + how % 2, "seed": how}
    world.write_catalog()


def unseen_recipe(world: World, which: int, how: int) -> None:
    """The trainer makes the same adapter of it."""
    world.recipe["abcde"[which % 5]]["learning_rate"] = 10.0**-how
    world.write_catalog()


def default_recipe(world: World, which: int, how: int) -> None:
    world.defaults = {"rank": 2, "epochs": 1 + how % 3}
    world.write_catalog()


def serve(world: World, which: int, how: int) -> None:
    world.serve["abcde"[which % 5]] = {"parameters": {"temperature": how / 10}}
    world.write_catalog()


def weights(world: World, which: int, how: int) -> None:
    world.serve["abcde"[which % 5]] = {"weights": ("auto", "merged", "adapter")[how % 3]}
    world.write_catalog()


def comment(world: World, which: int, how: int) -> None:
    world.comment += 1
    world.write_catalog()


def model_goes_or_comes(world: World, which: int, how: int) -> None:
    name = "abcde"[which % 5]
    world.gone = {name} if name not in world.gone else set()
    world.write_catalog()


def base(world: World, which: int, how: int) -> None:
    shutil.copyfile(f"bases/{how % 2}.gguf", "base.gguf")


def server_version(world: World, which: int, how: int) -> None:
    world.repo.server.version = ("0.9.3", "0.34.1")[how % 2]


def off_the_server(world: World, which: int, how: int) -> None:
    world.repo.server.models.pop(f"{'abcde'[which % 5]}:latest", None)


def replaced_on_the_server(world: World, which: int, how: int) -> None:
    world.repo.server.models[f"{'abcde'[which % 5]}:latest"] = {"files": {str(how): ""}}


def targets(which: int) -> list[Path]:
    name = "abcde"[which % 5]
    found = [*Path(f"adapters/{name}").glob("adapter_*"), *Path(f"build/{name}").glob("*"), *Path("build/datasets").glob("*")]
    return sorted(path for path in found if path.is_file())


def delete_target(world: World, which: int, how: int) -> None:
    if found := targets(which):
        found[how % len(found)].unlink()


def damage_target(world: World, which: int, how: int) -> None:
    if found := targets(which):
        path = found[how % len(found)]
        path.write_bytes(path.read_bytes()[:-1] + b"!")


def delete_build(world: World, which: int, how: int) -> None:
    shutil.rmtree("build", ignore_errors=True)


def delete_adapter(world: World, which: int, how: int) -> None:
    shutil.rmtree(f"adapters/{'abcde'[which % 5]}", ignore_errors=True)


def delete_memory(world: World, which: int, how: int) -> None:
    if which % 2:
        shutil.rmtree(".ollamake", ignore_errors=True)
    else:
        Path("models.lock").unlink(missing_ok=True)


def lying_lock(world: World, which: int, how: int) -> None:
    path = Path("models.lock")
    if path.exists():
        lines = path.read_text(encoding="utf-8").splitlines(keepends=True)
        places = [number for number, line in enumerate(lines) if "sha256:" in line]
        number = places[(7 * which + how) % len(places)]
        lines[number] = lines[number].replace("sha256:", "sha256:0")
        path.write_text("".join(lines), encoding="utf-8")


def a_part_is_built(world: World, which: int, how: int) -> None:
    world.repo.doit("--continue", "*" if how % 4 == 3 else f"{('validate', 'convert', 'train')[how % 4]}")


def a_step_is_forgotten(world: World, which: int, how: int) -> None:
    name = "abcde"[which % 5]
    if name not in world.gone:
        world.repo.doit("forget", f"{('convert', 'train', 'package', 'register', 'test')[how % 5]}:{name}")


EDITS: tuple[Callable[[World, int, int], None], ...] = (
    *(record, record_back, add_record, break_record, reformat, touch, old_time, another_file, recipe, unseen_recipe, default_recipe, serve, weights),
    *(comment, model_goes_or_comes, base, server_version, off_the_server, replaced_on_the_server, delete_target, damage_target, delete_build),
    *(delete_adapter, delete_memory, lying_lock, a_part_is_built, a_step_is_forgotten),
)


@pytest.fixture(scope="module")
def built_world(tmp_path_factory: pytest.TempPathFactory, _one_ollama: FakeOllama) -> Iterator[Callable[[], Any]]:
    """Gives worlds in which everything is built, each a copy of one."""
    path = tmp_path_factory.mktemp("world")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("OLLAMA_HOST", _one_ollama.host)
        patch.setenv("XDG_CACHE_HOME", str(tmp_path_factory.mktemp("cache")))
        patch.chdir(path)
        _one_ollama.version = "0.9.3"
        _one_ollama.reset()
        world = World(Repo(path, _one_ollama))
        for folder in ("datasets", "bases"):
            Path(folder).mkdir()
        for number in range(2):
            write_tiny_base(Path(f"bases/{number}.gguf"), seed=number)
        base(world, 0, 0)
        world.write_catalog()
        for name in DATASETS:
            world.write_dataset(name)
        result = world.repo.doit()
        assert result.code == 0, result.out + result.err
        kept = _one_ollama.snapshot()

        @contextmanager
        def copy() -> Iterator[World]:
            with tempfile.TemporaryDirectory() as folder, pytest.MonkeyPatch.context() as here:
                shutil.copytree(path, folder, dirs_exist_ok=True)
                here.chdir(folder)
                here.setenv("OLLAMA_HOST", _one_ollama.host)
                _one_ollama.reset(kept)
                yield World(Repo(Path(folder), _one_ollama))

        yield copy


def remembered() -> dict[str, dict[str, dict[str, str]]]:
    """What each package, register and test step was last done from, and what it made."""
    files = Path(".ollamake/records").glob("*.json")
    return {step: block for file in files for step, block in json.loads(file.read_text(encoding="utf-8")).items()}


def digest_now(name: str) -> str:
    """The digest of what a step reads: a file, the base, or a candidate as its registration has left it."""
    if name.endswith(":candidate"):
        return remembered()[f"register:{name.partition(':')[0]}"]["targets"][name]
    return digest_file(Path("base.gguf" if name == "base tiny" else name))


def plan_and_run(world: World) -> None:
    """The plan, then the run that it is of, then one that has nothing to do."""
    result = world.repo.doit("plan", "--json")
    assert result.code in {0, 4}, result.out + result.err
    plan = {step["step"]: step["runs"] for step in json.loads(result.out)["steps"]}
    if plan:
        assert sealed("models.yaml") is None, plan
    before = remembered()
    result = world.repo.doit("--continue")
    ran = set(result.ran)
    assert len(ran) == len(result.ran)
    sure = {step for step, runs in plan.items() if runs in {"yes", "fails"}}
    assert sure <= ran <= {step for step, runs in plan.items() if runs != "blocked"}, (plan, result.out)
    for step, runs in plan.items():
        if runs == "perhaps":
            inputs = {name: digest_now(name) for name in before[step]["inputs"]}
            assert (step in ran) == (inputs != before[step]["inputs"]), (step, plan, result.out)
    if "fails" in plan.values():
        assert result.code != 0
        return
    assert result.code == 0, result.out + result.err
    count = len(MODELS) - len(world.gone)
    again = world.repo.doit()
    assert (again.code, without_times(again.out)) == (0, f"{count} models: {count} fresh\n"), again.err
    assert sealed("models.yaml") is not None
    assert world.repo.doit("plan").out == "nothing to do: everything is fresh\n"


ONE_EDIT = st.tuples(st.sampled_from(EDITS), st.integers(0, 9), st.integers(0, 9), st.booleans())


@pytest.mark.parametrize("count", range(1, 6))
@settings(max_examples=40, derandomize=True, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large])
@given(data=st.data())
def test_the_plan_is_the_run(built_world: Callable[[], Any], count: int, data: st.DataObject) -> None:
    """Some edits are built one by one, some together."""
    with built_world() as world:
        for edit, which, how, is_built in data.draw(st.lists(ONE_EDIT, min_size=count, max_size=count)):
            edit(world, which, how)
            if is_built:
                plan_and_run(world)
        plan_and_run(world)
