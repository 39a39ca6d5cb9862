"""The hand-written reverse mode against jax.grad: work, memory and time of one gradient.

XLA counts flops, bytes and temporary memory of the two compiled programs exactly; flops of LAPACK's calls, which it
does not count, are added by their formulas.  Times are processor time: both sides take turns in one process, the order
changing from turn to turn; each turn gives one ratio, and median and quartiles of the ratios are shown.  Where the two
compiled programs are made of the same operations there is nothing to time, and the table says so.

Tracing is `jax.make_jaxpr` of value and gradient with JAX's caches warm, so that what is timed is the sweep and not the
first look at jax.numpy; tracing and lowering is `jax.jit(...).lower` of it.  An eager call is a later one of the same
function without jit.  Tracing must also be linear in the program: chains of sines are traced, doubled four times.
"""

import contextlib
import gc
import math
import re
import time
from collections import Counter
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.framework import environment, progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.workloads import WORKLOADS
from functional_dl import reverse

ALONE = True  # it measures times
CLAIM = "A gradient by the hand-written reverse mode costs no more work, memory, time or tracing than jax.grad's"
EXACTLY = "A gradient by the hand-written reverse mode costs no more flops and memory than jax.grad's; times: by name"
SUITE = "quick"

SIZES = (1, 2, 4)
EXACT = ("flops", "bytes", "memory")
TIMED = ("step", "trace", "lower", "eager")
NAMES = {
    "flops": "flops",
    "bytes": "bytes read and written",
    "memory": "temporary memory",
    "step": "time of a compiled step",
    "trace": "tracing",
    "lower": "tracing and lowering",
    "eager": "a later eager call",
}
MOST = {"flops": 1.0, "memory": 1.02, "step": 1.03, "lower": 0.85}  # of each program
MEAN = {"memory": 0.85, "step": 0.95, "trace": 0.50, "lower": 0.65, "eager": 0.45}  # of all, geometric
PUBLISHED = Path(__file__).with_suffix(".md")


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    turns: int = 15
    """Turns of each pair, whose ratios' median counts."""
    sizes: int = 3
    """How many sizes of each program: 1, 2, 4."""
    programs: str = "all"
    """Names of the programs, separated by commas."""
    equations: int = 10_000
    """Length of the longest chain that is traced."""
    times: bool = True
    """Whether times are measured; flops, bytes and memory are exact and always compared."""
    publish: bool = False
    """Write the table to experiments/bench.md."""
    seed: int = 0
    """Seed of parameters and batches."""

    def __post_init__(self):
        settings.at_least(self, 1, "turns", "sizes")
        settings.at_least(self, 160, "equations")
        if self.sizes > len(SIZES):
            raise ValueError(f"sizes: expected at most {len(SIZES)}, got {self.sizes}")
        unknown = set(self.names()) - set(WORKLOADS)
        if unknown:
            raise ValueError(f"programs: expected some of {', '.join(WORKLOADS)}, got {', '.join(sorted(unknown))}")

    def names(self) -> list[str]:
        return list(WORKLOADS) if self.programs == "all" else self.programs.split(",")


QUICK = Config(sizes=1, programs="mlp,cnn,transformer,lstm,product,ranking", times=False)
STANDARD = Config(turns=9, sizes=1)
SMOKE = Config(turns=1, sizes=1, programs="mlp,rnn,product", equations=320)


def run(config: Config) -> Result:
    found = [
        {"program": name, "size": size, **_compare(name, size, config)}
        for name in progress.over(config.names(), "programs")
        for size in SIZES[: config.sizes]
    ]
    chain = _trace_chains(config) if config.times else {}
    checks = [*_limits(found, config), *_products(found), *([_linear(chain)] if chain else [])]
    columns = ("program", "size", *EXACT, "step", "step quartiles", *TIMED[1:], "step of jax.grad, ms")
    rows = [
        [e["program"], e["size"], *(_figure(e[m]) for m in EXACT), _step(e), _quartiles(e)]
        + [_figure(e[m]) for m in TIMED[1:]]
        + [_figure(e["jax_step_ms"])]
        for e in found
    ]
    result = Result(
        CLAIM if config.times else EXACTLY,
        checks,
        _numbers(found, chain),
        found,
        Table(columns, rows),
        {"found": found, "chain": chain},
        timed=_timed(checks) if config.times else (),
    )
    if config.publish:
        PUBLISHED.write_text(_published(result))
    return result


def _timed(checks) -> tuple[str, ...]:
    """Names of what differs from run to run."""
    names = tuple(NAMES[measure] for measure in TIMED)
    columns = (*TIMED, "step_low", "step_high", "jax_step_ms")
    figures = (*(f"{name}, geometric mean" for name in names), "tracing an equation of the longest chain")
    return *columns, *figures, *(check.statement for check in checks if check.statement.startswith(names))


def _figure(value: float) -> str:
    return "" if value != value else f"{value:.3f}"


def _step(entry) -> str:
    return "same program" if entry["same"] else _figure(entry["step"])


def _quartiles(entry) -> str:
    return (
        ""
        if entry["same"] or entry["step"] != entry["step"]
        else f"{entry['step_low']:.3f} to {entry['step_high']:.3f}"
    )


def _limits(found, config: Config) -> list[Check]:
    checks = []
    measured = (*EXACT, *TIMED) if config.times else EXACT
    of = lambda limits: ((measure, limit) for measure, limit in limits.items() if measure in measured)
    for measure, limit in of(MOST):
        worst = max((e for e in found if e[measure] == e[measure]), key=lambda e: e[measure])
        checks.append(
            Check(
                f"{NAMES[measure]}, ours / jax.grad's: at most {limit:.2f} of every program",
                f"the most is {worst[measure]:.3f}, {worst['program']} at size {worst['size']}",
                round(worst[measure], 3) <= limit,
            )
        )
    for measure, limit in of(MEAN):
        mean = _geometric_mean(e[measure] for e in found)
        statement = f"{NAMES[measure]}: geometric mean of all programs at most {limit:.2f}"
        checks.append(Check(statement, f"{mean:.3f}", mean <= limit))
    loops = [e for e in found if WORKLOADS[e["program"]].loops]
    for measure, limit in of({"step": 0.95, "memory": 0.60, "eager": 0.50}) if loops else ():
        mean = _geometric_mean(e[measure] for e in loops)
        statement = f"{NAMES[measure]} of loops: geometric mean at most {limit:.2f}"
        checks.append(Check(statement, f"{mean:.3f}", mean <= limit))
    return checks


def _products(found) -> list[Check]:
    ratios = [e["value_ratio"] for e in found if e["program"] == "product"]
    measured = ", ".join(f"{ratio:.3f}" for ratio in ratios)
    statement = "flops of value and gradient of a product / flops of its value: at most 4.01"
    return [Check(statement, measured, max(ratios) <= 4.01)] if ratios else []


def _linear(chain) -> Check:
    lengths, seconds = chain["lengths"], chain["seconds"]
    growth = seconds[-1] / lengths[-1] / (seconds[0] / lengths[0])
    return Check(
        f"tracing is linear: an equation of a chain of {lengths[-1]} costs at most twice one of {lengths[0]}",
        f"{growth:.2f} times, over {len(lengths) - 1} doublings",
        growth <= 2,
    )


def _geometric_mean(ratios) -> float:
    return float(np.exp(np.mean([np.log(r) for r in ratios if r == r])))


def _numbers(found, chain) -> dict[str, Any]:
    numbers: dict[str, Any] = {
        f"{NAMES[m]}, geometric mean": f"{_geometric_mean(e[m] for e in found):.3f}"
        for m in (EXACT if not chain else (*EXACT, *TIMED))
    }
    numbers["programs"] = f"{len(found)}, of which {sum(e['same'] for e in found)} compile to jax.grad's operations"
    if chain:
        each = 1e6 * chain["seconds"][-1] / chain["lengths"][-1]
        numbers["tracing an equation of the longest chain"] = f"{each:.0f} µs"
    return numbers


def _published(result: Result) -> str:
    """The table as Markdown, with what it was measured on."""
    table = result.table
    lines = [
        "# Ours / jax.grad's: work, memory and time of one gradient",
        "",
        "`python -m experiments bench --publish`",
        "",
    ]
    lines += [f"- {key}: {value}" for key, value in environment.describe().items()]
    lines += [f"- {name}: {value}" for name, value in result.numbers.items()]
    lines += ["", *(f"- [{'x' if c.holds else ' '}] {c.statement}: {c.measured}" for c in result.checks), ""]
    lines += ["| " + " | ".join(table.columns) + " |", "|" + "---|" * len(table.columns)]
    lines += ["| " + " | ".join(map(str, row)) + " |" for row in table.rows]
    return "\n".join(lines) + "\n"


def _compare(name: str, size: int, config: Config) -> dict[str, Any]:
    workload = WORKLOADS[name]
    args = workload.build(jax.random.key(config.seed), size)
    contestants = {"ours": reverse.value_and_grad(workload.fun), "jax": jax.value_and_grad(workload.fun)}
    compiled = {side: jax.jit(grad).lower(*args).compile() for side, grad in contestants.items()}
    ours, theirs = compiled["ours"], compiled["jax"]
    exact = {
        "flops": _flops(ours) / _flops(theirs),
        "bytes": _bytes(ours) / _bytes(theirs),
        # The arguments' buffers are the same on both sides; a program without temporaries has room for its outputs.
        "memory": max(_temporary_bytes(ours), 1024) / max(_temporary_bytes(theirs), 1024),
        "value_ratio": _flops(ours) / _flops(jax.jit(workload.fun).lower(*args).compile()),
    }
    same = all(exact[m] == 1 for m in EXACT) and _operations(ours) == _operations(theirs)
    timed, quartiles, jax_seconds = {}, {}, {}
    for measure, calls in {
        "step": {s: lambda p=p: jax.block_until_ready(p(*args)) for s, p in compiled.items()},
        "trace": {s: lambda g=g: jax.make_jaxpr(lambda *a: g(*a))(*args) for s, g in contestants.items()},
        "lower": {s: lambda g=g: jax.jit(lambda *a: g(*a)).lower(*args) for s, g in contestants.items()},
        "eager": {s: lambda g=g: jax.block_until_ready(g(*args)) for s, g in contestants.items()},
    }.items():
        if not config.times or (measure == "step" and same) or (measure != "step" and size != 1):
            timed[measure] = 1.0 if measure == "step" and same else math.nan
            continue
        turns = config.turns if measure == "step" else max(1, config.turns // 3)
        quartiles[measure], jax_seconds[measure] = _take_turns(calls, turns)
        timed[measure] = quartiles[measure][1]
    low, _, high = quartiles.get("step", (1.0, 1.0, 1.0))
    return {
        **exact,
        **timed,
        "same": same,
        "step_low": low,
        "step_high": high,
        "jax_step_ms": 1e3 * jax_seconds.get("step", math.nan),
    }


def _flops(program) -> float:
    """XLA's count, and that of the LAPACK calls."""
    return (program.cost_analysis() or {}).get("flops", math.nan) + _lapack_flops(program.as_text())


def _bytes(program) -> float:
    return (program.cost_analysis() or {}).get("bytes accessed", math.nan)


def _temporary_bytes(program) -> float:
    analysis = program.memory_analysis()
    return math.nan if analysis is None else analysis.temp_size_in_bytes


# Flops of LAPACK's routines on (m, n) matrices, the leading terms.  Source: LAPACK Working Note 41, appendix C.
LAPACK: dict[str, Callable[[int, int], float]] = {
    "potrf": lambda m, n: n**3 / 3,
    "getrf": lambda m, n: m * n * min(m, n) - (m + n) * min(m, n) ** 2 / 2 + min(m, n) ** 3 / 3,
    "geqrf": lambda m, n: 2 * min(m, n) ** 2 * (max(m, n) - min(m, n) / 3),
    "orgqr": lambda m, n: 2 * min(m, n) ** 2 * (max(m, n) - min(m, n) / 3),
    "syevd": lambda m, n: 9 * n**3,
    "gesdd": lambda m, n: 4 * m * n * min(m, n) + 22 * min(m, n) ** 3,
    "trsm": lambda m, n: m * m * n,  # with the triangle on the left; the shape is the right-hand side's
}
CALL = re.compile(r'= \(?\w+\[([\d,]*)\][^=]*custom_call_target="(?:lapack|blas)_[sdcz]?(\w+?)(?:_ffi)?"')


def _lapack_flops(text: str) -> float:
    total = 0.0
    for shape, routine in CALL.findall(text):
        sizes = [int(n) for n in shape.split(",") if n]
        formula = next((f for key, f in LAPACK.items() if routine.endswith(key)), None)
        if formula is not None and len(sizes) >= 2:
            total += math.prod(sizes[:-2]) * formula(sizes[-2], sizes[-1])
    return total


OPERATION = re.compile(r"= (\(?[\w\[\],{}]+\)?) ([\w-]+)\(")


def _operations(program) -> Counter:
    """The operations of a compiled program with their types, whatever their names and order."""
    return Counter(OPERATION.findall(program.as_text()))


def _take_turns(calls: dict, turns: int) -> tuple[tuple[float, float, float], float]:
    """Quartiles of ours / jax.grad's over the turns, and jax.grad's median; each is called once before that."""
    for call in calls.values():
        call()
    ratios, seconds = [], []
    for turn in range(turns):
        spent = {}
        for side in list(calls) if turn % 2 else list(calls)[::-1]:
            began, count = time.process_time(), 0
            while count == 0 or time.process_time() - began < 0.01:  # the clock is coarse
                calls[side]()
                count += 1
            spent[side] = (time.process_time() - began) / count
        ratios.append(spent["ours"] / spent["jax"])
        seconds.append(spent["jax"])
    low, median, high = np.quantile(ratios, (0.25, 0.5, 0.75))
    return (float(low), float(median), float(high)), float(np.median(seconds))


@contextlib.contextmanager
def _without_garbage_collection() -> Iterator[None]:
    """As timeit does: what a full collection costs grows with all that is alive, not with what is timed."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _trace_chains(config: Config) -> dict:
    """Seconds to trace value and gradient of sin(sin(... x)), its length doubled four times; the least of three."""
    lengths = [config.equations // 2**k for k in range(4, -1, -1)]
    seconds = []
    for length in (lengths[0], *lengths):  # the first is a rehearsal

        def chain(x, length=length):
            for _ in range(length):
                x = lax.sin(x)
            return x

        taken = []
        for _ in range(3):  # other load lengthens a measurement and shortens none
            with _without_garbage_collection():
                began = time.process_time()
                jax.make_jaxpr(reverse.value_and_grad(chain))(jnp.float32(0.5))
                taken.append(time.process_time() - began)
        seconds.append(min(taken))
    return {"lengths": lengths, "seconds": seconds[1:]}


def plot(result: Result) -> list[Picture]:
    found, chain = result.curves["found"], result.curves["chain"]
    first = [e for e in found if e["size"] == 1]
    figure = style.figure(10.5 if chain else 7.4, 5.2)
    left, *others = figure.subplots(1, 2, width_ratios=(2.4, 1)) if chain else [figure.subplots()]
    places = np.arange(len(first))[::-1]
    for measure, marker, colour in zip((*EXACT, "step") if chain else EXACT, "osDv", style.COLOURS):
        left.plot([e[measure] for e in first], places, marker, color=colour, label=NAMES[measure], alpha=0.85)
    left.axvline(1, color=style.BLACK, linewidth=1)
    left.set_yticks(places, [e["program"] for e in first])
    left.set(xlabel="ours / jax.grad's", title="Cost of value and gradient (left of 1: ours is cheaper)")
    left.legend(loc="lower left")
    for right in others:
        lengths, seconds = chain["lengths"], chain["seconds"]
        right.plot(lengths, seconds, "o-", color=style.COLOURS[0], label="measured")
        right.plot(lengths, [seconds[0] * n / lengths[0] for n in lengths], ":", color=style.BLACK, label="linear")
        right.set(xscale="log", yscale="log", xlabel="equations", ylabel="seconds", title="Tracing a chain of sines")
        right.legend()
    caption = "Ratios of each program." if not chain else "Left: ratios of each program. Right: time to trace a chain."
    return [Picture("costs", caption, figure)]
