r"""A certificate of optimality: the KKT conditions to a tolerance, what qualifies the constraints, and second order.

Second order.  Let Z span {d: grad h d = 0, grad g_i d = 0 for strongly active i}.  Then d' (hess L) d > 0 on Z suffices
for a strict local minimum; a negative curvature along a d of the critical cone

    C = {d: grad h d = 0, grad g_i d = 0 (strong), grad g_i d <= 0 (weak)}

refutes one where LICQ holds.  With weakly active constraints C lies between a subspace and Z:
Z positive proves; the subspace where the weak rows vanish too, or a curved direction of Z that lies in C, refutes; the
rest is "undecided".
Source: Nocedal and Wright 2006, theorems 12.5 and 12.6.
"""

from collections.abc import Callable
from typing import Any, NamedTuple

import jax
import numpy as np

from functional_dl.aliases import Array
from functional_dl.optimality.certificate_large import certify_large, programs
from functional_dl.optimality.kkt import estimate, residuals
from functional_dl.optimality.qualification import FLAT, RANK
from functional_dl.optimality.verdict import LIMIT, Certificate, activity, explain, falls_along, loosely, mixed, stated


def certify_flat(
    flat: Any,
    x: Array,
    lam: Any,
    mu: Any,
    tolerance: float,
    compiled: Any = None,
) -> Certificate:
    """certify over vectors; lam or mu may be None.  `compiled` is what evaluate(flat) returned, to use it again."""
    if flat.large:
        return certify_large(flat, x, lam, mu, tolerance, compiled)
    values, residuals_at, hessian = compiled or evaluate(flat)
    f, gradient, h, dh, g, dg = (np.asarray(v, float) for v in values(x))
    lengths = np.linalg.norm(dg, axis=1)
    if (lam is None and h.size) or (mu is None and g.size):
        # examined with the smallest active set that is complete within the tolerance, or with the wider one
        close = np.abs(g) <= 10 * tolerance * (1 + lengths)
        lam, mu = (
            estimate(gradient, dh, dg, close) if np.all(np.isfinite(gradient)) else (np.zeros(h.size), np.zeros(g.size))
        )
    lam = np.zeros(h.size) if lam is None else np.asarray(lam, float)
    mu = np.zeros(g.size) if mu is None else np.asarray(mu, float)
    found = residuals_at(x, lam.astype(x.dtype), mu.astype(x.dtype))
    failed = [name for name, value in found._asdict().items() if not float(value) <= tolerance]
    strong, weak = activity(g, mu, lengths, tolerance)
    rows = np.concatenate([dh, dg[strong], dg[weak]])
    finite = bool(np.all(np.isfinite(rows)) and np.isfinite(f))
    loose = loosely(tolerance)
    licq = finite and _rank(rows, loose) == len(rows)
    mfcq = finite and (licq or _mfcq(dh, dg[strong | weak], loose))
    second, curvature = "undecided", np.zeros((x.size, x.size))
    if finite and not failed:
        curvature = np.asarray(hessian(x, lam.astype(x.dtype), mu.astype(x.dtype)), float)
        regular = _rank(rows) == len(rows)
        second = _second_order(curvature, np.concatenate([dh, dg[strong]]), dg[weak], regular, tolerance)
    size_of = max(np.max(np.abs(lam), initial=0), np.max(mu, initial=0))
    limit = finite and not failed and not mfcq and loose * size_of > 0.03 * (1 + np.max(np.abs(gradient), initial=0))
    if finite and not failed and second in ("strict minimum", "necessary"):

        def lagrangian(at):
            f, _, h, _, g, _ = (np.asarray(v, float) for v in values(at))
            beyond = np.any(g > 0.1 * np.linalg.norm(np.asarray(at) - np.asarray(x)))
            return np.inf if beyond or not np.isfinite(f) else float(f + lam @ h + mu @ g)

        def slope(at):
            _, gradient, _, dh, _, dg = (np.asarray(v, float) for v in values(at))
            return gradient + lam @ dh + mu @ dg

        held, cut = np.concatenate([dh, dg[strong | weak]]), np.sqrt(tolerance) * 1e-2
        if _keeps_decreasing(lagrangian, slope, x, gradient + lam @ dh + mu @ dg, curvature, held, cut):
            second = "not a minimum"
    passed = finite and not failed and not limit and second != "not a minimum"
    reason = LIMIT.format(size_of) if limit else explain(found, failed, second, finite, tolerance)
    said = {"passed": passed, "residuals": found, "licq": bool(licq), "mfcq": bool(mfcq), "second_order": second}
    return stated(flat, x.dtype, lam, mu, h, g, (strong, weak), finite, reason=reason, **said)


class Evaluated(NamedTuple):
    """What is compiled for a problem, as functions of x and multipliers."""

    values: Callable[..., Any]  # x -> f, h, g, each followed by its gradients
    residuals: Callable[..., Any]
    hessian: Callable[..., Any]


def evaluate(flat: Any) -> Any:
    """Compiled: values and first derivatives; residuals; the Hessian of the Lagrangian.  Where no matrix may be formed:
    the programs of certificate_large."""
    if flat.large:
        return programs(flat)

    def values(x):
        f, gradient = jax.value_and_grad(flat.objective)(x)
        h, g = flat.equalities, flat.inequalities
        return f, gradient, h(x), jax.jacrev(h)(x), g(x), jax.jacrev(g)(x)

    def lagrangian(x, lam, mu):
        return flat.objective(x) + lam @ flat.equalities(x) + mu @ flat.inequalities(x)

    of_residuals = jax.jit(lambda x, lam, mu: residuals(flat, x, lam, mu))
    return Evaluated(jax.jit(values), of_residuals, jax.jit(jax.hessian(lagrangian)))


def _keeps_decreasing(lagrangian, slope, x, gradient, hessian, held, cut):
    """Whether the Lagrangian keeps decreasing along an eigenvector of the reduced Hessian, or along a valley."""
    basis = _null(held, hessian.shape[0])
    if basis.shape[1] == 0:
        return False
    values, vectors = np.linalg.eigh(basis.T @ hessian @ basis)
    here, size = lagrangian(x), np.max(np.abs(hessian), initial=0.0)
    eps = float(np.finfo(x.dtype).eps)
    curved = values > max(cut * size, 0.0)
    clear = (basis @ vectors)[:, curved]

    def bend(step):
        """Newton's step from there, in the directions of clearly positive curvature."""
        at = slope(x + jax.numpy.asarray(step, x.dtype)) - gradient
        corrected = step - clear @ ((clear.T @ at) / values[curved])
        return corrected if np.all(np.isfinite(corrected)) else step

    change = lambda step: lagrangian(x + jax.numpy.asarray(step, x.dtype)) - here
    reach = float(np.linalg.norm(x))
    tried = [*zip(values, (basis @ vectors).T, strict=True), *mixed((basis @ vectors)[:, ~curved].T)]
    return any(
        falls_along(change, here, vector, value, gradient @ vector, size, reach, cut * size, bend, eps)
        for value, vector in tried
    )


def _rank(rows, least=RANK):
    """The rank of normalised rows: how many singular values are above `least` times the greatest."""
    norms = np.linalg.norm(rows, axis=1, keepdims=True)
    if rows.size == 0 or np.any(norms < FLAT):
        return 0 if rows.size == 0 else -1
    singular = np.linalg.svd(rows / norms, compute_uv=False)
    return int(np.sum(singular > least * singular[0]))


def _mfcq(dh, active, least):
    """A witness by linear programming: max t with grad h d = 0, grad g_i d + t <= 0, |d| <= 1, above `least`."""
    from scipy.optimize import linprog

    if len(dh) and _rank(dh) != len(dh):
        return False
    if not len(active):
        return True
    n = active.shape[1]
    norms = np.linalg.norm(active, axis=1, keepdims=True)
    if np.any(norms < FLAT):
        return False
    unit = active / norms
    answer = linprog(
        np.r_[np.zeros(n), -1.0],
        np.c_[unit, np.ones(len(unit))],
        np.zeros(len(unit)),
        np.c_[dh, np.zeros(len(dh))] if len(dh) else None,
        np.zeros(len(dh)) if len(dh) else None,
        bounds=[(-1, 1)] * n + [(None, 1)],
    )
    return bool(answer.status == 0 and -answer.fun > least)


def _null(rows, n):
    """An orthonormal basis of {d: rows d = 0}, as columns."""
    if not len(rows):
        return np.eye(n)
    _, singular, right = np.linalg.svd(rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-300))
    return right[np.sum(singular > RANK * max(singular[0], 1e-300)) :].T


def _curvature(hessian, basis):
    """The least eigenvalue of the reduced Hessian, and its direction; +inf on the space {0}."""
    if basis.shape[1] == 0:
        return np.inf, None
    values, vectors = np.linalg.eigh(basis.T @ hessian @ basis)
    return values[0], basis @ vectors[:, 0]


def _second_order(hessian, strong, weak, licq, tolerance):
    """The verdict on the critical cone."""
    n = hessian.shape[0]
    if not np.all(np.isfinite(hessian)):
        return "undecided"
    zero = np.sqrt(tolerance) * 1e-2 * (np.max(np.abs(hessian), initial=0.0) + np.finfo(float).tiny)
    wide, direction = _curvature(hessian, _null(strong, n))
    if wide > zero:
        return "strict minimum"
    if wide >= -zero:
        return "necessary"
    narrow, _ = _curvature(hessian, _null(np.concatenate([strong, weak]), n))
    along = weak @ direction
    in_cone = np.all(along <= 0) or np.all(along >= 0)
    if licq and (narrow < -zero or in_cone):
        return "not a minimum"
    return "undecided"
