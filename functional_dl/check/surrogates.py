"""Derivatives that a function declares on purpose other than those of its values.

These are stopped gradients, and custom rules of functions that are constant almost everywhere in an argument
(straight-through rounding, spikes).  Differences of values cannot judge them: there the derivative that JAX takes is
what is meant.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check.equations import LONGEST, is_floating, scan_equations
from functional_dl.jaxprs import MARKED, Interpreter, all_equations, bind, called

STEPS = {"round", "floor", "ceil", "sign"}


def declared(fun: Callable[..., Any], primals: Sequence[Any]) -> Callable[..., Any] | None:
    """fun with every custom rule but a surrogate's left out, so that no wrong rule is among those that its derivative
    goes by; None where it declares nothing."""
    jaxpr = jax.make_jaxpr(fun)(*primals)
    names = {eqn.primitive.name for eqn in all_equations(jaxpr)}
    found: set[int] = set()
    if any(_has_steps(eqn) for eqn in all_equations(jaxpr)):
        _Finder(found).run(jaxpr, primals)
    return (lambda *args: _WithoutRules(found).run(jaxpr, args)) if found or "stop_gradient" in names else None


def is_surrogate(body: Callable[..., Any], rule: Callable[..., Any], values: Sequence[Any]) -> bool:
    """Whether a function has no derivative in some argument (it is constant nearby) where its rule has one."""
    places = [j for j, x in enumerate(values) if is_floating(x)]

    def bars(fun):
        def of(*active):
            full = list(values)
            for j, x in zip(places, active):
                full[j] = x
            return [y for y in jax.tree.leaves(fun(*full)) if is_floating(y)]

        outs, pullback = jax.vjp(of, *(values[j] for j in places))
        return pullback([jnp.ones(y.shape, y.dtype) for y in outs])

    return any(not np.any(a) and bool(np.any(b)) for a, b in zip(bars(body), bars(rule)))


class _WithoutRules(Interpreter):
    """A program whose custom rules are left out, but for those of the surrogates, known by their equations."""

    def __init__(self, surrogates: set[int]) -> None:
        self.surrogates = surrogates

    def takes_apart(self, eqn: Any, operands: list[Any]) -> bool:
        return eqn.primitive.name == "scan" and scan_equations(eqn.params) <= LONGEST // 4

    def call(self, eqn: Any, inner: Any, operands: Any) -> Sequence[Any]:
        if id(eqn) in self.surrogates:
            return bind(eqn.primitive, operands, eqn.params)
        return super().call(eqn, inner, operands)

    def row(self, eqn: Any, x: Any, t: int) -> Any:
        return jnp.asarray(x)[t]

    def stack(self, eqn: Any, rows: list[Any], aval: Any) -> Any:
        return jnp.stack(rows) if rows else jnp.zeros(aval.shape, aval.dtype)


class _Finder(_WithoutRules):
    """Runs a program and notes its surrogates."""

    def call(self, eqn: Any, inner: Any, operands: Any) -> Sequence[Any]:
        rule = lambda *values: bind(eqn.primitive, values, eqn.params)
        if _has_steps(eqn) and is_surrogate(lambda *values: self.run(inner, values), rule, operands):
            self.surrogates.add(id(eqn))
        return super().call(eqn, inner, operands)


def _has_steps(eqn: Any) -> bool:
    """Whether an equation with a custom rule rounds, or makes numbers of conditions."""
    inner = called(eqn.primitive, eqn.params)
    if inner is None or eqn.primitive.name in MARKED:
        return False
    return any(step.primitive.name in STEPS or _from_integers(step) for step in all_equations(inner))


def _from_integers(eqn: Any) -> bool:
    if eqn.primitive.name != "convert_element_type":
        return False
    before, after = eqn.invars[0].aval.dtype, eqn.outvars[0].aval.dtype
    return not jnp.issubdtype(before, np.inexact) and jnp.issubdtype(after, np.inexact)
