"""The chain rule's worked cases: a power of a power, nested functions, an exponential of a sine, a quotient."""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp

from functional_dl.aliases import Array
from functional_dl.derivations.derivation import Derivation
from functional_dl.derivations.limits import Limit
from functional_dl.derivations.notation import drawing, slope_of, uniform
from functional_dl.derivations.step import Step


def power(x: Array) -> Array:
    return 3 * (2 * x**2) ** 5


def mixed_powers(h: Array, x: Array) -> Array:
    """sum_{k=0}^4 u_1^k u_0^{4-k} with u = 2 x^2: (u_1^5 - u_0^5) / (u_1 - u_0)."""
    u0, u1 = 2 * x**2, 2 * (x + h) ** 2
    return sum((u1**k * u0 ** (4 - k) for k in range(5)), start=jnp.zeros(()))


POWER_OF_POWER = Derivation(
    "power_of_power",
    "A power of a power",
    r"f(x) = 3\,(2x^2)^5 \quad\Rightarrow\quad f'(x) = 15\,(2x^2)^4 \cdot 4x = 960\,x^9",
    (
        Step(
            r"f'(x) = \lim_{h \to 0} \frac{3\,(2(x + h)^2)^5 - 3\,(2x^2)^5}{h}",
            "the definition of the derivative",
            slope_of(power),
        ),
        Step(
            r"= \lim_{h \to 0} 3\, \frac{u_1^5 - u_0^5}{u_1 - u_0} \cdot \frac{u_1 - u_0}{h}, \quad u_0 = 2x^2,\; u_1"
            r" = 2(x + h)^2",
            "multiplied and divided by the change of u",
            Limit(
                lambda h, x: (
                    3
                    * ((2 * (x + h) ** 2) ** 5 - (2 * x**2) ** 5)
                    / (2 * (x + h) ** 2 - 2 * x**2)
                    * (2 * (x + h) ** 2 - 2 * x**2)
                    / h
                )
            ),
        ),
        Step(
            r"= \lim_{h \to 0} 3 \sum_{k=0}^{4} u_1^k u_0^{4-k} \cdot (4x + 2h)",
            r"$a^5 - b^5 = (a - b) \sum_k a^k b^{4-k}$; $2(x + h)^2 - 2x^2 = h\,(4x + 2h)$",
            Limit(lambda h, x: 3 * mixed_powers(h, x) * (4 * x + 2 * h)),
        ),
        Step(
            r"= 15\,(2x^2)^4 \cdot 4x",
            r"$u_1$ tends to $u_0$: five equal terms",
            lambda x: 15 * (2 * x**2) ** 4 * (4 * x),
            kind="limit",
        ),
        Step(r"= 15 \cdot 16\,x^8 \cdot 4x", r"$(2x^2)^4 = 16\,x^8$", lambda x: 15 * 16 * x**8 * (4 * x)),
        Step(r"= 960\,x^9", "the numbers multiplied", lambda x: 960 * x**9),
    ),
    "Spivak 2008, chapter 10",
    drawing(uniform(4, low=0.4, high=1.1)),
    fun=power,
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: 3 * (2 * x**2) ** 5,
    point="x, shape (4,)",
    notes=(
        r"Texts that arrive at another power or number lost a factor: the value is $96\,x^{10}$, its slope $960\,x^9$.",
    ),
)


def h_of(x: Array, z: Array) -> Array:
    """h(x, z) = x z + x^2."""
    return x * z + x**2


def g_of(y: Array, h: Array) -> Array:
    """g(y, h) = y h^2 + y."""
    return y * h**2 + y


def nested(x: Array, y: Array, z: Array) -> Array:
    return jnp.sin(g_of(y, h_of(x, z)))


def outer_slope(x: Array, y: Array, z: Array) -> Array:
    """f'(g) = cos g."""
    return jnp.cos(g_of(y, h_of(x, z)))


def chain(
    t: str,
    place: int,
    chords: Callable[..., Any],
    latex: str,
    inner_latex: str,
    closed: tuple[Callable[..., Any], Callable[..., Any]],
    closed_latex: str,
) -> tuple[Step, Step, Step, Step]:
    """Definition, three chords, the product of three local derivatives, written out."""

    def quotient(h, *point):
        moved = [p + h if i == place else p for i, p in enumerate(point)]
        g0, g1 = (g_of(p[1], h_of(p[0], p[2])) for p in (point, moved))
        return (jnp.sin(g1) - jnp.sin(g0)) / (g1 - g0) * chords(h, *point)

    return (
        Step(
            rf"\frac{{\partial w}}{{\partial {t}}} = \lim_{{\eta \to 0}} \frac{{w({t} + \eta) - w({t})}}{{\eta}},"
            rf" \quad w = f(g(y, h(x, z)))",
            "the definition of the partial derivative; $f = \\sin$, $g = y h^2 + y$, $h = x z + x^2$",
            slope_of(nested, place),
            chain=t,
        ),
        Step(
            latex,
            "multiplied and divided by what every function in between moves",
            Limit(quotient),
            chain=t,
        ),
        Step(
            inner_latex,
            "each chord tends to a local derivative, taken at the values that stand there",
            closed[0],
            kind="limit",
            chain=t,
        ),
        Step(closed_latex, "the local derivatives of this f, g and h", closed[1], chain=t),
    )


NESTED = Derivation(
    "nested_composition",
    "A composition with other arguments in between",
    r"w = f(g(y, h(x, z))) \quad\Rightarrow\quad \frac{\partial w}{\partial x} = f'(g)\,"
    r" \frac{\partial g}{\partial h}\,"
    r" \frac{\partial h}{\partial x}",
    (
        *chain(
            "x",
            0,
            lambda h, x, y, z: y * (h_of(x + h, z) + h_of(x, z)) * (z + 2 * x + h),
            r"= \lim_{\eta \to 0} \frac{f(g_1) - f(g_0)}{g_1 - g_0} \cdot \frac{g_1 - g_0}{h_1 - h_0} \cdot \frac{h_1"
            r" - h_0}{\eta}",
            r"= f'(g)\, \frac{\partial g}{\partial h}\, \frac{\partial h}{\partial x}",
            (
                lambda x, y, z: outer_slope(x, y, z) * (2 * y * h_of(x, z)) * (z + 2 * x),
                lambda x, y, z: 2 * y * (x * z + x**2) * (z + 2 * x) * jnp.cos(y * (x * z + x**2) ** 2 + y),
            ),
            r"= \cos(y h^2 + y) \cdot 2 y h \cdot (z + 2x), \quad h = x z + x^2",
        ),
        *chain(
            "y",
            1,
            lambda h, x, y, z: h_of(x, z) ** 2 + 1,
            r"= \lim_{\eta \to 0} \frac{f(g_1) - f(g_0)}{g_1 - g_0} \cdot \frac{g_1 - g_0}{\eta}",
            r"= f'(g)\, \frac{\partial g}{\partial y}",
            (
                lambda x, y, z: outer_slope(x, y, z) * (h_of(x, z) ** 2 + 1),
                lambda x, y, z: ((x * z + x**2) ** 2 + 1) * jnp.cos(y * (x * z + x**2) ** 2 + y),
            ),
            r"= \cos(y h^2 + y) \cdot (h^2 + 1)",
        ),
        *chain(
            "z",
            2,
            lambda h, x, y, z: y * (h_of(x, z + h) + h_of(x, z)) * x,
            r"= \lim_{\eta \to 0} \frac{f(g_1) - f(g_0)}{g_1 - g_0} \cdot \frac{g_1 - g_0}{h_1 - h_0} \cdot \frac{h_1"
            r" - h_0}{\eta}",
            r"= f'(g)\, \frac{\partial g}{\partial h}\, \frac{\partial h}{\partial z}",
            (
                lambda x, y, z: outer_slope(x, y, z) * (2 * y * h_of(x, z)) * x,
                lambda x, y, z: 2 * y * (x * z + x**2) * x * jnp.cos(y * (x * z + x**2) ** 2 + y),
            ),
            r"= \cos(y h^2 + y) \cdot 2 y h \cdot x",
        ),
    ),
    "Spivak 1965, chapter 2",
    drawing(*(uniform(4, low=0.3, high=1.2) for _ in range(3))),
    fun=nested,
    arguments=("x", "y", "z"),
    slope=True,
    exact=lambda mp, x, y, z: mp.sin(y * (x * z + x**2) ** 2 + y),
    point="x, y and z, each of shape (4,)",
)


def exponential(x: Array) -> Array:
    return jnp.exp(jnp.sin(x**2))


def sines(h: Array, x: Array) -> tuple[Array, Array]:
    """sin(x_1^2), sin(x_0^2)."""
    return jnp.sin((x + h) ** 2), jnp.sin(x**2)


def three_chords(h: Array, x: Array) -> Array:
    s1, s0 = sines(h, x)
    q1, q0 = (x + h) ** 2, x**2
    return (jnp.exp(s1) - jnp.exp(s0)) / (s1 - s0) * (s1 - s0) / (q1 - q0) * (q1 - q0) / h


def product_of_chords(h: Array, x: Array) -> Array:
    """The same with e^{s_0} taken out, and the sum formula for the sine."""
    s1, s0 = sines(h, x)
    middle, half = ((x + h) ** 2 + x**2) / 2, ((x + h) ** 2 - x**2) / 2
    return jnp.exp(s0) * jnp.expm1(s1 - s0) / (s1 - s0) * jnp.cos(middle) * jnp.sin(half) / half * (2 * x + h)


EXPONENTIAL_OF_SINE = Derivation(
    "exponential_of_sine",
    "An exponential of a sine of a square",
    r"f(x) = e^{\sin(x^2)} \quad\Rightarrow\quad f'(x) = 2x \cos(x^2)\, e^{\sin(x^2)}",
    (
        Step(
            r"f'(x) = \lim_{h \to 0} \frac{e^{\sin((x + h)^2)} - e^{\sin(x^2)}}{h}",
            "the definition of the derivative",
            slope_of(exponential),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{e^{s_1} - e^{s_0}}{s_1 - s_0} \cdot \frac{s_1 - s_0}{q_1 - q_0} \cdot \frac{q_1"
            r" - q_0}{h},"
            r"\quad q = x^2,\; s = \sin q",
            "multiplied and divided by what every function in between moves",
            Limit(three_chords),
        ),
        Step(
            r"= \lim_{h \to 0} e^{s_0} \frac{e^{s_1 - s_0} - 1}{s_1 - s_0} \cdot \cos\frac{q_1 + q_0}{2}\,"
            r" \frac{\sin \frac{q_1 - q_0}{2}}{\frac{q_1 - q_0}{2}} \cdot (2x + h)",
            r"$\sin a - \sin b = 2 \cos\frac{a + b}{2} \sin\frac{a - b}{2}$",
            Limit(product_of_chords),
        ),
        Step(
            r"= e^{\sin(x^2)} \cdot \cos(x^2) \cdot 2x",
            r"$(e^u - 1)/u$ and $\sin u / u$ tend to 1: the local derivatives, outermost first",
            lambda x: jnp.exp(jnp.sin(x**2)) * jnp.cos(x**2) * (2 * x),
            kind="limit",
        ),
    ),
    "Spivak 2008, chapter 10",
    drawing(uniform(4, low=0.3, high=1.0)),
    fun=exponential,
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: mp.exp(mp.sin(x**2)),
    point="x, shape (4,)",
)


def fraction(x: Array) -> Array:
    return x**2 * jnp.sin(x) / (1 + x)


def numerator(x: Array) -> Array:
    return x**2 * jnp.sin(x)


QUOTIENT_CASE = Derivation(
    "product_and_quotient",
    "A product in a quotient",
    r"f(x) = \frac{x^2 \sin x}{1 + x} \quad\Rightarrow\quad"
    r" f'(x) = \frac{(2x \sin x + x^2 \cos x)(1 + x) - x^2 \sin x}{(1 + x)^2}",
    (
        Step(
            r"f'(x) = \lim_{h \to 0} \frac1h \left( \frac{u(x + h)}{1 + x + h} - \frac{u(x)}{1 + x} \right), \quad u"
            r" = x^2 \sin x",
            "the definition of the derivative, for x other than -1",
            slope_of(fraction),
        ),
        Step(
            r"= \lim_{h \to 0} \frac{(u(x + h) - u(x))\,(1 + x) - u(x)\,h}{h\,(1 + x + h)(1 + x)}",
            "a common denominator; u(x) (1 + x) is taken off and added",
            Limit(
                lambda h, x: (
                    ((numerator(x + h) - numerator(x)) * (1 + x) - numerator(x) * h) / (h * (1 + x + h) * (1 + x))
                )
            ),
        ),
        Step(
            r"= \frac{u'(x)\,(1 + x) - u(x)}{(1 + x)^2}, \quad u'(x) = 2x \sin x + x^2 \cos x",
            "the quotient tends to u', which the product rule gives",
            lambda x: ((2 * x * jnp.sin(x) + x**2 * jnp.cos(x)) * (1 + x) - x**2 * jnp.sin(x)) / (1 + x) ** 2,
            kind="limit",
        ),
        Step(
            r"= \frac{x\,(2 + x) \sin x + x^2 (1 + x) \cos x}{(1 + x)^2}",
            r"sorted by sine and cosine: $2x(1 + x) - x^2 = x\,(2 + x)$",
            lambda x: (x * (2 + x) * jnp.sin(x) + x**2 * (1 + x) * jnp.cos(x)) / (1 + x) ** 2,
        ),
    ),
    "Spivak 2008, chapter 10",
    drawing(uniform(4, low=-0.5, high=2.0)),
    fun=fraction,
    arguments=("x",),
    slope=True,
    exact=lambda mp, x: x**2 * mp.sin(x) / (1 + x),
    point="x, shape (4,), away from -1",
)

DERIVATIONS = (POWER_OF_POWER, NESTED, EXPONENTIAL_OF_SINE, QUOTIENT_CASE)
