"""Running sums, products, extrema and log-sum-exps along an axis, from either end.

Stated for the direction 0, 1, ..., n - 1; `reverse` mirrors the axis.

XLA computes these primitives as reductions over windows: entry j of a block is reduced from all that come before it in
the block.  For sums and extrema that costs no more time than a tree of pairs, and less memory.  A product or a
log-sum-exp has its value from the tree, of 2 n nodes (`_by_tree`).
"""

import functools
from typing import Any

import jax
from jax import lax
from jax.extend.core.primitives import cumlogsumexp_p, cummax_p, cummin_p, cumprod_p, cumsum_p

from functional_dl.reverse.latex import Terms
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import number, zeros_like
from functional_dl.reverse.sweep import call_rule

ALL = FLOATS + COMPLEX


def _shifted(x, axis, reverse, by, fill):
    """z_i = x_{i + by} (by is 1 or -1), `fill` where there is none."""
    if x.shape[axis] == 0:
        return x
    first = (by == 1) == reverse  # the free place is the first one
    ends = lax.full((*x.shape[:axis], 1, *x.shape[axis + 1 :]), fill, x.dtype)
    n = x.shape[axis]
    if first:
        return lax.concatenate([ends, lax.slice_in_dim(x, 0, n - 1, axis=axis)], axis)
    return lax.concatenate([lax.slice_in_dim(x, 1, n, axis=axis), ends], axis)


@functools.partial(jax.jit, static_argnames=("axis", "reverse"))
def _accumulate_back(ct, factor, *, axis, reverse):
    """s_i = y_i_bar + factor_i s_{i+1}, from the last to the first: what flows back along a chain.

    Each step is an affine map of s; they are composed in a tree, which takes log n steps.  Compiled, so that it is
    traced once for a shape, and because JAX's forward mode does not pad by a number, one operation after the other,
    where axes of a mesh are Explicit outside and Auto inside.
    """

    def compose(inner, outer):
        return lax.mul(outer[0], inner[0]), lax.add(outer[1], lax.mul(outer[0], inner[1]))

    return lax.associative_scan(compose, (factor, ct), axis=axis, reverse=not reverse)[1]


def _by_tree(pairwise):
    """The fold of pairwise(l, r) as a tree: the value of a rule.  Compiled, so that it is traced once for a shape."""

    @functools.partial(jax.jit, static_argnames=("axis", "reverse"))
    def value(x, *, axis, reverse):
        return lax.associative_scan(pairwise, x, axis=axis, reverse=reverse)

    return value


@jax.custom_jvp
def _log_of_sum(a, b):
    """log(exp a + exp b) = max(a, b) + log(1 + exp(-|a - b|)); equal infinities have the difference 0."""
    difference = lax.select(lax.eq(a, b), zeros_like(a), lax.sub(a, b))
    return lax.add(lax.max(a, b), lax.log1p(lax.exp(lax.neg(lax.abs(difference)))))


@_log_of_sum.defjvp
def _log_of_sum_jvp(primals, tangents):
    """y = log(exp a + exp b)  =>  dy = exp(a - y) da + exp(b - y) db: smooth, though max and |.| have kinks."""
    y = _log_of_sum(*primals)
    terms = [lax.mul(_exp_of_difference(x, y), x_dot) for x, x_dot in zip(primals, tangents)]
    return y, lax.add(*terms)


def _probes(fun, dtypes=FLOATS, **options):
    return (
        Probe(lambda x: fun(x, axis=0), shapes=((5,),), dtypes=dtypes, **options),
        Probe(lambda x: fun(x, axis=1, reverse=True), shapes=((2, 4, 2),), dtypes=dtypes, **options),
        Probe(lambda x: fun(x, axis=0), shapes=((1, 2),), dtypes=dtypes, **options),
        Probe(lambda x: fun(x, axis=0, reverse=True), shapes=((0, 2),)),
    )


def _along(terms: Terms) -> str:
    return "_{s \\ge t}" if terms.params.get("reverse") else "_{s \\le t}"


def _against(terms: Terms) -> str:
    return "_{s \\le t}" if terms.params.get("reverse") else "_{s \\ge t}"


@vjp_rule(
    cumsum_p,
    *_probes(lax.cumsum, ALL),
    reads="",
    latex=(lambda t: f"\\textstyle\\sum{_along(t)} <x>_s", lambda t: f"\\textstyle\\sum{_against(t)} <c>_s"),
)
def cumsum_vjp(ct, out, x, *, axis, reverse):
    """y_j = sum_{i <= j} x_i  =>  x_i_bar = sum_{j >= i} y_j_bar: the running sum from the other end."""
    return (lax.cumsum(ct, axis, not reverse),)


@vjp_rule(
    cumprod_p,
    *_probes(lax.cumprod, ALL),
    Probe(lambda x: lax.cumprod(lax.mul(x, lax.round(x))), shapes=((6,),), low=-1.0, high=1.0),
    reads="out x",
    latex=(
        lambda t: f"\\textstyle\\prod{_along(t)} <x>_s",
        lambda t: f"\\textstyle\\sum{_against(t)} <c>_s \\prod_{{r \\ne t}} <x>_r",
    ),
    value=_by_tree(lax.mul),
)
def cumprod_vjp(ct, out, x, *, axis, reverse):
    """y_j = prod_{i <= j} x_i = y_{j-1} x_j  =>  with s_j the whole cotangent of y_j,

        s_j = y_j_bar + x_{j+1} s_{j+1},      x_j_bar = y_{j-1} s_j,      y_{-1} = 1.

    No division, so that zeros are no exception.
    """
    s = _accumulate_back(ct, _shifted(x, axis, reverse, 1, 0), axis=axis, reverse=reverse)
    return (lax.mul(_shifted(out, axis, reverse, -1, 1), s),)


@vjp_rule(
    cumlogsumexp_p,
    *_probes(lax.cumlogsumexp),
    Probe(lambda x: lax.cumlogsumexp(lax.mul(x, number(300, x))), shapes=((5,),), dtypes=("float64", "float32")),
    reads="out x",
    latex=(
        lambda t: f"\\ln \\textstyle\\sum{_along(t)} e^{{<x>_s}}",
        lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, e^{{<x>_t - <y>_s}}",
    ),
    value=_by_tree(_log_of_sum),
)
def cumlogsumexp_vjp(ct, out, x, *, axis, reverse):
    """y_j = log sum_{i <= j} exp x_i = log(exp y_{j-1} + exp x_j)  =>  with s_j the whole cotangent of y_j,

        s_j = y_j_bar + exp(y_j - y_{j+1}) s_{j+1},      x_j_bar = exp(x_j - y_j) s_j.

    Every exponent is at most 0: nothing overflows.
    """
    after = _shifted(out, axis, reverse, 1, float("inf"))
    s = _accumulate_back(ct, _exp_of_difference(out, after), axis=axis, reverse=reverse)
    return (lax.mul(_exp_of_difference(x, out), s),)


def _exp_of_difference(a, b):
    """exp(a - b) for a <= b, and 1 where both are the same infinity."""
    return lax.exp(lax.select(lax.eq(a, b), zeros_like(a), lax.sub(a, b)))


def _record_tree(pairwise, tape, values, slots, axis, reverse):
    return tape.run(lambda x: [lax.associative_scan(pairwise, x, axis=axis, reverse=reverse)], values, slots)


@call_rule(
    cummax_p,
    *_probes(lax.cummax, distinct=0.1),
    latex=(lambda t: f"\\max{_along(t)} <x>_s", lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, [<x>_t = <y>_s]"),
)
def cummax_forward(tape: Any, values: Any, slots: Any, *, axis: Any, reverse: Any) -> Any:
    """y_j = max_{i <= j} x_i, taken as a tree of z = max(l, r)  =>  l_bar = 1(l > r) z_bar, r_bar = 1(r > l) z_bar.

    At a tie each of the two takes half: what an entry gets of several equal ones depends on the tree (a convention,
    which is JAX's).
    """
    return _record_tree(lax.max, tape, values, slots, axis, reverse)


@call_rule(
    cummin_p,
    *_probes(lax.cummin, distinct=0.1),
    latex=(lambda t: f"\\min{_along(t)} <x>_s", lambda t: f"\\textstyle\\sum{_against(t)} <c>_s\\, [<x>_t = <y>_s]"),
)
def cummin_forward(tape: Any, values: Any, slots: Any, *, axis: Any, reverse: Any) -> Any:
    """y_j = min_{i <= j} x_i, taken as a tree of z = min(l, r)  =>  l_bar = 1(l < r) z_bar, r_bar = 1(r < l) z_bar.

    At a tie each of the two takes half, as with the running maximum.
    """
    return _record_tree(lax.min, tape, values, slots, axis, reverse)
