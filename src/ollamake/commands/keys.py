"""Keys that are pressed while a command watches, where its standard input is a terminal."""

from __future__ import annotations

import os
import select
import sys
from collections.abc import Callable
from typing import Any

BUILD, QUIT = "build", "quit"
MEANT = {"b": BUILD, "\r": BUILD, "\n": BUILD, "q": QUIT, "\x04": QUIT}


class Keys:
    """The terminal gives each key at once, and shows none, until this is left. Nothing of it where there is none, or where a system has no such terminals."""

    def __init__(self) -> None:
        self._before: list[Any] | None = None
        try:
            import termios
        except ImportError:  # Windows
            return
        if sys.stdin is not None and sys.stdin.isatty():
            self._before = termios.tcgetattr(sys.stdin.fileno())

    @property
    def are_there(self) -> bool:
        """Is there a terminal to press them at?"""
        return self._before is not None

    def __enter__(self) -> Keys:
        if self.are_there:
            import tty

            tty.setcbreak(sys.stdin.fileno())
        return self

    def __exit__(self, *_: object) -> None:
        if self._before is not None:
            import termios

            termios.tcsetattr(sys.stdin.fileno(), termios.TCSADRAIN, self._before)

    def given_back(self, act: Callable[[], None]) -> None:
        """Do this with the terminal as it was; keys that are pressed meanwhile count for nothing."""
        self.__exit__()
        try:
            act()
        finally:
            self.__enter__()
            if self.are_there:
                import termios

                termios.tcflush(sys.stdin.fileno(), termios.TCIFLUSH)

    def pressed(self) -> str:
        """What the keys mean that were pressed since; empty where there are none."""
        found = ""
        while self.are_there and select.select([sys.stdin], [], [], 0)[0]:
            typed = os.read(sys.stdin.fileno(), 32).decode(errors="replace")
            if not typed:  # nobody is there any more
                return QUIT
            found = next((MEANT[key] for key in typed if key in MEANT), found)
        return found
