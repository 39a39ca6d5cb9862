"""Stacks of arrays along a new axis, and their parts."""

import jax.numpy as jnp
import numpy as np

from functional_dl.jaxprs import primitive_named
from functional_dl.reverse.latex import bars, listed
from functional_dl.reverse.rule import COMPLEX, FLOATS, Probe, vjp_rule

ALL = FLOATS + COMPLEX
_pair = np.ones((2, 3), np.float32)
stack_p = primitive_named("stack", lambda x: jnp.select([x > 0, x > 1], [x, x]), _pair)
unstack_p = primitive_named("unstack", jnp.unstack, _pair)


@vjp_rule(
    stack_p,
    Probe(lambda x, y: stack_p.bind(x, y, axis=1), shapes=((3,), (3,)), dtypes=ALL),
    Probe(lambda x, y: stack_p.bind(x, y, x, axis=0), shapes=((2, 2), (2, 2))),
    reads="",
    latex=(lambda t: f"\\operatorname{{stack}}({listed(t)})", lambda t: f"<c>[{t.place}]"),
)
def stack_vjp(ct, out, *operands, axis, **_):
    """y = (x_1, ..., x_n) side by side along a new axis  =>  x_i_bar is the i-th part of y_bar along it."""
    return tuple(unstack_p.bind(ct, axis=axis))


@vjp_rule(
    unstack_p,
    Probe(lambda x: unstack_p.bind(x, axis=1), shapes=((2, 3),), dtypes=ALL),
    Probe(lambda x: unstack_p.bind(x, axis=0)[1:], shapes=((3, 2),)),
    reads="",
    latex=(r"\operatorname{unstack}(<x>)", lambda t: f"\\operatorname{{stack}}({bars(t)})"),
)
def unstack_vjp(cts, outs, x, *, axis, **_):
    """(y_1, ..., y_n) = x's parts along an axis, which goes  =>  x_bar = the y_i_bar side by side along that axis."""
    return (stack_p.bind(*cts, axis=axis),)
