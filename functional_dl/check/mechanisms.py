"""How an equation turned finite numbers into non-finite ones, in words, and a rewrite that fixes it.

FORWARD and BACKWARD: primitive -> function of a Scene -> Explanation.  A rewrite that can be tried is given as
`repair(step, *values)` -> outputs, which replaces the equation.
"""

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.check.function import is_inexact


@dataclass(frozen=True)
class Explanation:
    """What happened and what to do."""

    mechanism: str
    suggestion: str
    repair: Callable[..., Any] | None = None
    operands: dict[Any, Any] = field(default_factory=dict)
    step: Any = None  # the step to be replaced, where it is not the origin itself


@dataclass(frozen=True)
class Scene:
    """An origin with its numbers.

    Fields:
      step, values: the equation and its operands.
      at: the operands' entries at the place, where they have the output's shape (or are single numbers).
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


def explain(walk: Any, origin: Any, direction: str) -> Explanation:
    """The mechanism of an origin."""
    scene = _scene(walk, origin, direction)
    table = FORWARD if direction == "forward" else BACKWARD
    found = table.get(scene.step.name, _other(direction))(scene)
    names = ["x"] if len(scene.at) == 1 else [f"operand {j}" for j in range(len(scene.at))]
    operands = {name: _show(v) for name, v in zip(names, scene.at) if v is not None}
    if direction == "forward":
        operands["result"] = _show(scene.out)
    elif scene.ct is not None:
        operands["cotangent"] = _show(scene.ct)
    return Explanation(found.mechanism, found.suggestion, found.repair, operands, found.step or scene.step)


def _show(v) -> str:
    v = np.asarray(v)
    if v.size != 1:
        return f"array of shape {v.shape}, from {np.nanmin(np.abs(v)):.4g} to {np.nanmax(np.abs(v)):.4g} in size"
    return f"{v.item():.6g}" if v.dtype.kind in "fc" else f"{v.item()}"


def _plain(x):
    x = jnp.asarray(x)
    if jnp.issubdtype(x.dtype, jnp.floating):
        return np.asarray(x, np.float64)
    return np.asarray(x) if not jnp.issubdtype(x.dtype, jnp.bfloat16) else np.asarray(x, np.float64)


def _scene(walk, origin, direction) -> Scene:
    step = origin.step
    raw = [walk.values[i] for i in step.ins]
    values = [_plain(v) if is_inexact(v) or jnp.issubdtype(v.dtype, jnp.number) or v.dtype == bool else v for v in raw]
    out = _plain(walk.values[step.outs[origin.position if direction == "forward" else 0]])
    shape = np.shape(out) if direction == "forward" else np.shape(values[origin.position])
    at = [_entry(v, origin.index, shape) for v in values]
    ct = None
    if origin.cts:
        ct = _entry(_plain(origin.cts[0]) if getattr(origin.cts[0], "dtype", None) != jnp.bool_ else None,
                    origin.index, shape)  # fmt: skip
    made = {o: s for s in walk.steps for o in s.outs}
    masked = _unselected(walk, step, origin, shape, ct)
    makers = [made.get(i) for i in step.ins]
    first = next((v.dtype for v in raw if is_inexact(v)), np.dtype("float32"))
    return Scene(step, values, at, _entry(out, origin.index, np.shape(out)), ct, masked, makers, first)


def _entry(v, index, shape):
    if v is None or not hasattr(v, "shape"):
        return v
    if v.shape == tuple(shape):
        return v[tuple(index)]
    if v.size == 1:
        return v.reshape(())[()]
    return v


def _unselected(walk, step, origin, shape, ct) -> bool:
    """Whether the cotangent there is zero because a `where` chose the other branch."""
    if ct is None or np.size(ct) != 1 or np.any(np.asarray(ct) != 0):
        return False
    names = set(step.outs)
    for later in walk.steps:
        if names.intersection(later.ins):
            if later.name in ("select_n", "max", "min", "clamp"):
                return True
            names.update(later.outs)
    return False


# --- repairs ----------------------------------------------------------------------------------------------------------


def _guarded(bad: Callable[..., Any], safe: float) -> Callable[..., Any]:
    """The double where: entries that `bad` finds are replaced by a safe value before the equation."""

    def repair(step, *values):
        mask = lax.stop_gradient(bad(*values))
        return step.fun(*[_put(mask, v, safe) if k == _last(values) else v for k, v in enumerate(values)])

    return repair


def _last(values) -> int:
    floating = [k for k, v in enumerate(values) if is_inexact(jnp.asarray(v))]
    return floating[-1]


def _put(mask, v, safe):
    v = jnp.asarray(v)
    mask = jnp.broadcast_to(mask, v.shape) if mask.shape != v.shape else mask
    return jnp.where(mask, jnp.asarray(safe, v.dtype), v)


def _first_guarded(bad: Callable[..., Any], safe: float) -> Callable[..., Any]:
    def repair(step, *values):
        mask = lax.stop_gradient(bad(values[0]))
        return step.fun(_put(mask, values[0], safe), *values[1:])

    return repair


def _safe_root(step, x):
    """0 with derivative 0 where x is 0: the norm of a zero vector."""
    zero = x == 0
    (root,) = step.fun(_put(zero, x, 1.0))
    return [_put(zero, root, 0.0)]


DOUBLE_WHERE = (
    "the double where: replace the operand by a harmless value where the branch is not taken, before the operation "
    "too: where(ok, f(where(ok, x, 1)), other)."
)


def _masked(scene, what, repair) -> Explanation:
    return Explanation(
        f"0 * inf from an unselected `where` branch: {what}, and the zero cotangent of the branch that was not taken "
        "times that is NaN",
        DOUBLE_WHERE,
        repair,
    )


# --- forward ----------------------------------------------------------------------------------------------------------


def _div(scene):
    numerator, divisor = scene.at[0], scene.at[1]
    guard = _guarded(lambda a, b: jnp.asarray(b) == 0, 1.0)
    if np.size(divisor) == 1 and divisor == 0:
        if np.size(numerator) == 1 and numerator == 0:
            return Explanation("division by zero: 0 / 0", f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}", guard)
        return Explanation("division by zero", f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}", guard)
    if np.size(divisor) == 1 and np.isinf(divisor) and np.size(numerator) == 1 and np.isinf(numerator):
        return Explanation("inf / inf", "keep both finite: work with logarithms, subtract the maximum before exp.")
    return Explanation("overflow of a quotient", "rescale, or work with logarithms.")


def _shifted_exp(step, x):
    return step.fun(x - lax.stop_gradient(jnp.max(x)))


def _exp(scene):
    return Explanation(
        "overflow of exp: the argument is too large for the dtype",
        "log-space: subtract the maximum before exp (jax.nn.logsumexp, jax.nn.log_softmax), or jax.nn.softplus for "
        "log(1 + e^x).",
        _shifted_exp,
    )


def _log(scene):
    x = scene.at[0]
    if np.size(x) == 1 and x < 0:
        return Explanation(
            "log of a negative number",
            "clip the argument to be positive, or where(x > 0, log(where(x > 0, x, 1)), other).",
            _guarded(lambda x: x <= 0, 1.0),
        )
    return Explanation(
        "log of 0",
        "log-space: keep the logarithm itself (jax.nn.log_softmax, jax.nn.log_sigmoid, xlogy for x log x), or "
        "log(maximum(x, tiny)).",
        _guarded(lambda x: x <= 0, 1.0),
    )


def _log1p(scene):
    return Explanation(
        "log1p at or below -1: log of 0 or of a negative number", "clip the argument to be greater than -1.",
        _guarded(lambda x: x <= -1, 0.0),
    )  # fmt: skip


def _sqrt(scene):
    return Explanation(
        "root of a negative number", "maximum(x, 0) before the root (a variance that rounding made negative).",
        _guarded(lambda x: x < 0, 1.0),
    )  # fmt: skip


def _rsqrt(scene):
    x = scene.at[0]
    what = "1 / sqrt(0): division by zero" if np.size(x) != 1 or x == 0 else "root of a negative number"
    return Explanation(what, "add an epsilon under the root: rsqrt(x + eps).", _guarded(lambda x: x <= 0, 1.0))


def _pow(scene):
    base = scene.at[0]
    guard = _first_guarded(lambda x: x <= 0, 1.0)
    if np.size(base) == 1 and base == 0:
        return Explanation("a negative power of 0: division by zero", DOUBLE_WHERE, guard)
    if np.size(base) == 1 and base < 0:
        return Explanation("a negative number raised to a power that is not an integer", "abs(x)**y, or clip x.", guard)
    return Explanation("overflow of a power", "work with logarithms: y log x.")


def _integer_pow(scene):
    if scene.step.params.get("y", 0) < 0 and np.size(scene.at[0]) == 1 and scene.at[0] == 0:
        return Explanation(
            "a negative power of 0: division by zero", DOUBLE_WHERE, _first_guarded(lambda x: x == 0, 1.0)
        )
    return _overflow(scene)


def _difference(scene):
    if all(np.size(v) == 1 and np.isinf(v) for v in scene.at):
        return Explanation(
            "inf - inf: a maximum of -inf, as of a fully masked row, is subtracted from itself",
            "mask with a large finite number (-1e9), or leave such rows out with a double where.",
        )
    return _overflow(scene)


def _mul(scene):
    a, b = scene.at
    if np.size(a) == 1 and np.size(b) == 1 and ((a == 0 and np.isinf(b)) or (b == 0 and np.isinf(a))):
        return Explanation("0 * inf", "select with where instead of multiplying by a mask of 0 and 1.")
    return _overflow(scene)


def _overflow(scene):
    return Explanation(
        f"overflow: the result is beyond the largest {np.dtype(scene.dtype).name}",
        "rescale the operands, use a wider dtype, or work with logarithms.",
    )


def _domain(what, limit, safe):
    def explained(scene):
        return Explanation(
            f"{what} outside its domain or at its end", f"clip the argument to the inside of {limit}.",
            _guarded(lambda x: ~(jnp.abs(x) < 1), safe),
        )  # fmt: skip

    return explained


def _cast(scene):
    return Explanation("overflow of a cast to a dtype of smaller range", "cast later, or to bfloat16, or scale first.")


def _cholesky(scene):
    def repair(step, a, *rest):
        eye = jnp.eye(a.shape[-1], dtype=a.dtype)
        size = jnp.max(jnp.abs(a)) + 1
        return step.fun(a + size * a.shape[-1] * eye, *rest)

    return Explanation(
        "Cholesky factor of a matrix that is not positive definite", "add a multiple of the identity (jitter).", repair
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


FORWARD = {
    "div": _div, "exp": _exp, "exp2": _exp, "expm1": _exp, "sinh": _exp, "cosh": _exp, "log": _log, "log1p": _log1p,
    "sqrt": _sqrt, "rsqrt": _rsqrt, "pow": _pow, "integer_pow": _integer_pow, "sub": _difference, "add": _difference,
    "mul": _mul, "square": _overflow, "dot_general": _overflow, "reduce_sum": _overflow, "reduce_prod": _overflow,
    "cumsum": _overflow, "cumprod": _overflow, "conv_general_dilated": _overflow,
    "acos": _domain("acos", "[-1, 1]", 0.0),
    "asin": _domain("asin", "[-1, 1]", 0.0), "atanh": _domain("atanh", "(-1, 1)", 0.0),
    "erf_inv": _domain("erf_inv", "(-1, 1)", 0.0), "convert_element_type": _cast, "cholesky": _cholesky,
}  # fmt: skip


# --- backward ---------------------------------------------------------------------------------------------------------


def _root_back(scene):
    maker = scene.makers[0]
    norm = maker is not None and maker.name in ("reduce_sum", "dot_general", "add", "add_any")
    if scene.masked:
        return _masked(scene, "the root's derivative 1 / (2 sqrt(0)) is infinite", _guarded(lambda x: x <= 0, 1.0))
    if norm:
        return Explanation(
            "the norm of a zero vector: the root of a sum of squares has an infinite derivative at 0, and "
            "0 * inf is NaN",
            "a safe norm: n2 = sum(x**2); where(n2 > 0, sqrt(where(n2 > 0, n2, 1)), 0), or sqrt(n2 + eps).",
            _safe_root,
        )
    return Explanation(
        "root at 0: its derivative 1 / (2 sqrt(0)) is infinite",
        "sqrt(x + eps), or where(x > 0, sqrt(where(x > 0, x, 1)), 0).",
        _safe_root,
    )


def _log_back(scene):
    guard = _guarded(lambda x: x <= 0, 1.0)
    if scene.masked:
        return _masked(scene, "the derivative of log, 1 / x, is infinite at 0", guard)
    return Explanation(
        "log at 0: its derivative 1 / x is infinite", "log(maximum(x, tiny)), or stay in logarithms.", guard
    )


def _log1p_back(scene):
    guard = _guarded(lambda x: x <= -1, 0.0)
    if scene.masked:
        return _masked(scene, "the derivative of log1p is infinite at -1", guard)
    return Explanation("log1p at -1: its derivative is infinite", "clip the argument to be greater than -1.", guard)


def _div_back(scene):
    guard = _guarded(lambda a, b: jnp.asarray(b) == 0, 1.0)
    divisor = scene.at[1]
    if np.size(divisor) == 1 and divisor != 0:
        return Explanation(
            "division by a tiny number: the derivative -x / y^2 overflows", "rescale, or bound the divisor from below.",
            _guarded(lambda a, b: jnp.abs(jnp.asarray(b)) < 1e-3, 1.0),
        )  # fmt: skip
    if scene.masked:
        return _masked(scene, "division by zero", guard)
    return Explanation("division by zero", f"x / where(y == 0, 1, y), or {DOUBLE_WHERE}", guard)


def _pow_back(scene):
    guard = _first_guarded(lambda x: x <= 0, 1.0)
    if scene.masked:
        return _masked(scene, "the derivative of x**y at x = 0 is infinite", guard)
    base = scene.at[0]
    if np.size(base) == 1 and base < 0:
        return Explanation("x**y with x < 0: its derivative in y holds log x", "abs(x)**y, or an integer for y.", guard)
    return Explanation(
        "x**y at x = 0: y x**(y-1) or x**y log x is infinite or 0 * inf there",
        "where(x > 0, where(x > 0, x, 1)**y, 0), or an integer for y.",
        guard,
    )


def _domain_back(what, ends):
    guard = _guarded(lambda x: ~(jnp.abs(x) < 1), 0.0)

    def explained(scene):
        if scene.masked:
            return _masked(scene, f"the derivative of {what} is infinite at {ends}", guard)
        return Explanation(
            f"{what} at {ends}: its derivative is infinite", "clip the argument to the inside of the interval.", guard
        )

    return explained


def _exp_back(scene):
    if scene.masked or np.isinf(np.max(np.abs(scene.out)) if np.size(scene.out) else 0.0):
        return _masked(scene, "exp overflows", _guarded(lambda x: x > 80 if x.dtype != jnp.float64 else x > 700, 0.0))
    return Explanation("overflow of exp in the backward sweep", "subtract the maximum before exp.", _shifted_exp)


def _times_back(scene):
    infinite = [j for j, v in enumerate(scene.at) if np.size(v) == 1 and not np.isfinite(v)]
    if infinite and scene.ct is not None and np.size(scene.ct) == 1 and scene.ct == 0:
        maker = scene.makers[infinite[0]]
        guard = MAKERS.get(maker.name) if maker is not None else None
        return Explanation(
            "0 * inf from an unselected `where` branch: the other factor is infinite, and its zero cotangent times "
            "that is NaN",
            DOUBLE_WHERE,
            guard,
            step=maker,
        )
    return Explanation(
        "overflow in the backward sweep: a cotangent times the other factor is beyond the largest number",
        "scale the loss, or the operands.",
    )


def _eigen_back(scene):
    def spread(step, a, *rest):
        return step.fun(a + jnp.diag(jnp.arange(1, a.shape[-1] + 1, dtype=a.dtype)), *rest)

    return Explanation(
        "repeated eigenvalues: eigenvectors mix there and their derivative divides by the gap, which is 0",
        "use eigenvalues alone, or a function of the matrix that does not single out eigenvectors, or separate the "
        "eigenvalues by a small diagonal perturbation.",
        spread,
    )


def _svd_back(scene):
    found = _eigen_back(scene)

    def spread(step, a, *rest):
        grid = jnp.eye(*a.shape[-2:], dtype=a.dtype) * jnp.arange(1, a.shape[-1] + 1, dtype=a.dtype)
        return step.fun(a + grid, *rest)

    return Explanation(
        "repeated or zero singular values: the derivative of singular vectors divides by their gap, which is 0",
        found.suggestion.replace("eigenvalues", "singular values").replace("eigenvectors", "singular vectors"),
        spread,
    )


def _atan2_back(scene):
    return Explanation(
        "atan2 at the origin: the angle of the zero vector has no derivative (0 / 0)", DOUBLE_WHERE,
        _guarded(lambda y, x: (jnp.asarray(x) == 0) & (jnp.asarray(y) == 0), 1.0),
    )  # fmt: skip


def _rsqrt_back(scene):
    guard = _guarded(lambda x: x <= 0, 1.0)
    if scene.masked:
        return _masked(scene, "the derivative of 1 / sqrt(x) is infinite at 0", guard)
    return Explanation(
        "1 / sqrt(x) at or near 0: its derivative x^(-3/2) overflows", "add an epsilon under the root.",
        _guarded(lambda x: x < 1e-6, 1.0),
    )  # fmt: skip


def _integer_pow_back(scene):
    guard = _first_guarded(lambda x: x == 0, 1.0)
    if scene.masked:
        return _masked(scene, "a negative power of 0 is infinite", guard)
    return Explanation("a negative power at 0: its derivative is infinite", DOUBLE_WHERE, guard)


# what keeps an equation that makes infinities from making them
MAKERS = {
    "log": _guarded(lambda x: x <= 0, 1.0),
    "div": _guarded(lambda a, b: jnp.asarray(b) == 0, 1.0),
    "rsqrt": _guarded(lambda x: x <= 0, 1.0),
    "exp": _guarded(lambda x: x > 80, 0.0),
    "pow": _first_guarded(lambda x: x <= 0, 1.0),
    "integer_pow": _first_guarded(lambda x: x == 0, 1.0),
}

BACKWARD = {
    "sqrt": _root_back, "log": _log_back, "log1p": _log1p_back, "div": _div_back, "pow": _pow_back,
    "rsqrt": _rsqrt_back,
    "cbrt": _root_back, "acos": _domain_back("acos", "+-1"), "asin": _domain_back("asin", "+-1"),
    "atanh": _domain_back("atanh", "+-1"), "erf_inv": _domain_back("erf_inv", "+-1"),
    "acosh": _domain_back("acosh", "1"), "exp": _exp_back, "exp2": _exp_back, "expm1": _exp_back, "sinh": _exp_back,
    "cosh": _exp_back, "mul": _times_back, "dot_general": _times_back, "eigh": _eigen_back, "svd": _svd_back,
    "eig": _eigen_back, "atan2": _atan2_back, "integer_pow": _integer_pow_back,
}  # fmt: skip
