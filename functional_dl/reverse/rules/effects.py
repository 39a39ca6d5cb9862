"""Tokens, callbacks, references: what has effects besides a value, and what JAX keeps for itself."""

import jax
import numpy as np
from jax.experimental import io_callback
from jax.extend.core import primitives
from jax.extend.core.primitives import after_all_p, create_token_p, custom_lin_p, empty2_p, get_p, swap_p

from functional_dl.reverse.rule import RULES, unsupported, zero_derivative
from functional_dl.reverse.trace import open_jaxpr


def _named(name, fun, *args):
    """The primitive of that name in the trace of fun."""
    jaxprs = [jax.make_jaxpr(fun)(*args).jaxpr]
    for jaxpr in jaxprs:
        for eqn in jaxpr.eqns:
            if eqn.primitive.name == name:
                return eqn.primitive
            inner = [open_jaxpr(value)[0] for value in eqn.params.values()]
            jaxprs.extend(value for value in inner if hasattr(value, "eqns"))
    raise RuntimeError(f"JAX {jax.__version__} has no primitive {name} where it is looked for: {jaxprs[0]}")


_one = np.ones((1,), np.float32)
_type = jax.ShapeDtypeStruct((1,), np.float32)

zero_derivative("tokens order effects; they hold no numbers", after_all_p, create_token_p)
zero_derivative("an array without contents: it has no operands", empty2_p)
zero_derivative(
    "prints and callbacks for debugging have no output: they run in the forward pass, and nothing flows back",
    *{
        _named("debug_print", lambda x: jax.debug.print("{}", x), _one),
        _named("debug_callback", lambda x: jax.debug.callback(lambda y: None, x), _one),
    },
)
_ADVICE = "{} do not support differentiation. Please use `jax.custom_jvp` or `jax.custom_vjp` to take gradients."
unsupported(
    _ADVICE.format("Pure callbacks"),
    _named("pure_callback", lambda x: jax.pure_callback(lambda y: y, _type, x), _one),
)
unsupported(_ADVICE.format("IO callbacks"), _named("io_callback", lambda x: io_callback(lambda y: y, _type, x), _one))
unsupported(
    "Mutable references have no rule here. Write the update as a new array, x.at[i].set(v), which has one.",
    get_p,
    swap_p,
)
unsupported(
    "It is JAX's own record of a linear function under jax.linearize; differentiate the function itself.", custom_lin_p
)

if hasattr(primitives, "call_p") and primitives.call_p not in RULES:
    unsupported(
        "A jaxpr-level call that JAX itself no longer makes; use jax.jit, whose calls have a rule.", primitives.call_p
    )
