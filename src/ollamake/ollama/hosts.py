"""The servers of a catalog, as far as a look tells: which versions they are, which models they have. Standard library alone."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from pathlib import Path

from ollamake.catalog.expanded import Expanded, written
from ollamake.errors import BuildError
from ollamake.ollama import server as servers
from ollamake.ollama.address import LIMIT, Address, adapters_taken, address_of, at_once, digests_at, version_at
from ollamake.state.files import LOCAL


class Host:
    """One server; what it says is asked once."""

    def __init__(self, said: str | None, name: str, address: Address) -> None:
        """`said`: as the steps name it, None where there is but one. `name`: in what is kept; no value of the environment is in it."""
        self.said = said
        self.name = name
        self.address = address
        self._asked: dict[str, Mapping[str, str] | None] = {}
        self._version: dict[str, str | None] = {}
        self._takes: list[bool] = []  # once it was asked

    @property
    def may_be_started(self) -> bool:
        """May the embedded server be started there? Not where it is one of several: it is that one, and no other, that is meant."""
        return self.said is None

    def use(self) -> servers.Use:
        """Use it, the embedded one started where that is meant. Raises BuildError."""
        return servers.use_server(self.address, may_start=self.may_be_started)

    @property
    def file_name(self) -> str:
        """The server as a file may be called."""
        return self.address.file_name

    @property
    def expected_version(self) -> str | None:
        """The version of the server that a run uses; None where there is none."""
        if not self._version:
            self._version["expected"] = servers.expected_version(self.address) if self.may_be_started else version_at(self.address)
        return self._version["expected"]

    @property
    def known(self) -> Mapping[str, str] | None:
        """The digest of each model that it had when it was first asked, by its name with tag; None where nothing answers."""
        if not self.was_asked:
            self._asked["known"] = servers.known_digests(self.address) if self.may_be_started else digests_at(self.address)
        return self._asked["known"]

    @property
    def was_asked(self) -> bool:
        """Is it known which models it has?"""
        return bool(self._asked)

    def takes_adapters(self, base: str) -> bool | None:
        """Does it take a GGUF LoRA for this base? None where nothing answers; asked once where its version does not tell."""
        if self.expected_version is None:
            return None
        if self._refusal(base).exists():
            return False
        if not self._takes:
            self._takes.append(adapters_taken(self.address, self.expected_version))
        return self._takes[0]

    def note_refusal(self, base: str) -> None:
        """It has refused an adapter for this base: none is tried again, until it is of another version. Raises OSError."""
        self._refusal(base).parent.mkdir(parents=True, exist_ok=True)
        self._refusal(base).touch()

    def _refusal(self, base: str) -> Path:
        """The file that says so. By base: an engine may take the adapters of one architecture, and not those of another."""
        return Path(LOCAL, "hosts", self.file_name, f"refuses-adapters-{self.expected_version}-{base}")

    def ask(self) -> None:
        """Have it say its version and its models, in a thread. What goes wrong is said where it is looked at."""
        with suppress(BuildError):
            if self.known is None:  # it is not waited for twice
                self.give_up()
            _ = self.expected_version

    def give_up(self) -> None:
        """It has not answered in time: so it does not answer."""
        self._asked.setdefault("known", None)
        self._version.setdefault("expected", None)

    def take(self, asked: Iterable[Host]) -> None:
        """Take over what the one of these with the same address has said."""
        for other in asked:
            if other.address == self.address:
                self._asked, self._version = other._asked, other._version  # noqa: SLF001 - of its own class

    def forget(self) -> None:
        """Ask again the next time: it has got other models since."""
        self._asked.clear()

    def has(self, models: Mapping[str, str]) -> bool:
        """Has it each of these models, by name, with this digest? One that is asked for none need not answer."""
        known = self.known if models else {}
        return known is not None and all(known.get(name) == digest for name, digest in models.items())

    def tags_of(self, name: str, digest: str) -> list[str]:
        """The names with tag under which it has this version of a model."""
        return [full for full, there in (self.known or {}).items() if there == digest and full.partition(":")[0] == name]


def hosts_of(said: Sequence[str]) -> tuple[Host, ...]:
    """The servers that a catalog names, or the one that $OLLAMA_HOST does. Raises BuildError, also where two of them are one."""
    found: dict[object, Host] = {}
    for text in said or (None,):
        address = address_of(text)
        place = (address.port, address.path) if address.is_here else address  # localhost and 127.0.0.1 are one
        if place in found:
            msg = f"ollama.host: {written(text or '')} is {address}, which is in the list already"
            raise BuildError(msg, fix="name each server once")
        name = text.written if isinstance(text, Expanded) else str(address)
        found[place] = Host(text if len(said) > 1 else None, name, address)
    return tuple(found.values())


def ask_all(hosts: Sequence[Host], limit: float = LIMIT) -> None:
    """Have each say which models it has, all at once; one that does not say it within so many seconds is taken for one that does not answer."""
    unasked = [host for host in hosts if not host.was_asked]
    if len(unasked) < 2:  # one is asked when it is looked at
        return
    at_once([host.ask for host in unasked], limit)
    for host in unasked:
        host.give_up()
