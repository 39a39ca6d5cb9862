"""Ctrl-C and SIGTERM during a run that keeps checkpoints: first what was done is saved, then they do what they do."""

import logging
import signal
import threading
from types import FrameType, TracebackType
from typing import Any

logger = logging.getLogger(__name__)

SIGNALS = (signal.SIGINT, signal.SIGTERM)


class Interruptions:
    """Within the context the first of these signals is noted; a second one acts at once.

    Only the main thread can be told of signals: elsewhere nothing is noted, and they act as ever.
    """

    def __init__(self, wanted: bool) -> None:
        self._wanted = wanted and threading.current_thread() is threading.main_thread()
        self._before: dict[int, Any] = {}
        self.noted: int | None = None

    def __enter__(self) -> "Interruptions":
        if self._wanted:
            for number in SIGNALS:
                if signal.getsignal(number) not in (None, signal.SIG_IGN):  # None: set by other than Python
                    self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._restore()
        if kind is None and self.noted is not None:  # it came while the last things were done
            signal.raise_signal(self.noted)

    def _note(self, number: int, frame: FrameType | None) -> None:
        del frame
        if self.noted is not None:
            self._act(number)
            return
        self.noted = number
        logger.warning("%s: the steps in flight are finished and saved; once more stops at once", _name(number))

    def act(self) -> None:
        """What the noted signal would have done: KeyboardInterrupt, the end of the process, or the user's handler."""
        number, self.noted = self.noted, None
        if number is not None:
            self._act(number)

    def _act(self, number: int) -> None:
        self._restore()
        signal.raise_signal(number)
        self.__enter__()  # a handler of the user's has returned: the run goes on

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}


def _name(number: int) -> str:
    return "Ctrl-C" if number == signal.SIGINT else signal.Signals(number).name
