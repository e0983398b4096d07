"""Bell: one thread waits for work, others say that there is some."""

import contextlib
import os
import select
import weakref


class Bell:
    """A pipe and not a Condition, since writing to it gives up the interpreter's lock: the thread
    that wakes finds it free. Woken by a Condition it would run into that lock, go back to sleep
    and wake again: three switches of threads for a request instead of one."""

    def __init__(self) -> None:
        self._ear, self._hammer = os.pipe()
        for end in (self._ear, self._hammer):
            os.set_blocking(end, False)
        # Not at the interpreter's exit: a thread may wait still.
        weakref.finalize(self, _close, self._ear, self._hammer).atexit = False

    def ring(self) -> None:
        """End the wait that goes on, or else the next. Hold no lock that the other one wants."""
        with contextlib.suppress(BlockingIOError):  # full: it rings already
            os.write(self._hammer, b"!")

    def wait(self, seconds: float) -> None:
        """Until it rings, for so many seconds at most."""
        poll = select.poll()
        poll.register(self._ear, select.POLLIN)
        poll.poll(min(max(seconds, 0.0), 3600.0) * 1000)
        with contextlib.suppress(BlockingIOError):  # none, or another who waited took it
            os.read(self._ear, 4096)


def _close(ear: int, hammer: int) -> None:
    os.close(ear)
    os.close(hammer)
