"""Programs called from programs: jit, closed_call, custom_jvp, custom_vjp, checkpoint.

A call is differentiated by continuing the caller's tape inside the callee, or, where the callee should stay a unit (a
jit called outside jit runs compiled; a checkpoint keeps its inputs alone), by a forward program that also returns the
residuals and a backward program that takes them.
"""

import functools
import weakref

import jax
import numpy as np
from jax import lax
from jax.core import Tracer
from jax.custom_derivatives import SymbolicZero
from jax.extend.core.primitives import (
    closed_call_p,
    custom_jvp_call_p,
    custom_vjp_call_p,
    jit_p,
    remat_p,
)

from functional_dl.reverse import sweep
from functional_dl.reverse.rule import Probe, call_rule
from functional_dl.reverse.trace import is_zero_marker, open_jaxpr, tangent_dtype, zeros

SMALL = 8  # equations: a jit no larger than this continues the caller's tape


@call_rule(
    jit_p,
    Probe(lambda x: jax.jit(lambda y: lax.sin(y))(x), elementwise=True, exact=lambda mp, x: mp.sin(x)),
    Probe(lambda x, y: jax.jit(lambda x, y: _power_tower(x, y))(x, y), shapes=((3,), (3,)), low=0.5, high=1.5),
)
def jit_forward(tape, values, slots, *, jaxpr, **params):
    """y = f(x), compiled  =>  x_bar = (df/dx)^T y_bar, compiled: f's equations forward, then f's equations backward."""
    traced = any(isinstance(v, Tracer) for v in values)
    if len(open_jaxpr(jaxpr)[0].eqns) <= (SMALL if traced else 1):
        return tape.replay(*open_jaxpr(jaxpr), values, slots)
    forward = _compiled_forward(jaxpr, tuple(s is not None for s in slots), params.get("name", "f"))
    outs, pull_back = forward(*values)
    return tape.call(jit_p, _compiled_pull_back, pull_back, slots, outs, tape.new_slots(outs))


def _power_tower(x, y):
    for _ in range(5):
        x = lax.add(lax.mul(x, y), lax.sin(lax.div(x, y)))
    return x


_forward_cache: weakref.WeakKeyDictionary = weakref.WeakKeyDictionary()


def _compiled_forward(jaxpr, active, name):
    """A jitted function args -> (outs, pullback); one for each jaxpr and set of differentiated inputs, and kept."""
    by_active = _forward_cache.setdefault(jaxpr, {})
    if active not in by_active:
        reference = weakref.ref(jaxpr)  # the cache must not keep its own key alive

        def forward(*args):
            closed = reference()
            assert closed is not None, "a jit's program was collected while it was being called"
            return sweep.forward_jaxpr(*open_jaxpr(closed), args, active)

        forward.__name__ = f"forward_{name}"
        by_active[active] = jax.jit(forward)
    return by_active[active]


@jax.jit
def _compiled_pull_back(pull_back, cts):
    return pull_back(cts)


@call_rule(closed_call_p, Probe(lambda x: _closed_sine(x)))
def closed_call_forward(tape, values, slots, *, call_jaxpr, **_):
    """y = f(x)  =>  x_bar = (df/dx)^T y_bar: f's equations join the caller's."""
    return tape.replay(*open_jaxpr(call_jaxpr), values, slots)


def _closed_sine(x):
    jaxpr = jax.make_jaxpr(lambda y: lax.sin(y))(jax.ShapeDtypeStruct(x.shape, x.dtype))
    return closed_call_p.bind(x, **closed_call_p.get_bind_params({"call_jaxpr": jaxpr}))[0]


@jax.custom_jvp
def _cube(x):
    return lax.integer_pow(x, 3)


_cube.defjvp(lambda primals, tangents: (_cube(primals[0]), 3.0 * primals[0] * primals[0] * tangents[0]))


@call_rule(custom_jvp_call_p, Probe(lambda x: _cube(x), elementwise=True, exact=lambda mp, x: x**3))
def custom_jvp_forward(tape, values, slots, *, subfuns, symbolic_zeros, **_):
    """y = f(x) with the user's (x, x_dot) -> (y, y_dot), linear in x_dot: y_dot = A x_dot  =>  x_bar = A^T y_bar.

    The program of y_dot is recorded with x_dot in the slot of x and y in the slot of y_dot: what flows back through it
    is A^T y_bar.  A linear program's transpose is the same at every x_dot, so x_dot = 0 is the point.
    """
    _, jvp = subfuns

    def tangent(value, slot):
        aval = jax.typeof(value)
        if slot is None and symbolic_zeros:
            return SymbolicZero(aval.to_tangent_aval())
        return zeros(aval.shape, tangent_dtype(aval.dtype))

    tangents = [tangent(v, s) for v, s in zip(values, slots)]
    outs, out_slots = tape.run(lambda *lifted: jvp.call_wrapped(*values, *lifted), tangents, slots)
    half = len(outs) // 2
    return outs[:half], out_slots[half:]


@jax.custom_vjp
def _scaled_sine(x):
    return 2.0 * lax.sin(x)


_scaled_sine.defvjp(lambda x: (2.0 * lax.sin(x), lax.cos(x)), lambda cosine, ct: (2.0 * cosine * ct,))


@call_rule(
    custom_vjp_call_p,
    Probe(lambda x: _scaled_sine(x), elementwise=True, forward=False, exact=lambda mp, x: 2 * mp.sin(x)),
)
def custom_vjp_forward(tape, values, slots, *, subfuns, out_trees, symbolic_zeros, **_):
    """y = f(x) with the user's forward and backward passes  =>  x_bar is what the user's backward pass returns."""
    _, fwd, bwd = subfuns
    flags = [flag for v, s in zip(values, slots) for flag in (v, s is not None)]
    residuals_and_outs = fwd.call_wrapped(*flags)
    _, residual_tree, forwarded = out_trees()
    count = residual_tree.num_leaves - sum(f is not None for f in forwarded)
    own, outs = iter(residuals_and_outs[:count]), list(residuals_and_outs[count:])
    residuals = [next(own) if f is None else values[f] for f in forwarded]
    out_slots = tape.new_slots(outs)
    avals = tuple(jax.typeof(y) for y in outs)
    pull_back = functools.partial(_custom_pull_back, bwd, avals, symbolic_zeros)
    return tape.call(custom_vjp_call_p, pull_back, residuals, slots, outs, out_slots)


def _custom_pull_back(bwd, avals, symbolic_zeros, residuals, cts):
    def instantiated(ct, aval):
        if ct is not None:
            return ct
        if symbolic_zeros:
            return SymbolicZero(aval.to_tangent_aval())
        return zeros(aval.shape, tangent_dtype(aval.dtype))

    bars = bwd.call_wrapped(*residuals, *[instantiated(ct, aval) for ct, aval in zip(cts, avals)])
    if isinstance(bars, tuple) and len(bars) == 2 and isinstance(bars[0], (list, tuple)):
        bars, _ = bars  # from JAX 0.11 on: the cotangents, and the user's log
    return [None if bar is None or is_zero_marker(bar) or _is_float0(bar) else bar for bar in bars]


def _is_float0(x):
    return isinstance(x, np.ndarray) and x.dtype == jax.float0


@call_rule(
    remat_p,
    Probe(lambda x: jax.checkpoint(lambda y: lax.sin(lax.exp(y)))(x), exact=lambda mp, x: mp.sin(mp.exp(x))),
)
def checkpoint_forward(tape, values, slots, *, jaxpr, prevent_cse=True, policy=None, **params):
    """y = f(x), of which x alone is kept  =>  x_bar = (df/dx)^T y_bar, with f run forward again before its way back."""
    outs = remat_p.bind(*values, jaxpr=jaxpr, prevent_cse=prevent_cse, policy=policy, **params)
    active = tuple(s is not None for s in slots)
    pull_back = functools.partial(_recompute_and_pull_back, jaxpr, active, prevent_cse)
    out_slots = tape.new_slots(outs)
    return tape.call(remat_p, pull_back, list(values), slots, outs, out_slots)


def _recompute_and_pull_back(jaxpr, active, prevent_cse, values, cts):
    if prevent_cse:
        # Without the barrier XLA would find the first forward run's values equal and keep them after all.
        present = [ct for ct in cts if ct is not None]
        values, present = lax.optimization_barrier((values, present))
        present = iter(present)
        cts = [None if ct is None else next(present) for ct in cts]
    _, pull_back = sweep.forward_jaxpr(*open_jaxpr(jaxpr), values, active)
    return pull_back(cts)
