"""Special functions: the gamma function's family, the incomplete gamma and beta integrals, Bessel, zeta, remainders.

Where a derivative is an exponential of a sum of large logarithms, half precision would lose it whole: such slopes are
taken in float32 at least and rounded once.
"""

import functools
from typing import Any

import numpy as np
from jax import lax
from jax.extend.core import primitives
from jax.extend.core.primitives import (
    bessel_i0e_p,
    bessel_i1e_p,
    digamma_p,
    igamma_grad_a_p,
    igamma_p,
    igammac_p,
    lgamma_p,
    nextafter_p,
    polygamma_p,
    regularized_incomplete_beta_p,
    rem_p,
    zeta_p,
)

from functional_dl.aliases import Array
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule
from functional_dl.reverse.rules.algebra import full_like, number, over, plus, times, unbroadcast, zeros_like

ALL = FLOATS + COMPLEX


def _wide(slope):
    """slope(*arrays), evaluated in float32 where the arrays have 16 bits."""

    def evaluated(*arrays):
        dtype = arrays[0].dtype
        if dtype.itemsize > 2:
            return slope(*arrays)
        return lax.convert_element_type(slope(*[lax.convert_element_type(x, np.float32) for x in arrays]), dtype)

    return evaluated


def _refused(what, advice, error: type[Exception] = ValueError):
    """A cotangent that there is no formula for: an error (JAX's type) where it is asked for, and nowhere else."""

    def bar():
        raise error(f"reverse: {what} is not supported. {advice}")

    return bar


def _weighted_log(c, x):
    """c log x, and 0 where c = 0 <= x (x^0 = 1), at x = 0 too."""
    return _weighted(c, lax.log(x), lax.ge(x, zeros_like(x)))


def _weighted(c, log, inside):
    """c log, and 0 where c = 0 and the logarithm's argument is inside its domain."""
    product = lax.mul(c, log)
    flat = lax.bitwise_and(lax.eq(c, zeros_like(c)), inside)
    return lax.select(flat, zeros_like(product), product)


@vjp_rule(
    lgamma_p,
    Probe(lax.lgamma, low=0.25, high=6.0, elementwise=True, exact=lambda mp, x: mp.log(abs(mp.gamma(x)))),
    Probe(lax.lgamma, low=-1.75, high=-1.25, elementwise=True, exact=lambda mp, x: mp.log(abs(mp.gamma(x)))),
    reads="x",
    latex=(r"\ln \Gamma(<x>)", r"<c> \odot \psi(<x>)"),
)
def lgamma_vjp(ct, out, x, **_):
    """y = log |Gamma(x)|,  dy = Gamma'(x) / Gamma(x) dx = psi(x) dx  =>  x_bar = psi(x) y_bar."""
    return (lax.mul(ct, lax.digamma(x)),)


@vjp_rule(
    digamma_p,
    Probe(lax.digamma, low=0.25, high=6.0, elementwise=True, exact=lambda mp, x: mp.digamma(x)),
    reads="x",
    latex=(r"\psi(<x>)", r"<c> \odot \psi_1(<x>)"),
)
def digamma_vjp(ct, out, x, **_):
    """y = psi(x)  =>  x_bar = psi'(x) y_bar,  psi' = the polygamma function of order 1."""
    return (lax.mul(ct, lax.polygamma(full_like(x, 1), x)),)


def _polygamma(order):
    return lambda x: lax.polygamma(lax.full(x.shape, order, x.dtype), x)


@vjp_rule(
    polygamma_p,
    Probe(_polygamma(1), low=0.5, high=6.0, elementwise=True, exact=lambda mp, x: mp.polygamma(1, x)),
    Probe(_polygamma(2), low=0.5, high=6.0, elementwise=True, exact=lambda mp, x: mp.polygamma(2, x)),
    Probe(lambda x: lax.polygamma(lax.full((2, 3), 1, x.dtype), x), shapes=((2, 1),), low=0.5, high=6.0),
    reads="m x",
    latex=(r"\psi_{<0>}(<1>)", "0", r"<c> \odot \psi_{<0> + 1}(<1>)"),
)
def polygamma_vjp(ct, out, m, x, **_):
    """y = psi^(m)(x)  =>  x_bar = psi^(m+1)(x) y_bar;  the order m, a whole number, has no derivative (nor in JAX)."""
    return (
        _refused(
            "polygamma gradient with respect to m, its order,",
            "The order is a whole number: hold it with stop_gradient.",
        ),
        lambda: unbroadcast(lax.mul(ct, lax.polygamma(plus(1, m), x)), x),
    )


def zeta_of_three(q: Array, shape: Any = None) -> Any:
    return lax.zeta(lax.full(shape or q.shape, 3, q.dtype), q)


@vjp_rule(
    zeta_p,
    Probe(
        functools.partial(zeta_of_three),
        low=0.5,
        high=4.0,
        elementwise=True,
        order=1,
        forward=False,
        exact=lambda mp, q: mp.zeta(3, q),
    ),
    Probe(
        functools.partial(zeta_of_three, shape=(2, 3)),
        shapes=((2, 1),),
        low=0.5,
        high=4.0,
        dtypes=("float64",),
        order=1,
        forward=False,
    ),
    reads="s q",
    latex=(
        r"\zeta(<0>, <1>)",
        r"<c> \odot \partial_{<0>} \zeta(<0>, <1>)",
        r"-<c> \odot <0> \odot \zeta(<0> + 1, <1>)",
    ),
)
def zeta_vjp(ct, out, s, q, **_):
    """y = sum_k (q + k)^-s  =>  q_bar = -s zeta(s + 1, q) y_bar.  (JAX offers no derivative of zeta.)"""
    return (
        _refused(
            "zeta gradient with respect to its exponent",
            "There is no closed form; differentiate a truncated sum.",
            NotImplementedError,
        ),
        lambda: unbroadcast(lax.neg(lax.mul(ct, lax.mul(s, lax.zeta(plus(1, s), q)))), q),
    )


@_wide
def _gamma_density(a, x):
    """x^(a-1) e^-x / Gamma(a), 0 at x = inf."""
    x = lax.min(x, full_like(x, np.finfo(np.float32).max))  # e^-x is 0 long before
    return lax.exp(lax.sub(lax.sub(_weighted_log(plus(-1, a), x), x), lax.lgamma(a)))


def _regularized(mp, a, x):
    return mp.gammainc(a, 0, x, regularized=True)


@vjp_rule(
    igamma_p,
    Probe(lax.igamma, shapes=((3,), (3,)), low=0.5, high=4.0, elementwise=True, order=1, exact=_regularized),
    Probe(lambda x: lax.igamma(lax.full(x.shape, 2.5, x.dtype), x), low=0.5, high=4.0, elementwise=True),
    Probe(lax.igamma, shapes=((2, 1), (2, 3)), low=0.5, high=4.0, order=1),
    Probe(lax.igamma, shapes=((2, 3), (1, 3)), low=0.5, high=4.0, order=1),
    reads="a x",
    latex=(
        r"P(<0>, <1>) = \tfrac{1}{\Gamma(<0>)} \int_0^{<1>} t^{<0> - 1} e^{-t}\, dt",
        r"<c> \odot \partial_{<0>} P(<0>, <1>)",
        r"<c> \odot <1>^{<0> - 1} e^{-<1>} / \Gamma(<0>)",
    ),
)
def igamma_vjp(ct, out, a, x, **_):
    """P(a, x) = 1/Gamma(a) int_0^x t^(a-1) e^-t dt  =>  x_bar = x^(a-1) e^-x / Gamma(a) y_bar,  a_bar = dP/da y_bar,

    the latter by its own series (the primitive igamma_grad_a)."""
    return (
        lambda: unbroadcast(lax.mul(ct, igamma_grad_a_p.bind(a, x)), a),
        lambda: unbroadcast(lax.mul(ct, _gamma_density(a, x)), x),
    )


@vjp_rule(
    igammac_p,
    Probe(
        lax.igammac,
        shapes=((3,), (3,)),
        low=0.5,
        high=4.0,
        elementwise=True,
        order=1,
        exact=lambda mp, a, x: 1 - _regularized(mp, a, x),
    ),
    Probe(lax.igammac, shapes=((2, 1), (2, 3)), low=0.5, high=4.0, order=1),
    Probe(lax.igammac, shapes=((2, 3), (1, 3)), low=0.5, high=4.0, order=1),
    reads="a x",
    latex=(
        r"Q(<0>, <1>) = 1 - P(<0>, <1>)",
        r"-<c> \odot \partial_{<0>} P(<0>, <1>)",
        r"-<c> \odot <1>^{<0> - 1} e^{-<1>} / \Gamma(<0>)",
    ),
)
def igammac_vjp(ct, out, a, x, **_):
    """Q(a, x) = 1 - P(a, x)  =>  a_bar and x_bar are those of P with the other sign; see igamma."""
    return (
        lambda: unbroadcast(lax.neg(lax.mul(ct, igamma_grad_a_p.bind(a, x))), a),
        lambda: unbroadcast(lax.neg(lax.mul(ct, _gamma_density(a, x))), x),
    )


def igamma_slope(x: Array, shape: Any = None) -> Any:
    return igamma_grad_a_p.bind(lax.full(shape or x.shape, 2.5, x.dtype), x)


@vjp_rule(
    igamma_grad_a_p,
    Probe(
        functools.partial(igamma_slope),
        low=2.5,
        high=4.0,
        order=1,
        dtypes=("float64", "float32"),
        elementwise=True,
        forward=False,
        exact=lambda mp, x: mp.diff(lambda a: _regularized(mp, a, x), mp.mpf(2.5)),
    ),
    Probe(
        functools.partial(igamma_slope, shape=(2, 3)),
        shapes=((2, 1),),
        low=2.5,
        high=4.0,
        dtypes=("float64",),
        order=1,
        forward=False,
    ),
    reads="a x",
    latex=(
        r"\partial_{<0>} P(<0>, <1>)",
        r"<c> \odot \partial_{<0>}^2 P(<0>, <1>)",
        r"<c> \odot \partial_{<0>} \partial_{<1>} P(<0>, <1>)",
    ),
)
def igamma_grad_a_vjp(ct, out, a, x, **_):
    """y = dP/da;  derivatives commute:  dy/dx = d/da [x^(a-1) e^-x / Gamma(a)] = density (log x - psi(a))
    =>  x_bar = density (log x - psi(a)) y_bar.  (JAX offers no derivative of it.)"""
    slope = _wide(lambda a, x: lax.mul(_gamma_density(a, x), lax.sub(lax.log(x), lax.digamma(a))))
    return (
        _refused(
            "igamma's second derivative with respect to a",
            "No series for it is at hand; use differences of the first.",
            NotImplementedError,
        ),
        lambda: unbroadcast(lax.mul(ct, slope(a, x)), x),
    )


@_wide
def _beta_density(a, b, x):
    """x^(a-1) (1-x)^(b-1) / B(a, b)."""
    log_beta = lax.sub(lax.add(lax.lgamma(a), lax.lgamma(b)), lax.lgamma(lax.add(a, b)))
    weight = plus(-1, b)
    upper = _weighted(weight, lax.log1p(lax.neg(x)), lax.le(x, number(1, x)))
    return lax.exp(lax.sub(lax.add(_weighted_log(plus(-1, a), x), upper), log_beta))


@vjp_rule(
    regularized_incomplete_beta_p,
    Probe(
        lambda x: lax.betainc(lax.full(x.shape, 2.5, x.dtype), lax.full(x.shape, 1.5, x.dtype), x),
        low=0.1,
        high=0.9,
        elementwise=True,
        exact=lambda mp, x: mp.betainc(2.5, 1.5, 0, x, regularized=True),
    ),
    Probe(
        lambda x: lax.betainc(lax.full((2, 3), 2.5, x.dtype), lax.full((2, 3), 1.5, x.dtype), x),
        shapes=((2, 1),),
        low=0.1,
        high=0.9,
    ),
    Probe(
        lambda x: lax.betainc(lax.full((2, 1), 2.5, x.dtype), lax.full((1, 3), 1.5, x.dtype), x),
        shapes=((2, 3),),
        low=0.1,
        high=0.9,
    ),
    reads="a b x",
    latex=(
        r"I_{<2>}(<0>, <1>)",
        r"<c> \odot \partial_{<0>} I_{<2>}(<0>, <1>)",
        r"<c> \odot \partial_{<1>} I_{<2>}(<0>, <1>)",
        r"<c> \odot <2>^{<0> - 1} (1 - <2>)^{<1> - 1} / B(<0>, <1>)",
    ),
)
def regularized_incomplete_beta_vjp(ct, out, a, b, x, **_):
    """I_x(a, b) = 1/B(a, b) int_0^x t^(a-1) (1-t)^(b-1) dt  =>  x_bar = x^(a-1) (1-x)^(b-1) / B(a, b) y_bar;
    a_bar and b_bar are refused, as in JAX."""
    refused = _refused(
        "Betainc gradient with respect to a and b", "Hold them with stop_gradient, or integrate the density."
    )
    return refused, refused, lambda: unbroadcast(lax.mul(ct, _beta_density(a, b, x)), x)


@vjp_rule(
    bessel_i0e_p,
    Probe(
        lax.bessel_i0e,
        low=0.25,
        high=6.0,
        elementwise=True,
        exact=lambda mp, x: mp.exp(-abs(x)) * mp.besseli(0, x),
    ),
    Probe(lax.bessel_i0e, low=-6.0, high=-0.25),
    reads="out x",
    latex=(r"e^{-|<x>|} I_0(<x>)", r"<c> \odot \left(e^{-|<x>|} I_1(<x>) - \operatorname{sign}(<x>)\, <y>\right)"),
)
def bessel_i0e_vjp(ct, out, x, **_):
    """y = e^-|x| I_0(x),  I_0' = I_1  =>  x_bar = (e^-|x| I_1(x) - |x|' y) y_bar.

    At the kink |x|' = 1, as of abs itself: then e^|x| y = I_0(x) and log y + |x| have their slope 0 there.
    """
    return (lax.mul(ct, lax.sub(lax.bessel_i1e(x), lax.mul(_slope_of_abs(x), out))),)


def _slope_of_abs(x):
    """|x|' by abs's convention: 1 at 0.  A NaN stays one."""
    return lax.select(lax.eq(x, zeros_like(x)), full_like(x, 1), lax.sign(x))


def _scaled_bessel(mp, x):
    return mp.exp(-abs(x)) * mp.besseli(1, x)


@vjp_rule(
    bessel_i1e_p,
    *[
        Probe(lax.bessel_i1e, low=low, high=high, elementwise=True, exact=_scaled_bessel)
        for low, high in ((-1.2, -0.2), (0.2, 1.2), (2.0, 5.0))
    ],
    reads="out x",
    latex=(
        r"e^{-|<x>|} I_1(<x>)",
        r"<c> \odot \left(e^{-|<x>|} I_0(<x>) - <y> \odot (\operatorname{sign}(<x>) + 1/<x>)\right)",
    ),
)
def bessel_i1e_vjp(ct, out, x, **_):
    """y = e^-|x| I_1(x),  I_1' = I_0 - I_1 / x  =>  x_bar = (e^-|x| I_0(x) - y (|x|' + 1/x)) y_bar;  1/2 - |x| near 0.

    Near |x| = 1.5, where y is largest, the slope passes through 0 and is good to a unit of y, not of itself.
    """
    eps = number(np.finfo(np.float64).eps if x.dtype == np.float64 else np.finfo(np.float32).eps, x)
    away = lax.bitwise_not(lax.le(lax.abs(x), eps))  # a NaN is, and is passed on
    safe = lax.select(away, x, full_like(x, eps))
    slope = lax.sub(lax.bessel_i0e(safe), lax.mul(out, lax.add(lax.sign(safe), over(1, safe))))
    return (lax.mul(ct, lax.select(away, slope, lax.sub(number(0.5, x), lax.abs(x)))),)


def next_up(x: Array, shape: Any = None) -> Any:
    return lax.nextafter(x, lax.full(shape or x.shape, 9, x.dtype))


@vjp_rule(
    nextafter_p,
    Probe(functools.partial(next_up), dtypes=("float64", "float32"), elementwise=True, forward=False, order=1),
    Probe(functools.partial(next_up, shape=(2, 3)), shapes=((2, 1),), dtypes=("float64",), forward=False, order=1),
    reads="",
    latex=(r"\operatorname{nextafter}(<0>, <1>)", "<c>", "0"),
)
def nextafter_vjp(ct, out, x, y, **_):
    """z = x moved by one unit in the last place towards y, x but for rounding  =>  x_bar = z_bar,  y_bar = 0."""
    return lambda: unbroadcast(ct, x), None


@vjp_rule(
    rem_p,
    Probe(
        lambda x, y: lax.rem(times(4, x), y),
        shapes=((3,), (3,)),
        low=0.5,
        elementwise=True,
        exact=lambda mp, x, y: 4 * x - y * mp.floor(4 * x / y),
    ),
    Probe(lambda x, y: lax.rem(times(-4, x), y), shapes=((3,), (3,)), low=0.5, elementwise=True),
    Probe(lambda x, y: lax.rem(x, lax.reduce_sum(y, (0,))), shapes=((2, 3), (2,)), low=0.5),
    Probe(lax.rem, shapes=((2, 1), (2, 3)), low=0.5, dtypes=("float64",)),
    reads=("", "out x y"),
    latex=(r"<0> \bmod <1>", "<c>", r"-<c> \odot \operatorname{trunc}(<0> / <1>)"),
)
def rem_vjp(ct, out, x, y, **_):
    """z = x - n y,  n = x / y rounded towards 0, locally constant  =>  x_bar = z_bar,  y_bar = -n z_bar.

    n = (x - z) / y, which is whole but for rounding; x / y itself may round up to the next whole number.
    """

    def y_bar():
        n = lax.round(lax.div(lax.sub(x, out), y), lax.RoundingMethod.TO_NEAREST_EVEN)
        return unbroadcast(lax.neg(lax.mul(ct, n)), y)

    return lambda: unbroadcast(ct, x), y_bar


# --- primitives that newer JAX has ------------------------------------------------------------------------------------

if hasattr(primitives, "log2_p"):

    @vjp_rule(
        primitives.log2_p,
        Probe(lax.log2, low=0.1, dtypes=ALL, elementwise=True, exact=lambda mp, x: mp.log(x, 2)),
        reads="x",
        latex=(r"\log_2 <x>", r"<c> / (<x> \ln 2)"),
    )
    def log2_vjp(ct, out, x, **_):
        """y = log x / log 2  =>  x_bar = y_bar / (x log 2)."""
        return (lax.div(ct, times(np.log(2.0), x)),)


if hasattr(primitives, "one_minus_square_p"):

    @vjp_rule(
        primitives.one_minus_square_p,
        Probe(primitives.one_minus_square_p.bind, dtypes=ALL, elementwise=True, exact=lambda mp, x: 1 - x * x),
        reads="x",
        latex=("1 - <x>^2", r"-2\, <c> \odot <x>"),
    )
    def one_minus_square_vjp(ct, out, x, **_):
        """y = 1 - x^2  =>  x_bar = -2 x y_bar."""
        return (lax.mul(ct, times(-2, x)),)


if hasattr(primitives, "polynomial_p"):

    @vjp_rule(
        primitives.polynomial_p,
        Probe(lambda x, a, b, c: lax.polynomial(x, [a, b, c]), shapes=((3,),) * 4, dtypes=ALL, elementwise=True),
        Probe(lambda x, a: lax.polynomial(x, [0.5, a, 2.0, 3.0]), shapes=((3,), ()), dtypes=ALL),
        reads="x coefficients",
        latex=(
            r"\textstyle\sum_k a_k <x>^k, \quad a = (<1>, \dots)",
            r"<c> \odot \textstyle\sum_k k\, a_k <x>^{k - 1}",
            lambda terms: f"<c> \\odot <x>^{{{terms.place - 1}}}",
        ),
    )
    def polynomial_vjp(ct, out, x, *coefficients, **params):
        """y = sum_k a_k x^k  =>  x_bar = (sum_k k a_k x^(k-1)) y_bar,  a_k_bar = x^k y_bar."""

        def x_bar():
            slopes = [times(k, a) for k, a in enumerate(coefficients[1:], 1)]
            slope = lax.polynomial(x, slopes, **params)
            return unbroadcast(lax.mul(ct, slope), x)

        def a_bar(k):
            return lambda: unbroadcast(lax.mul(ct, lax.integer_pow(x, k)) if k else ct, coefficients[k])

        return (x_bar, *[a_bar(k) for k in range(len(coefficients))])
