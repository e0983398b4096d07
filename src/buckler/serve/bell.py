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
        os.set_blocking(self._hammer, False)
        self._poll = select.poll()
        self._poll.register(self._ear, select.POLLIN)
        weakref.finalize(self, _close, self._ear, self._hammer)

    def ring(self) -> None:
        """End the wait that goes on, or else the next. Hold no lock that the other one wants."""
        with contextlib.suppress(BlockingIOError):  # full: it rings already
            os.write(self._hammer, b"!")

    def wait(self, seconds: float) -> None:
        """Until it rings, for so many seconds at most. One thread at a time."""
        if self._poll.poll(min(max(seconds, 0.0), 3600.0) * 1000):
            os.read(self._ear, 4096)


def _close(ear: int, hammer: int) -> None:
    os.close(ear)
    os.close(hammer)
