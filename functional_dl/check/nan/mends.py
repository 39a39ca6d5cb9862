"""Rewrites of an equation that keep its numbers finite: printed, and run as they are printed.

A mend is an expression over the equation's operands x and y.  It is offered if, put in the equation's place, it makes
value and gradient finite, leaves what was finite there as it was, and gives fun's values at other points.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.function import is_inexact, widen

_ROOT = "jnp.where(x > 0, jnp.sqrt(jnp.where(x > 0, x, 1)), 0)"
_BELOW_ONE = "jnp.where(jnp.abs(x) < 1, {f}(jnp.where(jnp.abs(x) < 1, x, 0)), jax.lax.stop_gradient({f}({end})))"
_CLIPPED = "jnp.clip(x, -1, 1)"
_INSIDE = "jnp.clip(x, jnp.finfo(x.dtype).eps - 1, 1 - jnp.finfo(x.dtype).eps)"
_ORIGIN = "(x == 0) & (y == 0)"
# primitive -> expressions, the best first; {y} is the exponent of integer_pow, {limit} the largest argument of exp
MENDS = {
    "sqrt": (_ROOT,),
    "rsqrt": ("jnp.where(x > 0, jax.lax.rsqrt(jnp.where(x > 0, x, 1)), 0)",),
    "cbrt": ("jnp.where(x != 0, jnp.cbrt(jnp.where(x != 0, x, 1)), 0)",),
    "log": ("jnp.where(x > 0, jnp.log(jnp.where(x > 0, x, 1)), jnp.log(jnp.finfo(x.dtype).tiny))",),
    "log1p": ("jnp.where(x > -1, jnp.log1p(jnp.where(x > -1, x, 0)), jnp.log(jnp.finfo(x.dtype).tiny))",),
    "div": ("jnp.where(y != 0, x / jnp.where(y != 0, y, 1), 0)",),
    "pow": ("jnp.where(x > 0, jnp.where(x > 0, x, 1) ** y, 0)",),
    "integer_pow": ("jnp.where(x != 0, jnp.where(x != 0, x, 1) ** {y}, 0)",),
    "exp": ("jnp.exp(x - jax.lax.stop_gradient(jnp.max(x)))", "jnp.exp(jnp.minimum(x, {limit}))"),
    "acos": (_BELOW_ONE.format(f="jnp.arccos", end=_CLIPPED),),
    "asin": (_BELOW_ONE.format(f="jnp.arcsin", end=_CLIPPED),),
    "atanh": (_BELOW_ONE.format(f="jnp.arctanh", end=_INSIDE),),
    "erf_inv": (_BELOW_ONE.format(f="jax.scipy.special.erfinv", end=_INSIDE),),
    "atan2": (f"jnp.where({_ORIGIN}, 0, jnp.arctan2(x, jnp.where({_ORIGIN}, 1, y)))",),
}
ONLY_MASKED = "minimum"  # a mend that bounds a value is none where the value is used
POINTS = 4  # other points


@dataclass(frozen=True)
class Mend:
    """An expression, and what it replaces: fun(*operands) -> the equation's outputs."""

    text: str
    fun: Callable[..., Any]


def candidates(step: Any, masked: bool, dtype: Any) -> list[Mend]:
    """The mends of an equation."""
    found = []
    for template in MENDS.get(step.name, ()):
        if ONLY_MASKED in template and not masked:
            continue
        limit = int(np.log(float(jnp.finfo(dtype).max)))
        text = template.format(y=step.params.get("y"), limit=limit)
        found.append(Mend(text, _executed(text)))
    return found


def _executed(text: str) -> Callable[..., Any]:
    """The expression, as it is printed, as a function of the operands x and y."""
    code = compile(text, "<mend>", "eval")

    def fun(*operands):
        names = dict(zip("xy", operands))
        dtype = operands[0].dtype
        with jax.numpy_dtype_promotion("standard"), jax.numpy_rank_promotion("allow"):
            return [jnp.asarray(eval(code, {"jnp": jnp, "jax": jax}, names)).astype(dtype)]

    return fun


def keeps_values(walk: Any, mended: Any, rng: np.random.Generator) -> bool:
    """Whether the mended program's values are the walk's: here where those are finite, and at other points."""
    if not _agree([walk.values[n] for n in walk.outputs], [mended.values[n] for n in mended.outputs]):
        return False
    inputs = [walk.values[name] for name in walk.inputs]
    for n in range(POINTS):
        moved = [_elsewhere(x, n, rng) for x in inputs]
        try:
            one, other = (equations.run(program, moved) for program in (walk, mended))
        except Exception:  # no program there
            continue
        if not _agree([one[name] for name in walk.outputs], [other[name] for name in mended.outputs]):
            return False
    return True


def _elsewhere(x, n, rng):
    """Another value of an input: smaller ones, and ones about 1."""
    if not is_inexact(x):
        return x
    drawn = rng.uniform(0.3, 1.7, np.shape(x))
    values = np.where(np.isfinite(widen(x)), widen(x), 0.0) * 0.01 * drawn if n % 2 else drawn
    return jnp.asarray(values).astype(x.dtype)


def _agree(before, after) -> bool:
    for b, a in zip(before, after):
        if not is_inexact(b):
            continue
        b, a, eps = widen(b), widen(a), float(jnp.finfo(b.dtype).eps)
        kept = np.isfinite(b)
        if not np.all(np.abs(a - b)[kept] <= 64 * eps * (np.abs(b)[kept] + np.max(np.abs(b)[kept], initial=0.0))):
            return False
    return True
