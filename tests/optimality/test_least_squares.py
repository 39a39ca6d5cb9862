"""Least squares: NIST's sets, cases that invite false claims, units, bounds, losses, covariances."""

import jax
import jax.numpy as jnp
import numpy as np
import pytest
from jax import lax
from scipy import optimize, stats

from functional_dl.optimality import Status, least_squares
from functional_dl.optimality.least_squares import _kept as compiled_fits
from functional_dl.optimality.solvers import levenberg_marquardt
from tests.optimality import nist


@pytest.mark.campaign
def test_nist():
    """27 of 27 from both starts, linear 11 of 11, to 6 certified digits and more; each claim is true."""
    cases = nist.nonlinear() + nist.linear()
    fits = jax.tree.map(lambda *leaves: jnp.asarray(np.stack(leaves)), *(fit for *_, fit in cases))

    def solve(fit):
        far = jnp.where(fit.fixed > 0, jnp.inf, 0.0)
        found = least_squares(nist.residual, fit.start, (fit,), bounds=(-far, far))
        count = jnp.sum(fit.weight)
        freedom = (fit.y.size - jnp.sum(fit.fixed)) / (count - jnp.sum(fit.fixed))  # of the rows that are there
        return found.x, found.standard_errors * jnp.sqrt(freedom), 2 * found.cost, found.converged

    x, errors, rss, converged = map(np.asarray, jax.jit(lambda fits: lax.map(solve, fits))(fits))
    assert converged.all(), [cases[k][:2] for k in np.flatnonzero(~converged)]
    # (digits of the parameters, of their errors): Filip's columns are nearly dependent, Wampler's residuals are large,
    # and Lanczos' data have 14 digits, so residuals of 1e-13 have two
    few = {"Filip": (6, 6), "Wampler3": (8, 9), "Wampler4": (7, 9), "Wampler5": (5, 9), "Lanczos1": (9, 2)}
    wrong = []
    for k, (name, start, _) in enumerate(cases):
        kind = nist.SETS["linear" if k >= 54 else "nonlinear"][name]
        got = nist.digits(x[k], kind["certified"]), nist.digits(errors[k], kind["errors"])
        enough = few.get(name, (9, 9))
        exact = name in ("Wampler1", "Wampler2")  # the errors are rounding
        if got[0] < enough[0] or (got[1] < enough[1] and not exact):
            wrong.append((name, start, got))
        if "rss" in kind and name != "Lanczos1":
            np.testing.assert_allclose(rss[k], kind["rss"], rtol=1e-8)
    assert not wrong


T = np.linspace(0, 3, 12)
Y = 2 * np.exp(-0.7 * T) + 0.1 * np.sin(9 * T)
ROWS = np.stack([np.cos(3 * T), np.sin(5 * T)], axis=1)
SLOPE = float(T @ Y / (T @ T))
GOOD, BAD = {Status.CONVERGED}, set(Status) - {Status.CONVERGED}
fill = lambda *values: jnp.zeros(12, values[0].dtype).at[: len(values)].set(jnp.stack(values))
one = lambda p: jnp.ones_like(p[0])

# name: residuals of two variables (12 of them), start, which outcomes are true, x (None: any)
CLAIMS = {
    "falls for ever": (lambda p: fill(jnp.exp(-p[0]), p[1]), (0, 1), BAD, None),
    "falls for ever beside a constant": (lambda p: fill(jnp.exp(-p[0]), one(p), p[1]), (0, 1), BAD, None),
    "as 1/x": (lambda p: fill(1 / p[0], one(p), p[1]), (1, 1), BAD, None),
    "as 1/x to 0": (lambda p: fill(1 / p[0], p[1]), (1, 1), BAD, None),
    "falls for ever, from afar": (lambda p: fill(jnp.exp(-p[0]), p[1] * 1e-22), (50, 1), BAD, None),
    "underflow": (lambda p: fill(jnp.exp(-(p[0] ** 2)), one(p), p[1]), (30, 1), BAD, None),
    "a saturated curve": (lambda p: p[0] * (1 - jnp.exp(-p[1] * (T + 1))) - Y, (1, 1000), BAD | GOOD, None),
    "steps": (lambda p: jnp.floor(p[0]) * T - Y + p[1], (1.5, 0), BAD, None),
    "a kink": (lambda p: fill(jnp.abs(p[0]) + 1, p[1]), (1, 1), BAD, None),
    "not finite": (lambda p: jnp.log(-1 - p[0] ** 2) * T - p[1], (1, 1), {Status.NOT_FINITE}, None),
    "not finite on a step": (lambda p: jnp.log(p[0]) * T - Y + 0 * p[1], (30, 1), GOOD, (np.exp(SLOPE), 1)),
    "not finite at the start": (lambda p: jnp.log(p[0]) * T - Y + 0 * p[1], (-1, 1), GOOD, None),
    "a saddle": (lambda p: fill(p[0] ** 2 - 1, p[1]), (0, 0), GOOD, None),
    "a cubic saddle": (lambda p: fill(p[0] ** 3 - 1, p[1]), (0, 0), GOOD, (1, 0)),
    "a saddle of a product": (lambda p: p[0] * p[1] * T - Y, (0, 0), GOOD, None),
    "a dead start": (lambda p: jnp.maximum(p[0], 0) * T - Y + 0 * p[1], (-1, 1), GOOD, (SLOPE, None)),
    "a product": (lambda p: p[0] * p[1] * T - Y, (1, 1), GOOD, (SLOPE**0.5, SLOPE**0.5)),
    "a sum": (lambda p: (p[0] + p[1]) * T - Y, (0, 0), GOOD, (SLOPE / 2, SLOPE / 2)),
    "unused": (lambda p: p[0] * T - Y + 0 * p[1], (0, 3), GOOD, (SLOPE, 3)),
    "constant": (lambda p: Y + 0 * p[0], (1, 3), GOOD, (1, 3)),
    "nothing": (lambda p: 0 * T * p[0], (1, 3), GOOD, (1, 3)),
    "duplicates": (lambda p: jnp.repeat(ROWS[:6] @ p - Y[:6], 2), (0, 0), GOOD, None),
    "fewer residuals than variables": (lambda p: fill(p[0] + 2 * p[1] - 5), (0, 0), GOOD, None),
    "a root of order 2": (lambda p: fill(p[0] ** 2, p[1]), (1, 1), GOOD, (0, 0)),
    "a root of order 3": (lambda p: fill(p[0] ** 3, p[1]), (1, 1), GOOD, (0, 0)),
    "order 4 beside a constant": (lambda p: fill(p[0] ** 2, one(p), p[1]), (1, 1), GOOD, (0, 0)),
    "order 4, at it": (lambda p: fill(p[0] ** 2, one(p), p[1]), (0, 0), GOOD, (0, 0)),
    "Rosenbrock": (lambda p: fill(10 * (p[1] - p[0] ** 2), 1 - p[0]), (-1.2, 1), GOOD, (1, 1)),
    "Freudenstein and Roth": (
        lambda p: fill(p[0] - 13 + ((5 - p[1]) * p[1] - 2) * p[1], p[0] - 29 + ((p[1] + 1) * p[1] - 14) * p[1]),
        (0.5, -2), GOOD, (11.41277899, -0.89680525),
    ),
    "cancellation": (lambda p: (p[0] * T + 1e10) - 1e10 - Y + p[1], (0, 0), GOOD, None),
    "small residuals": (lambda p: 1e-200 * (p[0] * T - Y) + 0 * p[1], (0, 1), GOOD, (SLOPE, 1)),
    "great residuals": (lambda p: 1e200 * (p[0] * T - Y) + 0 * p[1], (0, 1), GOOD, (SLOPE, 1)),
    "units apart": (lambda p: 1e12 * p[0] * T - Y + 1e-12 * p[1] * T**2, (0, 0), GOOD, None),
    "a steep start": (lambda p: jnp.exp(p[0]) * T - Y + 0 * p[1], (100, 1), GOOD, (np.log(SLOPE), 1)),
}  # fmt: skip


@pytest.mark.parametrize("step", ["qr", pytest.param("lsmr", marks=pytest.mark.campaign)])
def test_claims(step):
    """Every claim of a minimum is one, or a perfect fit; every refusal is of what has none (LSMR may refuse others)."""
    branches = [residual for residual, *_ in CLAIMS.values()]
    starts = np.array([start for _, start, *_ in CLAIMS.values()], float)

    def solve(case):
        index, start = case
        return least_squares(lambda p: lax.switch(index, branches, p).astype(p.dtype), start, step=step, starts=None)

    found = jax.jit(lambda *cases: lax.map(solve, cases))(np.arange(len(starts)), starts)
    wrong = []
    for k, (name, (_, _, true, x)) in enumerate(CLAIMS.items()):
        fit = jax.tree.map(lambda leaf: np.asarray(leaf)[k], found)
        near = all(e is None or np.isclose(f, e, atol=2e-6, rtol=1e-6) for f, e in zip(fit.x, x or (None, None)))
        status = Status(int(fit.status))
        if (status not in true or not near) if step == "qr" else (status == Status.CONVERGED and status not in true):
            wrong.append((name, fit.x, fit.reason))
    assert not wrong, "\n".join(map(str, wrong))


def curve(p, t, y):
    return p["a"] * jnp.exp(-p["rate"] * t) + p["level"] - y


RANDOM = np.random.default_rng(0)
TIMES = np.linspace(0, 4, 30)
NOISE = 0.05 * RANDOM.normal(size=(3, 30))
DATA = np.array([[2.0], [1.0], [-3.0]]) * np.exp(-np.array([[0.8], [1.5], [0.5]]) * TIMES) + 0.3 + NOISE
DATA[:, 4] += 3  # an outlier
START = {"a": np.ones(()), "rate": np.ones(()), "level": np.zeros(())}


def test_bounds_and_batches():
    """Costs and points of SciPy's least_squares, free and with bounds that are active; by vmap."""
    sides = [{"a": -1.5, "rate": 0.1, "level": -9.0}, {"a": 1.5, "rate": 9.0, "level": 0.2}]
    wide = [{k: v * np.array([1.0, np.inf]) for k, v in side.items()} for side in sides]

    def fit(y, lower, upper):
        found = least_squares(curve, START, (TIMES, y), loss="cauchy", loss_scale=0.1, bounds=(lower, upper))
        return jnp.stack([found.x["a"], found.x["level"], found.x["rate"], found.cost]), found.converged

    run = jax.jit(jax.vmap(jax.vmap(fit, (None, 0, 0)), (0, None, None)))
    wide[0]["rate"] = np.array([0.1, -np.inf])
    ours, converged = map(np.asarray, run(DATA, *wide))
    assert converged.all()
    for y, both in zip(DATA, ours):
        for got, low, high in zip(both, *(np.stack([s[k] for k in ("a", "level", "rate")], -1) for s in wide)):
            theirs = optimize.least_squares(
                lambda v: v[0] * np.exp(-v[2] * TIMES) + v[1] - y, np.clip(got[:3] + 1e-3, low + 1e-9, high - 1e-9),
                loss="cauchy", f_scale=0.1, bounds=(low, high), gtol=1e-14, ftol=1e-15, xtol=1e-15,
            )  # fmt: skip
            assert got[3] <= theirs.cost * (1 + 1e-9)
            np.testing.assert_allclose(got[:3], theirs.x, rtol=1e-3, atol=1e-3)


def test_losses():
    """rho, rho' and rho' + 2 z rho'' of SciPy's definitions, and no overflow."""
    a = np.array([0.0, 0.3, 0.99, 1.01, 4.0, 1e20])
    z = a**2
    with np.errstate(over="ignore", divide="ignore"):
        expected = {
            "linear": (z, 1 + 0 * z, 1 + 0 * z),
            "soft_l1": (2 * (np.sqrt(1 + z) - 1), (1 + z) ** -0.5, (1 + z) ** -1.5),
            "huber": (np.where(z <= 1, z, 2 * a - 1), np.where(z <= 1, 1, 1 / a), 1.0 * (z <= 1)),
            "cauchy": (np.log1p(z), 1 / (1 + z), (1 - z) / (1 + z) ** 2),
            "arctan": (np.arctan(z), 1 / (1 + z**2), (1 - 3 * z**2) / (1 + z**2) ** 2),
        }
    ours = jax.jit(lambda a: {name: loss(a) for name, loss in levenberg_marquardt.LOSSES.items()})(a)
    for name, parts in expected.items():
        for got, right in zip(ours[name], parts):
            np.testing.assert_allclose(got, right, rtol=1e-9, atol=1e-15, err_msg=name)


def test_covariance_and_intervals():
    found = least_squares(curve, START, (TIMES, DATA[0]))
    x = np.array([found.x[k] for k in ("a", "level", "rate")])
    theirs, _ = optimize.curve_fit(lambda t, a, l, r: a * np.exp(-r * t) + l, TIMES, DATA[0], [1, 0, 1])
    np.testing.assert_allclose(x, theirs, rtol=1e-3)
    fading = np.exp(-x[2] * TIMES)
    J = np.stack([fading, np.ones(30), -x[0] * TIMES * fading], axis=1)
    r = x[0] * fading + x[1] - DATA[0]
    covariance = r @ r / 27 * np.linalg.inv(J.T @ J)
    np.testing.assert_allclose(found.covariance, covariance, rtol=1e-9)
    np.testing.assert_allclose(J.T @ r, 0, atol=1e-11)
    low, high = found.interval(0.9)
    half = stats.t.ppf(0.95, 27) * np.sqrt(np.diag(covariance))
    np.testing.assert_allclose([high[k] - low[k] for k in ("a", "level", "rate")], 2 * half, rtol=1e-9)
    assert "strict minimum" in found.reason
    # other data in args: the same program; in a closure: another
    before = compiled_fits.cache_info().misses
    assert least_squares(curve, START, (TIMES, DATA[1])).converged
    assert compiled_fits.cache_info().misses == before
    place = [1.0]
    residual = lambda p: p - place[0]
    for value in (1.0, 2.0):
        place[0] = value
        assert float(least_squares(residual, np.zeros(()), starts=1).x) == value


@pytest.mark.parametrize("dtype", [np.float64, np.float32])
def test_units_do_not_matter(dtype):
    """Residuals, and each variable, in units of 2^40 and 2^-40: the same verdict, and to rounding the same point."""
    powers = np.ldexp(1.0, np.stack(np.meshgrid([-40, 0, 40], [-40, 40], [0, 40], indexing="ij"), -1).reshape(-1, 3))
    powers = jnp.asarray(np.concatenate([np.ones((1, 3)), powers]), dtype)

    def fit(unit):
        def residual(p):
            return unit[0] * (p[0] * unit[1] * jnp.exp(-p[1] * unit[2] * TIMES.astype(dtype)) - DATA[0].astype(dtype))

        found = least_squares(residual, jnp.ones(2, dtype) / unit[1:], starts=1)
        return found.x * unit[1:], found.status, found.certificate.curvature, found.cost / unit[0] ** 2

    for found in jax.jit(lambda units: lax.map(fit, units))(powers):
        np.testing.assert_allclose(found, np.broadcast_to(found[0], found.shape), rtol=1e-6)
    assert np.asarray(found[0]) > 0


def test_without_a_matrix():
    """LSMR's steps end where those of QR end; with 2,000 variables no matrix is formed."""
    dense = least_squares(curve, START, (TIMES, DATA[0]))
    free = least_squares(curve, START, (TIMES, DATA[0]), step="lsmr")
    assert free.converged, free.reason
    np.testing.assert_allclose(free.cost, dense.cost, rtol=1e-12)
    np.testing.assert_allclose(free.x["rate"], dense.x["rate"], rtol=1e-6)
    with pytest.raises(ValueError, match="covariance"):
        free.standard_errors  # noqa: B018
    n = 2000

    def residual(x, target):
        return {"value": x + 0.1 * jnp.sin(x) - target, "bend": x[1:] - x[:-1]}

    call = lambda x, target: least_squares(residual, x, (target,), step="lsmr", bounds=(0.0, None), starts=1)
    x0, target = jnp.ones(n), jnp.asarray(np.sin(np.arange(n) / 50.0))
    compiled = jax.jit(call).lower(x0, target).compile()
    assert compiled.memory_analysis().temp_size_in_bytes < 400 * n * x0.dtype.itemsize
    found = compiled(x0, target)
    assert found.converged
    x = np.asarray(found.x)
    r = np.asarray(found.residual["value"])
    step = np.diff(x)
    slope = r * (1 + 0.1 * np.cos(x)) + np.append(0, step) - np.append(step, 0)
    np.testing.assert_allclose(np.minimum(slope, x), 0, atol=1e-6)
    assert np.sum(x == 0) > 100


def test_bad_input():
    good = lambda p: p - 1.0
    for error, match, call in [
        (
            ValueError,
            "loss: expected one of .* did you mean 'huber'",
            lambda: least_squares(good, jnp.ones(2), loss="hubr"),
        ),
        (ValueError, "step: expected one of", lambda: least_squares(good, jnp.ones(2), step="svd")),
        (ValueError, "tolerance: expected a number > 0", lambda: least_squares(good, jnp.ones(2), tolerance=0.0)),
        (ValueError, "bounds: expected lower <= upper", lambda: least_squares(good, jnp.ones(2), bounds=(1.0, 0.0))),
        (ValueError, "bounds: expected a pair", lambda: least_squares(good, jnp.ones(2), bounds=0.0)),
        (
            ValueError,
            r"bounds: expected a number or shape \(2,\), got shape \(3,\)",
            lambda: least_squares(good, jnp.ones(2), bounds=(np.ones(3), None)),
        ),
        (ValueError, "x_scale: expected a number > 0", lambda: least_squares(good, jnp.ones(2), x_scale=-1.0)),
        (ValueError, "residual: expected at least one number", lambda: least_squares(lambda p: p[:0], jnp.ones(2))),
        (ValueError, "x0: expected at least one variable", lambda: least_squares(good, jnp.ones(0))),
        (TypeError, "x: expected floating", lambda: least_squares(good, jnp.arange(2))),
        (TypeError, "residual: expected floating", lambda: least_squares(lambda p: p > 0, jnp.ones(2))),
        (TypeError, "residual: expected a function", lambda: least_squares(3, jnp.ones(2))),
    ]:
        with pytest.raises(error, match=match):
            call()


def test_what_cannot_be_told_from_0_is_no_perfect_fit():
    """Starts of the search's own stand where exp(-p) is 0 in float32; a residual that is 0 beyond a hinge is a fit."""
    fading = least_squares(lambda p: jnp.exp(-p) * jnp.ones_like(p), jnp.array([50.0], jnp.float32))
    assert not fading.converged
    hinge = least_squares(lambda p: jnp.maximum(p - 1, 0), jnp.array([3.0], jnp.float32))
    assert hinge.converged
