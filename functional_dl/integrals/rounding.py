"""Rounding that all nodes share: an integrand evaluated with every operation off by a unit in the last place.

Between neighbouring floats the integrand's rounding shows as roughness; but where 1 - 2 t cos x + t^2 cancels, all
nodes near the peak are wrong alike.  So the integrand's program is also run with each of its operations, and each
rounded constant in it, wrong by one unit to a side of its own, the same for all nodes: by how much the integral moves
is what rounding may have done to it.  Source: Vignes 1993 (CESTAC), with signs fixed over the nodes.
"""

from collections.abc import Callable
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.calculus.ball import is_rounded
from functional_dl.jaxprs import Interpreter

PATTERNS = 4  # of signs
SIGNS = 64  # different ones; operations beyond so many share them
# what does not round
EXACT = {
    "neg", "abs", "sign", "floor", "ceil", "round", "max", "min", "clamp", "select_n", "reshape", "broadcast_in_dim",
    "squeeze", "expand_dims", "transpose", "rev", "slice", "dynamic_slice", "dynamic_update_slice", "concatenate",
    "gather", "scatter", "reduce_max", "reduce_min", "copy", "copy_p", "real", "imag", "conj", "complex", "sort",
    "stop_gradient", "pad", "stack", "unstack", "split", "tile", "iota", "optimization_barrier", "cummax", "cummin",
    "convert_element_type", "nextafter", "argmax", "argmin",
}  # fmt: skip


def signs() -> np.ndarray:
    """(PATTERNS, SIGNS) of -1 and 1."""
    return np.where(np.random.default_rng(5).random((PATTERNS, SIGNS)) < 0.5, -1.0, 1.0)


class _Nudged(Interpreter):
    """Every operation's result times 1 + sign eps."""

    def __init__(self, pattern: Any) -> None:
        self.pattern, self.count = pattern, 0

    def takes_apart(self, eqn: Any, operands: Any) -> bool:
        return False  # a loop's or branch's results are moved, not its steps

    def constant(self, value: Any, aval: Any) -> Any:
        if not isinstance(value, float | np.floating) and not (isinstance(value, np.ndarray) and value.ndim == 0):
            return value  # an array is the caller's data
        if not jnp.issubdtype(aval.dtype, jnp.floating) or not is_rounded(float(value)):
            return value
        return self._moved(jnp.asarray(value, aval.dtype))

    def apply(self, eqn: Any, operands: list[Any]) -> list[Any]:
        outs = super().apply(eqn, operands)
        return list(outs) if eqn.primitive.name in EXACT else [self._moved(out) for out in outs]

    def _moved(self, x: Any) -> Any:
        if not jnp.issubdtype(x.dtype, jnp.inexact):
            return x
        self.count += 1
        real = jnp.finfo(x.dtype).dtype
        eps = jnp.asarray(jnp.finfo(x.dtype).eps, real)
        factor = 1 + eps * self.pattern[self.count % SIGNS].astype(real)
        return lax.mul(x, jnp.broadcast_to(factor.astype(x.dtype), x.shape))


def nudged(jaxpr: Any) -> Callable[..., Any]:
    """(pattern (SIGNS,), *arguments) -> the jaxpr's first result; a pattern of zeros leaves it as it is."""
    return lambda pattern, *arguments: _Nudged(pattern).run(jaxpr, arguments)[0]
