"""python -m tests.mutation [FAMILY ...] [--workers 2]: mutants of the rules, judged by the tests of the rules.

Prints a table by family, and the survivors with the reasons that survivors.py gives.  Ends with 1 if the score is below
98 % or a survivor has no reason.

With --sample N as many mutants are drawn at random and judged.  With --log a run that was broken off is taken up again,
and one after new probes is short: of the log's verdicts on the functions as they stand, those stand that killed a
mutant, which more probes do too, or that left one with a reason.
"""

import argparse
import json
import os
import random
import resource
import subprocess
import sys
import threading
import time
from collections import Counter, defaultdict
from pathlib import Path
from queue import Queue

HERE = Path(__file__).parent
SECONDS = 25  # of a processor; a mutant that takes more for one question loops for ever: killed
PATIENCE = 600  # seconds for one question on a machine that is busy
SCORE = 0.98


def worker(family: str, start: int, log: Path | None, only: set[int] | None = None) -> None:
    """Judges a family's mutants from number `start` on (of `only`); prints a line of JSON before and after each."""
    sys.path.insert(0, str(HERE.parent))
    os.environ["JAX_ENABLE_COMPILATION_CACHE"] = "0"  # no mutant is met again
    import conftest  # noqa: F401 - strict set-up
    import jax

    jax.config.update("jax_disable_most_optimizations", True)
    from tests.mutation.judges import death
    from tests.mutation.mutants import mutants

    known, out = _standing(log), sys.stdout  # pytest has an output of its own

    def asks():
        """Before a question: the parent hears of it, and the process may use so much more of a processor."""
        print("{}", file=out, flush=True)
        usage = resource.getrusage(resource.RUSAGE_SELF)
        limit = int(usage.ru_utime + usage.ru_stime) + SECONDS
        resource.setrlimit(resource.RLIMIT_CPU, (limit, resource.getrlimit(resource.RLIMIT_CPU)[1]))

    for i, mutant in enumerate(mutants(family)):
        if i < start or (only is not None and i not in only):
            continue
        about = {"number": i, "name": mutant.name, "line": mutant.line, "change": mutant.change}
        about["digest"] = mutant.digest
        if mutant.digest in known:
            print(json.dumps({"ended": known[mutant.digest] | about, "known": True}), flush=True)
            continue
        print(json.dumps({"began": about}), flush=True)
        began = time.perf_counter()
        cause = death(mutant, asks)
        print(json.dumps({"ended": about | {"death": cause, "seconds": time.perf_counter() - began}}), flush=True)
        if i % 40 == 39:
            jax.clear_caches()


def _standing(log: Path | None) -> dict[str, dict]:
    """The log's verdicts that stand, by the mutants' digests."""
    from tests.mutation.survivors import reason

    events = log.read_text().splitlines() if log and log.exists() else []
    verdicts = [json.loads(line)["ended"] for line in events]
    return {v["digest"]: v for v in verdicts if v["death"] is not None or reason(v["name"], v["change"])}


def judged(family: str, log: Path | None = None, only: list[int] | None = None) -> list[dict]:
    """The verdicts on a family's mutants, or those of `only`; a worker that stands still is replaced."""
    verdicts: list[dict] = []
    start = 0
    while True:
        command = [sys.executable, "-m", "tests.mutation", "--worker", family, "--start", str(start)]
        command += ["--log", str(log.resolve())] if log else []
        command += ["--only", ",".join(map(str, only))] if only is not None else []
        process = subprocess.Popen(
            command, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=HERE.parents[1]
        )
        lines: Queue = Queue()
        threading.Thread(target=_pump, args=(process, lines), daemon=True).start()
        current, began = None, time.perf_counter()
        while True:
            try:
                line = lines.get(timeout=PATIENCE)
            except Exception:  # queue.Empty: the mutant stands still
                process.kill()
                break
            if line is None:
                break
            event = json.loads(line)
            if not event:  # another question
                continue
            if "ended" in event:
                verdicts.append(event["ended"])
                if log and "known" not in event:
                    with log.open("a") as file:
                        file.write(line)
                current = None
            else:
                current, began = event["began"], time.perf_counter()
        process.wait()
        if current is None:
            if process.returncode:
                raise RuntimeError(f"{family}: the worker ended with {process.returncode}")
            return verdicts
        verdicts.append(current | {"death": "no end, or the process died", "seconds": time.perf_counter() - began})
        if log:
            with log.open("a") as file:
                print(json.dumps({"ended": verdicts[-1]}), file=file)
        start = current["number"] + 1


def _pump(process, lines) -> None:
    errors: list[str] = []
    threading.Thread(target=lambda: errors.extend(process.stderr), daemon=True).start()
    for line in process.stdout:
        if line.startswith("{"):
            lines.put(line)
    lines.put(None)
    process.wait()
    if process.returncode and errors:
        print("".join(errors[-5:]), file=sys.stderr)


def main() -> int:
    parser = argparse.ArgumentParser(prog="python -m tests.mutation")
    parser.add_argument("families", nargs="*")
    parser.add_argument("--workers", type=int, default=os.cpu_count() or 1)
    parser.add_argument("--log", type=Path, help="file of verdicts: appended to, and read")
    parser.add_argument("--sample", type=int, help="as many mutants, drawn at random")
    parser.add_argument("--seed", type=int, default=0, help="of the draw")
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    parser.add_argument("--start", type=int, default=0, help=argparse.SUPPRESS)
    parser.add_argument("--only", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.worker:
        only = None if options.only is None else {int(number) for number in options.only.split(",")}
        worker(options.worker, options.start, options.log, only)
        return 0
    from tests.mutation.mutants import families, module_of, mutants
    from tests.mutation.survivors import reason

    tasks: Queue = Queue()
    sizes = {f: Path(module_of(f).__file__).stat().st_size for f in families()}
    wanted = options.families or sorted(sizes, key=lambda f: -sizes[f])
    only: dict[str, list[int]] = {}
    if options.sample is not None:
        everything = [(family, i) for family in wanted for i, _ in enumerate(mutants(family))]
        for family, i in random.Random(options.seed).sample(everything, min(options.sample, len(everything))):
            only.setdefault(family, []).append(i)
        wanted = [family for family in wanted if family in only]
        print(f"{sum(map(len, only.values()))} of {len(everything)} mutants")
    for family in wanted:
        tasks.put(family)
    found: dict[str, list[dict]] = {}

    def drain():
        while not tasks.empty():
            family = tasks.get()
            found[family] = verdicts = judged(family, options.log, only.get(family))
            if verdicts:
                print(_row(family, verdicts), flush=True)

    print(f"{'family':16}{'mutants':>8}{'killed':>8}{'left':>6}{'seconds':>9}")
    threads = [threading.Thread(target=drain) for _ in range(options.workers)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    verdicts = [v for family in found.values() for v in family]
    print(_row("all", verdicts))
    print(
        "killed by:",
        ", ".join(f"{cause} {n}" for cause, n in Counter(v["death"] for v in verdicts if v["death"]).most_common()),
    )
    by_reason = defaultdict(list)
    for v in verdicts:
        if v["death"] is None:
            by_reason[reason(v["name"], v["change"])].append(v)
    for why, group in by_reason.items():
        print(f"\n{why or 'NO REASON'}")
        for v in group:
            print(f"  {v['name']} line {v['line']}: {v['change']}")
    real = [v for v in verdicts if v["death"] is not None or not reason(v["name"], v["change"])]
    score = sum(v["death"] is not None for v in real) / max(len(real), 1)
    killed = sum(v["death"] is not None for v in verdicts)
    print(f"\nscore {killed / max(len(verdicts), 1):.2%} of all, {score:.2%} of those without a reason to survive")
    return int(killed < SCORE * len(verdicts) or None in by_reason)


def _row(name, verdicts) -> str:
    killed = sum(v["death"] is not None for v in verdicts)
    return f"{name:16}{len(verdicts):8}{killed:8}{len(verdicts) - killed:6}{sum(v['seconds'] for v in verdicts):9.0f}"


if __name__ == "__main__":
    sys.exit(main())
