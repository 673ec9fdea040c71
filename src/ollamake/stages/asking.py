"""Questions -> answers of models on a server; none is asked twice."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import TypeAlias

from ollamake.catalog import Model
from ollamake.errors import BuildError
from ollamake.gate.answers import Answer, Ask
from ollamake.ollama.client import NewModel, OllamaServer
from ollamake.stages.promotion import BASE
from ollamake.stages.system import system_of
from ollamake.state.digests import file_digest

MOST_TOKENS = 512  # of an answer, where the catalog does not say: a model that never ends would be asked for minutes

Told: TypeAlias = Callable[[int, int], None]  # is told how many are answered, and of how many


class Answers:
    """What models have answered."""

    def __init__(self, server: OllamaServer, tell: Told | None = None) -> None:
        self.server = server
        self.tell = tell
        self.wanted = 0  # questions, of all models
        self._found: dict[tuple[str, Ask], Answer] = {}

    def get(self, name: str, asks: Iterable[Ask]) -> list[Answer]:
        """The answers of the model of this name, in their order; what was not asked yet is asked now. Raises BuildError."""
        return [self._one(name, ask) for ask in asks]

    def _one(self, name: str, ask: Ask) -> Answer:
        if (name, ask) not in self._found:
            began = time.monotonic()
            pieces = list(self.server.answer(name, ask.as_messages(), **dict(ask.options)))
            is_cut = pieces[-1:] == ["..."]  # as the server's client says it
            text = "".join(pieces[:-1] if is_cut else pieces)
            self._found[name, ask] = Answer(text, is_cut, round(time.monotonic() - began, 3))
            if self.tell is not None:
                self.tell(len(self._found), max(self.wanted, len(self._found)))
        return self._found[name, ask]


def limits(parameters: Mapping[str, object]) -> dict[str, float]:
    """What bounds an answer, where the model's own parameters don't."""
    return {} if "num_predict" in parameters else {"num_predict": MOST_TOKENS}


@contextlib.contextmanager
def base_on(server: OllamaServer, model: Model) -> Iterator[str]:
    """The name of a model of the plain base, with the model's own system prompt, template and parameters, as long as this lasts. Raises BuildError.

    It is each model's own: two that are tested at once may have other templates.
    """
    name, path = f"{model.name}:{BASE}", Path(model.base.gguf)
    if not path.is_file():
        raise model.base.missing()
    server.create(
        NewModel(
            name=name,
            files=((path, file_digest(path)),),
            adapter=None,
            system=system_of(model),
            template=model.serve.template,
            parameters=model.serve.parameters,
        )
    )
    try:
        yield name
    except BaseException:
        with contextlib.suppress(BuildError):  # the server may be gone: the first error says more
            server.delete(name)
        raise
    server.delete(name)
