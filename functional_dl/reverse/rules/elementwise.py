"""Elementwise functions: exponentials, logarithms, trigonometric and hyperbolic functions and their inverses."""

import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import (
    acos_p,
    acosh_p,
    asin_p,
    asinh_p,
    atan2_p,
    atan_p,
    atanh_p,
    cos_p,
    cosh_p,
    erf_inv_p,
    erf_p,
    erfc_p,
    exp2_p,
    exp_p,
    expm1_p,
    log1p_p,
    log_p,
    logistic_p,
    sin_p,
    sinh_p,
    tan_p,
    tanh_p,
)

from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import full_like, is_complex, minus, number, over, plus, times, unbroadcast

ALL = FLOATS + COMPLEX


@vjp_rule(
    exp_p,
    Probe(lax.exp, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.exp(x)),
    reads="out",
    latex=(r"e^{<x>}", r"<c> \odot <y>"),
)
def exp_vjp(ct, out, x, **_):
    """y = e^x,  dy = e^x dx  =>  x_bar = y y_bar."""
    return (lax.mul(ct, out),)


@vjp_rule(
    exp2_p,
    Probe(lax.exp2, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.mpf(2) ** x),
    reads="out",
    latex=(r"2^{<x>}", r"\ln 2 \cdot <c> \odot <y>"),
)
def exp2_vjp(ct, out, x, **_):
    """y = 2^x,  dy = log(2) 2^x dx  =>  x_bar = log(2) y y_bar."""
    return (lax.mul(ct, times(np.log(2.0), out)),)


@vjp_rule(
    expm1_p,
    Probe(lax.expm1, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.expm1(x)),
    reads="x",
    latex=(r"e^{<x>} - 1", r"<c> \odot e^{<x>}"),
)
def expm1_vjp(ct, out, x, **_):
    """y = e^x - 1,  dy = e^x dx  =>  x_bar = e^x y_bar;  y + 1 would have lost the digits of e^x for x < 0."""
    return (lax.mul(ct, lax.exp(x)),)


@vjp_rule(
    log_p,
    Probe(lax.log, low=0.1, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.log(x)),
    reads="x",
    latex=(r"\ln <x>", r"<c> / <x>"),
)
def log_vjp(ct, out, x, **_):
    """y = log x,  dy = dx / x  =>  x_bar = y_bar / x        (x > 0)."""
    return (lax.div(ct, x),)


@vjp_rule(
    log1p_p,
    Probe(lax.log1p, low=-0.75, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.log1p(x)),
    reads="x",
    latex=(r"\ln(1 + <x>)", r"<c> / (1 + <x>)"),
)
def log1p_vjp(ct, out, x, **_):
    """y = log(1 + x),  dy = dx / (1 + x)  =>  x_bar = y_bar / (1 + x)        (x > -1)."""
    return (lax.div(ct, plus(1, x)),)


@vjp_rule(
    logistic_p,
    Probe(
        lax.logistic,
        dtypes=ALL,
        low=-4.0,
        high=4.0,
        elementwise=True,
        exact=lambda mp, x: 1 / (1 + mp.exp(-x)),
    ),
    reads="out",
    latex=(r"\sigma(<x>)", r"<c> \odot <y> \odot (1 - <y>)"),
)
def logistic_vjp(ct, out, x, **_):
    """y = 1 / (1 + e^-x),  dy = y (1 - y) dx  =>  x_bar = y (1 - y) y_bar."""
    return (lax.mul(ct, lax.mul(out, minus(1, out))),)


@vjp_rule(
    sin_p,
    Probe(lambda x: lax.sin(x), dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.sin(x)),
    reads="x",
    latex=(r"\sin <x>", r"<c> \odot \cos <x>"),
)
def sin_vjp(ct, out, x, **_):
    """y = sin x,  dy = cos x dx  =>  x_bar = cos(x) y_bar."""
    return (lax.mul(ct, lax.cos(x)),)


@vjp_rule(
    cos_p,
    Probe(lambda x: lax.cos(x), dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.cos(x)),
    reads="x",
    latex=(r"\cos <x>", r"-<c> \odot \sin <x>"),
)
def cos_vjp(ct, out, x, **_):
    """y = cos x,  dy = -sin x dx  =>  x_bar = -sin(x) y_bar."""
    return (lax.neg(lax.mul(ct, lax.sin(x))),)


@vjp_rule(
    tan_p,
    Probe(lambda x: lax.tan(x), low=-1.2, high=1.2, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.tan(x)),
    reads="out",
    latex=(r"\tan <x>", r"<c> \odot (1 + <y>^2)"),
)
def tan_vjp(ct, out, x, **_):
    """y = tan x,  dy = (1 + tan^2 x) dx  =>  x_bar = (1 + y^2) y_bar."""
    return (lax.mul(ct, plus(1, lax.square(out))),)


@vjp_rule(
    asin_p,
    Probe(lax.asin, low=-0.9, high=0.9, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.asin(x)),
    reads="x",
    latex=(r"\arcsin <x>", r"<c> / \sqrt{1 - <x>^2}"),
)
def asin_vjp(ct, out, x, **_):
    """y = arcsin x,  dy = dx / sqrt(1 - x^2)  =>  x_bar = y_bar / sqrt((1 - x) (1 + x))        (|x| < 1).

    The factored form keeps its digits as |x| -> 1, where 1 - x^2 cancels.
    """
    return (lax.mul(ct, lax.rsqrt(lax.mul(minus(1, x), plus(1, x)))),)


@vjp_rule(
    acos_p,
    Probe(lax.acos, low=-0.9, high=0.9, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.acos(x)),
    reads="x",
    latex=(r"\arccos <x>", r"-<c> / \sqrt{1 - <x>^2}"),
)
def acos_vjp(ct, out, x, **_):
    """y = arccos x,  dy = -dx / sqrt(1 - x^2)  =>  x_bar = -y_bar / sqrt((1 - x) (1 + x))        (|x| < 1)."""
    return (lax.neg(lax.mul(ct, lax.rsqrt(lax.mul(minus(1, x), plus(1, x))))),)


@vjp_rule(
    atan_p,
    Probe(lax.atan, low=-4.0, high=4.0, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.atan(x)),
    reads="x",
    latex=(r"\arctan <x>", r"<c> / (1 + <x>^2)"),
)
def atan_vjp(ct, out, x, **_):
    """y = arctan x,  dy = dx / (1 + x^2)  =>  x_bar = y_bar / (1 + x^2)."""
    return (lax.div(ct, plus(1, lax.square(x))),)


@vjp_rule(
    atan2_p,
    Probe(
        lax.atan2,
        shapes=((3,), (3,)),
        low=0.25,
        elementwise=True,
        exact=lambda mp, x, y: mp.atan2(x, y),
    ),
    Probe(lax.atan2, shapes=((2, 1), (2, 3)), low=0.25),
    Probe(lax.atan2, shapes=((2, 3), (1, 3)), low=0.25),
    reads="x y",
    latex=(r"\operatorname{atan2}(<0>, <1>)", r"<c> \odot <1> / (<0>^2 + <1>^2)", r"-<c> \odot <0> / (<0>^2 + <1>^2)"),
)
def atan2_vjp(ct, out, x, y, **_):
    """a = angle of the point (y, x),  da = (y dx - x dy) / (x^2 + y^2)
    =>  x_bar = y a_bar / (x^2 + y^2),  y_bar = -x a_bar / (x^2 + y^2).

    Both are scaled by s = max(|x|, |y|) first, u = x / s and v = y / s, so that no square over- or underflows:
    x_bar = v a_bar / (s (u^2 + v^2)).
    """
    largest = number(jnp.finfo(x.dtype).max, x)
    scale = lax.min(lax.max(lax.abs(x), lax.abs(y)), largest)  # infinite operands as without the scaling
    u, v = lax.div(x, scale), lax.div(y, scale)
    scaled = lax.div(lax.div(ct, scale), lax.add(lax.square(u), lax.square(v)))
    return lambda: unbroadcast(lax.mul(scaled, v), x), lambda: unbroadcast(lax.neg(lax.mul(scaled, u)), y)


@vjp_rule(
    sinh_p,
    Probe(lax.sinh, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.sinh(x)),
    reads="x",
    latex=(r"\sinh <x>", r"<c> \odot \cosh <x>"),
)
def sinh_vjp(ct, out, x, **_):
    """y = sinh x,  dy = cosh x dx  =>  x_bar = cosh(x) y_bar."""
    return (lax.mul(ct, lax.cosh(x)),)


@vjp_rule(
    cosh_p,
    Probe(lax.cosh, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.cosh(x)),
    reads="x",
    latex=(r"\cosh <x>", r"<c> \odot \sinh <x>"),
)
def cosh_vjp(ct, out, x, **_):
    """y = cosh x,  dy = sinh x dx  =>  x_bar = sinh(x) y_bar."""
    return (lax.mul(ct, lax.sinh(x)),)


@vjp_rule(
    tanh_p,
    Probe(lambda x: lax.tanh(x), dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.tanh(x)),
    reads="out",
    latex=(r"\tanh <x>", r"<c> \odot (1 - <y>^2)"),
)
def tanh_vjp(ct, out, x, **_):
    """y = tanh x,  dy = (1 - tanh^2 x) dx  =>  x_bar = y_bar - y (y y_bar)."""
    return (lax.sub(ct, lax.mul(out, lax.mul(out, ct))),)


@vjp_rule(
    asinh_p,
    Probe(lax.asinh, low=-4.0, high=4.0, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.asinh(x)),
    reads="x",
    latex=(r"\operatorname{arsinh} <x>", r"<c> / \sqrt{<x>^2 + 1}"),
)
def asinh_vjp(ct, out, x, **_):
    """y = arsinh x,  dy = dx / sqrt(1 + x^2)  =>  x_bar = y_bar / sqrt(1 + x^2)."""
    if is_complex(x):
        return (lax.mul(ct, lax.rsqrt(plus(1, lax.square(x)))),)
    # with s = max(1, |x|) and r = min(1, |x|) = |x| / s:  1 / (s sqrt(1/s^2 + r^2)),  where no square overflows
    size, one = lax.abs(x), full_like(x, 1)
    inverse, ratio = over(1, lax.max(size, one)), lax.min(size, one)
    return (lax.mul(ct, lax.mul(inverse, lax.rsqrt(lax.add(lax.square(inverse), lax.square(ratio))))),)


@vjp_rule(
    acosh_p,
    Probe(lax.acosh, low=1.25, high=4.0, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.acosh(x)),
    reads="x",
    latex=(r"\operatorname{arcosh} <x>", r"<c> / \sqrt{<x>^2 - 1}"),
)
def acosh_vjp(ct, out, x, **_):
    """y = arcosh x,  dy = dx / (sqrt(x - 1) sqrt(x + 1))  =>  x_bar = y_bar / (sqrt(x - 1) sqrt(x + 1))        (x > 1).

    Two roots, not one of the product: the principal branch where Re x < 0, and no slope outside the domain.
    """
    return (lax.mul(ct, lax.mul(lax.rsqrt(plus(-1, x)), lax.rsqrt(plus(1, x)))),)


@vjp_rule(
    atanh_p,
    Probe(lax.atanh, low=-0.9, high=0.9, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.atanh(x)),
    reads="x",
    latex=(r"\operatorname{artanh} <x>", r"<c> / (1 - <x>^2)"),
)
def atanh_vjp(ct, out, x, **_):
    """y = artanh x,  dy = dx / (1 - x^2)  =>  x_bar = y_bar / ((1 - x) (1 + x))        (|x| < 1)."""
    return (lax.div(ct, lax.mul(minus(1, x), plus(1, x))),)


@vjp_rule(
    erf_p,
    Probe(lax.erf, elementwise=True, exact=lambda mp, x: mp.erf(x)),
    reads="x",
    latex=(r"\operatorname{erf} <x>", r"\tfrac{2}{\sqrt{\pi}}\, <c> \odot e^{-<x>^2}"),
)
def erf_vjp(ct, out, x, **_):
    """y = 2/sqrt(pi) int_0^x e^(-t^2) dt  =>  x_bar = 2/sqrt(pi) e^(-x^2) y_bar."""
    return (lax.mul(ct, times(2 / np.sqrt(np.pi), lax.exp(lax.neg(lax.square(x))))),)


@vjp_rule(
    erfc_p,
    Probe(lax.erfc, elementwise=True, exact=lambda mp, x: mp.erfc(x)),
    reads="x",
    latex=(r"\operatorname{erfc} <x>", r"-\tfrac{2}{\sqrt{\pi}}\, <c> \odot e^{-<x>^2}"),
)
def erfc_vjp(ct, out, x, **_):
    """y = 1 - erf x  =>  x_bar = -2/sqrt(pi) e^(-x^2) y_bar."""
    return (lax.mul(ct, times(-2 / np.sqrt(np.pi), lax.exp(lax.neg(lax.square(x))))),)


@vjp_rule(
    erf_inv_p,
    Probe(lax.erf_inv, low=-0.9, high=0.9, elementwise=True, exact=lambda mp, x: mp.erfinv(x)),
    reads="out",
    latex=(r"\operatorname{erf}^{-1} <x>", r"\tfrac{\sqrt{\pi}}{2}\, <c> \odot e^{<y>^2}"),
)
def erf_inv_vjp(ct, out, x, **_):
    """x = erf y,  dx = 2/sqrt(pi) e^(-y^2) dy  =>  x_bar = sqrt(pi)/2 e^(y^2) y_bar."""
    return (lax.mul(ct, times(np.sqrt(np.pi) / 2, lax.exp(lax.square(out)))),)
