r"""A certificate of optimality: the KKT conditions to a tolerance, what qualifies the constraints, and second order.

Second order.  Let Z span {d: grad h d = 0, grad g_i d = 0 for strongly active i}.  Then d' (hess L) d > 0 on Z suffices
for a strict local minimum; a negative curvature along a d of the critical cone

    C = {d: grad h d = 0, grad g_i d = 0 (strong), grad g_i d <= 0 (weak)}

refutes one where LICQ holds.  With weakly active constraints C lies between a subspace and Z:
Z positive proves; the subspace where the weak rows vanish too, or a curved direction of Z that lies in C, refutes; the
rest is "undecided".  Active bounds are eliminated (qualification.py); what is read at the point comes from matrices or,
where variables are many, from products (curvature.py): "undecided", with what is known, where these do not tell.
Source: Nocedal and Wright 2006, theorems 12.5 and 12.6.
"""

from collections.abc import Iterator
from typing import Any, NamedTuple

import numpy as np

from functional_dl.aliases import Array
from functional_dl.optimality.certificate import qualification
from functional_dl.optimality.certificate.curvature import Subspace, read
from functional_dl.optimality.certificate.qualification import Held
from functional_dl.optimality.certificate.verdict import (
    LIMIT,
    Certificate,
    activity,
    explain,
    falls_along,
    loosely,
    mixed,
    stated,
)
from functional_dl.optimality.kkt import estimate_bounded

NUMBERS = 2**26  # of rows of general constraints that are formed, at most
TOO_MANY = "with so many general constraints active, qualifications and curvature are not decided"


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


def certify_flat(flat: Any, x: Array, lam: Any, mu: Any, tolerance: float, compiled: Any = None) -> Certificate:
    """certify over vectors; lam or mu may be None.  `compiled` is what evaluate(flat) returned, to use it again."""
    at = read(flat, x, compiled)
    h, g = at.h, at.g
    below, above = flat.bounded
    parts = Parts(x.size, g.size - below.size - above.size, below, above)

    def held_by(marked) -> Held | None:
        own, at_lower, at_upper = parts.chosen(marked)
        if (h.size + own.size) * x.size > NUMBERS:
            return None
        equalities, inequalities = at.rows(own)
        return Held(equalities, inequalities, at_lower, at_upper, max(qualification.FLAT, 10 * tolerance))

    if (lam is None and h.size) or (mu is None and g.size):
        # examined with the smallest active set that is complete within the tolerance
        lam, mu = np.zeros(h.size), np.zeros(g.size)
        close = np.abs(g) <= 10 * tolerance * (1 + at.norms_g)
        sound = all(np.all(np.isfinite(v)) for v in (at.gradient, at.norms_h, at.norms_g))
        held = held_by(close) if sound else None
        if held is not None:
            lam, of_own, low, high = estimate_bounded(at.gradient, held)
            mu[np.flatnonzero(close[: parts.general])] = of_own
            mu[parts.general :] = np.concatenate([low[below], high[above]])
    lam = np.zeros(h.size) if lam is None else np.asarray(lam, float)
    mu = np.zeros(g.size) if mu is None else np.asarray(mu, float)
    found = at.set_multipliers(lam, mu)
    failed = [name for name, value in found._asdict().items() if not float(value) <= tolerance]
    strong, weak = activity(g, mu, at.norms_g, tolerance)
    notes, second, licq, mfcq, limit, unsure = [], "undecided", False, False, False, False
    finite = bool(np.isfinite(at.f) and np.all(np.isfinite(at.norms_h)))
    finite = finite and bool(np.all(np.isfinite(at.norms_g[strong | weak])))
    size_of = max(np.max(np.abs(lam), initial=0), np.max(mu, initial=0))
    held, loose = held_by(strong | weak) if finite else None, loosely(tolerance)
    if held is not None:
        values, right = qualification.singular(held.rows, held.free)
        licq = qualification.licq(held, values, loose)
        mfcq = licq or qualification.mfcq(held, loose)
        if mfcq is None:
            notes.append("whether MFCQ holds was not decided in time")
    if finite and not (failed or mfcq) and loose * size_of > 0.03 * (1 + np.max(np.abs(at.gradient), initial=0)):
        unsure = held is None or mfcq is None
        limit = not unsure
    if held is not None and not failed:
        surely = (held_by(strong) if np.any(weak) else None) or held
        possible = np.isin(np.flatnonzero((strong | weak)[: parts.general]), np.flatnonzero(weak[: parts.general]))
        rest = Weak(held.inequalities[possible], *parts.chosen(weak)[1:])
        narrow = wide = qualification.null_space(held, values, right)
        if surely is not held:
            wide = qualification.null_space(surely, *qualification.singular(surely.rows, surely.free))
        second = _second_order(at, Cone(wide, narrow, rest, qualification.licq(held, values)), tolerance, notes)
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

    def critical(self, direction: Any, space: Subspace) -> Iterator[Any]:
        """The direction and its opposite, moved to where they leave no weakly active constraint: those that stay."""
        for d in (direction, -direction):
            d = np.where(self.at_lower, np.maximum(d, 0), np.where(self.at_upper, np.minimum(d, 0), d))
            size = np.linalg.norm(d)
            inside = size > 0 and np.linalg.norm(d - space.project(d)) <= 1e-7 * size
            if inside and np.all(self.rows @ d <= 1e-12 * size * np.linalg.norm(self.rows, axis=1)):
                yield d / size


class Cone(NamedTuple):
    """The critical cone between two subspaces: without the weakly active constraints, and with them as equalities."""

    wide: Subspace
    narrow: Subspace
    weak: Weak
    licq: bool

    @property
    def is_space(self) -> bool:
        return self.wide.dimension == self.narrow.dimension


def _second_order(at: Any, cone: Cone, tolerance: float, notes: list[str]) -> str:
    """The verdict on the critical cone, and on the Lagrangian itself where its model says that it does not decrease."""
    size = at.size()
    if not np.isfinite(size):
        return "undecided"
    zero = np.sqrt(tolerance) * 1e-2 * (size + np.finfo(float).tiny)
    outer = at.least(cone.wide, zero, 1e-2 * size)
    if outer.upper < -zero:
        critical = (d for first in outer.directions[:3] for d in cone.weak.critical(first, cone.wide))
        falls = cone.is_space or any(at.along(d) < -zero for d in critical)
        refuted = cone.licq and (falls or at.least(cone.narrow, zero, 1e-2 * size).upper < -zero)
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
    inner = outer if cone.is_space or outer.upper >= 1e-2 * size else at.least(cone.narrow, zero, 1e-2 * size)
    return "not a minimum" if _keeps_decreasing(at, inner.directions, cone.narrow, size, zero) else second


def _keeps_decreasing(at: Any, directions: np.ndarray, space: Subspace, size: float, zero: float) -> bool:
    """Try directions of curvature, that of the remaining gradient, and those between the flat ones."""
    remaining, here = at.remaining(), at.lagrangian(np.zeros(at.x.size))
    values = np.array([at.along(d) for d in directions])
    clear = values > zero
    tried = [*zip(values, directions, strict=True), *mixed(directions[~clear])]
    along = space.project(remaining)
    length = np.linalg.norm(along)
    if length > 0:
        tried.append((at.along(along / length), along / length))
    bend = at.bend(directions[clear], values[clear])
    change = lambda step: at.lagrangian(step) - here
    reach, eps = float(np.linalg.norm(np.asarray(at.x, float))), float(np.finfo(at.x.dtype).eps)
    return any(
        falls_along(change, here, vector, value, remaining @ vector, size, reach, zero, bend, eps)
        for value, vector in tried
    )
