"""The tables themselves: their closed forms against mpmath's quadrature."""

import mpmath
import numpy as np
import pytest

from tests.integrals import genz
from tests.integrals.one_dimension import CASES


def test_names_are_unique_and_every_kind_is_there():
    names = [case.name for case in CASES]
    assert len(set(names)) == len(names) >= 60
    assert {case.kind for case in CASES} >= {"smooth", "oscillating", "end", "peak", "kink", "jump", "divergent"}


# Each closed form is also a quadrature of mpmath's, on the integrand as its formula says, in 30 digits.
@pytest.mark.parametrize(("name", "formula", "points"), [
    ("Runge", lambda m, x: 1 / (1 + 25 * x * x), [-1, 0, 1]),
    ("tanh", lambda m, x: m.tanh(20 * x), [-0.5, 0, 0.2, 1]),
    ("exp cos", lambda m, x: m.exp(m.cos(x)), [0, 3, 6.283185307179586]),
    ("chirp", lambda m, x: m.sin(1 / x), [0.01, 0.0125, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.1, 0.2, 0.5, 1]),
    ("x^x", lambda m, x: x**x, [0, 1]),
    ("log x / sqrt x", lambda m, x: m.log(x) / m.sqrt(x), [0, 1]),
    ("flat exp(-1/x)/x^2", lambda m, x: m.exp(-1 / x) / x**2, [0, 0.1, 1]),
    ("Bose", lambda m, x: x**3 / m.expm1(x), [0, 5, 20, mpmath.inf]),
    ("damped", lambda m, x: m.exp(-x) * m.sin(30 * x), [k / 5 for k in range(200)]),
    ("|sin|", lambda m, x: abs(m.sin(x)), [0, mpmath.pi, 2 * mpmath.pi, 3 * mpmath.pi, 10]),
    ("off centre", lambda m, x: 1 / (m.mpf("1e-8") + (x - m.mpf(0.3)) ** 2), [0, 0.29, 0.2999, 0.3, 0.3001, 0.31, 1]),
])  # fmt: skip
def test_closed_forms(name, formula, points):
    case = next(case for case in CASES if case.name == name)
    with mpmath.workdps(30):
        found = mpmath.quad(lambda x: formula(mpmath, x), points)
        assert abs(found - case.exact(mpmath)) <= 1e-12 * abs(found)


@pytest.mark.parametrize("family", genz.DIFFICULTY)
def test_genz_in_two_dimensions(family):
    problem = genz.problem(family, 2, 0)
    (x, y), n = problem.u, 400
    nodes, weights = np.polynomial.legendre.leggauss(n)
    cuts = [np.array([0.0, cut, 1.0]) for cut in (x, y)]
    axes = []
    for cut in cuts:
        lengths = np.diff(cut)
        axes.append((np.concatenate([c + (nodes + 1) / 2 * h for c, h in zip(cut, lengths)]),
                     np.concatenate([weights / 2 * h for h in lengths])))  # fmt: skip
    (a, b), (c, d) = problem.a, problem.u
    X, Y = np.meshgrid(axes[0][0], axes[1][0], indexing="ij")
    values = {
        "oscillatory": lambda: np.cos(2 * np.pi * c + a * X + b * Y),
        "product peak": lambda: 1 / ((a**-2 + (X - c) ** 2) * (b**-2 + (Y - d) ** 2)),
        "corner peak": lambda: (1 + a * X + b * Y) ** -3,
        "Gaussian": lambda: np.exp(-((a * (X - c)) ** 2) - (b * (Y - d)) ** 2),
        "continuous": lambda: np.exp(-a * np.abs(X - c) - b * np.abs(Y - d)),
        "discontinuous": lambda: np.where((c < X) | (d < Y), 0, np.exp(a * X + b * Y)),
    }[family]()
    assert abs(axes[0][1] @ values @ axes[1][1] - problem.exact) <= 1e-11 * abs(values).max()
