"""The hand-written reverse mode against jax.grad: work, memory and time of one gradient.

XLA counts flops and temporary memory of the two compiled programs exactly. Times are ratios: both sides take turns in
one process, the order changing from turn to turn, and the medians are divided. A trace is `jax.make_jaxpr` of the
value and gradient with JAX's caches warm, so that what is timed is the sweep and not the first look at jax.numpy.

Tracing must also be linear in the program: chains of up to --equations sines are traced, and the time an equation is
compared along the chain.
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from experiments.workloads import WORKLOADS
from functional_dl import reverse

CLAIM = "A gradient by the hand-written reverse mode costs no more work, time, tracing or memory than jax.grad's"
SUITE = False

NETWORKS = ("mlp", "cnn", "transformer", "lstm")
LIMITS = {"flops": 1.00, "memory": 1.10, "step": 1.05, "trace": 0.80}
MEASURES = {"flops": "flops", "memory": "temporary memory", "step": "time of a compiled step", "trace": "tracing time"}


@dataclass(frozen=True)
class Config:
    """Settings of the benchmark."""

    turns: int = 31
    """Turns of each contestant, of which the median counts."""
    equations: int = 100_000
    """Length of the longest chain that is traced."""
    seed: int = 0
    """Seed of parameters and batches."""

    def __post_init__(self):
        settings.at_least(self, 1, "turns")
        settings.at_least(self, 100, "equations")


SMOKE = Config(turns=1, equations=200)


def run(config: Config) -> Result:
    found = {name: _compare(WORKLOADS[name], config) for name in WORKLOADS}
    chain = _trace_chains(config)
    checks = [
        Check(
            f"{MEASURES[measure]}, ours / jax.grad's: at most {limit:.2f} on every network",
            ", ".join(f"{name} {found[name][measure]:.3f}" for name in NETWORKS),
            all(found[name][measure] <= limit for name in NETWORKS),
        )
        for measure, limit in LIMITS.items()
    ]
    cheap = {name: entry["value_ratio"] for name, entry in found.items()}
    checks.append(
        Check(
            "flops of value and gradient / flops of the value: at most 4, the product of 1000 factors included",
            ", ".join(f"{name} {ratio:.2f}" for name, ratio in cheap.items()),
            all(ratio <= 4 for ratio in cheap.values()),
        )
    )
    growth = chain["seconds"][-1] / chain["lengths"][-1] / (chain["seconds"][0] / chain["lengths"][0])
    checks.append(
        Check(
            f"tracing is linear: an equation of a chain of {chain['lengths'][-1]} costs at most twice one of "
            f"{chain['lengths'][0]}",
            f"{growth:.2f} times",
            growth <= 2,
        )
    )
    columns = ("workload", *MEASURES, "value_ratio", "jax_value_ratio", "jax_step_ms", "jax_trace_ms")
    rows = [[name, *(round(entry[column], 4) for column in columns[1:])] for name, entry in found.items()]
    geometric = {m: float(np.exp(np.mean([np.log(found[n][m]) for n in NETWORKS]))) for m in MEASURES}
    numbers = {f"{MEASURES[m]}, geometric mean": f"{value:.3f}" for m, value in geometric.items()}
    numbers["tracing an equation of the longest chain"] = f"{1e6 * chain['seconds'][-1] / chain['lengths'][-1]:.0f} µs"
    metrics = [{"workload": name, **entry} for name, entry in found.items()]
    return Result(CLAIM, checks, numbers, metrics, Table(columns, rows), {"found": found, "chain": chain})


def _compare(workload, config: Config) -> dict[str, float]:
    args = workload.build(jax.random.key(config.seed))
    contestants = {"ours": reverse.value_and_grad(workload.fun), "jax": jax.value_and_grad(workload.fun)}
    compiled = {name: jax.jit(grad).lower(*args).compile() for name, grad in contestants.items()}
    flops = {name: _flops(program) for name, program in compiled.items()}
    # The arguments' buffers are the same on both sides; a program without temporaries has room for its outputs.
    memory = {name: max(_temporary_bytes(program), 1024) for name, program in compiled.items()}
    value_flops = _flops(jax.jit(workload.fun).lower(*args).compile())
    step = _take_turns({n: lambda p=p: jax.block_until_ready(p(*args)) for n, p in compiled.items()}, config.turns)
    trace = _take_turns(
        {n: lambda g=g: jax.make_jaxpr(lambda *a: g(*a))(*args) for n, g in contestants.items()}, config.turns
    )
    return {
        "flops": flops["ours"] / flops["jax"],
        "memory": memory["ours"] / memory["jax"],
        "step": step["ours"] / step["jax"],
        "trace": trace["ours"] / trace["jax"],
        "value_ratio": flops["ours"] / value_flops,
        "jax_value_ratio": flops["jax"] / value_flops,
        "jax_step_ms": 1e3 * step["jax"],
        "jax_trace_ms": 1e3 * trace["jax"],
    }


def _flops(program) -> float:
    """XLA's count; of nothing, where the backend does not count."""
    analysis = program.cost_analysis() or {}
    return analysis.get("flops", float("nan"))


def _temporary_bytes(program) -> float:
    analysis = program.memory_analysis()
    return float("nan") if analysis is None else analysis.temp_size_in_bytes


def _take_turns(contestants: dict, turns: int) -> dict[str, float]:
    """Median seconds of each contestant, called in alternating order, after one call that is not counted."""
    seconds: dict[str, list[float]] = {name: [] for name in contestants}
    for turn in range(turns + 1):
        order = list(contestants) if turn % 2 else list(contestants)[::-1]
        for name in order:
            began = time.perf_counter()
            contestants[name]()
            if turn:
                seconds[name].append(time.perf_counter() - began)
    return {name: float(np.median(values)) for name, values in seconds.items()}


def _trace_chains(config: Config) -> dict:
    """Seconds to trace value and gradient of sin(sin(... x)) for growing lengths."""
    lengths = sorted({max(100, config.equations // 100), max(100, config.equations // 10), config.equations})
    seconds = []
    for length in lengths:

        def chain(x, length=length):
            for _ in range(length):
                x = lax.sin(x)
            return x

        began = time.perf_counter()
        jax.make_jaxpr(reverse.value_and_grad(chain))(jnp.float32(0.5))
        seconds.append(time.perf_counter() - began)
    return {"lengths": lengths, "seconds": seconds}


def plot(result: Result) -> list[Picture]:
    found, chain = result.curves["found"], result.curves["chain"]
    figure = style.figure(10.5, 3.6)
    left, right = figure.subplots(1, 2, width_ratios=(2.2, 1))
    places = np.arange(len(NETWORKS))
    for i, (measure, colour) in enumerate(zip(MEASURES, style.COLOURS)):
        ratios = [found[name][measure] for name in NETWORKS]
        left.bar(places + 0.2 * (i - 1.5), ratios, 0.18, color=colour, label=MEASURES[measure])
    left.axhline(1, color=style.BLACK, linewidth=1)
    left.set_xticks(places, NETWORKS)
    left.set(ylabel="ours / jax.grad's", title="Cost of value and gradient (below 1: ours is cheaper)")
    left.set_ylim(0, 1.45)
    left.legend(ncols=2, loc="upper center")
    right.plot(chain["lengths"], chain["seconds"], "o-", color=style.COLOURS[0], label="measured")
    right.plot(
        chain["lengths"],
        [chain["seconds"][0] * n / chain["lengths"][0] for n in chain["lengths"]],
        ":",
        color=style.BLACK,
        label="linear",
    )
    right.set(xscale="log", yscale="log", xlabel="equations", ylabel="seconds", title="Tracing a chain of sines")
    right.legend()
    return [Picture("costs", "Left: ratios on four networks. Right: tracing time grows linearly.", figure)]
