"""What is found of a model's adapter, without packaging it: what of it is carried, what is warned of, and what is refused."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.graph import adapter_files, adapter_folder, given_files
from ollamake.lora.architecture import read_architecture
from ollamake.lora.read import adapter_verdicts
from ollamake.lora.verdict import CARRIED, KINDS, REFUSED, WARNING, Verdict, as_verdict, in_short, of_kind
from ollamake.spelling import counted


@dataclass(frozen=True, slots=True, kw_only=True)
class Judged:
    """A model's adapter, and the verdicts on it."""

    model: str
    adapter: str  # path
    base: str  # name
    verdicts: tuple[Verdict, ...]

    @property
    def is_refused(self) -> bool:
        """Would its packaging fail?"""
        return bool(of_kind(REFUSED, self.verdicts))

    def lines(self) -> Iterable[str]:
        """What is to be said of it: what is refused and warned of, each, and of what is carried how much."""
        for verdict in in_short((*of_kind(REFUSED, self.verdicts), *of_kind(WARNING, self.verdicts))):
            yield f"{'' if verdict.kind == REFUSED else 'warning: '}{verdict}"
            if verdict.fix is not None:
                yield f"  fix: {verdict.fix}"
        counts = {kind: len(of_kind(kind, self.verdicts)) for kind in KINDS}
        warned = f", {counted(counts[WARNING], 'warning')}" if counts[WARNING] else ""
        refused = f", {counts[REFUSED]} refused" if counts[REFUSED] else ""
        yield f"{self.model}: adapter {self.adapter} on base {self.base!r}: {counts[CARRIED]} carried{warned}{refused}"

    def as_json(self) -> dict[str, Any]:
        """All of it, for `--json`."""
        return {"model": self.model, "adapter": self.adapter, "base": self.base, "found": [verdict.as_json() for verdict in self.verdicts]}


def has_adapter(model: Model) -> bool:
    """Are the model's adapter, which is given or was trained, and its base here?"""
    folder = adapter_folder(model)
    files = adapter_files(folder) if model.adapter is None else given_files(folder)
    return Path(model.base.gguf).is_file() and any(Path(file).is_file() for file in files)


def is_lost(model: Model) -> bool:
    """Is an adapter that the catalog names not here, and won't come by itself?"""
    return model.adapter is not None and model.hub is None and not any(Path(file).is_file() for file in given_files(model.adapter))


def judged(model: Model) -> Judged:
    """The verdicts on the model's adapter. Raises nothing: one that is lost, and a base that can't be read, are refused as well."""
    folder = adapter_folder(model)
    if is_lost(model):
        text = f"model {model.name!r}: no such file: {', '.join(given_files(folder))}"
        lost = Verdict(kind=REFUSED, what=folder, text=text, file=str(model.mark), fix="put it there, or mend the path in the catalog")
        return Judged(model=model.name, adapter=folder, base=model.base.name, verdicts=(lost,))
    base = Path(model.base.gguf)
    try:
        verdicts = adapter_verdicts(Path(folder), read_architecture(base), model.base.hf)
    except BuildError as error:
        verdicts = (as_verdict(error, str(base)),)
    return Judged(model=model.name, adapter=folder, base=model.base.name, verdicts=verdicts)
