"""Calls of functions with derivatives of their own: their names, and how to apply them more than once."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import numpy as np
from jax.extend.core import Primitive
from jax.extend.core.primitives import (
    custom_jvp_call_p,
    custom_vjp_call_p,
)

from functional_dl.jaxprs import bind, called, function_of, interpret, open_jaxpr, traced_function
from functional_dl.reverse.values import instantiate

CUSTOM = {custom_jvp_call_p, custom_vjp_call_p}


def called_name(primitive: Primitive, params: dict[Any, Any]) -> str:
    """The name of the function that an equation calls, "" for other equations."""
    if primitive not in CUSTOM and primitive.name not in ("checkpoint", "remat", "remat2", "composite"):
        return ""
    if params.get("name"):
        return str(params["name"])
    inner = called(primitive, params)
    return traced_function(inner)[0] if inner is not None else ""


def function_name(fun: Callable[..., Any]) -> str:
    """The name of a function in a parameter of JAX's."""
    where = str(getattr(getattr(fun, "debug_info", None), "func_src_info", "") or "")
    return where.partition(" at ")[0].rsplit(".", 1)[-1]


class Again:
    """A function that may be called any number of times, where JAX's own may be called once."""

    def __init__(self, fun: Callable[..., Any]) -> None:
        self.call_wrapped = fun


@dataclass(frozen=True)
class Alone:
    """A function that was staged, to be applied by itself.

    Fields:
      program, consts: the program, and the values that it closes over.
      make: the function, given the program as one.
    """

    program: Any
    consts: Sequence[Any]
    make: Callable[[Callable[..., Any]], Callable[..., Any]]

    def __call__(self, *xs: Any) -> Any:
        run = lambda eqn, values: bind(eqn.primitive, values, eqn.params)
        return self.make(lambda *xs: interpret(self.program, xs, run, consts=self.consts))(*xs)


def applicable_again(
    primitive: Primitive, params: dict[Any, Any], values: Sequence[Any], slots: Sequence[Any]
) -> tuple[dict[Any, Any], Alone | None]:
    """Parameters of a call that was met with Python functions in them, such that the rule may be run more than once.

    The function with the derivative is staged once (the other one is then left alone: JAX wants one of the two called).
    Returns the parameters and the function alone, None where it cannot be had.
    """
    if params["symbolic_zeros"]:
        return params, None
    if primitive is custom_jvp_call_p:
        jvp = params["subfuns"][1]
        tangents = [instantiate(None, jax.typeof(v)) for v in values]
        program = jax.make_jaxpr(lambda *xs: jvp.call_wrapped(*xs))(*values, *tangents)
        inner, consts = open_jaxpr(program)
        half = len(inner.outvars) // 2
        alone = Alone(program, consts, lambda both: _with_jvp(both, half))
        return {**params, "subfuns": (Again(alone), Again(function_of(program)))}, alone
    _, fwd, bwd = params["subfuns"]
    flags = [s is not None for s in slots]
    program = jax.make_jaxpr(lambda *xs: fwd.call_wrapped(*[a for pair in zip(xs, flags) for a in pair]))(*values)
    forward = function_of(program)
    _, residual_tree, forwarded = params["out_trees"]()
    count = residual_tree.num_leaves - sum(f is not None for f in forwarded)
    again = Again(lambda *args: forward(*args[::2]))
    alone = Alone(program, open_jaxpr(program)[1], lambda forward: lambda *xs: forward(*xs)[count:])
    return {**params, "subfuns": (None, again, bwd)}, alone


def _with_jvp(both: Callable[..., Any], half: int) -> Callable[..., Any]:
    """The function with its own rule, as JAX knows it; both(primals, tangents) are values and their tangents."""
    again = jax.custom_jvp(lambda *xs: both(*xs, *[instantiate(None, jax.typeof(x)) for x in xs])[:half])

    def rule(primals, tangents):
        dense = [np.zeros(np.shape(t), jax.float0) if jax.typeof(t).dtype == jax.float0 else t for t in tangents]
        outs = both(*primals, *dense)
        return outs[:half], outs[half:]

    again.defjvp(rule)
    return again
