"""How an equation permuted finite numbers into non-finite ones, in words, and what to do about it.

FORWARD and BACKWARD are tables; of the rows of a primitive the first whose condition holds is said.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from functional_dl.check.function import is_inexact


@dataclass(frozen=True)
class Scene:
    """An origin with its numbers.

    Fields:
      step: the equation; operands: their values.
      at: the operands' entries at the place, where they have the output's shape or broadcast to it.
      out: the output's entry; ct: the cotangent's entry, in the backward sweep.
      masked: the value goes into an unselected branch of a `where` at that place.
      makers: the names of the primitives that made the operands, "" for arguments.
      dtype: of the first floating operand.
    """

    step: Any
    operands: list[Any]
    at: list[Any]
    out: Any
    ct: Any
    masked: bool
    makers: list[str]
    dtype: Any

    def at_is(self, place: int, test: Callable[[Any], Any]) -> bool:
        """Whether an operand's entry passes a test."""
        return np.size(self.at[place]) == 1 and bool(test(self.at[place]))

    def numbers(self, direction: str) -> dict[str, str]:
        """The numbers at the place, by name."""
        names = ["x"] if len(self.at) == 1 else [f"operand {j}" for j in range(len(self.at))]
        found = {name: _show(v) for name, v in zip(names, self.at) if v is not None}
        if direction == "forward":
            found["result"] = _show(self.out)
        elif self.ct is not None:
            found["cotangent"] = _show(self.ct)
        return found


def explain(scene: Scene, direction: str) -> tuple[str, str]:
    """The mechanism of an origin, and advice."""
    table = FORWARD if direction == "forward" else BACKWARD
    name = scene.step.name
    mechanism, advice = next(
        (text, mend)
        for names, holds, text, mend in table
        if (names == "*" or name in names.split()) and (holds is None or holds(scene))
    )
    mechanism = mechanism.format(name=name, dtype=np.dtype(scene.dtype).name)
    if not scene.masked:
        return mechanism, advice
    made = "is not finite" if direction == "forward" else "has no finite derivative"
    return (
        f"0 * inf from an unselected `where` branch: {mechanism}; what the branch that was not taken computes {made}, "
        "and its zero cotangent times that is NaN",
        DOUBLE_WHERE,
    )


def _show(v) -> str:
    v = np.asarray(v)
    if v.dtype.kind not in "fciub":
        return f"array of shape {v.shape}"
    if v.size == 1:
        return f"{v.item():.6g}" if v.dtype.kind in "fc" else f"{v.item()}"
    size = np.abs(v[np.isfinite(v)])
    kept = f"from {size.min():.4g} to {size.max():.4g} in size" if size.size else "none finite"
    bad = [f"{count} {what}" for count, what in ((np.isnan(v).sum(), "NaN"), (np.isinf(v).sum(), "inf")) if count]
    return f"array of shape {v.shape}, {', '.join([kept, *bad])}"


def plain(x: Any) -> Any:
    """x in NumPy, real numbers in double precision."""
    if not (is_inexact(x) or jnp.issubdtype(x.dtype, jnp.number) or x.dtype == bool):
        return x
    x = jnp.asarray(x)
    return np.asarray(x, np.float64) if jnp.issubdtype(x.dtype, jnp.floating) else np.asarray(x)


def entry(v: Any, index: tuple[int, ...], shape: tuple[int, ...]) -> Any:
    """v at the index of an array of that shape: v itself where it neither has the shape nor broadcasts to it."""
    if not isinstance(v, np.ndarray):
        return v
    if v.size == 1:
        return v.reshape(())[()]
    try:
        return np.broadcast_to(v, shape)[tuple(index)]
    except (ValueError, IndexError):
        return v


# --- conditions ------------------------------------------------------------------------------------------------------


def _zero(v):
    return v == 0


def _negative(v):
    return v < 0


def _is(place: int, test: Callable[[Any], Any]) -> Callable[[Scene], bool]:
    return lambda scene: scene.at_is(place, test)


def _both(first: Callable[[Any], Any], second: Callable[[Any], Any]) -> Callable[[Scene], bool]:
    return lambda scene: scene.at_is(0, first) and scene.at_is(1, second)


def _negative_power(scene: Scene) -> bool:
    return scene.step.params.get("y", 0) < 0 and scene.at_is(0, _zero)


def _of_squares(scene: Scene) -> bool:
    return not scene.masked and scene.makers[0] in ("reduce_sum", "dot_general", "add", "add_any")


# --- primitives, condition, mechanism, advice ------------------------------------------------------------------------

DOUBLE_WHERE = (
    "the double where: replace the operand by a harmless value where the branch is not taken, before the operation "
    "too: where(ok, f(where(ok, x, 1)), other)."
)
DIVISOR = f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}"
EPSILON = "add an epsilon under the root"
INSIDE = "clip the argument to the inside of {}."
RESCALE = "rescale the operands, use a wider dtype, or work with logarithms."
OVERFLOW = "overflow: the result is beyond the largest {dtype}"
SELECT = "select with where instead of multiplying by a mask of 0 and 1."
ABOVE = "clip the argument above -1."
POLE = "a negative power of 0: division by zero"
GAP = (
    "use {0} alone, or a function of the matrix that does not single out {1}, or separate the {0} by a small diagonal "
    "perturbation."
)
AT_END = "{name} outside its domain or at its end"
FORWARD: list[tuple[str, Callable[[Scene], bool] | None, str, str]] = [
    ("div", _both(_zero, _zero), "division by zero: 0 / 0", DIVISOR),
    ("div", _is(1, _zero), "division by zero", DIVISOR),
    ("div", _both(np.isinf, np.isinf), "inf / inf",
     "keep both finite: work with logarithms, subtract the maximum before exp."),
    ("div", None, "overflow of a quotient", "rescale, or work with logarithms."),
    ("exp exp2 expm1 sinh cosh", None, "overflow of exp: the argument is too large for the dtype",
     "log-space: subtract the maximum before exp (jax.nn.logsumexp, jax.nn.log_softmax), or jax.nn.softplus for "
     "log(1 + e^x)."),
    ("log", _is(0, _negative), "log of a negative number",
     "clip the argument to be positive, or where(x > 0, log(where(x > 0, x, 1)), other)."),
    ("log", None, "log of 0",
     "log-space: keep the logarithm itself (jax.nn.log_softmax, jax.nn.log_sigmoid, xlogy for x log x), or "
     "log(maximum(x, tiny))."),
    ("log1p", None, "log1p at or below -1: log of 0 or of a negative number", ABOVE),
    ("sqrt", None, "root of a negative number",
     "maximum(x, 0) before the root (a variance that rounding made negative)."),
    ("rsqrt", _is(0, lambda v: v != 0), "root of a negative number", f"{EPSILON}: rsqrt(x + eps)."),
    ("rsqrt", None, "1 / sqrt(0): division by zero", f"{EPSILON}: rsqrt(x + eps)."),
    ("pow", _is(0, _zero), POLE, DOUBLE_WHERE),
    ("pow", _is(0, _negative), "a negative number raised to a power that is not an integer",
     "abs(x)**y, or clip x."),
    ("pow", None, "overflow of a power", "work with logarithms: y log x."),
    ("integer_pow", _negative_power, POLE, DOUBLE_WHERE),
    ("sub add", _both(np.isinf, np.isinf),
     "inf - inf: a maximum of -inf, as of a fully masked row, is subtracted from itself",
     "mask with a large finite number (-1e9), or leave such rows out with a double where."),
    ("mul", _both(_zero, np.isinf), "0 * inf", SELECT),
    ("mul", _both(np.isinf, _zero), "0 * inf", SELECT),
    ("integer_pow sub add mul square dot_general reduce_sum reduce_prod cumsum cumprod conv_general_dilated", None,
     OVERFLOW, RESCALE),
    ("acos asin", None, AT_END, INSIDE.format("[-1, 1]")),
    ("atanh erf_inv", None, AT_END, INSIDE.format("(-1, 1)")),
    ("convert_element_type", None, "overflow of a cast to a dtype of smaller range",
     "cast later, or to bfloat16, or scale first."),
    ("cholesky", None, "Cholesky factor of a matrix that is not positive definite",
     "add a multiple of the identity (jitter)."),
    ("custom_linear_solve triangular_solve", None, "a linear system whose matrix is singular",
     "add a multiple of the identity (jitter), or jnp.linalg.lstsq, jnp.linalg.pinv."),
    ("*", None, "{name} of finite numbers is not finite there", "keep the argument inside the domain."),
]  # fmt: skip
STEEP = "{name} at %s: its derivative is infinite"
INTERVAL = INSIDE.format("the interval")
BACKWARD: list[tuple[str, Callable[[Scene], bool] | None, str, str]] = [
    ("sqrt cbrt", _of_squares,
     "the norm of a zero vector: the root of a sum of squares has an infinite derivative at 0, and 0 * inf is NaN",
     "a safe norm: n2 = sum(x**2); where(n2 > 0, sqrt(where(n2 > 0, n2, 1)), 0), or sqrt(n2 + eps)."),
    ("sqrt cbrt", None, "root at 0: its derivative 1 / (2 sqrt(0)) is infinite",
     "sqrt(x + eps), or where(x > 0, sqrt(where(x > 0, x, 1)), 0)."),
    ("log", None, "log at 0: its derivative 1 / x is infinite", "log(maximum(x, tiny)), or stay in logarithms."),
    ("log1p", None, "log1p at -1: its derivative is infinite", ABOVE),
    ("div", _is(1, lambda v: v != 0), "division by a tiny number: the derivative -x / y^2 overflows",
     "rescale, or bound the divisor from below."),
    ("div", None, "division by zero", DIVISOR),
    ("pow", _is(0, _negative), "x**y with x < 0: its derivative in y holds log x",
     "abs(x)**y, or an integer for y."),
    ("pow", None, "x**y at x = 0: y x**(y-1) or x**y log x is infinite or 0 * inf there",
     "where(x > 0, where(x > 0, x, 1)**y, 0), or an integer for y."),
    ("rsqrt", None, "1 / sqrt(x) at or near 0: its derivative x^(-3/2) overflows", f"{EPSILON}."),
    ("integer_pow", None, "a negative power at 0: its derivative is infinite", DOUBLE_WHERE),
    ("acos asin atanh erf_inv", None, STEEP % "+-1", INTERVAL),
    ("acosh", None, STEEP % "1", INTERVAL),
    ("exp exp2 expm1 sinh cosh", None, "overflow of exp in the backward sweep", "subtract the maximum before exp."),
    ("mul dot_general", None,
     "overflow in the backward sweep: a cotangent times the other factor is beyond the largest number",
     "scale the loss, or the operands."),
    ("eigh eig", None,
     "repeated eigenvalues: eigenvectors mix there and their derivative divides by the gap, which is 0",
     GAP.format("eigenvalues", "eigenvectors")),
    ("svd", None,
     "repeated or zero singular values: the derivative of singular vectors divides by their gap, which is 0",
     GAP.format("singular values", "singular vectors")),
    ("atan2", None, "atan2 at the origin: the angle of the zero vector has no derivative (0 / 0)", DOUBLE_WHERE),
    ("*", None, "the derivative of {name} is not finite there",
     "keep the argument away from this point, or choose the derivative there with jax.custom_jvp."),
]  # fmt: skip
