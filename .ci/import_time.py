"""Time of `import functional_dl` against `import jax, optax, chex`; the target is a ratio of at most 1.3.

Run by hand from the root, `python .ci/import_time.py`: a time is reported, never asserted in a test, which holds the
count of modules instead (tests/test_architecture.py).  Both are imported in fresh processes, in turn; processor time
counts, and bytecode is cached, as it is from the second import on.
"""

import os
import resource
import statistics
import subprocess
import sys

STATEMENTS = {"ours": "import functional_dl", "base": "import jax, optax, chex"}
MEASUREMENTS, ROUNDS = 3, 9


def seconds(statement: str) -> float:
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    before = resource.getrusage(resource.RUSAGE_CHILDREN)
    subprocess.run([sys.executable, "-c", statement], check=True, env=environment)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    return after.ru_utime - before.ru_utime + after.ru_stime - before.ru_stime


def main():
    for statement in STATEMENTS.values():
        seconds(statement)  # writes the bytecode, and is not counted
    for _ in range(MEASUREMENTS):
        times = {name: [] for name in STATEMENTS}
        for turn in range(ROUNDS):
            for name in list(STATEMENTS) if turn % 2 else list(STATEMENTS)[::-1]:
                times[name].append(seconds(STATEMENTS[name]))
        ours, base = (statistics.median(times[name]) for name in STATEMENTS)
        print(f"processor time, medians of {ROUNDS}: ours {ours:.3f} s, base {base:.3f} s, ratio {ours / base:.3f}")


if __name__ == "__main__":
    main()
