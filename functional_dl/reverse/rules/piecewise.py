"""Functions with kinks (absolute value, maximum, minimum, clamp, selection) and flat ones, whose derivative is 0.

At a kink each rule states its convention, an element of Clarke's subdifferential; all equal JAX's.
"""

import functools
from typing import Any

import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import (
    abs_p,
    ceil_p,
    clamp_p,
    floor_p,
    max_p,
    min_p,
    round_p,
    select_n_p,
    sign_p,
)

from functional_dl.aliases import Array
from functional_dl.reverse.latex import Terms
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule, zero_derivative
from functional_dl.reverse.rules.algebra import full_like, number, spread_like, times, unbroadcast, zeros_like

zero_derivative(
    "piecewise constant: the derivative is 0 wherever it exists, and 0 is the convention at the jumps",
    latex={
        ceil_p: r"\lceil <x> \rceil",
        floor_p: r"\lfloor <x> \rfloor",
        round_p: r"\operatorname{round} <x>",
        sign_p: r"\operatorname{sign} <x>",
    },
)


@vjp_rule(
    abs_p,
    Probe(lax.abs, low=0.25, elementwise=True, exact=lambda mp, x: abs(x)),
    Probe(lax.abs, low=-2.0, high=-0.25, elementwise=True, exact=lambda mp, x: abs(x)),
    Probe(lax.abs, dtypes=COMPLEX),
    reads="out x",
    compares=True,
    latex=(r"|<x>|", r"<c> \odot \operatorname{sign} <x>"),
)
def abs_vjp(ct, out, x, **_):
    """y = |x|  =>  x_bar = sign(x) y_bar for real x;  kink at 0, where the slope is taken to be +1.

    Complex x = a + ib:  dy = (a da + b db) / y = Re(conj(x) dx) / y  =>  x_bar = conj(x) / y y_bar, and 0 at x = 0.
    """
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        modulus = lax.select(lax.eq(out, zeros_like(out)), full_like(out, 1), out)
        return (lax.mul(lax.conj(x), lax.convert_element_type(lax.div(ct, modulus), x.dtype)),)
    return (lax.select(lax.ge(x, number(0, x)), ct, lax.neg(ct)),)


def _winners_bar(ct, x, y, tied, extremum, before):
    """ct where x alone is the extremum, ct/2 at a tie (both are), 0 elsewhere; summed over what x was repeated for.

    Complex numbers, which JAX orders by real and then by imaginary part, are compared with the extremum itself.
    """
    tied = tied()
    if jnp.issubdtype(x.dtype, jnp.complexfloating):
        ahead = lax.bitwise_and(lax.eq(x, extremum(x, y)), lax.bitwise_not(tied))
    else:
        ahead = before(x, y)
    return unbroadcast(lax.select(ahead, ct, lax.select(tied, times(0.5, ct), zeros_like(ct))), x)


@vjp_rule(
    max_p,
    Probe(lax.max, shapes=((3,), (3,)), elementwise=True, exact=lambda mp, x, y: max(x, y)),
    Probe(lambda x, y: lax.max(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,))),
    Probe(lax.max, shapes=((2, 3), (2, 1))),
    Probe(lambda x: lax.max(x, lax.neg(lax.neg(x)))),
    reads="x y",
    compares=True,
    latex=(r"\max(<0>, <1>)", r"<c> \odot [<0> > <1>]", r"<c> \odot [<1> > <0>]"),
)
def max_vjp(ct, out, x, y, **_):
    """z = max(x, y)  =>  x_bar = 1(x > y) z_bar,  y_bar = 1(y > x) z_bar;  at a tie each takes half."""
    tied = functools.cache(lambda: lax.eq(x, y))
    return (
        lambda: _winners_bar(ct, x, y, tied, lax.max, lax.gt),
        lambda: _winners_bar(ct, y, x, tied, lax.max, lax.gt),
    )


@vjp_rule(
    min_p,
    Probe(lax.min, shapes=((3,), (3,)), elementwise=True, exact=lambda mp, x, y: min(x, y)),
    Probe(lambda x, y: lax.min(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,))),
    Probe(lax.min, shapes=((2, 3), (1, 3))),
    Probe(lambda x: lax.min(x, lax.neg(lax.neg(x)))),
    reads="x y",
    compares=True,
    latex=(r"\min(<0>, <1>)", r"<c> \odot [<0> < <1>]", r"<c> \odot [<1> < <0>]"),
)
def min_vjp(ct, out, x, y, **_):
    """z = min(x, y)  =>  x_bar = 1(x < y) z_bar,  y_bar = 1(y < x) z_bar;  at a tie each takes half."""
    tied = functools.cache(lambda: lax.eq(x, y))
    return (
        lambda: _winners_bar(ct, x, y, tied, lax.min, lax.lt),
        lambda: _winners_bar(ct, y, x, tied, lax.min, lax.lt),
    )


def clamped_between(a: Array, x: Array, b: Array) -> Any:
    """x clamped between two numbers."""
    return lax.clamp(lax.neg(lax.square(a)), x, lax.square(b))


@vjp_rule(
    clamp_p,
    Probe(lambda x: lax.clamp(number(-0.5, x), x, number(0.75, x)), elementwise=True),
    Probe(lambda a, x, b: lax.clamp(lax.min(a, b), x, lax.max(a, b)), shapes=((5,), (5,), (5,))),
    Probe(functools.partial(clamped_between), shapes=((), (5,), ()), forward=False),
    reads="low x high",
    compares=True,
    latex=(
        r"\min(\max(<1>, <0>), <2>)",
        r"<c> \odot [<1> < <0> < <2>]",
        r"<c> \odot [<0> < <1> < <2>]",
        r"<c> \odot [\max(<1>, <0>) > <2>]",
    ),
)
def clamp_vjp(ct, out, low, x, high, **_):
    """y = min(max(x, low), high)  =>  x_bar = 1(low < x < high) y_bar,  low_bar = 1(x < low < high) y_bar,
    high_bar = 1(high < max(x, low)) y_bar;  at a bound the slope in x is taken to be 0."""

    def spread(bound):
        return bound if bound.shape == ct.shape else spread_like(bound, ct)

    low_all, high_all = spread(low), spread(high)

    def where(mask):
        return lax.select(mask, ct, zeros_like(ct))

    return (
        lambda: unbroadcast(where(lax.bitwise_and(lax.lt(x, low_all), lax.lt(low_all, high_all))), low),
        lambda: where(lax.bitwise_and(lax.lt(low_all, x), lax.lt(x, high_all))),
        lambda: unbroadcast(where(lax.lt(high_all, lax.max(x, low_all))), high),
    )


def only_case(x: Array) -> Any:
    """A choice from one."""
    return lax.select_n(lax.full(x.shape, False), x)


def _cases_latex(terms: Terms) -> str:
    which, *cases = terms.xs
    if len(cases) == 2:
        lines = f"{cases[1]} & \\text{{where }} {which} \\\\ {cases[0]} & \\text{{elsewhere}}"
    else:
        lines = r" \\ ".join(f"{case} & \\text{{where }} {which} = {i}" for i, case in enumerate(cases))
    return f"\\begin{{cases}} {lines} \\end{{cases}}"


def _case_bar_latex(terms: Terms) -> str:
    which, count = terms.xs[0], len(terms.xs) - 1
    if count == 2:
        return f"<c> \\odot [{which}]" if terms.place == 2 else f"<c> \\odot [\\lnot {which}]"
    return f"<c> \\odot [{which} = {terms.place - 1}]"


@vjp_rule(
    select_n_p,
    Probe(
        lambda x, y: lax.select(jnp.array([True, False, True]), x, y),
        shapes=((3,), (3,)),
        dtypes=FLOATS + COMPLEX,
    ),
    Probe(lambda x, y: lax.select_n(jnp.array(True), x, y), shapes=((3,), (3,)), dtypes=FLOATS + COMPLEX),
    Probe(lambda x, y, z: lax.select_n(jnp.array([2, 0, 1]), x, y, z), shapes=((3,), (3,), (3,))),
    Probe(functools.partial(only_case)),
    reads="which",
    explicit=True,
    latex=(_cases_latex, "0", _case_bar_latex),
)
def select_n_vjp(ct, out, which, *cases, **_):
    """y = cases[which], entry by entry  =>  case_i_bar = 1(which = i) y_bar."""
    zero = zeros_like(ct)
    if which.dtype == jnp.bool_:
        bars = lambda: lax.select_n(which, ct, zero), lambda: lax.select_n(which, zero, ct)
        return (None, *bars[: len(cases)])

    def bar(i):
        return lambda: lax.select_n(lax.eq(which, number(i, which)), zero, ct)

    return (None, *[bar(i) for i in range(len(cases))])
