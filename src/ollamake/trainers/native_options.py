"""`train.options` held against what the trainer's own environment has, before anything is loaded. Runs there, carried into the job."""

from __future__ import annotations

import dataclasses
import inspect
import types
from collections.abc import Callable, Mapping
from typing import Any, Literal, Union, get_args, get_origin, get_type_hints

from ollamake.spelling import nearest
from ollamake.trainers.hf_progress import fail

_SIMPLE: dict[Any, tuple[type, ...]] = {str: (str,), int: (int,), float: (int, float), list: (list,), dict: (dict,)}


@dataclasses.dataclass(frozen=True, slots=True)
class Native:
    """A key that the trainer knows."""

    hint: Any = Any  # what its values may be, as an annotation says it
    choices: tuple[Any, ...] = ()


def fields_of(kind: Any) -> dict[str, Native]:
    """The keys of one of the trainer's configuration dataclasses."""
    try:
        hints = get_type_hints(kind)
    except (NameError, TypeError):  # names that are imported for type checkers alone
        hints = {}
    return {
        field.name: Native(hints.get(field.name, Any), tuple(field.metadata.get("choices") or ())) for field in dataclasses.fields(kind) if field.init
    }


def parameters_of(function: Callable[..., Any]) -> dict[str, Native]:
    """The keys of one of the trainer's functions."""
    kinds = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
    found = [parameter for parameter in inspect.signature(function).parameters.values() if parameter.kind in kinds]
    return {
        parameter.name: Native(bool if isinstance(parameter.default, bool) else Any) for parameter in found if parameter.name not in {"self", "model"}
    }


def check_options(options: Mapping[str, Any], known: Mapping[str, Native], *, who: str) -> None:
    """End the training at the first option that `who` does not know, or that has a value which it does not take."""
    for name, value in options.items():
        key = f"options.{name}"
        if name not in known:
            fail(f"{key}: {who} has no such option", fix=nearest(name, known), key=key)
        native = known[name]
        if not fits(value, native.hint):
            fail(f"{key}: {value!r} is not what {who} takes: {_told(native.hint)}", fix=f"write a value of that kind, or remove {name!r}", key=key)
        if native.choices and value is not None and value not in native.choices:
            fail(f"{key}: {value!r} is none that {who} knows", fix=nearest(str(value), map(str, native.choices)), key=key)


def key_of(error: BaseException, options: Mapping[str, Any]) -> str:
    """The option that an error of the trainer's names, or whose value it quotes, as a key below `train`; `options` where it does neither."""
    said = str(error)
    named = sorted((name for name in options if name in said), key=len) or [
        name for name, value in options.items() if isinstance(value, str) and value and value in said
    ]
    return f"options.{named[-1]}" if named else "options"


def fits(value: Any, hint: Any) -> bool:
    """Whether a value from a catalog can be what the annotation says; what is not known here is left to the trainer."""
    origin: Any = get_origin(hint)
    inner = get_args(hint)
    if origin in {Union, types.UnionType}:
        return any(fits(value, each) for each in inner)
    if origin is Literal:
        return value in inner
    if hint is None or hint is type(None):
        return value is None
    if hint is bool:
        return isinstance(value, bool)
    plain = _SIMPLE.get(origin or hint)
    if plain is None:
        return True
    if not isinstance(value, plain) or isinstance(value, bool):
        return False
    return not (isinstance(value, list) and inner) or all(fits(each, inner[0]) for each in value)


def _told(hint: Any) -> str:
    return hint.__name__ if isinstance(hint, type) and get_origin(hint) is None else str(hint).replace("typing.", "").replace("NoneType", "None")
