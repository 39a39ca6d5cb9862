"""The process that a terminal talks to: it starts the one that computes, watches over it, and ends it.

A compiler cannot be interrupted in the middle, and what Python raises there comes out of it as another error, if at
all.  So the process that computes never learns of Ctrl-C: it is ended, which its files survive (they are written whole
or not at all), and one line says what is finished.
"""

import os
import signal
import subprocess
import sys
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path

from experiments.framework import journal

COMMAND = [sys.executable, "-m", "experiments"]


class _Terminated(Exception):
    """Somebody asked this process to end."""


def run(arguments: Sequence[str]) -> int:
    """Runs `python -m experiments ARGUMENTS` in a process of its own; its exit status, 130 after Ctrl-C."""
    with tempfile.TemporaryDirectory() as folder:
        os.environ[journal.VARIABLE] = str(Path(folder) / "journal.json")
        for name in {"SIGTERM", "SIGHUP"} & set(dir(signal)):
            number = getattr(signal, name)
            if signal.getsignal(number) != signal.SIG_IGN:  # as under nohup
                signal.signal(number, _terminated)
        child = _started(arguments)
        try:
            status = child.wait()
        except (KeyboardInterrupt, _Terminated) as stop:
            _end(child)
            _restore()
            print(journal.read().stopped(), file=sys.stderr)
            return 130 if isinstance(stop, KeyboardInterrupt) else 143
        if status < 0:
            _restore()
            print(f"the process died ({_signal(-status)}); {journal.read().stopped()}", file=sys.stderr)
            return 1
        return status


def watched() -> bool:
    """Whether this process is one that computes for another."""
    return journal.VARIABLE in os.environ


def follow() -> None:
    """In the process that computes: it ends with the one that watches, of which standard input is a pipe."""

    def wait() -> None:
        while os.read(0, 1024):  # not by sys.stdin, whose lock this thread would hold when Python ends
            pass
        if os.name == "posix":
            os.killpg(0, signal.SIGKILL)
        os._exit(1)

    threading.Thread(target=wait, daemon=True).start()


def _started(arguments: Sequence[str]) -> subprocess.Popen:
    # a group of its own: the terminal's Ctrl-C comes to this process alone, and all that the other starts ends with it
    return subprocess.Popen(
        [*COMMAND, *arguments], stdin=subprocess.PIPE, process_group=0 if os.name == "posix" else None
    )


def _end(child: subprocess.Popen) -> None:
    if os.name == "posix":
        os.killpg(child.pid, signal.SIGKILL)
    else:
        child.kill()
    child.wait()


def _terminated(number, frame) -> None:
    raise _Terminated


def _restore() -> None:
    """The cursor, which a bar hides, on a line of its own."""
    if sys.stdout.isatty():
        print("\x1b[?25h", flush=True)


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
