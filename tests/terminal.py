"""Programs on a real pseudo-terminal, and what can be read on it when they have ended."""

from __future__ import annotations

import os
import pty
import re
import subprocess
import sys

HEIGHT, WIDTH = 12, 200
CODES = re.compile(r"\x1b\[(\??[0-9;]*)([A-Za-z])|([\r\n])|([^\x1b\r\n]+)")


def on_a_terminal(program: str) -> str:
    """All that this Python program writes to a terminal."""
    parent, child = pty.openpty()
    places = os.pathsep.join(filter(None, [os.path.dirname(__file__), os.environ.get("PYTHONPATH", "")]))
    environment = {**os.environ, "COLUMNS": str(WIDTH), "LINES": str(HEIGHT), "TERM": "xterm-256color", "PYTHONPATH": places}
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
