"""Arithmetic: sums, products, quotients, powers and roots."""

import jax.numpy as jnp
from jax import lax
from jax.extend.core.primitives import (
    add_jaxvals_p,
    add_p,
    cbrt_p,
    div_p,
    integer_pow_p,
    mul_p,
    neg_p,
    pow_p,
    rsqrt_p,
    sqrt_p,
    square_p,
    sub_p,
)

from functional_dl.reverse import latex
from functional_dl.reverse.latex import Terms
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import full_like, over, times, unbroadcast, unbroadcast_later, zeros_like
from functional_dl.reverse.values import is_inexact

ALL = FLOATS + COMPLEX


def _wider(dtype):
    return "float64" if dtype == jnp.float64 else "float32"


@vjp_rule(
    add_p,
    Probe(lax.add, shapes=((3,), (3,)), dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x + y),
    Probe(lambda x, y: lax.add(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,)), dtypes=ALL),
    Probe(lax.add, shapes=((2, 1), (2, 3)), dtypes=ALL),
    reads="",
    latex=("<0> + <1>", "<c>", "<c>"),
)
def add_vjp(ct, out, x, y, **_):
    """z = x + y,  dz = dx + dy  =>  x_bar = z_bar,  y_bar = z_bar."""
    return lambda: unbroadcast_later(ct, x), lambda: unbroadcast_later(ct, y)


@vjp_rule(
    add_jaxvals_p,
    Probe(add_jaxvals_p.bind, shapes=((3,), (3,)), dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x + y),
    reads="",
    latex=("<0> + <1>", "<c>", "<c>"),
)
def add_jaxvals_vjp(ct, out, x, y, **_):
    """z = x + y (the sum of two cotangents)  =>  x_bar = z_bar,  y_bar = z_bar."""
    return ct, ct


@vjp_rule(
    sub_p,
    Probe(lax.sub, shapes=((3,), (3,)), dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x - y),
    Probe(lambda x, y: lax.sub(lax.reduce_sum(y, (0,)), x), shapes=((2, 3), (2,)), dtypes=ALL),
    Probe(lax.sub, shapes=((2, 3), (1, 3)), dtypes=ALL),
    reads="",
    latex=("<0> - <1>", "<c>", "-<c>"),
)
def sub_vjp(ct, out, x, y, **_):
    """z = x - y,  dz = dx - dy  =>  x_bar = z_bar,  y_bar = -z_bar (the sum over a repeated y, then the sign)."""
    return lambda: unbroadcast_later(ct, x), lambda: lax.neg(unbroadcast(ct, y))


@vjp_rule(neg_p, Probe(lax.neg, dtypes=ALL, elementwise=True, exact=lambda mp, x: -x), reads="", latex=("-<x>", "-<c>"))
def neg_vjp(ct, out, x, **_):
    """y = -x  =>  x_bar = -y_bar."""
    return (lax.neg(ct),)


@vjp_rule(
    mul_p,
    Probe(lax.mul, shapes=((3,), (3,)), dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x * y),
    Probe(lambda x, y: lax.mul(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,)), dtypes=ALL),
    Probe(lax.mul, shapes=((2, 3), (2, 1)), dtypes=ALL),
    Probe(lax.mul, shapes=((1, 3), (2, 3)), dtypes=ALL),
    Probe(lambda x, y: lax.mul(x, y, out_dtype=_wider(x.dtype)), shapes=((2, 3), (2, 1))),
    Probe(lambda x, y: lax.mul(x, y, out_dtype=_wider(x.dtype)), shapes=((1, 3), (2, 3))),
    reads=("y", "x"),
    latex=(r"<0> \odot <1>", r"<c> \odot <1>", r"<c> \odot <0>"),
)
def mul_vjp(ct, out, x, y, *, out_dtype=None, **_):
    """z = x y,  dz = y dx + x dy  =>  x_bar = y z_bar,  y_bar = x z_bar."""
    if out_dtype is not None:  # the product was taken in a wider dtype
        return (
            lambda: unbroadcast(lax.mul(ct, y, out_dtype=x.dtype), x),
            lambda: unbroadcast(lax.mul(ct, x, out_dtype=y.dtype), y),
        )
    return lambda: unbroadcast_later(lax.mul(ct, y), x), lambda: unbroadcast_later(lax.mul(ct, x), y)


@vjp_rule(
    div_p,
    Probe(lax.div, shapes=((3,), (3,)), low=0.5, dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x / y),
    Probe(lambda x, y: lax.div(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,)), low=0.5, dtypes=ALL),
    Probe(lax.div, shapes=((2, 1), (2, 3)), low=0.5, dtypes=ALL),
    Probe(lax.div, shapes=((2, 3), (2, 1)), low=0.5, dtypes=ALL),
    reads=("y", "out x y"),
    latex=(r"<0> / <1>", r"<c> / <1>", r"-<c> \odot <y> / <1>"),
)
def div_vjp(ct, out, x, y, **_):
    """z = x / y,  dz = dx / y - (x / y) dy / y  =>  x_bar = z_bar / y,  y_bar = -z z_bar / y.

    Where y is repeated, as in a softmax or a norm, the repeated entries share one divisor, and the sum is divided:
    y_bar = -(sum of x z_bar) (1 / y) (1 / y).  It reads x, which is kept for its own derivative in these, and not z;
    the factors are taken one by one, as y^2 may be out of range where y_bar is not.
    """

    def y_bar():
        if y.shape == ct.shape:
            return lax.neg(lax.mul(out, lax.div(ct, y)))
        inverse = over(1, y)
        return lax.neg(lax.mul(lax.mul(unbroadcast(lax.mul(ct, x), y), inverse), inverse))

    return lambda: unbroadcast_later(lax.div(ct, y), x), y_bar


@vjp_rule(
    square_p,
    Probe(lax.square, dtypes=ALL, elementwise=True, exact=lambda mp, x: x * x),
    reads="x",
    latex=("<x>^2", r"2\, <c> \odot <x>"),
)
def square_vjp(ct, out, x, **_):
    """y = x^2,  dy = 2 x dx  =>  x_bar = 2 x y_bar."""
    return (lax.mul(ct, times(2, x)),)


@vjp_rule(
    sqrt_p,
    Probe(lax.sqrt, low=0.25, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.sqrt(x)),
    reads="out",
    latex=(r"\sqrt{<x>}", r"\frac{<c>}{2 <y>}"),
)
def sqrt_vjp(ct, out, x, **_):
    """y = sqrt x,  dy = dx / (2 sqrt x)  =>  x_bar = y_bar / (2 y);  at 0 the slope is +inf."""
    return (lax.div(ct, times(2, out)),)


@vjp_rule(
    rsqrt_p,
    Probe(lax.rsqrt, low=0.25, dtypes=ALL, elementwise=True, exact=lambda mp, x: 1 / mp.sqrt(x)),
    reads="out x",
    latex=(r"\frac{1}{\sqrt{<x>}}", r"-\tfrac12\, <c> \odot \frac{<y>}{<x>}"),
)
def rsqrt_vjp(ct, out, x, **_):
    """y = x^(-1/2),  dy = -1/2 x^(-3/2) dx  =>  x_bar = -1/2 (y / x) y_bar."""
    return (lax.mul(ct, times(-0.5, lax.div(out, x))),)


@vjp_rule(
    cbrt_p,
    Probe(lax.cbrt, low=0.25, elementwise=True, exact=lambda mp, x: mp.cbrt(x)),
    Probe(lax.cbrt, low=-2.0, high=-0.25, elementwise=True, exact=lambda mp, x: -mp.cbrt(-x)),
    reads="out",
    latex=(r"\sqrt[3]{<x>}", r"\frac{<c>}{3 <y>^2}"),
)
def cbrt_vjp(ct, out, x, **_):
    """y = x^(1/3),  dy = dx / (3 x^(2/3))  =>  x_bar = y^-2 / 3 y_bar;  at 0 the slope is +inf."""
    return (lax.mul(ct, times(1 / 3, lax.integer_pow(out, -2))),)


def _power_latex(terms: Terms) -> str:
    return f"<x>^{{{terms.params['y']}}}"


def _power_bar_latex(terms: Terms) -> str:
    n = terms.params["y"]
    return r"2\, <c> \odot <x>" if n == 2 else f"{latex.number(n)}\\, <c> \\odot <x>^{{{n - 1}}}"


@vjp_rule(
    integer_pow_p,
    Probe(lambda x: lax.integer_pow(x, 3), dtypes=ALL, elementwise=True, exact=lambda mp, x: x**3),
    Probe(
        lambda x: lax.integer_pow(x, 7),
        dtypes=ALL,
        low=-1.2,
        high=1.2,
        elementwise=True,
        exact=lambda mp, x: x**7,
    ),
    Probe(lambda x: lax.integer_pow(x, -1), low=0.5, dtypes=ALL, elementwise=True, exact=lambda mp, x: 1 / x),
    Probe(lambda x: lax.integer_pow(x, -2), low=0.5, dtypes=ALL, elementwise=True, exact=lambda mp, x: x**-2),
    Probe(lambda x: lax.integer_pow(x, 0), dtypes=ALL),
    Probe(lambda x: lax.integer_pow(x, 1), dtypes=ALL),
    Probe(lambda x: lax.integer_pow(x, 2), dtypes=ALL),
    reads="x",
    latex=(_power_latex, _power_bar_latex),
)
def integer_pow_vjp(ct, out, x, *, y, **_):
    """y = x^n for a fixed integer n,  dy = n x^(n-1) dx  =>  x_bar = n x^(n-1) y_bar;  zero for n = 0."""
    if y == 0:
        return (None,)
    if y == 1:
        return (ct,)
    return (lax.mul(ct, times(y, lax.integer_pow(x, y - 1) if y != 2 else x)),)


@vjp_rule(
    pow_p,
    Probe(lax.pow, shapes=((3,), (3,)), low=0.25, dtypes=ALL, elementwise=True, exact=lambda mp, x, y: x**y),
    Probe(lambda x: lax.pow(x, jnp.array([2, 0, 3], "int32")), low=-2.0, dtypes=ALL),
    Probe(lax.pow, shapes=((2, 1), (2, 3)), low=0.25, dtypes=ALL),
    Probe(lax.pow, shapes=((2, 3), (1, 3)), low=0.25, dtypes=ALL),
    reads=("x y", "out x"),
    latex=(r"<0>^{<1>}", r"<c> \odot <1> \odot <0>^{<1> - 1}", r"<c> \odot <y> \odot \ln <0>"),
)
def pow_vjp(ct, out, x, y, **_):
    """z = x^y,  dz = y x^(y-1) dx + x^y log(x) dy  =>  x_bar = y x^(y-1) z_bar,  y_bar = z log(x) z_bar.

    At y = 0 the first is 0 for every x (x^0 = 1): at x = 0 too, where x^(y-1) is infinite.  At x = 0 < y the second is
    0, the limit of x^y log x as x -> 0+.  An integer y has no cotangent.
    """

    def x_bar():
        flat = lax.eq(y, zeros_like(y))
        if is_inexact(y.dtype):  # d/dy [y x^(y-1)] = 1/x at y = 0: only where x is 0 may the exponent be another
            flat = lax.bitwise_and(flat, lax.eq(x, zeros_like(x)))
        one = full_like(flat, 1, y.dtype)
        exponent = lax.select(flat, one, y if y.shape == one.shape else lax.add(y, zeros_like(one)))
        slope = lax.mul(lax.convert_element_type(y, x.dtype), lax.pow(x, lax.sub(exponent, one)))
        return unbroadcast(lax.mul(ct, slope), x)

    def y_bar():
        base = lax.select(lax.eq(x, zeros_like(x)), full_like(x, 1), x)
        return unbroadcast(lax.mul(ct, lax.mul(lax.log(base), out)), y)

    return x_bar, y_bar
