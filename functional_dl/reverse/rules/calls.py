"""Programs called from programs: jit, closed_call, custom_jvp, custom_vjp.

A call is differentiated by continuing the caller's tape inside the callee, or, where the callee should stay a unit (a
jit called outside jit runs compiled), by a forward program that also returns the residuals and a backward program that
takes them.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.custom_derivatives import SymbolicZero
from jax.extend.core import Primitive, primitives
from jax.extend.core.primitives import (
    closed_call_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    jit_p,
)

from functional_dl.aliases import Array
from functional_dl.jaxprs import bind, bind_params, open_jaxpr
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, Terms, bars, call, escape, jacobian
from functional_dl.reverse.rule import Probe, Rule, fallback
from functional_dl.reverse.rules.algebra import number
from functional_dl.reverse.rules.foreign import owners
from functional_dl.reverse.sweep import call_rule, recorded_rule
from functional_dl.reverse.trace import is_zero_marker
from functional_dl.reverse.values import instantiate


@call_rule(
    jit_p,
    Probe(lambda x: jax.jit(lambda y: lax.sin(y))(x), elementwise=True, exact=lambda mp, x: mp.sin(x)),
    Probe(lambda x, y: jax.jit(lambda x, y: _power_tower(x, y))(x, y), shapes=((3,), (3,)), low=0.5, high=1.5),
    latex=(call, CALL_BAR),
    takes_references=True,
)
def jit_forward(
    tape: Any, values: list[Any], slots: list[Any], *, jaxpr: Any, name: str = "", inline: bool = False, **_: Any
) -> tuple[Any, ...]:
    """y = f(x), compiled  =>  x_bar = (df/dx)^T y_bar, compiled: f's equations forward, then f's equations backward."""
    return sweep.call_jaxpr(tape, jit_p, jaxpr, values, slots, name, inline)


def _power_tower(x, y):
    for _ in range(3):  # longer than sweep.SMALL; both partial derivatives of a step are sums of positive terms
        product = lax.mul(x, y)
        x = lax.add(product, lax.mul(lax.sin(product), number(0.5, x)))
    return x


@call_rule(
    closed_call_p,
    Probe(lambda x: _closed_sine(x)),
    latex=(call, CALL_BAR),
    takes_references=True,
)
def closed_call_forward(tape: Any, values: Any, slots: Any, *, call_jaxpr: Any, **_: Any) -> Any:
    """y = f(x)  =>  x_bar = (df/dx)^T y_bar: f's equations join the caller's."""
    return tape.replay(call_jaxpr, values, slots)


def _traced_sine(x):
    return jax.make_jaxpr(lambda y: lax.sin(y))(jax.ShapeDtypeStruct(x.shape, x.dtype))


def _closed_sine(x):
    return bind(closed_call_p, [x], {"call_jaxpr": _traced_sine(x)})[0]


if getattr(primitives, "call_p", closed_call_p) is not closed_call_p:  # JAX no longer makes it; users' programs may
    call_rule(
        primitives.call_p,
        Probe(lambda x: bind(primitives.call_p, [x], {"call_jaxpr": open_jaxpr(_traced_sine(x))[0]})[0]),
        latex=(call, CALL_BAR),
        takes_references=True,
    )(closed_call_forward)


@fallback
def eval_jaxpr_rule(primitive: Primitive) -> Rule | None:
    """JAX's primitive that evaluates a jaxpr, which it stages as a closed_call and gives no public name."""
    if primitive.name != "eval_jaxpr" or owners(primitive):
        return None
    return recorded_rule(primitive, eval_jaxpr_forward)


def eval_jaxpr_forward(tape: Any, values: Any, slots: Any, *, jaxpr: Any, **_: Any) -> Any:
    """y = f(x)  =>  x_bar = (df/dx)^T y_bar: f's equations join the caller's."""
    return tape.replay(jaxpr, values, slots)


_NAMED = {  # functions of jax.nn and its kin that readers know by name: forward, and backward by the user's own rule
    "relu": (r"\max(<x>, 0)", r"<c> \odot [<x> > 0]"),
    "relu6": (r"\min(\max(<x>, 0), 6)", r"<c> \odot [0 < <x> < 6]"),
    "softmax": (call, r"<y> \odot \left(<c> - \textstyle\sum <c> \odot <y>\right)"),
    "logsumexp": (call, r"<c> \odot \operatorname{softmax}(<x>)"),
}


def _custom_latex(terms: Terms) -> str:
    text = _NAMED.get(terms.label.strip("_"), (call,))[0]
    return text if isinstance(text, str) else text(terms)


def _custom_bar_latex(terms: Terms) -> str:
    known = _NAMED.get(terms.label.strip("_"))
    return known[1] if known else jacobian(terms)


def _user_bar_latex(terms: Terms) -> str:
    """A cotangent that the user's own backward pass returns."""
    name = escape(terms.label.strip("_") or "f")
    return f"\\operatorname{{{name}{{\\text{{-}}}}bwd}}_{{{terms.place}}}({bars(terms)})"


@jax.custom_jvp
def _cube(x):
    return lax.integer_pow(x, 3)


_cube.defjvp(lambda primals, tangents: (_cube(primals[0]), 3.0 * primals[0] * primals[0] * tangents[0]))


@call_rule(
    custom_jvp_call_p,
    Probe(lambda x: _cube(x), elementwise=True, exact=lambda mp, x: x**3),
    latex=(_custom_latex, _custom_bar_latex),
)
def custom_jvp_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = f(x) with the user's (x, x_dot) -> (y, y_dot), linear in x_dot: y_dot = A x_dot  =>  x_bar = A^T y_bar.

    The program of y_dot is recorded with x_dot in the slot of x and y in the slot of y_dot: what flows back through it
    is A^T y_bar.  A linear program's transpose is the same at every x_dot, so x_dot = 0 is the point.

    A rule may call f itself, or another such function, on x_dot.  It is linear there, and its own derivative: it is
    recorded as it stands, as x_dot has no tangent that a rule could be asked for.
    """
    params = bind_params(custom_jvp_call_p, params)
    fun, jvp = params["subfuns"]
    if tape.tangents:
        return tape.run(fun.call_wrapped, values, slots)
    symbolic_zeros = params["symbolic_zeros"]

    def tangent(value, slot):
        aval = jax.typeof(value)
        return SymbolicZero(aval.to_tangent_aval()) if slot is None and symbolic_zeros else instantiate(None, aval)

    tangents = [tangent(v, s) for v, s in zip(values, slots)]
    outs, out_slots = tape.run_tangents(lambda *lifted: jvp.call_wrapped(*values, *lifted), tangents, slots)
    half = len(outs) // 2
    return outs[:half], out_slots[half:]


_LOGS = jax.__version_info__ >= (0, 11)  # a user's backward pass returns the cotangents, and a log beside them


@jax.custom_vjp
def _scaled_sine(x):
    return 2.0 * lax.sin(x)


_scaled_sine.defvjp(lambda x: (2.0 * lax.sin(x), lax.cos(x)), lambda cosine, ct: (2.0 * cosine * ct,))


@jax.custom_vjp
def _damped_sine(x):
    return lax.mul(lax.exp(lax.neg(x)), lax.sin(x))


_damped_sine.defvjp(
    lambda x: (_damped_sine(x), (lax.exp(lax.neg(x)), lax.sin(x), lax.cos(x))),
    lambda kept, ct: (ct * kept[0] * (kept[2] - kept[1]),),
)


@call_rule(
    custom_vjp_call_p,
    Probe(lambda x: _scaled_sine(x), elementwise=True, forward=False, exact=lambda mp, x: 2 * mp.sin(x)),
    Probe(lambda x: _damped_sine(x), dtypes=("float64",), forward=False),
    latex=(_custom_latex, _user_bar_latex),
    takes_references=True,
)
def custom_vjp_forward(
    tape: Any, values: list[Array], slots: list[int], **params: Any
) -> tuple[list[Array], list[int]]:
    """y = f(x) with the user's forward and backward passes  =>  x_bar is what the user's backward pass returns.

    The cotangent of a reference is that of what it holds: the forward pass may read it.
    """
    if "subfuns" not in params:  # it stands in a program, whose constants are arrays to the user's passes
        values = [jnp.asarray(v) if isinstance(v, np.ndarray) and v.dtype != jax.float0 else v for v in values]
    params = bind_params(custom_vjp_call_p, params)
    _, fwd, bwd = params["subfuns"]
    symbolic_zeros = params["symbolic_zeros"]
    slots = [tape.contents.get(id(v), (v, s))[1] for v, s in zip(values, slots)]
    flags = [flag for v, s in zip(values, slots) for flag in (v, s is not None)]
    if any(id(v) in tape.contents for v in values):
        residuals_and_outs = tape.run_unrecorded(fwd.call_wrapped, flags)
    else:
        residuals_and_outs = fwd.call_wrapped(*flags)
    _, residual_tree, forwarded = params["out_trees"]()
    count = residual_tree.num_leaves - sum(f is not None for f in forwarded)
    own, outs = iter(residuals_and_outs[:count]), list(residuals_and_outs[count:])
    residuals = [next(own) if f is None else values[f] for f in forwarded]
    out_slots = tape.new_slots(outs)
    avals = tuple(jax.typeof(y) for y in outs)
    pull_back = functools.partial(_custom_pull_back, bwd, avals, symbolic_zeros)
    return tape.call(custom_vjp_call_p, pull_back, residuals, slots, outs, out_slots, numbers=True)


def _custom_pull_back(bwd, avals, symbolic_zeros, residuals, cts):
    def instantiated(ct, aval):
        if ct is not None:
            return ct
        return SymbolicZero(aval.to_tangent_aval()) if symbolic_zeros else instantiate(None, aval)

    answer = bwd.call_wrapped(*residuals, *[instantiated(ct, aval) for ct, aval in zip(cts, avals)])
    bars = answer[0] if _LOGS else answer
    return [None if bar is None or is_zero_marker(bar) or _is_float0(bar) else bar for bar in bars]


def _is_float0(x):
    return isinstance(x, np.ndarray) and x.dtype == jax.float0
