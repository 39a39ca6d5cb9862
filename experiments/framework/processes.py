"""Work in processes of its own: with as many virtual devices as asked, or several processes that share their devices
(`jax.distributed`) on this machine, started again when one of them dies.

On a cluster each process is started by the launcher, and `jax.distributed.initialize()` finds the others by itself.
"""

import importlib
import json
import os
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

QUIET = 60  # seconds in which a process that lost its partner is waited for


def supervised(
    function: str,
    task: dict[str, Any],
    *,
    processes: int = 1,
    devices: int = 1,
    restarts: int = 3,
    watch: Callable[[list[subprocess.Popen]], None] | None = None,
) -> tuple[Any, int]:
    """(what "module:function" returns for `task` in process 0, as JSON; how often all were started again).

    Args:
      devices: virtual ones of each process.
      restarts: how often a death is forgiven.
      watch: is given the first start's processes.
    Raises:
      RuntimeError: they died once more, with the end of what they said.
    """
    for attempt in range(restarts + 1):
        with tempfile.TemporaryDirectory() as folder:
            running = _started(function, task, processes, devices, Path(folder))
            if watch is not None and attempt == 0:
                watch(running)
            _wait(running)
            if all(process.returncode == 0 for process in running):
                return json.loads((Path(folder) / "result.json").read_text(encoding="utf-8")), attempt
            said = "\n".join((Path(folder) / f"{n}.log").read_text(encoding="utf-8")[-2000:] for n in range(processes))
    raise RuntimeError(
        f"{function}: expected {processes} processes to end well, they died {restarts + 1} times:\n{said}"
    )


def _started(function, task, processes, devices, folder: Path) -> list[subprocess.Popen]:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    (folder / "task.json").write_text(json.dumps({"function": function, "task": task}), encoding="utf-8")
    flags = f"{os.environ.get('XLA_FLAGS', '')} --xla_force_host_platform_device_count={devices}"
    started = []
    for number in range(processes):
        command = [sys.executable, "-m", "experiments.framework.processes", str(folder), str(number)]
        command += [str(processes), address]
        with (folder / f"{number}.log").open("w") as log:
            started.append(
                subprocess.Popen(
                    command, stdout=log, stderr=subprocess.STDOUT, env=os.environ | {"XLA_FLAGS": flags.strip()}
                )
            )
    return started


def _wait(running: list[subprocess.Popen]) -> None:
    """Until all have ended; when one has died the others, which wait for it, are ended too."""
    died: float | None = None
    while any(process.poll() is None for process in running):
        time.sleep(0.05)
        if died is None and any(process.poll() not in (None, 0) for process in running):
            died = time.monotonic()
        if died is not None and time.monotonic() - died > (1 if len(running) > 1 else QUIET):
            for process in running:
                process.kill()


def _work(folder: Path, number: int, processes: int, address: str) -> None:
    import jax

    if processes > 1:
        jax.distributed.initialize(address, processes, number)
    given = json.loads((folder / "task.json").read_text(encoding="utf-8"))
    module, name = given["function"].split(":")
    result = getattr(importlib.import_module(module), name)(**given["task"])
    if number == 0:
        (folder / "result.json").write_text(json.dumps(result), encoding="utf-8")


if __name__ == "__main__":
    _work(Path(sys.argv[1]), int(sys.argv[2]), int(sys.argv[3]), sys.argv[4])
