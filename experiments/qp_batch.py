"""A thousand quadratic programs in one call, against loops over solvers of renown.

    minimise x' P x / 2 + q . x   subject to   A x = b, G x <= h,       20 variables, 4 equalities, 25 inequalities.

`qp.solve` under vmap takes all programs at once, split over the devices that JAX has (shard_map; each core of the
processor is one here), and for comparison on one of them. Clarabel and SciPy (SLSQP, with gradients) take one after
the other. All run in turns in one process, each round of the loops on a slice of the programs, and medians are
compared; what compiling takes once is reported beside them, not counted. Everybody starts from the same dense arrays.
Clarabel wants sparse matrices, and how long it takes when these are made beforehand is reported too; so is the
processor time, which counts the work of all cores. Objectives are held against Clarabel's, and the gap between primal
and dual value certifies each program for itself.
"""

import contextlib
import os
import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from jax.sharding import AxisType, NamedSharding, PartitionSpec
from scipy.optimize import minimize

from experiments.framework import progress, settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import qp

ALONE = True  # it measures times
CLAIM = (
    "One call, on every core, solves a thousand quadratic programs of 20 variables, each with a gap of at most 1e-8, "
    "at least ten times as fast as Clarabel and SciPy one after the other."
)
SUITE = "full"


@dataclass(frozen=True)
class Config:
    """Settings of the batch."""

    programs: int = 1000
    """Programs in a batch."""
    variables: int = 20
    """Variables of each."""
    equalities: int = 4
    """Equalities of each."""
    inequalities: int = 25
    """Inequalities of each, beside which nothing bounds the variables."""
    rounds: int = 7
    """Rounds, of which medians are taken."""
    calls: int = 3
    """Calls with the batch in a round."""
    clarabel: int = 100
    """Programs that Clarabel solves in a round."""
    scipy: int = 5
    """Programs that SciPy solves in a round."""
    ratio: float = 10.0
    """How many times faster the batch has to be."""
    seed: int = 0

    def __post_init__(self):
        settings.at_least(self, 1, "programs", "variables", "equalities", "inequalities", "rounds", "calls", "clarabel",
                          "scipy")  # fmt: skip


SMOKE = Config(programs=8, variables=4, equalities=1, inequalities=5, rounds=1, clarabel=2, scipy=1, ratio=0.0)


NAMES = ("batch", "batch, one device", "Clarabel", "Clarabel, prepared", "SciPy")


def run(config: Config) -> Result:
    devices = _devices(config.programs)
    with jax.enable_x64(True):
        batch = programs(config)
        arrays = [jnp.asarray(part) for part in batch]
        begin = time.perf_counter()
        solve = jax.jit(jax.vmap(qp.solve)).lower(*arrays).compile()
        compiling = time.perf_counter() - begin
        jax.block_until_ready(solve(*arrays))
        progress.part("rounds")
        everywhere = _everywhere(devices, arrays)
        found = everywhere()
        times, others = _rounds(config, everywhere, lambda: jax.block_until_ready(solve(*arrays)), batch)
        sizes = [n for n in (1, 3, 10, 30, 100, 300) if n < config.programs] + [config.programs]
        scaling = [_per_program(arrays, n, config.rounds) for n in sizes]
    objective, gap = np.asarray(found.objective), np.asarray(found.gap)
    off = {name: max(abs(value - objective[i]) / (1 + abs(value)) for i, value in values.items())
           for name, values in others.items()}  # fmt: skip
    medians = {name: np.median(times[name], axis=0) for name in NAMES}
    ratios = {name: np.median(np.array(times[name]) / np.array(times["batch"]), axis=0) for name in NAMES}
    rows = [[name, *(1e6 * medians[name]), *ratios[name], off.get(name, 0.0)] for name in NAMES]
    solved = int(np.sum(np.asarray(found.status) == qp.CONVERGED))
    relative = float(np.max(gap / (1 + np.abs(objective))))
    checks = [
        Check("every program is solved", f"{solved} of {config.programs}", solved == config.programs),
        Check("every gap is at most 1e-8 (1 + |objective|)", f"{relative:.1e}", relative <= 1e-8),
        Check("objectives equal Clarabel's to 1e-6", f"{off['Clarabel']:.1e}", off["Clarabel"] <= 1e-6),
        *[
            Check(f"at least {config.ratio:g} times as fast as {name}",
                  f"{ratios[name][0]:.1f} times on {len(devices)} of {os.cpu_count()} cores "
                  f"({ratios[name][0] / ratios['batch, one device'][0]:.1f} times on one)",
                  ratios[name][0] >= config.ratio)
            for name in ("Clarabel", "SciPy")
        ],
    ]  # fmt: skip
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "devices": len(devices),
            "microseconds a program, in the batch": f"{1e6 * medians['batch'][0]:.0f}",
            "microseconds a program, on one device": f"{1e6 * medians['batch, one device'][0]:.0f}",
            "microseconds a program, Clarabel": f"{1e6 * medians['Clarabel'][0]:.0f}",
            "seconds to compile, once": f"{compiling:.1f}",
        },
        metrics=[{"solver": name, "round": k, "seconds": wall, "processor_seconds": processor}
                 for name in NAMES for k, (wall, processor) in enumerate(times[name])],
        table=Table(["solver", "µs a program", "processor µs", "times the batch's", "in processor time",
                     "objective off ours"], rows),
        curves={"medians": medians, "sizes": sizes, "scaling": scaling, "iterations": np.asarray(found.iterations)},
    )  # fmt: skip


def _devices(count: int) -> list:
    """As many devices as share `count` evenly; every core of the processor is one, if JAX has not begun otherwise."""
    if jax.config.jax_platforms in (None, "", "cpu"):
        with contextlib.suppress(RuntimeError):
            jax.config.update("jax_num_cpu_devices", os.cpu_count())
    devices = jax.devices()
    return devices[: next(k for k in range(len(devices), 0, -1) if count % k == 0)]


def _everywhere(devices, arrays):
    """The batch in one call, each device with its share of the programs."""
    axis = PartitionSpec("programs")
    mesh = jax.make_mesh((len(devices),), ("programs",), axis_types=(AxisType.Auto,), devices=devices)
    solve = jax.jit(jax.shard_map(jax.vmap(qp.solve), mesh=mesh, in_specs=axis, out_specs=axis))
    placed = [jax.device_put(array, NamedSharding(mesh, axis)) for array in arrays]
    solve = solve.lower(*placed).compile()
    jax.block_until_ready(solve(*placed))
    return lambda: jax.block_until_ready(solve(*placed))


def programs(config: Config):
    """P (N, n, n), q, A, b, G, h: random, strictly feasible, P positive definite or singular by turns."""
    rng = np.random.default_rng(config.seed)
    N, n, p, m = config.programs, config.variables, config.equalities, config.inequalities
    root = rng.normal(size=(N, n, n))
    root[1::2, :, : n // 4] = 0.0
    P = root @ np.swapaxes(root, 1, 2) / n + 1e-2 * np.eye(n)
    q, x0 = rng.normal(size=(N, n)), rng.normal(size=(N, n))
    A, G = rng.normal(size=(N, p, n)), rng.normal(size=(N, m, n))
    at = lambda rows: np.einsum("bmn,bn->bm", rows, x0)
    return P, q, A, at(A), G, at(G) + rng.uniform(0.1, 1.0, size=(N, m))


def _clock(work, count):
    """(what work() returns, (seconds, processor seconds) for each of `count` programs)."""
    wall, processor = time.perf_counter(), time.process_time()
    value = work()
    return value, ((time.perf_counter() - wall) / count, (time.process_time() - processor) / count)


def _rounds(config: Config, everywhere, alone, batch):
    """Times of each solver, round by round, and the objectives that the others find."""
    slices = {
        "Clarabel": (config.clarabel, lambda parts: _clarabel(_sparse(*parts))),
        "Clarabel, prepared": (config.clarabel, _clarabel),
        "SciPy": (config.scipy, lambda parts: _scipy(*parts)),
    }
    times: dict = {name: [] for name in NAMES}
    others: dict = {name: {} for name in slices}
    for round_ in range(config.rounds):
        for name, solve in (("batch", everywhere), ("batch, one device", alone)):
            calls = lambda solve=solve: [solve() for _ in range(config.calls)]
            times[name].append(_clock(calls, config.calls * config.programs)[1])
        for name, (count, other) in slices.items():
            chosen = [(round_ * count + k) % config.programs for k in range(min(count, config.programs))]
            given = [[part[i] for part in batch] for i in chosen]
            if name == "Clarabel, prepared":
                given = [_sparse(*parts) for parts in given]
            values, taken = _clock(lambda: [other(parts) for parts in given], len(chosen))
            times[name].append(taken)
            others[name].update(zip(chosen, values))
    return times, others


def _sparse(P, q, A, b, G, h):
    """What Clarabel is given."""
    import clarabel
    from scipy import sparse

    options = clarabel.DefaultSettings()
    options.verbose = False
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows = sparse.csc_matrix(np.concatenate([A, G]))
    return sparse.csc_matrix(np.triu(P)), q, rows, np.concatenate([b, h]), cones, options


def _clarabel(given) -> float:
    import clarabel

    return clarabel.DefaultSolver(*given).solve().obj_val


def _scipy(P, q, A, b, G, h) -> float:
    constraints = [
        {"type": "eq", "fun": lambda x: A @ x - b, "jac": lambda x: A},
        {"type": "ineq", "fun": lambda x: h - G @ x, "jac": lambda x: -G},
    ]
    found = minimize(
        lambda x: x @ P @ x / 2 + q @ x,
        np.zeros(len(q)),
        jac=lambda x: P @ x + q,
        constraints=constraints,
        method="SLSQP",
        options={"ftol": 1e-12, "maxiter": 500},
    )
    return float(found.fun)


def _per_program(arrays, count, rounds) -> float:
    """Seconds a program in a batch of `count`, the median; small batches are called several times."""
    part = [array[:count] for array in arrays]
    solve = jax.jit(jax.vmap(qp.solve)).lower(*part).compile()
    jax.block_until_ready(solve(*part))
    calls = max(1, 100 // count)

    def work():
        for _ in range(calls):
            jax.block_until_ready(solve(*part))

    return float(np.median([_clock(work, calls * count)[1][0] for _ in range(rounds)]))


# ---- plots ---------------------------------------------------------------------------------------------


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    figure = style.figure(10.5, 3.9)
    left, right = figure.subplots(1, 2, width_ratios=(1.5, 1))
    scaling = 1e6 * np.array(curves["scaling"])
    left.plot(curves["sizes"], scaling, "o-", color=style.BLUE)
    label = lambda x, y, words, **at: left.text(x, y, words, color=style.BLUE, fontsize=9, **at)
    everywhere = 1e6 * curves["medians"]["batch"][0]
    left.plot(curves["sizes"][-1], everywhere, "s", color=style.BLUE)
    label(0.8 * curves["sizes"][-1], everywhere, "every device", ha="right", va="center")
    label(curves["sizes"][0], everywhere, "qp.solve in one call, one device", ha="left", va="center")
    for name, colour, place in zip(NAMES[2:], (style.RED, style.GREEN, style.PURPLE), ("bottom", "top", "bottom")):
        median = 1e6 * curves["medians"][name][0]
        left.axhline(median, linestyle="--", color=colour)
        left.text(curves["sizes"][-1], median * (1.04 if place == "bottom" else 0.96), f"{name}, in a loop",
                  color=colour, ha="right", va=place, fontsize=9)  # fmt: skip
    left.set(xscale="log", yscale="log", xlabel="programs in the call", ylabel="µs a program", title="Time")
    left.set_ylim(0.7 * everywhere, 2 * max(1e6 * curves["medians"]["SciPy"][0], max(scaling)))
    iterations = curves["iterations"]
    right.hist(iterations, bins=np.arange(iterations.min() - 0.5, iterations.max() + 1.5), color=style.BLUE, rwidth=0.9)
    right.set(xlabel="iterations", ylabel="programs", title="Iterations of the interior point method")
    caption = (
        "Left: the time for one program falls with the size of the batch, for the cost of a call is shared (prepared: "
        "the sparse matrices are made beforehand; square: on every device). Right: how many iterations the programs of "
        "the batch take; those that have ended leave it."
    )
    return [Picture("batch", caption, figure)]
