"""Served weights -> a candidate in Ollama that has shown that it loads."""

from __future__ import annotations

import contextlib
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.graph import CANDIDATE, LATEST, Step, adapter_folder
from ollamake.ollama.address import takes_split
from ollamake.ollama.client import BARE_TEMPLATE, NewModel, OllamaServer
from ollamake.ollama.names import named_lock
from ollamake.stages.promotion import tags_on
from ollamake.stages.served import read_served
from ollamake.stages.system import system_of
from ollamake.state.digests import digest_if_there
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import read_receipt


def register(step: Step, model: Model, server: OllamaServer) -> dict[str, Any]:
    """Make the model as `NAME:candidate`, and have it answer. Returns its name and digest. Raises BuildError."""
    served_path = Path(step.reads[0])
    served = read_served(served_path)
    if served is None:
        msg = f"{served_path}: the weights that it names are gone"
        raise BuildError(msg, fix="run `doit` again")
    version = server.version()
    if served.kind == "split" and not takes_split(version):
        msg = f"{model.mark}: model {model.name!r}: serve.weights: split: Ollama {version} at {server.address} serves no GGUF of several files"
        raise BuildError(msg, fix="write `weights: merged`; Ollama takes split weights from 0.34 on")
    candidate = f"{model.name}:{CANDIDATE}"
    is_adapter = served.kind == "adapter"
    with named_lock(server.address, model.name):
        if is_adapter:
            _check_base(server, model, served.base)
        digest = server.create(
            NewModel(
                name=candidate,
                files=((Path(model.base.gguf), served.base),) if is_adapter else served.files,
                adapter=served.files[0] if is_adapter else None,
                system=system_of(model),
                template=model.serve.template,
                parameters=model.serve.parameters,
            )
        )
        try:
            _check_template(server, candidate, model)
            server.load(candidate)
        except BuildError:
            with contextlib.suppress(BuildError):  # the server may be gone: the first error says more
                server.delete(candidate)
            raise
        if tags_on(server, model.name).get(LATEST) == digest:  # it is what is used already: nothing waits to be promoted
            server.delete(candidate)
    return {
        "name": candidate,
        "digest": digest,
        "version": version,
        "weights": served.kind,
        "base": {"name": model.base.name, "digest": served.base},
        "provenance": _provenance(Path(served.trained or adapter_folder(model))),
    }


def _provenance(trained: Path) -> dict[str, Any]:
    """What the receipt in this folder says of where the adapter, or the weights, come from; empty where it has none."""
    receipt = read_receipt(trained / RECEIPT)
    if receipt is None:
        return {}
    facts: dict[str, Any] = {key: receipt.outcome[key] for key in ("trainer", "recipe", "data", "start", "cache", "where") if key in receipt.outcome}
    accepted = {} if receipt.record.accepted is None else {"accepted": receipt.record.accepted}
    return {
        **facts,
        **accepted,
        "versions": dict(receipt.record.versions),
        "commit": receipt.commit,
        "finished": receipt.finished,
        "seconds": receipt.seconds,
    }


def _check_base(server: OllamaServer, model: Model, digest: str) -> None:
    """Raise BuildError where the base that the adapter was packaged for can neither be sent nor is there."""
    now = digest_if_there(model.base.gguf)
    if now == digest or server.holds(digest):
        return
    if now is None:
        raise model.base.missing()
    msg = (
        f"{model.base.mark}: model {model.name!r}: its adapter comes from another base {model.base.name!r} than the one that is there, "
        f"and the server has that no more\n  then: {digest}\n  now:  {now}"
    )
    raise BuildError(msg, fix="put the base of then back; or write `policy: {on_base_change: rebuild}`, and run `doit`")


def _check_template(server: OllamaServer, name: str, model: Model) -> None:
    if model.serve.template is None and server.template(name).strip() == BARE_TEMPLATE:
        msg = f"{model.mark}: model {model.name!r}: Ollama {server.version()} does not know the chat template of base {model.base.name!r}"
        raise BuildError(msg, fix="write the template in Ollama's own form as serve.template (see https://docs.ollama.com/template)")
