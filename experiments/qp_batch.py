"""A thousand quadratic programs in one call, against loops over solvers of renown.

    minimise x' P x / 2 + q . x   subject to   A x = b, G x <= h,       20 variables, 4 equalities, 25 inequalities.

`qp.solve` under vmap takes all programs at once; Clarabel and SciPy (SLSQP, with gradients) take one after the other.
All run in turns in one process, each round of the loops on a slice of the programs, and medians are compared; what
compiling takes once is reported beside them, not counted.  Objectives are held against Clarabel's, and the gap between
primal and dual value certifies each program for itself.
"""

import time
from dataclasses import dataclass

import jax
import jax.numpy as jnp
import numpy as np
from scipy.optimize import minimize

from experiments.framework import settings, style
from experiments.framework.result import Check, Picture, Result, Table
from functional_dl.optimality import qp

CLAIM = (
    "One call solves a thousand quadratic programs of 20 variables, each with a gap of at most 1e-8, at least ten "
    "times as fast as Clarabel and SciPy one after the other."
)
SUITE = False  # timings want a machine to themselves


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
    clarabel: int = 100
    """Programs that Clarabel solves in a round."""
    scipy: int = 5
    """Programs that SciPy solves in a round."""
    ratio: float = 10.0
    """How many times faster the batch has to be."""
    seed: int = 0

    def __post_init__(self):
        settings.at_least(self, 1, "programs", "variables", "equalities", "inequalities", "rounds", "clarabel", "scipy")


SMOKE = Config(programs=8, variables=4, equalities=1, inequalities=5, rounds=1, clarabel=2, scipy=1, ratio=0.0)


def run(config: Config) -> Result:
    with jax.enable_x64(True):
        batch = programs(config)
        arrays = [jnp.asarray(part) for part in batch]
        begin = time.perf_counter()
        solve = jax.jit(jax.vmap(qp.solve)).lower(*arrays).compile()
        compiling = time.perf_counter() - begin
        found = jax.block_until_ready(solve(*arrays))
        times, others = _rounds(config, solve, arrays, batch)
        sizes = [n for n in (1, 10, 100, 300) if n < config.programs] + [config.programs]
        scaling = [_per_program(arrays, n, config.rounds) for n in sizes]
    objective, gap = np.asarray(found.objective), np.asarray(found.gap)
    off = max(abs(value - objective[i]) / (1 + abs(value)) for i, value in others["Clarabel"].items())
    off_scipy = max(abs(value - objective[i]) / (1 + abs(value)) for i, value in others["SciPy"].items())
    medians = {name: float(np.median(taken)) for name, taken in times.items()}
    ratios = {name: float(np.median(np.array(times[name]) / np.array(times["batch"]))) for name in others}
    rows = [
        [name, 1e6 * medians[name], 1.0 if name == "batch" else ratios[name],
         0.0 if name == "batch" else (off if name == "Clarabel" else off_scipy)]
        for name in times
    ]  # fmt: skip
    solved = int(np.sum(np.asarray(found.status) == qp.CONVERGED))
    relative = float(np.max(gap / (1 + np.abs(objective))))
    checks = [
        Check("every program is solved", f"{solved} of {config.programs}", solved == config.programs),
        Check("every gap is at most 1e-8 (1 + |objective|)", f"{relative:.1e}", relative <= 1e-8),
        Check("objectives equal Clarabel's to 1e-6", f"{off:.1e}", off <= 1e-6),
        *[
            Check(f"at least {config.ratio:g} times as fast as {name}", f"{ratio:.1f} times", ratio >= config.ratio)
            for name, ratio in ratios.items()
        ],
    ]
    return Result(
        claim=CLAIM,
        checks=checks,
        numbers={
            "microseconds a program, in the batch": f"{1e6 * medians['batch']:.0f}",
            "microseconds a program, Clarabel": f"{1e6 * medians['Clarabel']:.0f}",
            "seconds to compile, once": f"{compiling:.1f}",
        },
        metrics=[{"solver": name, "round": k, "seconds": t} for name, ts in times.items() for k, t in enumerate(ts)],
        table=Table(["solver", "µs a program", "times the batch's", "objective off Clarabel's"], rows),
        curves={"times": times, "sizes": sizes, "scaling": scaling, "iterations": np.asarray(found.iterations)},
    )


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


def _rounds(config: Config, solve, arrays, batch):
    """Seconds a program of each solver, round by round, and the objectives that the others find."""
    slices = {"Clarabel": (config.clarabel, _clarabel), "SciPy": (config.scipy, _scipy)}
    times: dict = {"batch": [], **{name: [] for name in slices}}
    others: dict = {name: {} for name in slices}
    for round_ in range(config.rounds):
        begin = time.perf_counter()
        jax.block_until_ready(solve(*arrays))
        times["batch"].append((time.perf_counter() - begin) / config.programs)
        for name, (count, other) in slices.items():
            chosen = [(round_ * count + k) % config.programs for k in range(min(count, config.programs))]
            begin = time.perf_counter()
            values = [other(*(part[i] for part in batch)) for i in chosen]
            times[name].append((time.perf_counter() - begin) / len(chosen))
            others[name].update(zip(chosen, values))
    return times, others


def _clarabel(P, q, A, b, G, h) -> float:
    import clarabel
    from scipy import sparse

    options = clarabel.DefaultSettings()
    options.verbose = False
    cones = [clarabel.ZeroConeT(len(b)), clarabel.NonnegativeConeT(len(h))]
    rows = sparse.csc_matrix(np.concatenate([A, G]))
    upper = sparse.csc_matrix(np.triu(P))
    return clarabel.DefaultSolver(upper, q, rows, np.concatenate([b, h]), cones, options).solve().obj_val


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
    """Seconds a program in a batch of `count`, the median."""
    part = [array[:count] for array in arrays]
    solve = jax.jit(jax.vmap(qp.solve)).lower(*part).compile()
    jax.block_until_ready(solve(*part))
    taken = []
    for _ in range(rounds):
        begin = time.perf_counter()
        jax.block_until_ready(solve(*part))
        taken.append((time.perf_counter() - begin) / count)
    return float(np.median(taken))


def plot(result: Result) -> list[Picture]:
    curves = result.curves
    figure = style.figure(9.5, 3.6)
    left, right = figure.subplots(1, 2)
    names = list(curves["times"])
    medians = [1e6 * np.median(curves["times"][name]) for name in names]
    left.plot(curves["sizes"], 1e6 * np.array(curves["scaling"]), "o-", label="qp.solve, one call")
    for name, median in zip(names[1:], medians[1:]):
        left.axhline(median, linestyle="--", color=style.COLOURS[names.index(name)], label=f"{name}, in a loop")
    left.set(xscale="log", yscale="log", xlabel="programs in the call", ylabel="microseconds a program")
    left.legend()
    iterations = curves["iterations"]
    right.hist(iterations, bins=np.arange(iterations.min() - 0.5, iterations.max() + 1.5), color=style.BLUE)
    right.set(xlabel="iterations of the interior point method", ylabel="programs")
    caption = (
        "Left: the time for one program falls with the size of the batch, for the cost of a call is shared. Right: how "
        "many iterations the programs of the batch take; those that have ended leave it."
    )
    return [Picture("batch", caption, figure)]
