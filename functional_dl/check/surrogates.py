"""Derivatives that a function declares on purpose other than those of its values.

These are stopped gradients, and custom rules of functions of steps (straight-through rounding, spikes).  Differences of
values cannot judge them: there the derivative that JAX takes is what is meant.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check.equations import LONGEST, scan_equations
from functional_dl.jaxprs import MARKED, Interpreter, all_equations, bind, called

STEPS = {"round", "floor", "ceil", "sign"}


def declared(fun: Callable[..., Any], primals: Sequence[Any]) -> Callable[..., Any] | None:
    """fun with every custom rule but a surrogate's left out, so that no wrong rule is among those that its derivative
    goes by; None where it declares nothing."""
    jaxpr = jax.make_jaxpr(fun)(*primals)
    if not any(eqn.primitive.name == "stop_gradient" or _is_surrogate(eqn) for eqn in all_equations(jaxpr)):
        return None
    return lambda *args: _WithoutRules().run(jaxpr, args)


class _WithoutRules(Interpreter):
    """A program whose custom rules are left out, but for those of surrogates."""

    def takes_apart(self, eqn: Any, operands: list[Any]) -> bool:
        return eqn.primitive.name == "scan" and scan_equations(eqn.params) <= LONGEST // 4

    def call(self, eqn: Any, inner: Any, operands: Any) -> Sequence[Any]:
        if _is_surrogate(eqn):
            return bind(eqn.primitive, operands, eqn.params)
        return super().call(eqn, inner, operands)


def _is_surrogate(eqn: Any) -> bool:
    """Whether a custom rule belongs to a function that rounds, or makes numbers of conditions."""
    inner = called(eqn.primitive, eqn.params)
    if inner is None or eqn.primitive.name in MARKED:
        return False
    return any(step.primitive.name in STEPS or _from_integers(step) for step in all_equations(inner))


def _from_integers(eqn: Any) -> bool:
    if eqn.primitive.name != "convert_element_type":
        return False
    before, after = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    return not jnp.issubdtype(before, np.inexact) and jnp.issubdtype(after, np.inexact)
