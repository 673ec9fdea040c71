"""Programs on a real pseudo-terminal, and what can be read on it when they have ended."""

from __future__ import annotations

import fcntl
import os
import pty
import re
import select
import signal
import struct
import subprocess
import sys
import termios
import time
from collections.abc import Callable, Mapping

HEIGHT, WIDTH = 12, 200
PATIENCE = 60.0  # seconds
CODES = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def on_a_terminal(program: str) -> str:
    """All that this Python program writes to a terminal."""
    parent, child = pty.openpty()
    places = os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]))
    environment = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR", "FORCE_COLOR"}}
    environment |= {"COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color", "PYTHONPATH": places}
    with subprocess.Popen([sys.executable, "-c", program], stdin=child, stdout=child, stderr=child, env=environment) as process:
        os.close(child)
        written = b""
        try:
            while part := os.read(parent, 65536):
                written += part
        except OSError:  # how Linux says that the other side is closed
            pass
        os.close(parent)
        process.wait()
    assert process.returncode == 0, written.decode()
    return written.decode()


def left_on_screen(written: str) -> list[str]:
    """The lines that a terminal shows of this in the end, with those that have left it at the top: of its codes, those that bars are drawn with."""
    lines, row, column = [""], 0, 0
    for found in CODES.finditer(written):
        parameter, code, end, text = found.groups()
        if text:
            lines[row] = lines[row][:column].ljust(column) + text + lines[row][column + len(text) :]
            column += len(text)
        elif end == "\r":
            column = 0
        elif end == "\n":
            row += 1
            lines.extend([""] * (row + 1 - len(lines)))
        elif code == "A":
            row = max(row - int(parameter or 1), len(lines) - HEIGHT, 0)  # not above the top
        elif code == "K":
            assert parameter == "2"
            lines[row] = ""
        else:
            assert code in "mhl", found
    return [line.rstrip() for line in lines]


class Terminal:
    """A program on a terminal of this size (rows, columns), and what is to be seen there; of what has left it at the top, too."""

    def __init__(self, command: list[str], size: tuple[int, int], environment: Mapping[str, str] | None = None) -> None:
        import pyte

        self.screen = pyte.HistoryScreen(size[1], size[0], history=1000, ratio=1.0)
        self._stream = pyte.ByteStream(self.screen)
        kept = {name: value for name, value in os.environ.items() if name not in {"CI", "NO_COLOR", "FORCE_COLOR", "COLUMNS", "LINES"}}
        self._parent, child = pty.openpty()
        self._set_size(size)
        self._written = b""
        self.process = subprocess.Popen(
            command,
            stdin=child,
            stdout=child,
            stderr=child,
            env={**kept, "TERM": "xterm-256color", **(environment or {})},
            start_new_session=True,
            preexec_fn=lambda: fcntl.ioctl(0, termios.TIOCSCTTY, 0),  # noqa: PLW1509 - so that Ctrl-C is a signal there
        )
        os.close(child)

    def __enter__(self) -> Terminal:
        return self

    def __exit__(self, *_: object) -> None:
        if self.process.poll() is None:
            os.killpg(self.process.pid, signal.SIGKILL)
            self.process.wait()
        os.close(self._parent)

    @property
    def written(self) -> str:
        """All that the program has written."""
        return self._written.decode()

    @property
    def lines(self) -> list[str]:
        """What can be read, with what has left the screen at the top."""
        gone = ["".join(row[column].data for column in range(self.screen.columns)) for row in self.screen.history.top]
        lines = [line.rstrip() for line in (*gone, *self.screen.display)]
        while lines and not lines[-1]:
            lines.pop()
        return lines

    @property
    def cursor_is_hidden(self) -> bool:
        return bool(self.screen.cursor.hidden)

    def line(self, text: str) -> str:
        """The last line that has this in it."""
        return next(line for line in reversed(self.lines) if text in line)

    def until(self, text: str) -> Terminal:
        """Wait until this can be read."""
        return self.until_true(lambda: any(text in line for line in self.lines), repr(text))

    def until_true(self, shows: Callable[[], bool], what: str = "what is waited for") -> Terminal:
        """Wait until this is so of what can be read."""
        until = time.monotonic() + PATIENCE
        while not shows():
            assert self._reads(until), f"{what} can't be read in:\n" + "\n".join(self.lines)
        return self

    def type(self, text: str) -> None:
        os.write(self._parent, text.encode())

    def resize(self, size: tuple[int, int]) -> None:
        self.screen.resize(*size)
        self._set_size(size)

    def ends(self) -> int:
        """Wait for the program's end. Returns its exit code."""
        until = time.monotonic() + PATIENCE
        while self._reads(until):
            pass
        assert time.monotonic() < until, "it does not end:\n" + "\n".join(self.lines)
        return self.process.wait(PATIENCE)

    def _set_size(self, size: tuple[int, int]) -> None:
        fcntl.ioctl(self._parent, termios.TIOCSWINSZ, struct.pack("HHHH", *size, 0, 0))

    def _reads(self, until: float) -> bool:
        """Take what the program writes next; False where it has ended, or has written nothing until then."""
        if not select.select([self._parent], [], [], max(0.0, until - time.monotonic()))[0]:
            return False
        try:
            part = os.read(self._parent, 65536)
        except OSError:  # how Linux says that the other side is closed
            return False
        self._written += part
        self._stream.feed(part)
        return bool(part)
