"""The formulas of the tables at 120 digits: an oracle that shares no code and no convention with JAX."""

import mpmath
import numpy as np

mp = mpmath.mp.clone()
mp.dps = 120  # 1 - tanh(30)^2 alone costs 26 digits, a second difference a third of the rest
_NAMES = {name: getattr(mp, name) for name in dir(mp) if not name.startswith("_")} | {"max": max, "min": min}


def function(formula: str, *variables: str):
    """The formula as a function of exact floats (or lists of them)."""
    code = compile(formula, formula, "eval")
    return lambda *values: eval(code, {**_NAMES, **dict(zip(variables, map(exact, values), strict=True))})


def exact(x):
    """Floats as mpmath numbers, arrays as lists, without rounding."""
    if isinstance(x, mpmath.mpf | mp.mpf):
        return x
    if isinstance(x, np.ndarray | list | tuple) and np.ndim(x):
        return [exact(v) for v in x]
    return mp.mpf(float(x))


def derivative(fun, x, order: int = 1):
    """d^order fun / dx^order at x, by differences at these many digits."""
    return mp.diff(fun, exact(x), order)


def partial(fun, x, i: int):
    """d fun / d x_i of a function of a list."""
    x = exact(x)
    return mp.diff(lambda v: fun([*x[:i], v, *x[i + 1 :]]), x[i])
