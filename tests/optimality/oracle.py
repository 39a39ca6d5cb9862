"""SciPy's SLSQP and trust-constr on a problem of the table, from its start and from many others: the second opinion."""

import jax
import jax.numpy as jnp
import numpy as np
from scipy import optimize

from functional_dl.optimality.problem import flatten


def starts(known, count, seed=0):
    """The published start, then points spread over the bounds, or about the start where there are none."""
    random = np.random.default_rng(seed)
    start = np.asarray(known.start)
    yield start
    lower, upper = (np.full(start.size, side) for side in (-np.inf, np.inf))
    if known.problem.bounds is not None:
        lower, upper = known.problem.bounds
    size = 2 * (1 + np.abs(start))
    low, high = np.where(np.isfinite(lower), lower, start - size), np.where(np.isfinite(upper), upper, start + size)
    low, high = (
        np.minimum(np.maximum(low, start - 10 * size), high),
        np.maximum(np.minimum(high, start + 10 * size), low),
    )
    for _ in range(count):
        yield random.uniform(low, high)


def minima(known, count):
    """(value, violation, x) of every run that ended: SLSQP on scaled functions, and trust-constr from the start."""
    flat = flatten(known.problem, jnp.asarray(known.start))
    fair = lambda rows: 1 / np.clip(np.linalg.norm(np.nan_to_num(rows), axis=1), 1.0, 1e8)
    value = jax.jit(jax.value_and_grad(flat.objective))
    whole = 1 / max(1.0, abs(known.value))
    constraints, violations = [], []
    for fun, kind, sign in ((flat.equalities, "eq", 1.0), (flat.inequalities, "ineq", -1.0)):
        if not fun(flat.x0).size:
            continue
        inner, rows = jax.jit(fun), jax.jit(jax.jacrev(fun))
        scale = sign * fair(rows(flat.x0))
        constraints.append(
            {
                "type": kind,
                "fun": lambda x, inner=inner, scale=scale: scale * np.asarray(inner(x)),
                "jac": lambda x, rows=rows, scale=scale: scale[:, None] * np.asarray(rows(x)),
            }
        )
        part = np.abs if kind == "eq" else lambda g: np.maximum(g, 0)
        size = lambda x, inner=inner, rows=rows, part=part: np.max(part(np.asarray(inner(x))) * fair(rows(x)))
        violations.append(size)

    def objective(x):
        f, slope = value(x)
        return whole * float(f), whole * np.asarray(slope)

    found = []
    for method, options, start in [
        *(("SLSQP", {"maxiter": 1000, "ftol": 1e-15}, start) for start in starts(known, count)),
        ("trust-constr", {"maxiter": 2000, "gtol": 1e-9, "xtol": 1e-13}, np.asarray(known.start)),
    ]:
        if method == "trust-constr" and any(abs(f - known.value) <= 1e-7 * (1 + abs(known.value)) for f, _, _ in found):
            continue
        try:
            end = optimize.minimize(objective, start, jac=True, method=method, constraints=constraints, options=options)
        except ValueError:  # it left the domain of the functions
            continue
        f, violation = float(value(end.x)[0]), max((size(end.x) for size in violations), default=0.0)
        if np.isfinite(f) and np.isfinite(violation):
            found.append((f, float(violation), end.x))
    return found
