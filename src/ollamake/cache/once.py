"""What happens once in a run, in whichever of its processes."""

from __future__ import annotations

import os
import threading


class Once:
    """A thing that has happened or has not; made before the run's processes are, it is the same for all of them."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._here = False  # has this process seen that it happened?
        # One byte in a pipe: whoever gets it is the first. Where processes are not copied, threads share this object.
        self._pipe = os.pipe() if hasattr(os, "fork") else None
        if self._pipe:
            os.write(self._pipe[1], b".")
            os.set_blocking(self._pipe[0], False)

    def __del__(self) -> None:
        for end in self._pipe or ():
            os.close(end)

    @property
    def happened(self) -> bool:
        """Has it happened?"""
        if not self._here and self._pipe:
            import select

            poll = select.poll()
            poll.register(self._pipe[0], select.POLLIN)
            self._here = not poll.poll(0)
        return self._here

    def is_first(self) -> bool:
        """It happens; are we the first to say so?"""
        with self._guard:
            before, self._here = self._here, True
            if self._pipe is None:
                return not before
            try:
                return bool(os.read(self._pipe[0], 1))
            except BlockingIOError:
                return False
