"""Adapter, or whole weights, and base -> served weights: a GGUF LoRA for servers that take one, a merged GGUF for any."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from functools import partial
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.digest import digest_file
from ollamake.errors import BuildError
from ollamake.graph import Step, adapter_folder, weights_files
from ollamake.lora.adapter import LoraAdapter
from ollamake.lora.architecture import WITHOUT_LORA, Architecture, read_architecture
from ollamake.lora.changes import Changes, Form, LoraSum
from ollamake.lora.gguf_lora import write_gguf_lora
from ollamake.lora.importance import read_importance
from ollamake.lora.merge import write_merged
from ollamake.lora.peft_adapter import WEIGHTS, refuse_pickle_beside
from ollamake.lora.read import read_adapter
from ollamake.lora.split import SHARDS, write_own_shard, write_shared_shard
from ollamake.lora.verdict import in_short
from ollamake.lora.whole_weights import WholeWeights, trained_weights
from ollamake.say import say
from ollamake.stages.known import in_place, remember
from ollamake.stages.packed import Packed
from ollamake.stages.served import Served, write_served
from ollamake.stages.shared import share_shard, sweep_shards
from ollamake.state.digests import file_digest
from ollamake.state.files import remedy

FILES = {"adapter": ("adapter.gguf",), "merged": ("merged.gguf",), "split": SHARDS}  # kinds of served weights
Write = Callable[[Path], str]  # writes a file, and returns its digest


def package(step: Step, model: Model, kind: str, packed: Packed) -> dict[str, Any]:
    """Write the served weights, of one of the kinds of FILES, and `served.json` that names them. Raises BuildError.

    Merged ones are not written where `packed` has them.
    """
    (served,) = step.writes
    folder = Path(served).parent
    folder.mkdir(parents=True, exist_ok=True)
    base = Path(model.base.gguf)
    architecture = read_architecture(base)
    if kind == "adapter" and model.serve.weights == "auto" and architecture.head.architecture in WITHOUT_LORA:
        kind = "merged"
    with _writers(step, model, kind, architecture, packed) as writers:
        Path(served).unlink(missing_ok=True)
        for name in (name for names in FILES.values() for name in names):  # one kind at a time: they are large
            for left in (name, f".{name}.partial"):
                (folder / left).unlink(missing_ok=True)
        try:
            files = tuple((folder / name, write(folder / name)) for name, write in zip(FILES[kind], writers, strict=True))
            if kind != "split":
                sweep_shards()
        except OSError as error:
            msg = f"{folder / FILES[kind][-1]} can't be written: {error.strerror}"
            raise BuildError(msg, fix=f"{remedy(error)}, then run `doit` again") from error
    if kind == "merged":
        packed.keep(*files[0])
    trained = Path(step.reads[0]).parent.as_posix() if _is_whole(step, model) else None
    write_served(Path(served), Served(kind=kind, base=file_digest(base), files=files, trained=trained))
    return {"kind": kind, "bytes": sum(file.stat().st_size for file, _ in files)}


@contextmanager
def _writers(step: Step, model: Model, kind: str, architecture: Architecture, packed: Packed) -> Iterator[tuple[Write, ...]]:
    """What writes each of the kind's files, of what was trained: checked, before anything that is there is removed. Raises BuildError."""
    base, head = Path(model.base.gguf), architecture.head
    with ExitStack() as open_files:
        if kind == "adapter":
            if architecture.head.architecture in WITHOUT_LORA:
                msg = f"{base}: Ollama's engine for {architecture.head.architecture} takes no LoRA: it would create the model, and fail to load it"
                raise BuildError(msg, fix="write `weights: merged` into the model's `serve:`")
            yield (_whole(partial(_write_lora, _adapter(model, architecture), architecture)),)
            return
        if _is_whole(step, model):
            weights = WholeWeights(Path(step.reads[0]), head)
            changes: Changes = open_files.enter_context(trained_weights(base, head, weights))
        else:
            changes = LoraSum(_adapter(model, architecture))
        importance = {} if model.serve.imatrix is None else read_importance(Path(model.serve.imatrix), head)
        form = Form(weights_type=model.serve.weights_type, importance=importance)
        if kind == "merged":
            yield (_whole(packed.or_else(partial(write_merged, base, head, changes, form))),)
            return
        shared = partial(write_shared_shard, base, head, changes.names)
        yield partial(share_shard, file_digest(base), changes.names, shared), _whole(partial(write_own_shard, base, head, changes, form))


def _adapter(model: Model, architecture: Architecture) -> LoraAdapter:
    adapter = read_adapter(Path(adapter_folder(model)), architecture, model.base.hf)
    for warning in in_short(adapter.warnings):
        say(f"   {model.name}: warning: {warning}")
    return adapter


def _whole(write: Write) -> Write:
    """The same, but the file is there whole or not at all, and its digest is known from then on."""

    def written(target: Path) -> str:
        digest = in_place(write, target)
        remember([target.as_posix()], digest)
        return digest

    return written


def _write_lora(adapter: LoraAdapter, architecture: Architecture, target: Path) -> str:
    write_gguf_lora(adapter, architecture, target)
    return digest_file(target)


def _is_whole(step: Step, model: Model) -> bool:
    return step.reads[:1] == weights_files(model)


def refuse_pickle(missing: Iterable[str]) -> None:
    """Raise BuildError where one of these files is not there because an adapter's weights are in a pickle beside it: says how it is converted."""
    for path in map(Path, missing):
        if path.name == WEIGHTS:
            refuse_pickle_beside(path)


def check_adapter(model: Model) -> None:
    """Check an adapter that is there against its base, as its packaging will. Raises BuildError."""
    assert model.adapter is not None  # there is one
    if not Path(model.base.gguf).is_file():
        raise model.base.missing()
    read_adapter(Path(model.adapter), read_architecture(Path(model.base.gguf)), model.base.hf)
