"""Tokens, callbacks: what has effects besides a value, and what JAX keeps for itself."""

import jax
import jax.scipy.linalg
import numpy as np
from jax import lax
from jax.experimental import io_callback
from jax.extend.core.primitives import after_all_p, create_token_p, custom_lin_p, empty2_p

from functional_dl.jaxprs import primitive_named
from functional_dl.reverse.rule import unsupported, zero_derivative

_one = np.ones((1,), np.float32)
_type = jax.ShapeDtypeStruct((1,), np.float32)

zero_derivative("tokens order effects; they hold no numbers", after_all_p, create_token_p)
zero_derivative("an array without contents: it has no operands", empty2_p)
zero_derivative(
    "prints and callbacks for debugging have no output: they run in the forward pass, and nothing flows back",
    *{
        primitive_named("debug_print", lambda x: jax.debug.print("{}", x), _one),
        primitive_named("debug_callback", lambda x: jax.debug.callback(lambda y: None, x), _one),
    },
)
unsupported(
    "Pure callbacks do not support JVP. Please use `jax.custom_jvp` to use callbacks while taking gradients.",  # JAX's
    primitive_named("pure_callback", lambda x: jax.pure_callback(lambda y: y, _type, x), _one),
    error=ValueError,
)
unsupported(
    "IO callbacks do not support JVP. Wrap the function that calls back in jax.custom_vjp.",
    primitive_named("io_callback", lambda x: io_callback(lambda y: y, _type, x), _one),
    error=ValueError,
)
unsupported(
    "It is JAX's own record of a linear function under jax.linearize; differentiate the function itself.", custom_lin_p
)

zero_derivative(
    "the number of the platform that runs, an integer: it has no tangent space",
    primitive_named("platform_index", lambda x: lax.platform_dependent(x, cpu=lax.sin, default=lax.cos), _one),
)
zero_derivative(
    "a sink: it keeps its operand from being dropped and has no output", primitive_named("dce_sink", lax.dce_sink, _one)
)
zero_derivative(
    "the high half of a product of integers: they have no tangent space",
    primitive_named("mulhi", lax.mulhi, np.ones((), np.int32), np.ones((), np.int32)),
)
zero_derivative(
    "random bits and keys are constants to the parameters",
    primitive_named("random_clone", jax.random.clone, jax.eval_shape(jax.random.key, 0)),
)
unsupported(
    "JAX has no derivative of it either.  Differentiate through jax.numpy.linalg.qr, whose factors have one.",
    primitive_named("geqrf", jax.scipy.linalg.qr_multiply, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)),
)
unsupported(
    "JAX has no derivative of it either.  Multiply the operands by their scales and use jax.lax.dot_general.",
    primitive_named("scaled_dot", lax.scaled_dot, np.eye(2, dtype=np.float32), np.eye(2, dtype=np.float32)),
)

if jax.__version_info__ >= (0, 12):
    zero_derivative(
        "an array without contents: it has no operands", primitive_named("empty", lambda: jax.numpy.empty(3))
    )
