"""The content of a catalog file -> what it says, and what is wrong with its form. Imports YAML and JSON Schema."""

from __future__ import annotations

from ollamake.catalog.faults import schema_faults, schemas_of_tests
from ollamake.catalog.kept import Read
from ollamake.catalog.marked_yaml import parse
from ollamake.errors import Fault, FaultyFileError, Mark


def checked(content: bytes, path: str) -> tuple[Read, list[Fault]]:
    """What the file says that is well-formed, and the faults of the rest. Raises FaultyFileError where nothing of it can be read."""
    try:
        text = content.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise FaultyFileError([Fault(mark=Mark(path, 1), text="not UTF-8", fix="save it as UTF-8")]) from error
    value, lines = parse(text, path)
    if value is None:
        fix = "write version, bases, datasets and models; docs/catalog.md of ollamake shows how"
        raise FaultyFileError([Fault(mark=Mark(path, 1), text="the catalog is empty", fix=fix)])
    faults, faulty = schema_faults(value, lines, path)
    if () in faulty:
        raise FaultyFileError(faults)
    sound = {key: below for key, below in value.items() if (key,) not in faulty}
    return (sound, lines), [*faults, *schemas_of_tests(sound, lines, path)]
