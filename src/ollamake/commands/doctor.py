"""`doit doctor`: what is on this machine of all that a build may need, and what installs the rest."""

from __future__ import annotations

import json as to_json
import platform
import shutil
from collections import Counter
from collections.abc import Iterator
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

from doit.exceptions import InvalidCommand

from ollamake.catalog import Catalog
from ollamake.catalog.load import load_catalog
from ollamake.catalog.places import LOCAL, RAY
from ollamake.commands.ask import CATALOG
from ollamake.commands.look import AS_JSON, OptionsAnywhere
from ollamake.engines.launched import lacking
from ollamake.engines.this_machine import gpus
from ollamake.errors import BuildError, as_printed
from ollamake.folders import cache_folder
from ollamake.ollama.address import address_of, version_at
from ollamake.ollama.server import expected_version
from ollamake.spelling import counted
from ollamake.trainers.environment import Environment, Named
from ollamake.trainers.installed import TrainerNames
from ollamake.trainers.port import Trainer, trainer

GB = 1e9


class DoctorCommand(OptionsAnywhere):
    """Say what is here, and what is missing."""

    name = "doctor"
    doc_purpose = "say which trainers, servers and GPUs are here, and what installs the rest"
    doc_usage = ""
    doc_description = "Exit code 1 where a trainer that the catalog uses can't run here."
    cmd_options = (AS_JSON, CATALOG)

    def execute(self, opt_values: Any, pos_args: list[str]) -> int:
        """Look. Returns the exit code. Raises doit's InvalidCommand."""
        if pos_args:
            msg = f"doctor takes no argument: {pos_args[0]!r}"
            raise InvalidCommand(msg)
        path = Path(opt_values["catalog"])
        try:
            if not path.exists() and opt_values["catalog"] != CATALOG["default"]:
                msg = f"--catalog {path}: no such file"
                raise BuildError(msg, fix="name a catalog that is there, or none")  # noqa: TRY301 - printed as all others are
            catalog = load_catalog(path, trainers=TrainerNames(), only_looks=True) if path.exists() else None
            facts = {"catalog": None if catalog is None else str(path), **facts_of(catalog)}
        except BuildError as error:
            raise InvalidCommand(as_printed(error)) from error
        print(to_json.dumps(facts, indent=2, ensure_ascii=False) if opt_values["json"] else "\n".join(as_text(facts)))
        lacks_ray = facts["ray"]["models"] and facts["ray"]["version"] is None
        return 1 if lacks_ray or any(one["models"] and not one["runs_here"] for one in facts["trainers"]) else 0


def facts_of(catalog: Catalog | None) -> dict[str, Any]:
    """All that is found, for programs. Raises BuildError where Ollama's address can't be read."""
    address = address_of(catalog.host if catalog else None)
    there = version_at(address)
    cache = cache_folder()
    return {
        "ollamake": version("ollamake"),
        "python": platform.python_version(),
        "ollama": {"address": str(address), "version": there or expected_version(address), "answers": there is not None},
        "gpus": list(gpus()),
        "free_gb": {"here": _free("."), "cache": _free(cache)},
        "cache": str(cache),
        "ray": _ray(catalog),
        "trainers": list(_trainers(catalog)),
    }


def as_text(facts: dict[str, Any]) -> Iterator[str]:
    """The same for people."""
    server, free = facts["ollama"], facts["free_gb"]
    yield f"ollamake  {facts['ollamake']}, Python {facts['python']}"
    if server["version"] is None:
        yield f"Ollama    nothing answers at {server['address']}"
    else:
        how = "" if server["answers"] else ", started when it is needed"
        yield f"Ollama    {server['version']} at {server['address']}{how}"
    yield f"GPUs      {', '.join(facts['gpus']) or 'none: trainings run on the CPU, one at a time'}"
    ray = facts["ray"]
    if ray["models"]:
        used = f"used by {counted(ray['models'], 'model')}"
        yield f"Ray       {ray['version']}, {used}" if ray["version"] else f"Ray       not installed, {used}; install: pip install 'ollamake[ray]'"
    if facts["catalog"] is None:
        yield "catalog   none here: trainers are looked for beside ollamake alone"
    yield f"disk      {free['here']:.1f} GB free here, {free['cache']:.1f} GB in the cache, {facts['cache']}"
    yield ""
    width = max(len(one["trainer"]) for one in facts["trainers"])
    for one in facts["trainers"]:
        used = f", used by {counted(one['models'], 'model')}" if one["models"] else ""
        place = "" if one["env"] is None or ": " in one["state"] else f" in {one['env'] if isinstance(one['env'], str) else ' '.join(one['env'])}"
        there = ": " if one["state"] != "not installed" else "; of what it needs, there is "
        versions = ", ".join(f"{name} {number}" for name, number in one["versions"].items())
        yield f"{'+' if one['runs_here'] else '-'} {one['trainer']:<{width}}  {one['state']}{place}{used}{f'{there}{versions}' if versions else ''}"
        if one["install"]:
            yield f"  {'':<{width}}  install: {one['install']}"


def _trainers(catalog: Catalog | None) -> Iterator[dict[str, Any]]:
    """Each trainer that is known, in each environment in which the catalog uses it; where it uses it in none, beside ollamake."""
    # What a cluster has, its nodes say.
    trained = [model.train for model in (catalog.models if catalog else ()) if model.adapter is None and model.engine.kind == LOCAL]
    used = Counter((train.trainer, train.env, train.launch) for train in trained)
    for name in TrainerNames():
        try:
            program = trainer(name)
        except BuildError as error:
            count = sum(models for (other, *_), models in used.items() if other == name)
            yield _told(name, None, (), count, state=str(error).partition("\n")[0], runs=False)
            continue
        nowhere: set[tuple[Named, tuple[str, ...]]] = {(None, ())}
        for env, launch in sorted({(env, launch) for other, env, launch in used if other == name} or nowhere, key=repr):
            yield _state(program, name, env, launch, used[name, env, launch])


def _state(program: Trainer, name: str, env: Named, launch: tuple[str, ...], models: int) -> dict[str, Any]:
    environment = Environment(env)
    install = program.missing(environment)
    launcher = lacking(launch)
    lacks = f"no such program: {launcher}" if launcher else "needs a GPU" if program.capabilities.needs_gpu and not launch and not gpus() else None
    state = environment.fault or "not installed" if install else lacks or (f"launched by {launch[0]}" if launch else "runs here")
    versions = {} if environment.fault else dict(program.versions(environment))
    return {
        **_told(name, env, launch, models, state=state, runs=install is None and lacks is None),
        "versions": versions,
        "install": install,
        "capabilities": asdict(program.capabilities),
    }


def _told(name: str, env: Named, launch: tuple[str, ...], models: int, *, state: str, runs: bool) -> dict[str, Any]:
    return {
        "trainer": name,
        "env": list(env) if isinstance(env, tuple) else env,
        "launch": list(launch),
        "models": models,
        "runs_here": runs,
        "state": state,
        "versions": {},
        "install": None,
        "capabilities": {},
    }


def _ray(catalog: Catalog | None) -> dict[str, Any]:
    """Whether trainings can be given to a Ray cluster from here, and how many models' are."""
    models = sum(model.engine.kind == RAY and model.adapter is None for model in (catalog.models if catalog else ()))
    return {"version": Environment().versions(["ray"]).get("ray"), "models": models}


def _free(folder: str | Path) -> float:
    """Gigabytes that are free where this folder is, or will be."""
    there = next(place for place in (Path(folder).absolute(), *Path(folder).absolute().parents) if place.exists())
    return round(shutil.disk_usage(there).free / GB, 1)
