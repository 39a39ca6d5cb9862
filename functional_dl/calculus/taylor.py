"""Taylor coefficients by propagating power series through a program: one recurrence for each family of primitives."""

from collections.abc import Callable, Sequence
from typing import Any, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.tree_util import tree_map, tree_unflatten
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Array, PyTree, Scalar
from functional_dl.calculus.numpy_functions import readable
from functional_dl.calculus.points import Side
from functional_dl.calculus.series import Series, constant
from functional_dl.calculus.series_branches import BRANCHES, ROOTS, RULES
from functional_dl.jaxprs import Interpreter, primitive_names, staged
from functional_dl.precision import double, handed_out

AGREE = 1e-9  # relative difference above which the coefficients of the two sides are different numbers
ROUNDING = 1e-13
EXTRA = (2, 6)  # coefficients more, where some are lost to cancelled powers of x - x_0
TRACED_EXTRA = 3  # the same where x_0 is traced, and what is lost cannot be seen


def taylor(f: Callable[..., Any], x0: ArrayLike, order: int, side: Side = "both") -> PyTree:
    r"""Coefficients c_0, ..., c_order of f(x) = sum_k c_k (x - x_0)^k + o((x - x_0)^order), c_k = f^(k)(x_0) / k!.

    Args:
      f: function of a number, which JAX can trace; its value may be an array or a pytree of arrays.
      x0: the number, real (complex for a function of complex numbers); may be a tracer of jit or vmap.
      order: 0 or more.
      side: of a function that is put together from pieces which meet at x0, the coefficients to the "left" or to the
        "right" of x0 may be asked for; with "both", coefficients in which the two differ are NaN.
    Returns:
      Array of shape (order + 1, *shape) for each array that f returns, in float64 where x0 is a number of Python or
      NumPy.
    Raises:
      ValueError: order is negative or side unknown; x0 is not one number, or not finite.
      NotImplementedError: f uses a primitive without a recurrence; the message names it.
    Kinks: |x| at 0 has the coefficients (0, NaN, ...); (0, 1, 0, ...) to the right.
    Removable points: a common factor of x - x_0 is cancelled, so that sin(x) / x, x / expm1(x), x**2.0 at 0 have their
      series; where there is none (sqrt(x), log(x), 1/x at 0) the coefficients are infinite or NaN.
    Numerics: a few roundings per coefficient; no differences are taken.
    Source: Griewank, Walther, Evaluating Derivatives (2nd ed.), SIAM 2008, chapter 13.
    Example:
      >>> np.asarray(calculus.taylor(jnp.exp, 0.0, 3)).round(6).tolist()
      [1.0, 1.0, 0.5, 0.166667]
    """
    arguments.function("f", f)
    order = arguments.integer("order", order, 0)
    arguments.choice("side", side, get_args(Side))
    if arguments.concrete(x0) is None:
        return _taylor(f, x0, order, side)
    with double():
        found = _taylor(f, point("x0", x0), order, side)
    return handed_out(found)


def point(name: str, x: ArrayLike) -> Scalar:
    """A concrete number as a float64 or complex128 array; call it in an x64 scope."""
    x = np.asarray(arguments.array(name, x))
    if x.shape != ():
        raise ValueError(f"{name}: expected one number, got shape {x.shape}")
    if not np.isfinite(x):
        raise ValueError(f"{name}: expected a finite number, got {x}")
    return jnp.asarray(x, np.complex128 if np.iscomplexobj(x) else np.float64)


def _taylor(f, x0, order, side):
    if jnp.shape(x0) != ():
        raise ValueError(f"x0: expected one number, got shape {jnp.shape(x0)}")
    if not jnp.issubdtype(jnp.result_type(x0), jnp.inexact):
        raise TypeError(f"x0: expected a real number, got dtype {jnp.result_type(x0)}")
    f = readable(f, x0) or f
    jaxpr, _ = staged(f, x0)
    concrete = arguments.concrete(x0) is not None
    # 0/0 cancels at the price of the highest coefficients, and a comparison may be decided by higher ones
    may_need_more = bool(primitive_names(jaxpr) & {"div", *ROOTS, *BRANCHES})
    if not may_need_more or not concrete:
        extra = TRACED_EXTRA if may_need_more else 0
        return tree_map(lambda c: c[: order + 1], series_of(f, x0, order + extra, side))
    found: list[Any] = []
    tree: Any = None
    for extra in (0, *EXTRA):
        found, tree, undecided = _coefficients(f, x0, order + extra, side)
        found = [c[: order + 1] for c in found]
        if not undecided and all(np.isfinite(np.asarray(c)).all() for c in found):
            break
    return tree_unflatten(tree, found)


def series_of(f: Callable[..., Any], x0: Any, order: int, side: Side) -> PyTree:
    """The coefficients up to an order, some of the last of which are NaN where 0/0 cancelled."""
    found, tree, _ = _coefficients(f, x0, order, side)
    return tree_unflatten(tree, found)


def _coefficients(f, x0, order, side):
    """(coefficients, tree, whether a comparison was left undecided)."""
    jaxpr, tree = staged(f, x0)
    if side == "left":
        left, germs = _germ(jaxpr, x0, order, -1)
        return left, tree, germs.undecided
    right, germs = _germ(jaxpr, x0, order, 1)
    if side == "both" and germs.branched and order:
        left, _ = _germ(jaxpr, x0, order, -1)
        right = tree_map(_where_equal, left, right)
    return right, tree, germs.undecided


def _where_equal(left, right):
    """What both sides agree on but for rounding, which is measured against a geometric bound c_k <= M r^k of them
    all."""
    size = jnp.maximum(jnp.abs(left), jnp.abs(right))
    k = jnp.arange(len(size), dtype=size.dtype).reshape(-1, *[1] * (size.ndim - 1))
    first = jnp.where(size[:1] > 0, size[:1], jnp.ones_like(size[:1]))
    rates = jnp.where(k > 0, (size / first) ** (1 / jnp.maximum(k, jnp.ones_like(k))), jnp.zeros_like(size))
    bound = first * jnp.max(rates, axis=0, keepdims=True) ** k
    same = (jnp.abs(left - right) <= AGREE * size + ROUNDING * bound) | (left == right)
    return jnp.where(same, right, jnp.full_like(right, jnp.nan))


def _germ(jaxpr, x0, order, direction):
    """The coefficients for x_0 + direction t, t > 0, in powers of x - x_0; and what was met on the way."""
    line = constant(x0, order)
    if order:
        line = line.at[1].set(jnp.full_like(x0, direction))
    germs = Germs(order)
    coefficients = [germs.coefficients(y) for y in germs.run(jaxpr, [Series(line)])]
    if direction < 0:
        coefficients = [_mirrored(c) for c in coefficients]
    return coefficients, germs


class Germs(Interpreter):
    """What depends on x is a Series, all else an array."""

    def __init__(self, order: int) -> None:
        self.order, self.branched, self.undecided = order, False, False

    def coefficients(self, x: ArrayLike) -> Array:
        return x.c if isinstance(x, Series) else constant(x, self.order)

    def takes_apart(self, eqn: Any, operands: Any) -> Any:
        return eqn.primitive.name != "while" and any(isinstance(x, Series) for x in operands)

    def apply(self, eqn: Any, operands: list[Series]) -> Sequence[Any]:
        primitive = eqn.primitive
        if not any(isinstance(x, Series) for x in operands):
            return super().apply(eqn, operands)
        rule = RULES.get(primitive.name)
        if rule is None:
            raise NotImplementedError(
                f"taylor: no recurrence for the primitive '{primitive}'; there are recurrences for "
                f"{', '.join(sorted(RULES))}"
            )
        self.branched |= primitive.name in BRANCHES or (primitive.name in ROOTS and _may_vanish(operands[0]))
        self.undecided |= primitive.name in BRANCHES and _are_alike(operands)
        return rule(primitive, operands, eqn.params, self.order)

    def cond(self, eqn: Any, operands: Any) -> Any:
        """Every branch is run: x_0 may be a tracer of vmap."""
        index, *rest = operands
        results = [self.run(branch, rest) for branch in eqn.params["branches"]]
        return [self.chosen(_index(index, len(cases)), cases) for cases in zip(*results)]

    def chosen(self, which: Any, cases: Any) -> Any:
        if any(isinstance(c, Series) for c in cases):
            return Series(jax.lax.select_n(which, *map(self.coefficients, cases)))
        return jax.lax.select_n(which, *map(jnp.asarray, cases))

    def row(self, eqn: Any, x: Any, t: Any) -> Any:
        return Series(x.c[:, t]) if isinstance(x, Series) else x[t]

    def stack(self, eqn: Any, rows: Any, aval: Any) -> Any:
        if any(isinstance(y, Series) for y in rows):
            return Series(jnp.stack([self.coefficients(y) for y in rows], axis=1))
        return jnp.stack(rows) if rows else jnp.zeros(aval.shape, aval.dtype)


def _may_vanish(x) -> bool:
    """Whether a series begins with 0, or may."""
    first = x.c[0] if isinstance(x, Series) else x
    return isinstance(first, jax.core.Tracer) or bool(np.any(np.asarray(first) == 0))


def _are_alike(operands) -> bool:
    """Whether two series, or one and 0, have the same coefficients somewhere, as far as they go."""
    a, b = operands[0], operands[1] if len(operands) == 2 else None
    if (
        a is b
        or not isinstance(a, Series)
        or any(isinstance(x.c, jax.core.Tracer) for x in operands if isinstance(x, Series))
    ):
        return False
    other = 0.0 if b is None else b.c if isinstance(b, Series) else constant(b, len(a.c) - 1)
    size = lambda c: np.reshape(c, (len(c), -1)) if np.ndim(c) else c
    gap = size(np.asarray(a.c)) - size(np.asarray(other))
    return bool(np.any(np.all(gap == 0, axis=0)) and np.any(np.asarray(a.c)[1:] != 0))


def _index(index, cases: int):
    return index.astype(bool) if cases == 2 else index


def _mirrored(c):
    """In powers of x - x_0 = -t."""
    signs = (-1.0) ** np.arange(len(c))
    return c * jnp.asarray(signs.reshape(-1, *[1] * (c.ndim - 1)), c.dtype) + jnp.zeros_like(c)  # no -0
