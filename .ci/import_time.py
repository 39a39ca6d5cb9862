"""Time of `import functional_dl` against `import jax, optax, chex`; the target is a ratio under 1.3.

Run by hand from the root, `python .ci/import_time.py`: a time is reported, never asserted in a test.
Both are imported in fresh processes, in turn, so that a slow spell of the machine falls on both alike.
"""

import statistics
import subprocess
import sys
import time

STATEMENTS = {"ours": "import functional_dl", "base": "import jax, optax, chex"}
ROUNDS = 9


def seconds(statement: str) -> float:
    start = time.perf_counter()
    subprocess.run([sys.executable, "-c", statement], check=True)
    return time.perf_counter() - start


def main():
    for statement in STATEMENTS.values():
        seconds(statement)  # fills the file cache
    times = {name: [] for name in STATEMENTS}
    for _ in range(ROUNDS):
        for name, statement in STATEMENTS.items():
            times[name].append(seconds(statement))
    for name, statement in STATEMENTS.items():
        print(f"{statement:28} median {statistics.median(times[name]):.3f} s of {ROUNDS}")
    ratio = statistics.median(ours / base for ours, base in zip(times["ours"], times["base"]))
    print(f"ratio, median of pairs: {ratio:.3f} (target: under 1.3)")


if __name__ == "__main__":
    main()
