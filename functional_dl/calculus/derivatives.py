"""The derivative from its definition, lim (f(x + h) - f(x)) / h, with an error that is not understated."""

from collections.abc import Callable
from typing import Any, Literal, NamedTuple, TypeAlias, cast, get_args

import jax
import jax.numpy as jnp
import numpy as np
from jax.typing import ArrayLike

from functional_dl import arguments
from functional_dl.aliases import Array
from functional_dl.calculus import differences
from functional_dl.calculus.mapped import mapped
from functional_dl.calculus.numpy_functions import of_jax, readable
from functional_dl.calculus.points import Side, shape_of
from functional_dl.calculus.program import primitives
from functional_dl.calculus.samples import outside_of_domain
from functional_dl.calculus.taylor import point
from functional_dl.estimates import Estimate
from functional_dl.jaxprs import open_jaxpr, staged
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
      derivative: value is NaN and error inf; `reason` says why, and `one_sided_derivatives` gives both.
    Raises:
      ValueError: method, side or order is not one of these; x is not one finite number; f is not analytic
      ("complex_step").
    Numerics: in float64, whatever the default, except where x is a tracer.
    Source: Ridders, Adv. Eng. Softw. 4 (1982) 75; Squire and Trapp, SIAM Review 40 (1998) 110.
    Example:
      >>> round(float(calculus.derivative(lambda x: x**3, 2.0).value), 9)
      12.0
      >>> round(float(calculus.derivative(jnp.exp, 0.0, order=2).value), 6)
      1.0
    """
    arguments.choice("method", method, get_args(Method))
    direction = arguments.lookup("side", side, DIRECTIONS)
    order = arguments.integer("order", order)
    _fits(f, method, side, order)
    if arguments.concrete(x) is None:
        return _derivative(f, x, method, direction, order)
    with double():
        found = _derivative(f, point("x", x), method, direction, order)
    return Estimate(*(np.asarray(part)[()] for part in found), reason=found.reason)


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
    Example:
      >>> sides = calculus.one_sided_derivatives(jnp.abs, 0.0)
      >>> float(sides.left.value), float(sides.right.value), sides.exists
      (-1.0, 1.0, False)
    """
    left, right = (derivative(f, x, side=side) for side in ("left", "right"))
    if not np.isfinite(left.error).all() or not np.isfinite(right.error).all():
        missing = [(name, e) for name, e in (("left", left), ("right", right)) if not np.isfinite(e.error).all()]
        names, reasons = " and the ".join(name for name, _ in missing), "; ".join({e.reason for _, e in missing})
        return Sides(left, right, False, f"The quotients from the {names} have no limit that can be told: {reasons}.")
    if (np.abs(left.value - right.value) > left.error + right.error).any():
        reason = f"The slopes differ, {left.value} to the left of x = {x} and {right.value} to its right: a kink."
        return Sides(left, right, False, reason)
    return Sides(left, right, True, f"The slopes to the left and to the right of x = {x} agree within their errors.")


def _derivative(f, x, method, direction, order) -> Estimate:
    if jnp.shape(x) != () or not jnp.issubdtype(jnp.result_type(x), jnp.floating):
        raise ValueError(f"x: expected one real number, got shape {jnp.shape(x)} of dtype {jnp.result_type(x)}")
    known = arguments.concrete(x) is not None
    # numbers need no compiling but that of f
    xp: Any = np if known else jnp
    x = cast(Any, np.asarray(x) if known else x)
    values = _evaluator(f, x)
    if method == "complex_step":
        return _complex_step(f, values, x, xp)
    h = differences.steps(x, xp)
    found = values(xp.concatenate([x[None], x + h, x - h]))
    line = differences.Line(found[0], found[1 : 1 + len(h)], found[1 + len(h) :])
    with np.errstate(all="ignore"):
        return _from_line(values, line, x, h, method, direction, order, xp)


def _from_line(values, line, x, h, method, direction, order, xp) -> Estimate:
    rounding = differences.rounding_of(line, xp)

    def towards(direction: int):
        quotients = differences.nth_quotients(values, line, x, h, order, direction, xp)
        scaled = rounding.of_quotients(h, order, one_sided=direction != 0)
        return differences.extrapolate(quotients, scaled, x, h, order, 2 if direction == 0 else 1, xp)

    narrowest = lambda found: differences.held_to_the_narrowest(found, x, line.here, xp)
    if direction:
        found = narrowest(towards(direction))
        return Estimate(found.value, found.error, _why_not(found, xp, line))
    if method in ("forward", "backward"):
        return _single(towards(1 if method == "forward" else -1), xp, line)
    middle, left, right = narrowest(towards(0)), towards(-1), towards(1)
    kink = (xp.abs(right.value - left.value) > left.error + right.error) | left.diverges | right.diverges
    slow = left.slow | right.slow
    found = Estimate(middle.value, middle.error) if method == "richardson" else _single(middle, xp, line)
    value = xp.where(kink | slow, xp.full_like(found.value, xp.nan), found.value)
    error = xp.where(kink | slow, xp.full_like(found.error, xp.inf), found.error)
    return Estimate(value, error, _why_not(middle._replace(slow=slow, error=error), xp, line, kink))


def _why_not(found: differences.Quotients, xp: Any, line: Any, kink: Any = False) -> str:
    """Why no derivative is given, of numbers; empty if it is, and where nothing is known yet."""
    if xp is not np or np.all(np.isfinite(found.error)):
        return ""
    if not np.all(np.isfinite(line.here)):
        return "f(x) is NaN or infinite"
    if np.any(found.slow):
        return "the quotients converge as slowly as a logarithm of the step, so that no limit can be given"
    if np.any(found.diverges):
        return "the quotients grow as the step narrows: a jump, or a vertical tangent"
    if np.any(kink):
        return "the quotients from the left and from the right have different limits, or none: a kink or a jump"
    return "the quotients do not settle before rounding hides them: f oscillates, is noisy, or is not defined near x"


def _single(found: differences.Quotients, xp: Any, line: Any) -> Estimate:
    """The one quotient that is nearest to the limit, rounding counted, with what separates it from the limit."""
    off = xp.abs(found.table - found.value[None]) + found.rounding
    off = xp.where(xp.isfinite(off), off, xp.full_like(off, xp.inf))
    best = xp.argmin(off, axis=0)[None]
    value, error = (xp.take_along_axis(part, best, axis=0)[0] for part in (found.table, off))
    error = error + found.error
    return Estimate(xp.where(xp.isfinite(found.error), value, xp.nan), error, _why_not(found, xp, line))


def _evaluator(f: Callable[..., Any], x: Array) -> Callable[..., Any]:
    """values(points) of shape (count, *shape): mapped where f is a function of JAX, one by one where it is not."""
    if arguments.concrete(x) is None:
        read = readable(f, x) or f
        _check_real(shape_of(read, x))
        return jax.vmap(lambda t: jnp.asarray(read(t)))
    for read in (f, of_jax(f)):
        try:
            jaxpr, _ = staged(lambda t, read=read: jnp.asarray(read(t)), jax.ShapeDtypeStruct((), x.dtype))
        except Exception:  # whatever a function of Python or NumPy says to a tracer
            continue
        _check_real(open_jaxpr(jaxpr)[0].outvars[0].aval)
        return mapped(jaxpr, x.dtype)
    return lambda points: np.stack([_called(f, float(p)) for p in np.asarray(points)])


def _check_real(out) -> None:
    if not hasattr(out, "dtype") or not jnp.issubdtype(out.dtype, jnp.floating):
        raise ValueError(f"f: expected real numbers as its value, got {out}")


def _called(f, x: float) -> np.ndarray:
    try:
        with np.errstate(all="ignore"):
            value = np.asarray(f(x))
    except ArithmeticError:
        value = np.asarray(np.nan)
    except ValueError as error:
        if not outside_of_domain(error):
            raise
        value = np.asarray(np.nan)
    if value.dtype.kind not in "fiub":
        raise ValueError(f"f: expected real numbers as its value, got dtype {value.dtype}")
    return value.astype(np.float64)


def _complex_step(f, values, x, xp) -> Estimate:
    """Im f(x + ih) / h = f'(x) + O(h^2), h so small that O(h^2) is nothing: no difference is taken, nothing cancels."""
    used = primitives(f, jnp.asarray(x)) & NOT_ANALYTIC
    if used:
        raise ValueError(
            f"f: method='complex_step' is for analytic functions, but f uses {', '.join(sorted(used))}, which has no "
            "complex derivative (or takes no complex values); method='richardson' takes any function"
        )
    x = jnp.asarray(x)
    h = jnp.where(x == 0, jnp.ones_like(x), jnp.abs(x)) * 2.0**-200
    near = x * (1 + jnp.asarray([0.0, 1, -1, 2, -2], x.dtype) * 4 * jnp.finfo(x.dtype).eps)
    points = jax.lax.complex(near, jnp.full_like(near, h))
    try:
        outs = jnp.stack([jnp.asarray(f(p)) for p in points]) if _plain(f, x) else jax.vmap(f)(points)
    except TypeError as error:
        raise ValueError(f"f: method='complex_step' is for functions that take complex numbers: {error}") from error
    if not jnp.iscomplexobj(outs):
        raise ValueError("f: method='complex_step' needs complex values, and f returned real ones")
    x, outs, h = map(xp.asarray, (x, outs, h))
    slopes = xp.imag(outs) / h
    value = slopes[0]
    eps = float(jnp.finfo(x.dtype).eps)
    spread = xp.max(xp.abs(slopes - value[None]), axis=0)
    # what the step sees and differences do not is no derivative of f on the real line
    h = differences.steps(x, xp)
    found = values(xp.concatenate([x[None], x + h, x - h]))
    line = differences.Line(found[0], found[1 : 1 + len(h)], found[1 + len(h) :])
    with np.errstate(all="ignore"):
        rounding = differences.rounding_of(line, xp).of_quotients(h, 1, one_sided=False)
        quotients = differences.nth_quotients(values, line, x, h, 1, 0, xp)
        central = differences.extrapolate(quotients, rounding, x, h, 1, 2, xp)
        wrong = ~(xp.abs(central.value - value) <= central.error + 1e-6 * xp.abs(value))
        error = 4 * spread + 16 * eps * xp.abs(value)
    return Estimate(value, xp.where(wrong, xp.full_like(error, xp.inf), error))


def _plain(f, x) -> bool:
    try:
        shape_of(f, x)
    except Exception:  # whatever a function of Python or NumPy says to a tracer
        return True
    return False
