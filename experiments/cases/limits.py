"""Limits with their true values.

A function is written once, over a module m: jax.numpy for the library, numpy for a calculator's answer, and mpmath
for the oracle, which evaluates it in hundreds of digits nearer to the point than any float can be.
"""

import math
from collections.abc import Callable
from dataclasses import dataclass
from fractions import Fraction

import mpmath
import numpy as np

from functional_dl.calculus import Side

INF = math.inf
NONE, SLOW = "none", "slow"
DIGITS, NEAR = 320, 40  # digits, and a distance of 1e-40
FAR = 10**10  # for functions of a logarithm, which cancel nothing: a distance of 10^-10^10, which mpmath can write


@dataclass(frozen=True)
class Case:
    """One limit.

    Attributes:
      name: the formula, for people.
      fun: (m, x) -> value.
      x0: where x goes to.
      true: an mpmath context -> the limit; INF or -INF; NONE where there is none; SLOW where no values can tell.
      side: as for `calculus.limit`.
      word: where there is no limit, what the reason must name.
      deep: whether the oracle has to go to 10^-10^10.
      whole: a sequence; plain: one of Python's numbers, which JAX cannot trace.
    """

    name: str
    fun: Callable
    x0: float
    true: Callable | float | str
    side: Side = "both"
    word: str = ""
    deep: bool = False
    whole: bool = False
    plain: bool = False

    @property
    def kind(self) -> str:
        if callable(self.true):
            return "finite"
        return self.true if isinstance(self.true, str) else "infinite"

    @property
    def place(self) -> str:
        if math.isinf(self.x0):
            return f"{'n' if self.whole else 'x'} → {'∞' if self.x0 > 0 else '−∞'}"
        sides = {"left": "⁻", "right": "⁺", "both": ""}
        return f"x → {self.x0:.4g}{sides[self.side]}"


def value(number) -> Callable:
    return lambda mp: mp.mpf(number)


CASES = [
    Case("sin x / x", lambda m, x: m.sin(x) / x, 0.0, value(1)),
    Case("(1 − cos x) / x²", lambda m, x: (1 - m.cos(x)) / x**2, 0.0, lambda mp: mp.mpf(1) / 2),
    Case("(tan x − sin x) / x³", lambda m, x: (m.tan(x) - m.sin(x)) / x**3, 0.0, lambda mp: mp.mpf(1) / 2),
    Case("(sin x − x + x³/6) / x⁵", lambda m, x: (m.sin(x) - x + x**3 / 6) / x**5, 0.0, lambda mp: mp.mpf(1) / 120),
    Case("(1 + x)^(1/x)", lambda m, x: (1 + x) ** (1 / x), 0.0, lambda mp: mp.e),
    Case("(cos x)^(1/x²)", lambda m, x: m.cos(x) ** (1 / x**2), 0.0, lambda mp: mp.exp(-mp.mpf(1) / 2)),
    Case("x sin(1/x)", lambda m, x: x * m.sin(1 / x), 0.0, value(0)),
    Case("e^(−1/x²) / x¹⁰", lambda m, x: m.exp(-1 / x**2) / x**10, 0.0, value(0)),
    Case("(√x − 2) / (x − 4)", lambda m, x: (m.sqrt(x) - 2) / (x - 4), 4.0, lambda mp: mp.mpf(1) / 4),
    Case("(x³ − 8) / (x² − 4)", lambda m, x: (x**3 - 8) / (x**2 - 4), 2.0, value(3)),
    Case("|x| / x, right", lambda m, x: m.fabs(x) / x, 0.0, value(1), "right"),
    Case("|x| / x, left", lambda m, x: m.fabs(x) / x, 0.0, value(-1), "left"),
    Case("arctan(1/x)", lambda m, x: m.atan(1 / x), 0.0, lambda mp: mp.pi / 2, "right"),
    Case("x log x", lambda m, x: x * m.log(x), 0.0, value(0), "right"),
    Case("xˣ", lambda m, x: x**x, 0.0, value(1), "right"),
    Case("(1 + 1/x)ˣ", lambda m, x: (1 + 1 / x) ** x, INF, lambda mp: mp.e),
    Case("√(x² + x) − x", lambda m, x: m.sqrt(x**2 + x) - x, INF, lambda mp: mp.mpf(1) / 2),
    Case("x¹⁰ e⁻ˣ", lambda m, x: x**10 * m.exp(-x), INF, value(0)),
    Case("x^(1/x)", lambda m, x: x ** (1 / x), INF, value(1)),
    # as slow as a logarithm
    Case("x^0.01 log x", lambda m, x: x**0.01 * m.log(x), 0.0, value(0), "right", deep=True),
    Case("1 / log x", lambda m, x: 1 / m.log(x), 0.0, value(0), "right", deep=True),
    Case("log 3x / log x", lambda m, x: m.log(3 * x) / m.log(x), INF, value(1), deep=True),
    # sequences
    Case("(1 + 1/n)ⁿ", lambda m, n: (1 + 1 / n) ** n, INF, lambda mp: mp.e, whole=True),
    Case("(−1)ⁿ / n", lambda m, n: (-1.0) ** n / n, INF, value(0), whole=True),
    Case("n (2^(1/n) − 1)", lambda m, n: n * (2.0 ** (1 / n) - 1), INF, lambda mp: mp.log(2), whole=True),
    Case("sums of 1/k² to n, in Python", lambda m, n: _basel(m, n), INF, lambda mp: mp.pi**2 / 6, whole=True,
         plain=True),
    # without bound
    Case("1 / x²", lambda m, x: 1 / x**2, 0.0, INF),
    Case("log x", lambda m, x: m.log(x), 0.0, -INF, "right"),
    Case("eˣ / x¹⁰", lambda m, x: m.exp(x) / x**10, INF, INF),
    # no limit
    Case("|x| / x", lambda m, x: m.fabs(x) / x, 0.0, NONE, word="differ"),
    Case("1 / x", lambda m, x: 1 / x, 0.0, NONE, word="differ"),
    Case("1 / (1 + e^(1/x))", lambda m, x: 1 / (1 + m.exp(1 / x)), 0.0, NONE, word="differ"),
    Case("⌊x⌋", lambda m, x: m.floor(x), 2.0, NONE, word="differ"),
    Case("sin(1/x)", lambda m, x: m.sin(1 / x), 0.0, NONE, word="keeps oscillating"),
    Case("sin(log x)", lambda m, x: m.sin(m.log(x)), 0.0, NONE, "right", word="keeps oscillating"),
    Case("x sin x", lambda m, x: x * m.sin(x), INF, NONE, word="without bound"),
    Case("(−1)ⁿ", lambda m, n: (-1.0) ** n, INF, NONE, word="oscillating", whole=True),
    Case("log x at −1", lambda m, x: m.log(x), -1.0, NONE, word="not defined"),
    # what no table of values can tell
    Case("1 / log log x", lambda m, x: 1 / m.log(m.log(x)), INF, SLOW, word="to tell"),
    Case("sin(log log x)", lambda m, x: m.sin(m.log(m.log(x))), INF, SLOW, word="to tell"),
]  # fmt: skip


def _basel(m, n):
    """1 + 1/4 + ... + 1/n^2: added up by Python, and for the oracle pi^2/6 - trigamma(n + 1)."""
    if m is mpmath:
        return mpmath.pi**2 / 6 - mpmath.psi(1, n + 1)
    return math.fsum(1 / k**2 for k in range(1, int(n) + 1))


# ---- limits drawn at random ----------------------------------------------------------------------------


def _powers(name: str, order: int) -> list[Fraction]:
    """The Taylor coefficients of a function at 0, exactly, up to x^order."""
    sign = lambda k: (-1) ** (k // 2)
    coefficient = {
        "sin": lambda k: Fraction(sign(k) * (k % 2), math.factorial(k)),
        "cos": lambda k: Fraction(sign(k) * (1 - k % 2), math.factorial(k)),
        "exp": lambda k: Fraction(1, math.factorial(k)),
        "atan": lambda k: Fraction(sign(k) * (k % 2), max(k, 1)),
        "log1p": lambda k: Fraction((-1) ** (k + 1) if k else 0, max(k, 1)),
    }[name]
    return [coefficient(k) for k in range(order + 1)]


def drawn(count: int, seed: int) -> list[Case]:
    """(g(ax) h(bx) - its Taylor polynomial below x^n) / x^n -> the coefficient of x^n, by exact fractions.

    By l'Hopital's rule it takes n derivatives, and in float64 everything cancels but rounding.
    """
    draws, cases = np.random.default_rng(seed), []
    names = ["sin", "cos", "exp", "atan", "log1p"]
    while len(cases) < count:
        first, second = (str(name) for name in draws.choice(names, 2))
        a, b, n = (int(draws.integers(1, 4)), -int(draws.integers(1, 4)), int(draws.integers(2, 6)))
        one = [c * a**k for k, c in enumerate(_powers(first, n))]
        two = [c * b**k for k, c in enumerate(_powers(second, n))]
        product = [sum((one[i] * two[k - i] for i in range(k + 1)), Fraction(0)) for k in range(n + 1)]
        if product[n]:
            cases.append(_drawn(first, second, a, b, product))
    return cases


def _drawn(first: str, second: str, a: int, b: int, product: list[Fraction]) -> Case:
    n = len(product) - 1

    def fun(m, x):
        below = 0 * x
        for k, c in enumerate(product[:n]):
            below = below + c.numerator * x**k / c.denominator
        return (getattr(m, first)(a * x) * getattr(m, second)(b * x) - below) / x**n

    true = lambda mp: mp.mpf(product[n].numerator) / product[n].denominator
    shown = {"log1p": "log(1 + {})", "atan": "arctan({})", "exp": "exp({})", "sin": "sin({})", "cos": "cos({})"}
    left, right = (shown[name].format(f"{k}x".replace("1x", "x")) for name, k in ((first, a), (second, b)))
    name = f"({left} {right} − T{n - 1}) / x{'⁰¹²³⁴⁵'[n]}"
    return Case(name.replace("+ -", "− ").replace("-", "−"), fun, 0.0, true)


# ---- oracle, and a calculator ---------------------------------------------------------------------------


def near(case: Case):
    """The function's values in mpmath, on each side that is asked for, as near to the point as the oracle goes."""
    with mpmath.workdps(60 if case.deep else DIGITS):
        h = mpmath.mpf(10) ** -(FAR if case.deep else NEAR)
        if math.isinf(case.x0):
            return [case.fun(mpmath, mpmath.sign(case.x0) / h)]
        sides = {"left": (-1,), "right": (1,), "both": (-1, 1)}[case.side]
        return [case.fun(mpmath, mpmath.mpf(case.x0) + side * h) for side in sides]


def calculator(case: Case, h: float = 1e-8) -> float:
    """What float64 gives where h (or 1/h) is plugged in."""
    if math.isinf(case.x0):
        x = 4096.0 if case.plain else math.copysign(1 / h, case.x0)
    else:
        x = case.x0 + (-h if case.side == "left" else h)
    with np.errstate(all="ignore"):
        return float(case.fun(np, np.float64(x)))


def exact(case: Case) -> float:
    """The limit, rounded to a float; NaN where there is none or none that can be told."""
    if callable(case.true):
        with mpmath.workdps(50):
            return float(case.true(mpmath))
    return math.nan if isinstance(case.true, str) else float(case.true)
