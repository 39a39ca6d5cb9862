"""How an equation turned finite numbers into non-finite ones, in words, and what to do about it.

FORWARD and BACKWARD: primitive -> function of a Scene -> Explanation.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax.numpy as jnp
import numpy as np

from functional_dl.check.function import is_inexact


@dataclass(frozen=True)
class Explanation:
    """What happened and what to do."""

    mechanism: str
    advice: str


@dataclass(frozen=True)
class Scene:
    """An origin with its numbers.

    Fields:
      step, values: the equation and its operands.
      at: the operands' entries at the place, where they have the output's shape or broadcast to it.
      out: the output's entry; ct: the cotangent's entry, in the backward sweep.
      masked: the value goes into an unselected branch of a `where` at that place.
      makers: the steps that made the operands, None for arguments.
    """

    step: Any
    values: list[Any]
    at: list[Any]
    out: Any
    ct: Any
    masked: bool
    makers: list[Any]
    dtype: Any


def explain(scene: Scene, direction: str) -> Explanation:
    """The mechanism of an origin."""
    table = FORWARD if direction == "forward" else BACKWARD
    found = table.get(scene.step.name, _other(direction))(scene)
    if not scene.masked:
        return found
    made = "is not finite" if direction == "forward" else "has no finite derivative"
    return Explanation(
        f"0 * inf from an unselected `where` branch: {found.mechanism}; what the branch that was not taken computes "
        f"{made}, and its zero cotangent times that is NaN",
        DOUBLE_WHERE,
    )


def operands_of(scene: Scene, direction: str) -> dict[str, str]:
    """The numbers at the place, by name."""
    names = ["x"] if len(scene.at) == 1 else [f"operand {j}" for j in range(len(scene.at))]
    found = {name: _show(v) for name, v in zip(names, scene.at) if v is not None}
    if direction == "forward":
        found["result"] = _show(scene.out)
    elif scene.ct is not None:
        found["cotangent"] = _show(scene.ct)
    return found


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


def _is(v, test) -> bool:
    return np.size(v) == 1 and bool(test(v))


DOUBLE_WHERE = (
    "the double where: replace the operand by a harmless value where the branch is not taken, before the operation "
    "too: where(ok, f(where(ok, x, 1)), other)."
)


# --- forward ----------------------------------------------------------------------------------------------------------


def _div(scene):
    numerator, divisor = scene.at[0], scene.at[1]
    if _is(divisor, lambda v: v == 0):
        zero = _is(numerator, lambda v: v == 0)
        what = "division by zero: 0 / 0" if zero else "division by zero"
        return Explanation(what, f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}")
    if _is(divisor, np.isinf) and _is(numerator, np.isinf):
        return Explanation("inf / inf", "keep both finite: work with logarithms, subtract the maximum before exp.")
    return Explanation("overflow of a quotient", "rescale, or work with logarithms.")


def _exp(scene):
    return Explanation(
        "overflow of exp: the argument is too large for the dtype",
        "log-space: subtract the maximum before exp (jax.nn.logsumexp, jax.nn.log_softmax), or jax.nn.softplus for "
        "log(1 + e^x).",
    )


def _log(scene):
    if _is(scene.at[0], lambda x: x < 0):
        return Explanation(
            "log of a negative number",
            "clip the argument to be positive, or where(x > 0, log(where(x > 0, x, 1)), other).",
        )
    return Explanation(
        "log of 0",
        "log-space: keep the logarithm itself (jax.nn.log_softmax, jax.nn.log_sigmoid, xlogy for x log x), or "
        "log(maximum(x, tiny)).",
    )


def _log1p(scene):
    return Explanation("log1p at or below -1: log of 0 or of a negative number", "clip the argument above -1.")


def _sqrt(scene):
    return Explanation(
        "root of a negative number", "maximum(x, 0) before the root (a variance that rounding made negative)."
    )


def _rsqrt(scene):
    x = scene.at[0]
    zero = np.size(x) != 1 or x == 0
    return Explanation(
        "1 / sqrt(0): division by zero" if zero else "root of a negative number",
        "add an epsilon under the root: rsqrt(x + eps).",
    )


def _pow(scene):
    base = scene.at[0]
    if _is(base, lambda v: v == 0):
        return Explanation("a negative power of 0: division by zero", DOUBLE_WHERE)
    if _is(base, lambda v: v < 0):
        return Explanation("a negative number raised to a power that is not an integer", "abs(x)**y, or clip x.")
    return Explanation("overflow of a power", "work with logarithms: y log x.")


def _integer_pow(scene):
    if scene.step.params.get("y", 0) < 0 and _is(scene.at[0], lambda v: v == 0):
        return Explanation("a negative power of 0: division by zero", DOUBLE_WHERE)
    return _overflow(scene)


def _difference(scene):
    if all(_is(v, np.isinf) for v in scene.at):
        return Explanation(
            "inf - inf: a maximum of -inf, as of a fully masked row, is subtracted from itself",
            "mask with a large finite number (-1e9), or leave such rows out with a double where.",
        )
    return _overflow(scene)


def _mul(scene):
    a, b = scene.at
    if (_is(a, lambda v: v == 0) and _is(b, np.isinf)) or (_is(b, lambda v: v == 0) and _is(a, np.isinf)):
        return Explanation("0 * inf", "select with where instead of multiplying by a mask of 0 and 1.")
    return _overflow(scene)


def _overflow(scene):
    return Explanation(
        f"overflow: the result is beyond the largest {np.dtype(scene.dtype).name}",
        "rescale the operands, use a wider dtype, or work with logarithms.",
    )


def _domain(what, limit):
    return lambda scene: Explanation(
        f"{what} outside its domain or at its end", f"clip the argument to the inside of {limit}."
    )


def _cast(scene):
    return Explanation("overflow of a cast to a dtype of smaller range", "cast later, or to bfloat16, or scale first.")


def _cholesky(scene):
    return Explanation(
        "Cholesky factor of a matrix that is not positive definite", "add a multiple of the identity (jitter)."
    )


def _other(direction):
    def explained(scene):
        if direction == "forward":
            return Explanation(
                f"{scene.step.name} of finite numbers is not finite there", "keep the argument inside the domain."
            )
        return Explanation(
            f"the derivative of {scene.step.name} is not finite there",
            "keep the argument away from this point, or choose the derivative there with jax.custom_jvp.",
        )

    return explained


FORWARD: dict[str, Callable[[Scene], Explanation]] = {
    "div": _div, "exp": _exp, "exp2": _exp, "expm1": _exp, "sinh": _exp, "cosh": _exp, "log": _log, "log1p": _log1p,
    "sqrt": _sqrt, "rsqrt": _rsqrt, "pow": _pow, "integer_pow": _integer_pow, "sub": _difference, "add": _difference,
    "mul": _mul, "square": _overflow, "dot_general": _overflow, "reduce_sum": _overflow, "reduce_prod": _overflow,
    "cumsum": _overflow, "cumprod": _overflow, "conv_general_dilated": _overflow,
    "acos": _domain("acos", "[-1, 1]"), "asin": _domain("asin", "[-1, 1]"), "atanh": _domain("atanh", "(-1, 1)"),
    "erf_inv": _domain("erf_inv", "(-1, 1)"), "convert_element_type": _cast, "cholesky": _cholesky,
}  # fmt: skip


# --- backward ---------------------------------------------------------------------------------------------------------


def _root_back(scene):
    maker = scene.makers[0]
    if not scene.masked and maker is not None and maker.name in ("reduce_sum", "dot_general", "add", "add_any"):
        return Explanation(
            "the norm of a zero vector: the root of a sum of squares has an infinite derivative at 0, and "
            "0 * inf is NaN",
            "a safe norm: n2 = sum(x**2); where(n2 > 0, sqrt(where(n2 > 0, n2, 1)), 0), or sqrt(n2 + eps).",
        )
    return Explanation(
        "root at 0: its derivative 1 / (2 sqrt(0)) is infinite",
        "sqrt(x + eps), or where(x > 0, sqrt(where(x > 0, x, 1)), 0).",
    )


def _log_back(scene):
    return Explanation("log at 0: its derivative 1 / x is infinite", "log(maximum(x, tiny)), or stay in logarithms.")


def _log1p_back(scene):
    return Explanation("log1p at -1: its derivative is infinite", "clip the argument above -1.")


def _div_back(scene):
    if _is(scene.at[1], lambda v: v != 0):
        return Explanation(
            "division by a tiny number: the derivative -x / y^2 overflows", "rescale, or bound the divisor from below."
        )
    return Explanation("division by zero", f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}")


def _pow_back(scene):
    if _is(scene.at[0], lambda v: v < 0):
        return Explanation("x**y with x < 0: its derivative in y holds log x", "abs(x)**y, or an integer for y.")
    return Explanation(
        "x**y at x = 0: y x**(y-1) or x**y log x is infinite or 0 * inf there",
        "where(x > 0, where(x > 0, x, 1)**y, 0), or an integer for y.",
    )


def _domain_back(what, ends):
    return lambda scene: Explanation(
        f"{what} at {ends}: its derivative is infinite", "clip the argument to the inside of the interval."
    )


def _exp_back(scene):
    return Explanation("overflow of exp in the backward sweep", "subtract the maximum before exp.")


def _times_back(scene):
    return Explanation(
        "overflow in the backward sweep: a cotangent times the other factor is beyond the largest number",
        "scale the loss, or the operands.",
    )


def _eigen_back(scene):
    return Explanation(
        "repeated eigenvalues: eigenvectors mix there and their derivative divides by the gap, which is 0",
        "use eigenvalues alone, or a function of the matrix that does not single out eigenvectors, or separate the "
        "eigenvalues by a small diagonal perturbation.",
    )


def _svd_back(scene):
    return Explanation(
        "repeated or zero singular values: the derivative of singular vectors divides by their gap, which is 0",
        _eigen_back(scene).advice.replace("eigenvalues", "singular values").replace("eigenvectors", "singular vectors"),
    )


def _atan2_back(scene):
    return Explanation("atan2 at the origin: the angle of the zero vector has no derivative (0 / 0)", DOUBLE_WHERE)


def _rsqrt_back(scene):
    return Explanation("1 / sqrt(x) at or near 0: its derivative x^(-3/2) overflows", "add an epsilon under the root.")


def _integer_pow_back(scene):
    return Explanation("a negative power at 0: its derivative is infinite", DOUBLE_WHERE)


BACKWARD: dict[str, Callable[[Scene], Explanation]] = {
    "sqrt": _root_back, "log": _log_back, "log1p": _log1p_back, "div": _div_back, "pow": _pow_back,
    "rsqrt": _rsqrt_back, "cbrt": _root_back, "acos": _domain_back("acos", "+-1"), "asin": _domain_back("asin", "+-1"),
    "atanh": _domain_back("atanh", "+-1"), "erf_inv": _domain_back("erf_inv", "+-1"),
    "acosh": _domain_back("acosh", "1"), "exp": _exp_back, "exp2": _exp_back, "expm1": _exp_back, "sinh": _exp_back,
    "cosh": _exp_back, "mul": _times_back, "dot_general": _times_back, "eigh": _eigen_back, "svd": _svd_back,
    "eig": _eigen_back, "atan2": _atan2_back, "integer_pow": _integer_pow_back,
}  # fmt: skip
