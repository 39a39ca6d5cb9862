r"""Jumps of an integrand whose places move with a parameter, and what they add to the derivative of its integral.

    d/dtheta int_a^b f(x, theta) dx = int_a^b df/dtheta dx + sum_j (f(x_j-) - f(x_j+)) dx_j/dtheta

The places come from the integrand's program: a comparison, a sign, or a step (floor, round, a conversion to integers)
jumps where its margin m(x, theta) changes sign, which is found on a grid and by bisection; x_j(theta) follows by
Newton's steps from there, so that it may be differentiated.  The program is then run with the comparison held on either
side.
Source: Flanders 1973, Differentiation under the integral sign; for the idea, Lee, Yu and Yang 2018.
"""

import functools
from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.aliases import Array
from functional_dl.integrals import rules, substitution
from functional_dl.integrals.substitution import Range
from functional_dl.jaxprs import Interpreter, all_equations, programs

COMPARISONS = {"lt": jnp.less, "le": jnp.less_equal, "gt": jnp.greater, "ge": jnp.greater_equal}
STEPS = {"floor", "ceil", "round"}
SITES = {*COMPARISONS, *STEPS, "sign", "rem", "convert_element_type"}
OTHERS = {"argmax", "argmin"}  # jump too, and are not followed
GRID = 1024  # places on the range, twice: evenly, and evenly in t
MOST = 16  # jumps that are followed
BISECTIONS = 60
NEWTON = 2
ORDERS = 4  # nodes on the interval of no length
ASIDE = 1e-9  # of the range, on either side of a jump: where it is seen which margins change sign there
SMALL = 1e-6  # of the margin's greatest modulus: a margin that is larger at its change of sign jumps itself


def _jumps(eqn: Any) -> bool:
    name = eqn.primitive.name
    if name == "convert_element_type":
        kind = np.dtype(eqn.params["new_dtype"]).kind
        return kind in "iu" and jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating)
    return name in SITES and jnp.issubdtype(eqn.invars[0].aval.dtype, jnp.floating)


class _Dependence(Interpreter):
    """A value is which inputs it depends on, (of x, of theta).  `sites` says for each place that jumps, in the order in
    which they are met, whether it moves; `unknown`, whether something may jump that is not followed."""

    def __init__(self) -> None:
        self.sites: list[bool] = []
        self.unknown = False

    def takes_apart(self, eqn: Any, operands: Any) -> bool:
        return False

    def constant(self, value: Any, aval: Any = None) -> tuple[bool, bool]:
        return False, False

    def apply(self, eqn: Any, operands: list[Any]) -> list[Any]:
        both = any(x for x, _ in operands), any(theta for _, theta in operands)
        if _jumps(eqn):
            self.sites.append(all(both))
        if all(both):
            inner = [e for program in programs(eqn.params) for e in all_equations(program)]
            self.unknown |= eqn.primitive.name in OTHERS or any(_jumps(e) for e in inner)
        return [both] * len(eqn.outvars)


def dependence(jaxpr: Any, inputs: Sequence[tuple[bool, bool]]) -> tuple[list[bool], bool]:
    """(of each site whether it depends on x and on theta, whether there may be others).

    Args:
      inputs: of each input of the jaxpr, whether it is x and whether it is theta.
    """
    machine = _Dependence()
    machine.run(jaxpr, list(inputs))
    return machine.sites, machine.unknown


class _Sites(Interpreter):
    """The program with the margins of its moving sites, some of which are held on one side."""

    def __init__(self, moving: Sequence[bool], held: Any = None, side: Any = None) -> None:
        self.moving, self.held, self.side = moving, held, side
        self.count, self.used = 0, 0
        self.margins: list[Array] = []

    def takes_apart(self, eqn: Any, operands: Any) -> bool:
        return False

    def apply(self, eqn: Any, operands: list[Any]) -> list[Any]:
        if not _jumps(eqn):
            return list(super().apply(eqn, operands))
        self.count += 1
        if not self.moving[self.count - 1]:
            return list(super().apply(eqn, operands))
        out = super().apply(eqn, operands)[0]
        margin = _margin(eqn, operands)
        self.margins.append(jnp.ravel(margin).astype(jnp.result_type(float)))
        if self.held is None:
            return [out]
        part = slice(self.used, self.used + out.size)
        self.used += out.size
        held, side = (x[part].reshape(out.shape) for x in (self.held, self.side))
        return [jnp.where(held, _on(eqn, operands, side > 0).astype(out.dtype), out)]


def _margin(eqn, operands):
    name = eqn.primitive.name
    if name in COMPARISONS:
        return operands[0] - operands[1]
    if name == "sign":
        return operands[0]
    y = operands[0] / operands[1] if name == "rem" else operands[0]
    if name == "round":
        return y - jax.lax.stop_gradient(jnp.floor(y)) - 0.5
    nearest = jax.lax.stop_gradient(jnp.round(y))
    if name in ("rem", "convert_element_type"):  # cut towards 0, where there is no step
        nearest = jnp.where(nearest == 0, jnp.where(y > 0, -1.0, 1.0).astype(y.dtype), nearest)
    return y - nearest


def _on(eqn, operands, above):
    """What an equation gives with its margin held above or below 0."""
    name = eqn.primitive.name
    if name in COMPARISONS:
        return above if name in ("gt", "ge") else ~above
    one = jnp.ones((), operands[0].dtype)
    if name == "sign":
        return jnp.where(above, one, -one)
    y = operands[0] / operands[1] if name == "rem" else operands[0]
    nearest = jax.lax.stop_gradient(jnp.round(y))
    below = jnp.where(above, nearest, nearest - one)
    if name == "floor":
        return below
    if name == "ceil":
        return jnp.where(above, nearest + one, nearest)
    if name == "round":
        low = jax.lax.stop_gradient(jnp.floor(y))
        return jnp.where(above, low + one, low)
    cut = jnp.where(nearest > 0, below, jnp.where(above, nearest + one, nearest))
    return operands[0] - operands[1] * cut if name == "rem" else cut


def _grid(lower: Any, upper: Any) -> Array:
    """Places on [lower, upper], increasing."""
    span = Range(lower, upper, jnp)
    finite = jnp.isfinite(lower) & jnp.isfinite(upper)
    t = jnp.asarray(np.linspace(-3.6, 3.6, GRID))
    shares = jnp.asarray((np.arange(GRID) + 0.5) / GRID)
    x = substitution.to_x(span, t)[0]
    even = jnp.where(finite, lower + (upper - lower) * shares, x)
    return jnp.sort(jnp.concatenate([x, even]))


def _dips(margins: Callable[..., Any], x: Array, m: Array) -> Array:
    """Places between those of the grid where a margin is nearest to 0 without reaching it on the grid: golden sections
    from the closest."""
    sign = jnp.sign(m[1:-1])
    here, left, right = (sign * part for part in (m[1:-1], m[:-2], m[2:]))
    dip = (here <= left) & (here <= right) & (left > 0) & (right > 0) & jnp.isfinite(left + right)
    size = jnp.max(jnp.where(jnp.isfinite(m), jnp.abs(m), 0.0), axis=0)
    depth = jnp.where(dip, here / jnp.where(size > 0, size, 1.0)[None], jnp.inf)
    _, index = jax.lax.top_k(-depth.reshape(-1), MOST)
    place, site = index // m.shape[1], index % m.shape[1]
    share = (np.sqrt(5.0) - 1) / 2

    def least(place, site):
        at = lambda x: sign[place, site] * margins(x)[site]

        def shrink(_, ends):
            low, high = ends
            one, two = high - share * (high - low), low + share * (high - low)
            lower = at(one) <= at(two)
            return jnp.where(lower, low, one), jnp.where(lower, two, high)

        low, high = jax.lax.fori_loop(0, BISECTIONS, shrink, (x[place], x[place + 2]))
        return (low + high) / 2

    return jax.vmap(least)(place, site)


def bisected(same: Callable[[Array], Array], low: Array, high: Array, rounds: int = BISECTIONS) -> tuple[Array, Array]:
    """The two ends between which `same` (place -> whether it is on the side of `low`) ends, after halvings."""

    def halve(_, ends):
        low, high = ends
        middle = (low + high) / 2
        below = same(middle)
        return jnp.where(below, middle, low), jnp.where(below, high, middle)

    return jax.lax.fori_loop(0, rounds, halve, (low, high))


def margins(jaxpr: Any, moving: Sequence[bool], inputs: Sequence[Any]) -> Array:
    """The margins of the moving sites, as one vector."""
    machine = _Sites(moving)
    machine.run(jaxpr, list(inputs))
    return jnp.concatenate(machine.margins)


def _program(values_at, operands):
    flat, tree = jax.tree_util.tree_flatten(operands)
    return jax.make_jaxpr(lambda x, *flat: values_at(x, *jax.tree_util.tree_unflatten(tree, flat)))(
        jnp.zeros(()), *flat
    )


def of(values_at: Callable[..., Any], operands: Any) -> tuple[list[bool], bool]:
    """`dependence` of a function of x and of operands, the floating ones of which are theta."""
    theta = [jnp.issubdtype(jnp.result_type(leaf), jnp.inexact) for leaf in jax.tree_util.tree_leaves(operands)]
    return dependence(_program(values_at, operands), [(True, False), *[(False, moves) for moves in theta]])


def contribution(values_at: Callable[..., Any], bounds: tuple[Array, Array], operands: Any) -> Array | None:
    """A function of the operands, 0 (K,), whose derivatives are what moving jumps add to the integral's; None where
    nothing moves.

    Args:
      values_at: (x, *operands) -> (K,).
      bounds: of the integral; not differentiated.
    """
    still_bounds, still = jax.lax.stop_gradient((bounds, operands))
    flat = jax.tree_util.tree_leaves(operands)
    jaxpr = _program(values_at, operands)
    moving, _ = of(values_at, operands)
    if not any(moving):
        return None
    still = jax.tree_util.tree_leaves(still)
    return jax.jit(functools.partial(_total, jaxpr, tuple(moving)))(flat, still, *still_bounds)


def _total(jaxpr, moving, flat, still, a, b):
    forward = a <= b
    lower, upper = jnp.minimum(a, b), jnp.maximum(a, b)

    def margins_of(x, flat):
        return margins(jaxpr, moving, [x, *flat])

    def held(x, flat, mask, side):
        return _Sites(moving, mask, side).run(jaxpr, [x, *flat])[0]

    margins_at = lambda x: jax.lax.map(lambda x: margins_of(x, still), x, batch_size=256)
    x = _grid(lower, upper)
    x = jnp.sort(jnp.concatenate([x, _dips(lambda x: margins_of(x, still), x, margins_at(x))]))
    m = margins_at(x)
    sites = m.shape[1]
    changes = (m[:-1] * m[1:] < 0) & jnp.isfinite(m[:-1]) & jnp.isfinite(m[1:])
    order = jnp.arange(changes.size)
    index = jnp.sort(jnp.where(changes.reshape(-1), order, changes.size))[:MOST]
    there = index < changes.size
    index = jnp.where(there, index, 0)
    place, site = index // sites, index % sites
    size_of = jnp.max(jnp.where(jnp.isfinite(m), jnp.abs(m), 0.0), axis=0)

    def found(place, site):
        before = m[place, site]
        low, high = bisected(lambda at: margins_of(at, still)[site] * before > 0, x[place], x[place + 1])
        at_ends = jnp.maximum(jnp.abs(margins_of(low, still)[site]), jnp.abs(margins_of(high, still)[site]))
        return (low + high) / 2, at_ends <= SMALL * size_of[site]

    starts, true = jax.vmap(found)(place, site)
    starts = jax.lax.stop_gradient(starts)
    reach = jnp.where(jnp.isfinite(upper - lower), upper - lower, jnp.maximum(1.0, jnp.max(jnp.abs(starts))))
    apart = jnp.abs(starts[:, None] - starts[None, :]) <= 2 * ASIDE * reach
    valid = there & true
    # jumps at one place are one jump
    earlier = apart & valid[None, :] & (jnp.arange(MOST)[None, :] < jnp.arange(MOST)[:, None])
    counted = valid & ~jnp.any(earlier, axis=1)
    unit, weight = map(jnp.asarray, rules.gauss(ORDERS))

    def picked(m, site):  # not by its index, whose transpose is a scatter that must be traced in float64
        return jnp.sum(jnp.where(jnp.arange(sites) == site, m, 0.0))

    def one(start, site, counted):
        below, above = (margins_of(start + s * ASIDE * reach, still) for s in (-1.0, 1.0))
        mask = (below * above < 0) | (jnp.arange(sites) == site)
        sides = [jax.lax.stop_gradient(jnp.sign(side)) for side in (below, above)]
        at = start
        for _ in range(NEWTON):
            value, slope = jax.jvp(lambda x: picked(margins_of(x, flat), site), (at,), (jnp.ones_like(at),))
            at = at - value / slope
        # at the start itself, but with the derivatives of the place
        at = start + (at - jax.lax.stop_gradient(at))
        at = jnp.where(counted, at, start)
        nodes = start + (at - start) * unit
        step = lambda x: held(x, flat, mask, sides[0]) - held(x, flat, mask, sides[1])
        return jnp.where(counted, (at - start) * jnp.sum(weight[:, None] * jax.vmap(step)(nodes), axis=0), 0.0)

    total = jnp.sum(jax.vmap(one)(starts, site, counted), axis=0)
    total = jnp.where(forward, total, -total)
    # more than are followed: no derivative is given
    return total * jnp.where(jnp.sum(changes) > MOST, jnp.nan, 1.0)
