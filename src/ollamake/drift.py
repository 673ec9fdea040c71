"""Bases that are others than models were trained on: what the policy `on_base_change` says of it, and what keeps an adapter from another base's weights."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from ollamake.catalog import Base, Model
from ollamake.catalog.expanded import written
from ollamake.catalog.tests import LOSS, Measure
from ollamake.errors import BuildError, Fault
from ollamake.freshness import Record
from ollamake.graph import Step, adapter_folder, given_files, weights_files
from ollamake.sights import HERE, Sights
from ollamake.state.digests import digest_if_there
from ollamake.state.files import RECEIPT
from ollamake.state.receipts import read_receipt

SHOWN = 12  # hex digits of a digest in a warning


@dataclass(frozen=True, slots=True, kw_only=True)
class Changed:
    """A base that is another one than these models were trained on."""

    base: Base
    models: tuple[str, ...]
    then: tuple[str, ...]  # its digests when they were trained
    now: str

    @property
    def warning(self) -> Fault:
        """What is said of it where the models stay as they are."""
        then = ", ".join(_short(digest) for digest in self.then)
        text = f"warning: base {self.base.name!r} is another one than {_listed(self.models)} came from ({then} then, {_short(self.now)} now): left as they are"
        return Fault(mark=self.base.mark, text=text)

    @property
    def error(self) -> BuildError:
        """What is said of it where nothing of the models shall run."""
        msg = (
            f"{self.base.mark}: base {self.base.name!r} is another one than {_listed(self.models)} came from, and policy.on_base_change is fail\n"
            f"  then: {', '.join(self.then)}\n  now:  {self.now}"
        )
        return BuildError(msg, fix="put the base of then back; or write `policy: {on_base_change: rebuild}`, and `doit` makes them anew for this one")


def changed_bases(sights: Sights, steps: Iterable[Step]) -> tuple[Changed, ...]:
    """The bases that are others than models of these steps were trained on. Where the policy is `rebuild` nobody asks."""
    found: dict[str, list[tuple[Model, str, str]]] = {}
    for model in {step.name: step.subject for step in steps if isinstance(step.subject, Model)}.values():
        changed = _changed(sights, model)
        if changed is not None:
            found.setdefault(model.base.name, []).append((model, *changed))
    return tuple(
        Changed(
            base=some[0][0].base,
            models=tuple(model.name for model, _, _ in some),
            then=tuple(dict.fromkeys(then for _, then, _ in some)),
            now=some[0][2],
        )
        for some in found.values()
    )


def base_warnings(sights: Sights, steps: Iterable[Step]) -> tuple[Fault, ...]:
    """A warning for each base that is another one, where the policy leaves the models on it as they are."""
    return tuple(changed.warning for changed in changed_bases(sights, steps)) if sights.on_base_change == "warn" else ()


def refused_by_policy(sights: Sights, step: Step, steps: Sequence[Step]) -> BuildError | None:
    """Why nothing of the step's model runs: its base is another one, and the policy is to fail then."""
    if sights.on_base_change != "fail" or not isinstance(step.subject, Model) or _changed(sights, step.subject) is None:
        return None
    base = step.subject.base.name
    return next(changed.error for changed in changed_bases(sights, (*steps, step)) if changed.base.name == base)


def refused_mixture(sights: Sights, step: Step) -> BuildError | None:
    """Why the step can't be done: it would put the adapter that is there together with a base that it does not come from."""
    model = step.subject
    if not isinstance(model, Model) or not _mixes(step, model):
        return None
    now = _digest(model.base.gguf)
    then = _bases_of(sights, model)
    if now is None or not then or now in then:
        return None
    msg = (
        f"{model.base.mark}: model {model.name!r}: its adapter comes from another base {model.base.name!r} than the one that is there, "
        f"and would be wrong with it\n  then: {', '.join(then)}\n  now:  {now}"
    )
    anew = f"train it for this one: `doit train:{model.name}` with `policy: {{on_base_change: rebuild}}`"
    return BuildError(msg, fix=f"put the base of then back; or {anew if model.adapter is None else 'name an adapter that was trained on this one'}")


def _mixes(step: Step, model: Model) -> bool:
    """Does the step read the adapter and the base?"""
    if step.stage == "test":
        return any(isinstance(test, Measure) and test.metric == LOSS for test in model.tests)
    return step.stage == "package"


def _changed(sights: Sights, model: Model) -> tuple[str, str] | None:
    """The digests of the model's base when it was trained, and now, where these differ; of a model that is not trained: when it was packaged."""
    then = next(iter(_records(sights, model)), None)
    before = then.inputs.get(_name(model)) if then else None
    if before is None:
        return None
    now = _digest(model.base.gguf)
    return None if now is None or now == before else (before, now)


def _bases_of(sights: Sights, model: Model) -> tuple[str, ...]:
    """The digests of the bases that the adapter which is there comes from, by all that is known of it; none where nothing is."""
    if model.adapter is not None and sights.on_base_change == "rebuild":
        return ()  # it is packaged with whatever base is there
    known = [record.inputs.get(_name(model)) for record in _records(sights, model) if model.adapter is not None or _are_there(record.targets)]
    return tuple(dict.fromkeys(digest for digest in known if digest is not None))


def _records(sights: Sights, model: Model) -> Iterator[Record]:
    """What the lock has of the model's training, then what its adapter has brought with it; of an adapter that was given, its packaging's."""
    stage, place = ("train", None) if model.adapter is None else ("package", HERE)
    block = sights.database.record(f"{stage}:{model.name}", place)
    record = Record.of(block) if block else None
    if model.adapter is not None:
        same = record is not None and all(record.inputs.get(written(path)) == _digest(path) for path in given_files(model.adapter))
        if record is not None and same:
            yield record
        return
    if record is not None:
        yield record
    for folder in (Path(adapter_folder(model)), Path(weights_files(model)[0]).parent):
        receipt = read_receipt(folder / RECEIPT)
        if receipt is not None and _are_there(receipt.record.targets):
            yield receipt.record


def _are_there(targets: Mapping[str, str]) -> bool:
    return all(_digest(path) == digest for path, digest in targets.items())


def _digest(path: str) -> str | None:
    try:
        return digest_if_there(path)
    except OSError:  # may not be read: its step says so
        return None


def _name(model: Model) -> str:
    return f"base {model.base.name}"


def _short(digest: str) -> str:
    return digest.removeprefix("sha256:")[:SHOWN]


def _listed(models: Sequence[str]) -> str:
    return models[0] if len(models) == 1 else f"{', '.join(models[:-1])} and {models[-1]}"
