"""Losses of a number against a number: squares with and without a half, absolute values, Huber's."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from functional_dl import losses
from functional_dl.aliases import Array, Key
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.kinked import at_kink
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import away, drawing, normal, pulled_back, slope_of
from functional_dl.derivations.step import Oracle, Step


def beside(residual: Callable[..., Any]) -> Callable[..., Any]:
    """draw(key): p and t with p - t drawn from `residual`."""

    def draw(key: Key):
        r, t = drawing(residual, normal(4))(key)
        return r + t, t

    return draw


def square(p: Array, t: Array) -> Any:
    return (p - t) ** 2


SQUARED_ERROR = Derivation(
    "squared_error",
    "Squared error",
    r"l = (p - t)^2 \quad\Rightarrow\quad \frac{\partial l}{\partial p} = 2\,(p - t), \quad"
    r" \frac{\partial l}{\partial t} = -2\,(p - t)",
    (
        Step(
            r"\frac{\partial l}{\partial p} = \lim_{h \to 0} \frac{(p + h - t)^2 - (p - t)^2}{h}",
            "the definition of the partial derivative",
            slope_of(square, 0),
            chain="p",
        ),
        Step(
            r"= \lim_{h \to 0} \frac{2 h (p - t) + h^2}{h}",
            "the first square multiplied out",
            Limit(lambda h, p, t: (2 * h * (p - t) + h**2) / h),
            chain="p",
        ),
        Step(
            r"= \lim_{h \to 0} \left[ 2 (p - t) + h \right]",
            "divided by h",
            Limit(lambda h, p, t: 2 * (p - t) + h),
            chain="p",
        ),
        Step(r"= 2\,(p - t)", "h tends to 0", lambda p, t: 2 * (p - t), kind="limit", chain="p"),
        Step(
            r"\frac{\partial l}{\partial t} = \lim_{h \to 0} \frac{(p - t - h)^2 - (p - t)^2}{h}",
            "the definition of the partial derivative",
            slope_of(square, 1),
            chain="t",
        ),
        Step(
            r"= \lim_{h \to 0} \left[ -2 (p - t) + h \right]",
            "multiplied out and divided by h",
            Limit(lambda h, p, t: -2 * (p - t) + h),
            chain="t",
        ),
        Step(r"= -2\,(p - t)", "h tends to 0", lambda p, t: -2 * (p - t), kind="limit", chain="t"),
    ),
    "Legendre 1805",
    drawing(normal(4), normal(4)),
    fun=losses.squared_error,
    arguments=("p", "t"),
    slope=True,
    exact=lambda mp, p, t: (p - t) ** 2,
    oracles=(Oracle("losses.squared_error_prime", losses.squared_error_prime, "p", "last"),),
    point="p and t, each of shape (4,)",
    notes=("Without a half the derivative has a 2.  `half_squared_error` has the half, and no 2.",),
)

HALF_SQUARED_ERROR = Derivation(
    "half_squared_error",
    "Half the squared error",
    r"l = \tfrac12 (p - t)^2 \quad\Rightarrow\quad \frac{\partial l}{\partial p} = p - t",
    (
        Step(
            r"\frac{\partial l}{\partial p} = \lim_{h \to 0} \frac{\frac12 (p + h - t)^2 - \frac12 (p - t)^2}{h}",
            "the definition of the partial derivative",
            slope_of(lambda p, t: (p - t) ** 2 / 2, 0),
            chain="p",
        ),
        Step(
            r"= \lim_{h \to 0} \frac{\frac12 (2 p + h - 2 t)\,h}{h}",
            r"$a^2 - b^2 = (a + b)(a - b)$",
            Limit(lambda h, p, t: (2 * p + h - 2 * t) * h / 2 / h),
            chain="p",
        ),
        Step(r"= p - t", "the 2 cancels the half, and h tends to 0", lambda p, t: p - t, kind="limit", chain="p"),
        Step(
            r"\frac{\partial l}{\partial t} = \lim_{h \to 0} \frac{\frac12 (p - t - h)^2 - \frac12 (p - t)^2}{h}",
            "the definition of the partial derivative",
            slope_of(lambda p, t: (p - t) ** 2 / 2, 1),
            chain="t",
        ),
        Step(
            r"= \lim_{h \to 0} \frac{-\frac12 (2 p - 2 t - h)\,h}{h}",
            r"$a^2 - b^2 = (a + b)(a - b)$",
            Limit(lambda h, p, t: -(2 * p - 2 * t - h) * h / 2 / h),
            chain="t",
        ),
        Step(r"= -(p - t)", "h tends to 0", lambda p, t: -(p - t), kind="limit", chain="t"),
    ),
    "Goodfellow, Bengio, Courville 2016, section 4.3",
    drawing(normal(4), normal(4)),
    fun=losses.half_squared_error,
    arguments=("p", "t"),
    slope=True,
    exact=lambda mp, p, t: (p - t) ** 2 / 2,
    oracles=(Oracle("losses.half_squared_error_prime", losses.half_squared_error_prime, "p", "last"),),
    point="p and t, each of shape (4,)",
)


def mean_square(p: Array, t: Array) -> Any:
    return jnp.mean((p - t) ** 2)


def mean_square_chain(name: str, sign: int, argument: int) -> tuple[Step, Step, Step]:
    """The lines for p (sign 1) or t (sign -1)."""
    s = "" if sign > 0 else "-"
    return (
        Step(
            rf"\bar {name}_j = \bar J \lim_{{h \to 0}} \frac{{J({name} + h e_j) - J({name})}}{{h}}",
            "the definition of the cotangent",
            pulled_back(mean_square, argument),
            chain=name,
        ),
        Step(
            rf"= {s}\bar J\, \frac{{1}}{{n}} \sum_i 2\,(p_i - t_i)\, \delta_{{ij}}",
            "the sum term by term; each square by `squared_error`",
            lambda p, t, ct: sign * ct / p.size * jnp.einsum("i,ij->j", 2 * (p - t), jnp.eye(p.size)),
            kind="limit",
            chain=name,
        ),
        Step(
            rf"= {s}\frac{{2}}{{n}}\, \bar J\, (p_j - t_j)",
            "one term of the sum is left",
            lambda p, t, ct: sign * 2 / p.size * ct * (p - t),
            chain=name,
        ),
    )


MEAN_SQUARED_ERROR = Derivation(
    "mean_squared_error",
    "Mean squared error",
    r"J = \frac1n \sum_i (p_i - t_i)^2 \quad\Rightarrow\quad \bar p = \frac2n\, \bar J\, (p - t)",
    (*mean_square_chain("p", 1, 0), *mean_square_chain("t", -1, 1)),
    "Goodfellow, Bengio, Courville 2016, section 5.1.4",
    drawing(normal(4), normal(4), normal()),
    fun=lambda p, t: jnp.mean(losses.squared_error(p, t)),
    arguments=("p", "t"),
    point="p and t, each of shape (4,), and the cotangent of J, a number",
    notes=("The mean's 1/n stands in every entry of the gradient, and the square's 2 with it.",),
)

ABS_AT_0, ABS_INTERVAL = at_kink(
    r"|\cdot|", "0", lambda r: losses.absolute_error(r, 0.0 * r), 0.0, (-1.0, 1.0), 0.0, "at p = t"
)


def absolute_chain(name: str, sign: int, argument: int) -> tuple[Step, Step, Step]:
    s = "" if sign > 0 else "-"
    shifted = "p + h - t" if sign > 0 else "p - t - h"
    return (
        Step(
            rf"\frac{{\partial l}}{{\partial {name}}} = \lim_{{h \to 0}} \frac{{|{shifted}| - |p - t|}}{{h}}",
            "the definition of the partial derivative, for p other than t",
            slope_of(lambda p, t: jnp.abs(p - t), argument),
            chain=name,
        ),
        Step(
            rf"= \lim_{{h \to 0}} \frac{{s\,({shifted}) - s\,(p - t)}}{{h}}, \quad s = \operatorname{{sign}}(p - t)",
            r"for $|h| < |p - t|$ the sign does not change, and $|r| = r \operatorname{sign} r$",
            Limit(lambda h, p, t: (jnp.sign(p - t) * (p - t + sign * h) - jnp.sign(p - t) * (p - t)) / h),
            chain=name,
        ),
        Step(
            rf"= {s}\operatorname{{sign}}(p - t)",
            f"the difference is {s}s h for every such h",
            lambda p, t: sign * jnp.sign(p - t),
            kind="limit",
            chain=name,
        ),
    )


ABSOLUTE_ERROR = Derivation(
    "absolute_error",
    "Absolute error",
    r"l = |p - t| \quad\Rightarrow\quad \frac{\partial l}{\partial p} = \operatorname{sign}(p - t) \quad (p \ne t)",
    (*absolute_chain("p", 1, 0), *absolute_chain("t", -1, 1), *ABS_AT_0),
    "Boyd and Vandenberghe 2004, section 6.1.1",
    beside(away(4)),
    fun=losses.absolute_error,
    arguments=("p", "t"),
    slope=True,
    exact=lambda mp, p, t: abs(p - t),
    oracles=(Oracle("losses.absolute_error_prime", losses.absolute_error_prime, "p", "last"), ABS_INTERVAL),
    kinks=("p = t: slopes -1 and 1; taken: 0, the middle, where a residual of 0 asks for no change.",),
    kink_points=lambda key: ((jnp.asarray([0.5, 1.0, -2.0]), jnp.asarray([0.5, 0.0, -2.0])),),
    point="p and t, each of shape (4,), apart from each other",
)


def huber_chain(name: str, sign: int, argument: int) -> tuple[Step, Step, Step, Step]:
    s = "" if sign > 0 else "-"
    return (
        Step(
            rf"\frac{{\partial l}}{{\partial {name}}} = \lim_{{h \to 0}} \frac{{l(r {'+' if sign > 0 else '-'} h)"
            rf" - l(r)}}{{h}},"
            r" \quad r = p - t",
            "the definition of the partial derivative",
            slope_of(losses.huber, argument),
            chain=name,
        ),
        Step(
            rf"= {s}\lim_{{h \to 0}} \begin{{cases}} r {'+' if sign > 0 else '-'} h/2 & |r| < \delta \\"
            r" \delta \operatorname{sign} r & |r| > \delta \end{cases}",
            "for small h both arguments lie on one piece: a parabola (as in `half_squared_error`) or a line",
            Limit(lambda h, p, t: sign * jnp.where(jnp.abs(p - t) < 1, p - t + sign * h / 2, jnp.sign(p - t))),
            chain=name,
        ),
        Step(
            rf"= {s}\begin{{cases}} r & |r| \le \delta \\ \delta \operatorname{{sign}} r & |r| > \delta \end{{cases}}",
            r"h tends to 0; at $|r| = \delta$ both pieces agree",
            lambda p, t: sign * jnp.where(jnp.abs(p - t) <= 1, p - t, jnp.sign(p - t)),
            kind="limit",
            chain=name,
        ),
        Step(
            rf"= {s}\min(\max(r, -\delta), \delta)",
            "the same in one formula: the residual, clipped",
            lambda p, t: sign * jnp.minimum(jnp.maximum(p - t, -1.0), 1.0),
            chain=name,
        ),
    )


HUBER = Derivation(
    "huber",
    "Huber's loss",
    r"l = \begin{cases} \frac12 r^2 & |r| \le \delta \\ \delta (|r| - \frac12 \delta) & |r| > \delta \end{cases},\; r"
    r" = p - t"
    r" \quad\Rightarrow\quad \frac{\partial l}{\partial p} = \min(\max(r, -\delta), \delta)",
    (*huber_chain("p", 1, 0), *huber_chain("t", -1, 1)),
    "Huber 1964",
    beside(away(4, kinks=(-1.0, 1.0))),
    fun=losses.huber,
    arguments=("p", "t"),
    slope=True,
    exact=lambda mp, p, t: (p - t) ** 2 / 2 if abs(p - t) <= 1 else abs(p - t) - mp.mpf(1) / 2,
    oracles=(Oracle("losses.huber_prime", losses.huber_prime, "p", "last"),),
    kinks=("None: both pieces have slope delta where they meet.  The second derivative jumps there.",),
    kink_points=lambda key: ((jnp.asarray([1.0, -1.0, 0.0]), jnp.zeros(3)),),
    point="p and t, each of shape (4,); delta is 1",
)

DERIVATIONS = (SQUARED_ERROR, HALF_SQUARED_ERROR, MEAN_SQUARED_ERROR, ABSOLUTE_ERROR, HUBER)
