r"""A certificate for many variables: no matrix but the rows of active general constraints.

The rules are those of certificate.py; what they need is computed without forming a matrix.  Lengths of gradients
and multiplied rows come from backward passes, bounds at their limits are eliminated (qualification.py), the least
curvature on

    Z = {d: d_i = 0 at strongly active bounds, rows of strongly active general constraints times d = 0}

comes from Hessian-vector products by Lanczos' method with a bound from below (lanczos.py).  "strict minimum" and
"necessary" are said where that bound tells, and "undecided", with what is known, where it does not.
"""

from collections.abc import Callable, Iterator
from typing import Any, NamedTuple

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.optimality import lanczos, qualification
from functional_dl.optimality.kkt import combined, estimate_bounded, formed, measured, norms, rows_of
from functional_dl.optimality.qualification import Held
from functional_dl.optimality.verdict import LIMIT, Certificate, activity, explain, falls_along, loosely, stated

NUMBERS = 2**26  # of rows of general constraints that are formed, at most
TOO_MANY = "with so many general constraints active, qualifications and curvature are not decided"
DRAWS = 16  # random signs by which the size of the Hessian's rows is estimated


class Programs(NamedTuple):
    """What is compiled for a problem: values, derivatives, and products, as functions of x and multipliers."""

    values_and_gradients: Callable[..., Any]  # x -> f, its gradient, h, g, lengths of the gradients of h and g
    values: Callable[..., Any]  # x -> f, h, g
    residuals: Callable[..., Any]
    combined: Callable[..., Any]
    block: Callable[..., Any]
    product: Callable[..., Any]
    advance: Callable[..., Any]


def programs(flat: Any) -> Programs:
    def values_and_gradients(x):
        f, gradient = jax.value_and_grad(flat.objective)(x)
        return f, gradient, flat.equalities(x), flat.inequalities(x), *norms(flat, x)

    def product(point, v):
        def lagrangian(x):
            return flat.objective(x) + point[1] @ flat.equalities(x) + point[2] @ flat.inequalities(x)

        return jax.jvp(jax.grad(lagrangian), (point[0],), (v,))[1]

    return Programs(
        jax.jit(values_and_gradients),
        jax.jit(lambda x: (flat.objective(x), flat.equalities(x), flat.inequalities(x))),
        jax.jit(lambda *point_and_norms: measured(flat, *point_and_norms)),
        jax.jit(lambda x, lam, mu: combined(flat, x, lam, mu)),
        jax.jit(rows_of(flat)),
        jax.jit(product),
        jax.jit(lanczos.recurrence(product)),
    )


class Parts(NamedTuple):
    """How the inequalities are made up: general ones, then lower bounds of `below`, then upper bounds of `above`."""

    n: int
    general: int
    below: np.ndarray
    above: np.ndarray

    def chosen(self, marked: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Indices of marked general ones; whether each variable's lower, upper bound is marked."""
        own, low, high = np.split(marked, [self.general, self.general + self.below.size])
        at_lower, at_upper = np.zeros((2, self.n), bool)
        at_lower[self.below], at_upper[self.above] = low, high
        return np.flatnonzero(own), at_lower, at_upper


def certify_large(flat: Any, x: Array, lam: Any, mu: Any, tolerance: Any, compiled: Any = None) -> Certificate:
    """certify over vectors; lam or mu may be None.  `compiled` is what programs(flat) returned, to use it again."""
    compiled = compiled or programs(flat)
    f, gradient, h, g, norms_h, norms_g = (np.asarray(v, float) for v in compiled.values_and_gradients(x))
    below, above = flat.bounded
    parts = Parts(x.size, g.size - below.size - above.size, below, above)

    def held_by(marked) -> Held | None:
        own, at_lower, at_upper = parts.chosen(marked)
        if (h.size + own.size) * x.size > NUMBERS:
            return None
        rows = formed(compiled.block, x, np.concatenate([np.arange(h.size), h.size + own]))
        return Held(rows[: h.size], rows[h.size :], at_lower, at_upper)

    if (lam is None and h.size) or (mu is None and g.size):
        lam, mu = np.zeros(h.size), np.zeros(g.size)
        close = np.abs(g) <= 10 * tolerance * (1 + norms_g)
        sound = all(np.all(np.isfinite(v)) for v in (gradient, norms_h, norms_g))
        held = held_by(close) if sound else None
        if held is not None:
            lam, of_own, low, high = estimate_bounded(gradient, held)
            mu[np.flatnonzero(close[: parts.general])] = of_own
            mu[parts.general :] = np.concatenate([low[below], high[above]])
    lam = np.zeros(h.size) if lam is None else np.asarray(lam, float)
    mu = np.zeros(g.size) if mu is None else np.asarray(mu, float)
    point = tuple(jnp.asarray(part, x.dtype) for part in (x, lam, mu))
    found = compiled.residuals(*point, *(jnp.asarray(part, x.dtype) for part in (norms_h, norms_g)))
    failed = [name for name, value in found._asdict().items() if not float(value) <= tolerance]
    strong, weak = activity(g, mu, norms_g, tolerance)
    notes, second, licq, mfcq, limit, unsure = [], "undecided", False, False, False, False
    finite = bool(np.isfinite(f) and np.all(np.isfinite(norms_h)) and np.all(np.isfinite(norms_g[strong | weak])))
    size_of = max(np.max(np.abs(lam), initial=0), np.max(mu, initial=0))
    held, loose = held_by(strong | weak) if finite else None, loosely(tolerance)
    if held is not None:
        values, right = qualification.singular(held.rows, held.free)
        licq = qualification.licq(held, values, loose)
        mfcq = licq or qualification.mfcq(held, loose)
        if mfcq is None:
            notes.append("whether MFCQ holds was not decided in time")
    if finite and not (failed or mfcq) and loose * size_of > 0.03 * (1 + np.max(np.abs(gradient), initial=0)):
        unsure = held is None or mfcq is None
        limit = not unsure
    if held is not None and not failed:
        surely = (held_by(strong) if np.any(weak) else None) or held
        possible = np.isin(np.flatnonzero((strong | weak)[: parts.general]), np.flatnonzero(weak[: parts.general]))
        rest = Weak(held.inequalities[possible], *parts.chosen(weak)[1:])
        narrow = wide = qualification.null_space(held, values, right)
        if surely is not held:
            wide = qualification.null_space(surely, *qualification.singular(surely.rows, surely.free))
        cone = Cone(wide, narrow, rest, qualification.licq(held, values))
        second = _second_order(compiled, point, cone, gradient, f + lam @ h + mu @ g, tolerance, notes)
    if finite and held is None:
        notes.append(TOO_MANY)
    if unsure:
        notes.append(f"the multipliers reach {size_of:.3g}, and whether a qualification holds nearby was not decided")
    passed = finite and not failed and not limit and not unsure and second != "not a minimum"
    reason = LIMIT.format(size_of) if limit else explain(found, failed, second, finite, tolerance)
    said = {"passed": passed, "residuals": found, "licq": bool(licq), "mfcq": bool(mfcq), "second_order": second}
    return stated(flat, x.dtype, lam, mu, h, g, (strong, weak), finite, reason="; ".join([reason, *notes]), **said)


class Weak(NamedTuple):
    """Weakly active: rows of general inequalities, variables at lower and at upper bounds."""

    rows: np.ndarray
    at_lower: np.ndarray
    at_upper: np.ndarray

    def critical(self, direction: Any, space: lanczos.Subspace) -> Iterator[Any]:
        """The direction and its opposite, moved to where they leave no weakly active constraint: those that stay."""
        for d in (direction, -direction):
            d = np.where(self.at_lower, np.maximum(d, 0), np.where(self.at_upper, np.minimum(d, 0), d))
            size = np.linalg.norm(d)
            inside = size > 0 and np.linalg.norm(d - space.project(d)) <= 1e-7 * size
            if inside and np.all(self.rows @ d <= 1e-12 * size * np.linalg.norm(self.rows, axis=1)):
                yield d / size


class Cone(NamedTuple):
    """The critical cone between two subspaces: without the weakly active constraints, and with them as equalities."""

    wide: lanczos.Subspace
    narrow: lanczos.Subspace
    weak: Weak
    licq: bool

    @property
    def is_space(self) -> bool:
        return self.wide.dimension == self.narrow.dimension


def _second_order(compiled, point, cone: Cone, gradient, here, tolerance, notes) -> str:
    """The verdict on the critical cone, and on the Lagrangian itself where its model says that it does not decrease."""
    size = _size(compiled, point)
    if not np.isfinite(size):
        return "undecided"
    zero = np.sqrt(tolerance) * 1e-2 * (size + np.finfo(float).tiny)
    search = lambda space: lanczos.least(compiled.advance, point, space, zero, 1e-2 * size, point[0].dtype)
    outer = search(cone.wide)
    if outer.upper < -zero:
        critical = (d for first in outer.directions for d in cone.weak.critical(first, cone.wide))
        falls = cone.is_space or any(_curvature(compiled, point, d) < -zero for d in critical)
        refuted = cone.licq and (falls or search(cone.narrow).upper < -zero)
        return "not a minimum" if refuted else "undecided"
    if outer.lower > zero:
        second = "strict minimum"
    elif outer.lower >= -zero:
        second = "necessary"
    else:
        notes.append(
            f"the least curvature lies between {outer.lower:.3g} and {outer.upper:.3g} "
            f"(after {outer.products} products with the Hessian)"
        )
        second = "undecided"
    inner = outer if cone.is_space or outer.upper >= 1e-2 * size else search(cone.narrow)
    decreasing = _keeps_decreasing(compiled, point, inner.directions, cone.narrow, gradient, here, size)
    return "not a minimum" if decreasing else second


def _curvature(compiled, point, d) -> float:
    return float(d @ np.asarray(compiled.product(point, jnp.asarray(d, point[0].dtype)), float))


def _size(compiled, point) -> float:
    """The length of the longest row of the Hessian, about: E |H s|_i^2 = |row i|^2 for random signs s."""
    signs = np.random.default_rng(1).choice([-1.0, 1.0], size=(DRAWS, point[0].size))
    square = np.zeros(point[0].size)
    for sign in signs:
        square += np.asarray(compiled.product(point, jnp.asarray(sign, point[0].dtype)), float) ** 2
    return float(np.sqrt(np.max(square, initial=0.0) / DRAWS))


def _keeps_decreasing(compiled, point, directions, space, gradient, here, size) -> bool:
    """Try the directions of least curvature and that of the remaining gradient, as certificate.py tries them all."""
    x = np.asarray(point[0], float)
    lam, mu = (np.asarray(part, float) for part in point[1:])
    remaining = gradient + sum(np.asarray(part, float) for part in compiled.combined(*point))
    along = space.project(remaining)
    length = np.linalg.norm(along)
    if length > 0:
        directions = np.concatenate([directions, along[None] / length])

    def change(step):
        f, h, g = (np.asarray(v, float) for v in compiled.values(jnp.asarray(x + step, point[0].dtype)))
        beyond = np.any(g > 0.1 * np.linalg.norm(step))
        return np.inf if beyond or not np.isfinite(f) else float(f + lam @ h + mu @ g) - here

    for vector in directions:
        curved = _curvature(compiled, point, vector)
        if falls_along(change, here, vector, curved, float(remaining @ vector), size, np.linalg.norm(x)):
            return True
    return False
