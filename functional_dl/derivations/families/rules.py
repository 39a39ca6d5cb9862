"""The rules of differentiation themselves: product, quotient, chain with several paths, inverse function."""

from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, normal, slope_of, uniform
from functional_dl.derivations.step import Step

u, v = jnp.sin, lambda x: jnp.exp(x / 2)
u_prime, v_prime = jnp.cos, lambda x: jnp.exp(x / 2) / 2
POINT = "x, shape (4,); the functions are u = sin x and v = e^{x/2}"

PRODUCT_RULE = Derivation(
    "product_rule",
    "The product rule",
    r"(u v)' = u' v + u v'",
    (
        Step(
            r"(u v)'(x) = \lim_{h \to 0} \frac{u(x + h)\,v(x + h) - u(x)\,v(x)}{h}",
            "the definition of the derivative",
            slope_of(lambda x: u(x) * v(x)),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{u(x + h)\,v(x + h) - u(x)\,v(x + h) + u(x)\,v(x + h) - u(x)\,v(x)}{h}",
            "u(x) v(x + h) is taken off and added",
            Limit(lambda h, x: (u(x + h) * v(x + h) - u(x) * v(x + h) + u(x) * v(x + h) - u(x) * v(x)) / h),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \frac{u(x + h) - u(x)}{h}\, v(x + h) + u(x)\, \frac{v(x + h) - v(x)}{h} \right]",
            "the common factors are taken out",
            Limit(lambda h, x: (u(x + h) - u(x)) / h * v(x + h) + u(x) * (v(x + h) - v(x)) / h),
        ),
        Step(
            r"= u'(x)\,v(x) + u(x)\,v'(x)",
            "each quotient tends to a derivative, and v is continuous",
            lambda x: u_prime(x) * v(x) + u(x) * v_prime(x),
            kind="limit",
        ),
    ),
    "Leibniz 1684; Spivak 2008, chapter 10",
    drawing(normal(4)),
    fun=lambda x: u(x) * v(x),
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: mp.sin(x) * mp.exp(x / 2),
    point=POINT,
)

QUOTIENT_RULE = Derivation(
    "quotient_rule",
    "The quotient rule",
    r"\left( \frac{u}{v} \right)' = \frac{u' v - u v'}{v^2} \quad (v \ne 0)",
    (
        Step(
            r"\left( \frac uv \right)'(x) = \lim_{h \to 0} \frac1h \left( \frac{u(x + h)}{v(x + h)} -"
            r" \frac{u(x)}{v(x)} \right)",
            "the definition of the derivative",
            slope_of(lambda x: u(x) / v(x)),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{u(x + h)\,v(x) - u(x)\,v(x + h)}{h\,v(x + h)\,v(x)}",
            "a common denominator",
            Limit(lambda h, x: (u(x + h) * v(x) - u(x) * v(x + h)) / (h * v(x + h) * v(x))),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{1}{v(x + h)\,v(x)} \left[ \frac{u(x + h) - u(x)}{h}\, v(x) - u(x)\, \frac{v(x"
            r" + h) - v(x)}{h} \right]",
            "u(x) v(x) is taken off and added",
            Limit(lambda h, x: ((u(x + h) - u(x)) / h * v(x) - u(x) * (v(x + h) - v(x)) / h) / (v(x + h) * v(x))),
        ),
        Step(
            r"= \frac{u'(x)\,v(x) - u(x)\,v'(x)}{v(x)^2}",
            "each quotient tends to a derivative, and v is continuous",
            lambda x: (u_prime(x) * v(x) - u(x) * v_prime(x)) / v(x) ** 2,
            kind="limit",
        ),
    ),
    "Spivak 2008, chapter 10",
    drawing(normal(4)),
    fun=lambda x: u(x) / v(x),
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: mp.sin(x) / mp.exp(x / 2),
    point=POINT,
)


def joined(a: Array, b: Array) -> Any:
    """f(a, b) = a^2 b + sin b."""
    return a**2 * b + jnp.sin(b)


TOTAL_DERIVATIVE = Derivation(
    "several_paths",
    "The chain rule with several paths",
    r"y = f(u(x), v(x)) \quad\Rightarrow\quad y' = \frac{\partial f}{\partial u}\, u' +"
    r" \frac{\partial f}{\partial v}\, v'",
    (
        Step(
            r"y'(x) = \lim_{h \to 0} \frac{f(u(x + h), v(x + h)) - f(u(x), v(x))}{h}",
            "the definition of the derivative",
            slope_of(lambda x: joined(u(x), v(x))),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ \frac{f(u_1, v_1) - f(u_0, v_1)}{h} + \frac{f(u_0, v_1)"
            r" - f(u_0, v_0)}{h} \right]",
            r"one argument moved after the other; $u_0 = u(x)$, $u_1 = u(x + h)$, and so for v",
            Limit(
                lambda h, x: (
                    (joined(u(x + h), v(x + h)) - joined(u(x), v(x + h))) / h
                    + (joined(u(x), v(x + h)) - joined(u(x), v(x))) / h
                )
            ),
        ),
        Step(
            r"= \lim_{h \to 0} \left[ (u_0 + u_1)\,v_1\, \frac{u_1 - u_0}{h} + \left( u_0^2 + \frac{\sin v_1"
            r" - \sin v_0}{v_1 - v_0} \right)"
            r" \frac{v_1 - v_0}{h} \right]",
            r"for $f(u, v) = u^2 v + \sin v$: multiplied and divided by what each argument moves",
            Limit(
                lambda h, x: (
                    (u(x) + u(x + h)) * v(x + h) * (u(x + h) - u(x)) / h
                    + (u(x) ** 2 + (jnp.sin(v(x + h)) - jnp.sin(v(x))) / (v(x + h) - v(x))) * (v(x + h) - v(x)) / h
                )
            ),
        ),
        Step(
            r"= 2 u v\, u' + (u^2 + \cos v)\, v' = \frac{\partial f}{\partial u}\, u' +"
            r" \frac{\partial f}{\partial v}\, v'",
            "every path from x to y gives a product of its local derivatives, and the paths add up: this is why "
            "cotangents accumulate",
            lambda x: 2 * u(x) * v(x) * u_prime(x) + (u(x) ** 2 + jnp.cos(v(x))) * v_prime(x),
            kind="limit",
        ),
    ),
    "Spivak 1965, chapter 2; Griewank and Walther 2008, chapter 3",
    drawing(normal(4)),
    fun=lambda x: joined(u(x), v(x)),
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: mp.sin(x) ** 2 * mp.exp(x / 2) + mp.sin(mp.exp(x / 2)),
    point=POINT,
)

INVERSE_FUNCTION = Derivation(
    "inverse_function",
    "The derivative of an inverse function: the logarithm",
    r"y = \ln x,\; x = e^y \quad\Rightarrow\quad y' = \frac{1}{e^y} = \frac1x",
    (
        Step(
            r"y'(x) = \lim_{h \to 0} \frac{\ln(x + h) - \ln x}{h}",
            "the definition of the derivative",
            slope_of(jnp.log),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{y_1 - y_0}{e^{y_1} - e^{y_0}}, \quad y_0 = \ln x,\; y_1 = \ln(x + h)",
            "x is the exponential of y, so that h is a difference of exponentials",
            Limit(lambda h, x: (jnp.log(x + h) - jnp.log(x)) / (jnp.exp(jnp.log(x + h)) - jnp.exp(jnp.log(x)))),
        ),
        Step(
            r"= \frac{1}{e^{y_0}}",
            "the reciprocal of a quotient that tends to the exponential's derivative; y is continuous",
            lambda x: 1 / jnp.exp(jnp.log(x)),
            kind="limit",
        ),
        Step(r"= \frac1x", r"$e^{\ln x} = x$", lambda x: 1 / x),
    ),
    "Spivak 2008, chapter 12",
    drawing(uniform(4, low=0.5, high=3.0)),
    fun=jnp.log,
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: mp.log(x),
    point="x > 0, shape (4,)",
)

DERIVATIONS = (PRODUCT_RULE, QUOTIENT_RULE, TOTAL_DERIVATIVE, INVERSE_FUNCTION)
