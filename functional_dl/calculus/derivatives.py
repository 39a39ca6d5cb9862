"""The derivative from its definition, lim (f(x + h) - f(x)) / h, with an error that is not understated."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Array
from functional_dl.calculus import differences
from functional_dl.calculus.points import Side, shape_of
from functional_dl.calculus.program import primitives
from functional_dl.calculus.taylor import point
from functional_dl.estimates import Estimate
from functional_dl.precision import double

Method: TypeAlias = Literal["richardson", "complex_step", "central", "forward", "backward"]
DIRECTIONS: dict[Side, int] = {"both": 0, "left": -1, "right": 1}
# what is no analytic function of a complex number, or is not a function of one at all
NOT_ANALYTIC = {
    "abs", "sign", "max", "min", "clamp", "floor", "ceil", "round", "rem", "real", "imag", "conj", "sort", "argmax",
    "argmin", "reduce_max", "reduce_min", "cummax", "cummin", "lt", "le", "gt", "ge", "eq", "ne", "is_finite",
    "nextafter", "atan2", "erf", "erfc", "erf_inv", "lgamma", "digamma", "igamma", "igammac", "cbrt", "bessel_i0e",
    "bessel_i1e", "polygamma", "zeta", "regularized_incomplete_beta",
}  # fmt: skip


class Sides(NamedTuple):
    """The one-sided derivatives of f, whether they agree, and a sentence about it."""

    left: Estimate
    right: Estimate
    exists: bool
    reason: str


def derivative(
    f: Callable[..., Any], x: ArrayLike, method: Method = "richardson", *, side: Side = "both", order: int = 1
) -> Estimate:
    r"""f^(order)(x), for order 1 the limit of (f(x + h) - f(x)) / h.

    Args:
      f: function of a number, of JAX, NumPy or Python; its value is a real number or an array of such.
      x: the real number; may be a tracer of jit, vmap or grad where f is a function of JAX.
      method: "richardson": quotients at many steps, extrapolated; "central", "forward", "backward": the best single
        quotient, with the error that extrapolation finds in it; "complex_step": Im f(x + ih) / h, for analytic f of
        JAX or NumPy.
      side: "left" and "right" ask for one-sided derivatives (method "richardson").
      order: 1 or more; of "complex_step" and single quotients 1.
    Returns:
      Estimate(value, error), |value - f^(order)(x)| <= error.  Where the two sides differ, as for |x| at 0, there is no
      derivative: value is NaN and error inf; `one_sided_derivatives` gives both and says why.
    Raises:
      ValueError: method, side or order is not one of these; x is not one finite number; f is not analytic
      ("complex_step").
    Numerics: in float64, whatever the default, except where x is a tracer.
    Source: Ridders, Adv. Eng. Softw. 4 (1982) 75; Squire and Trapp, SIAM Review 40 (1998) 110.
    """
    arguments.choice("method", method, get_args(Method))
    direction = arguments.lookup("side", side, DIRECTIONS)
    order = arguments.integer("order", order)
    _fits(f, method, side, order)
    if arguments.concrete(x) is None:
        return _derivative(f, x, method, direction, order)
    with double():
        found = _derivative(f, point("x", x), method, direction, order)
    return Estimate(*(np.asarray(part)[()] for part in found))


def _fits(f, method, side, order):
    arguments.function("f", f)
    if method != "richardson" and order != 1:
        raise ValueError(f"order: expected 1 with method={method!r}, got {order}; 'richardson' takes any order")
    if method != "richardson" and side != "both":
        raise ValueError(f"side: expected 'both' with method={method!r}, got {side!r}; use 'forward' or 'backward'")


def one_sided_derivatives(f: Callable[..., Any], x: ArrayLike) -> Sides:
    """f'(x-) and f'(x+), whether they are one number, and why not.

    Args: f, x: as for `derivative`; x is not traced.
    Returns: Sides(left, right, exists, reason).
    """
    left, right = (derivative(f, x, side=side) for side in ("left", "right"))
    if not np.isfinite(left.error).all() or not np.isfinite(right.error).all():
        missing = [name for name, e in (("left", left), ("right", right)) if not np.isfinite(e.error).all()]
        return Sides(
            left, right, False, f"The quotients from the {' and the '.join(missing)} have no limit that can be told."
        )
    if (np.abs(left.value - right.value) > left.error + right.error).any():
        reason = f"The slopes differ, {left.value} to the left of x = {x} and {right.value} to its right: a kink."
        return Sides(left, right, False, reason)
    return Sides(left, right, True, f"The slopes to the left and to the right of x = {x} agree within their errors.")


def _derivative(f, x, method, direction, order) -> Estimate:
    if jnp.shape(x) != () or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(f"x: expected one real number, got shape {jnp.shape(x)} of dtype {jnp.result_type(x)}")
    values = _evaluator(f, x)
    if method == "complex_step":
        return _complex_step(f, values, x)
    h = differences.steps(x)
    line = differences.Line(values(x[None])[0], values(x + h), values(x - h))
    rounding = differences.rounding_of(line)

    def towards(direction: int):
        quotients = differences.nth_quotients(values, line, x, h, order, direction)
        scaled = rounding.of_quotients(h, order, one_sided=direction != 0)
        return differences.extrapolate(quotients, scaled, x, h, order, 2 if direction == 0 else 1)

    if direction:
        found = towards(direction)
        return Estimate(found.value, found.error)
    if method in ("forward", "backward"):
        return _single(towards(1 if method == "forward" else -1))
    middle, left, right = towards(0), towards(-1), towards(1)
    kink = (jnp.abs(right.value - left.value) > left.error + right.error) | left.diverges | right.diverges
    found = Estimate(middle.value, middle.error) if method == "richardson" else _single(middle)
    value = jnp.where(kink, jnp.full_like(found.value, jnp.nan), found.value)
    return Estimate(value, jnp.where(kink, jnp.full_like(found.error, jnp.inf), found.error))


def _single(found: differences.Quotients) -> Estimate:
    """The one quotient that is nearest to the limit, rounding counted, with what separates it from the limit."""
    off = jnp.abs(found.table - found.value[None]) + found.rounding
    off = jnp.where(jnp.isfinite(off), off, jnp.full_like(off, jnp.inf))
    best = jnp.argmin(off, axis=0)[None]
    value, error = (jnp.take_along_axis(part, best, axis=0)[0] for part in (found.table, off))
    return Estimate(jnp.where(jnp.isfinite(found.error), value, jnp.nan), error + found.error)


def _evaluator(f: Callable[..., Any], x: Array) -> Callable[..., Any]:
    """values(points) of shape (count, *shape): mapped where f is a function of JAX, one by one where it is not."""
    try:
        out = shape_of(f, x)
    except Exception:  # whatever a function of Python or NumPy says to a tracer
        if arguments.concrete(x) is None:
            raise
        return lambda points: jnp.stack([_called(f, float(p)) for p in np.asarray(points)])
    if not hasattr(out, "dtype") or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"f: expected real numbers as its value, got {out}")
    return jax.vmap(lambda t: jnp.asarray(f(t), out.dtype))


def _called(f, x: float) -> Array:
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(f(x))
    except (ArithmeticError, ValueError):
        value = np.asarray(np.nan)
    if value.dtype.kind not in "fiub":
        raise ValueError(f"f: expected real numbers as its value, got dtype {value.dtype}")
    return jnp.asarray(value, jnp.float64)


def _complex_step(f, values, x) -> Estimate:
    """Im f(x + ih) / h = f'(x) + O(h^2), h so small that O(h^2) is nothing: no difference is taken, nothing cancels."""
    used = primitives(f, x) & NOT_ANALYTIC
    if used:
        raise ValueError(
            f"f: method='complex_step' is for analytic functions, but f uses {', '.join(sorted(used))}, which has no "
            "complex derivative (or takes no complex values); method='richardson' takes any function"
        )
    h = jnp.where(x == 0, jnp.ones_like(x), jnp.abs(x)) * 2.0**-200
    near = x * (1 + jnp.asarray([0.0, 1, -1, 2, -2], x.dtype) * 4 * jnp.finfo(x.dtype).eps)
    points = jax.lax.complex(near, jnp.full_like(near, h))
    try:
        outs = jnp.stack([jnp.asarray(f(p)) for p in points]) if _plain(f, x) else jax.vmap(f)(points)
    except TypeError as error:
        raise ValueError(f"f: method='complex_step' is for functions that take complex numbers: {error}") from error
    if not jnp.iscomplexobj(outs):
        raise ValueError("f: method='complex_step' needs complex values, and f returned real ones")
    slopes = jnp.imag(outs) / h
    value = slopes[0]
    eps = float(jnp.finfo(x.dtype).eps)
    spread = jnp.max(jnp.abs(slopes - value[None]), axis=0)
    # what the step sees and differences do not is no derivative of f on the real line
    h = differences.steps(x)
    line = differences.Line(values(x[None])[0], values(x + h), values(x - h))
    rounding = differences.rounding_of(line).of_quotients(h, 1, one_sided=False)
    central = differences.extrapolate(differences.nth_quotients(values, line, x, h, 1, 0), rounding, x, h, 1, 2)
    wrong = ~(jnp.abs(central.value - value) <= central.error + 1e-6 * jnp.abs(value))
    error = 4 * spread + 16 * eps * jnp.abs(value)
    return Estimate(value, jnp.where(wrong, jnp.full_like(error, jnp.inf), error))


def _plain(f, x) -> bool:
    try:
        shape_of(f, x)
    except Exception:  # whatever a function of Python or NumPy says to a tracer
        return True
    return False
