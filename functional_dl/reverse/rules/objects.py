"""Primitives that are Python objects: those that users write; from JAX 0.12 on custom_root, ldexp and frexp too.

They are all one primitive, whose parameter is the object.  An object has trees of arguments and results, and methods
for what it does; JAX's own have formulas here, a user's have the user's: `jvp`, or `vjp_fwd` and `vjp_bwd_retval`.
"""

import functools
import inspect
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.tree_util import tree_leaves, tree_unflatten

from functional_dl.jaxprs import primitive_named
from functional_dl.reverse import sweep
from functional_dl.reverse.latex import CALL_BAR, call
from functional_dl.reverse.rule import Probe
from functional_dl.reverse.rules.algebra import zeros_like
from functional_dl.reverse.rules.checkpoint import checkpoint_forward
from functional_dl.reverse.rules.foreign import Zero
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import is_zero_marker, place_of_user
from functional_dl.reverse.values import add, instantiate, is_differentiable

_LOGS = jax.__version_info__ >= (0, 11)  # a user's backward pass returns the cotangents, and a log beside them


def _cube_root(a):
    """The solution of x^3 = a by Newton's steps; the derivative is that of the equation, not of the steps."""

    def solve(f, start):
        return lax.fori_loop(0, 40, lambda _, x: x - f(x) / (3 * x * x), start)

    return lax.custom_root(lambda x: x * x * x - a, jnp.ones_like(a), solve, lambda g, y: y / g(jnp.ones_like(y)))


def _linear_root(a, b):
    """The solution of (4 I + A) x + sin(x) / 2 = b, whose tangent system is solved with the Jacobian's columns."""
    matrix = a + 4 * jnp.eye(2, dtype=a.dtype)

    def solve(f, start):
        return lax.fori_loop(0, 60, lambda _, x: x - 0.2 * f(x), start)

    def tangent_solve(g, y):
        return jnp.linalg.solve(jax.vmap(g)(jnp.eye(2, dtype=y.dtype)).T, y)

    return lax.custom_root(lambda x: matrix @ x + 0.5 * jnp.sin(x) - b, jnp.zeros_like(b), solve, tangent_solve)


def object_forward(tape: Any, values: Any, slots: Any, *, _prim: Any) -> Any:
    """y = p(x) of an object p  =>  x_bar by the formula of its kind, or by its own rule."""
    forward = KINDS.get(type(_prim).__name__) if type(_prim).__module__.startswith("jax.") else None
    if forward is None and any(is_differentiable(aval) for aval in _prim.out_avals_flat):
        forward = _users_forward
    if forward is None:
        outs = object_p.bind(*values, _prim=_prim)
        return outs, [None] * len(outs)
    return forward(tape, values, slots, _prim)


# --- ldexp, frexp -----------------------------------------------------------------------------------------------------


def ldexp_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """y = x 2^n, n whole  =>  x_bar = y_bar 2^n."""
    outs = object_p.bind(*values, _prim=prim)
    return tape.call(object_p, _ldexp_pull_back, values[1], slots, outs, tape.new_slots(outs), explicit=False)


def _ldexp_pull_back(exponent, cts):
    return [jnp.ldexp(cts[0], exponent), None]


def frexp_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """x = m 2^n, 1/2 <= |m| < 1  =>  x_bar = m_bar 2^-n, between the jumps of n, at powers of 2."""
    outs = object_p.bind(*values, _prim=prim)
    return tape.call(object_p, _frexp_pull_back, outs[1], slots, outs, tape.new_slots(outs), explicit=False)


def _frexp_pull_back(exponent, cts):
    return [None if cts[0] is None else jnp.ldexp(cts[0], lax.neg(exponent))]


# --- custom_root ------------------------------------------------------------------------------------------------------


def root_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """f(p, x) = 0 defines x(p), found by the user's `solve`:  D_x f dx + D_p f dp = 0.  With the user's
    `tangent_solve`, T = (D_x f)^-1, as a linear function of the right side:

      u = T^T x_bar,   p_bar = -(D_p f)^T u.

    What `solve` does is not differentiated, nor what it reports besides x.
    """
    outs = object_p.bind(*values, _prim=prim)
    sizes = [len(tree_leaves(aval)) for aval in prim.in_avals]
    own = slice(sum(sizes[:2]), sum(sizes[:3]))
    unknowns = len(tree_leaves(prim.out_aval[0] if prim.has_aux else prim.out_aval))
    active = [s is not None for s in slots[own]]
    if not any(active):
        return outs, [None] * len(outs)
    out_slots = [*tape.new_slots(outs[:unknowns]), *[None] * (len(outs) - unknowns)]
    pull_back = functools.partial(_root_pull_back, prim, own, active)
    return tape.call(object_p, pull_back, (list(values), outs[:unknowns]), slots, outs, out_slots)


def _root_pull_back(prim, own, active, residuals, cts):
    values, x = residuals
    _, guess, params, tangent_consts = tree_unflatten(prim.in_tree, values)
    tree, params_tree = jax.tree.structure(guess), jax.tree.structure(params)
    root = tree_unflatten(tree, x)

    def tangent_solve(*y):
        return tree_leaves(prim.tangent_solve(tangent_consts, root, tree_unflatten(tree, y))), []

    def residual(*p):
        return tree_leaves(prim.f(tree_unflatten(params_tree, p), root)), []

    linear = [is_differentiable(jax.typeof(y)) for y in x]
    _, _, transposed = sweep.forward(tangent_solve, [zeros_like(y) for y in x], linear)
    u = transposed([instantiate(ct, y) if d else None for ct, y, d in zip(cts, x, linear)])
    _, _, pull = sweep.forward(residual, values[own], active)
    bars: list = [None] * len(values)
    bars[own] = pull([None if bar is None else lax.neg(bar) for bar in u])
    return bars


def root_map_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """y = D_x f(p, x) v, or its transpose D_x f(p, x)^T v, as a function of p, x and v.

    The transpose is a backward sweep.  That is linear in v, so that D_x f v is its transpose in turn: a backward sweep
    through the backward sweep.  Both are programs of p, x, v like any other.
    """
    return tape.run(functools.partial(_root_map, prim), values, slots)


def _root_map(prim, *values):
    consts, x, v = tree_unflatten(prim.in_tree, values)
    tree = jax.tree.structure(x)
    x, v = tree_leaves(x), tree_leaves(v)

    def function(*x):
        return tree_leaves(prim.f(consts, tree_unflatten(tree, x))), []

    def transposed(*u):
        _, _, pull = sweep.forward(function, x, [True] * len(x))
        return [instantiate(bar, y) for bar, y in zip(pull(list(u)), x)], []

    if prim.transposed:
        return transposed(*v)[0]
    _, _, pull = sweep.forward(transposed, [zeros_like(y) for y in x], [True] * len(x))  # f(x) has the types of x
    return [instantiate(bar, y) for bar, y in zip(pull(v), x)]


# --- users' objects ---------------------------------------------------------------------------------------------------


def _users_forward(tape, values, slots, prim):
    """y = p(x) with the user's two passes: see custom_vjp; or with the user's (x, x_dot) -> (y, y_dot), in one step or
    in two, `lin` and `linearized`: see custom_jvp.  What a derivative applies to tangents may state its transpose.

    The methods that JAX offers to derive the one from the other are not called: they differentiate.
    """
    if tape.tangents and _own(prim, "transpose"):
        return _linear_forward(tape, values, slots, prim)
    if _own(prim, "vjp_fwd"):
        return _passes_forward(tape, values, slots, prim)
    if not (_own(prim, "jvp") or _own(prim, "lin")):
        raise NotImplementedError(
            f"Differentiation rule for the primitive object {type(prim).__name__} not implemented ({place_of_user()}): "
            "it has neither `jvp` nor `vjp_fwd`.  Define one of them, or wrap the function that uses it in "
            "jax.custom_vjp."
        )
    primals = tree_unflatten(prim.in_tree, values)
    if not _own(prim, "jvp"):
        wanted = tree_unflatten(prim.in_tree, [slot is not None for slot in slots])
        outs, kept, *_ = prim.lin(wanted, *primals)

    def tangents_of(*tangents):
        tangents = tree_unflatten(prim.in_tree, tangents)
        if _own(prim, "jvp"):
            found, dots = prim.jvp(primals, tangents)
        else:
            found, dots = outs, prim.linearized(kept, *tangents)
        found = prim.out_tree.flatten_up_to(found)
        dots = prim.out_tree.flatten_up_to(dots)
        return [*found, *[0.0 if dot is None or is_zero_marker(dot) else dot for dot in dots]]

    tangents = [instantiate(None, jax.typeof(x)) for x in values]
    found, found_slots = tape.run_tangents(tangents_of, tangents, slots)
    half = len(found) // 2
    return found[:half], found_slots[half:]


def _own(prim, method) -> bool:
    """Whether the object's class has a method of its own: not JAX's, that refuses or derives it from another."""
    fun = getattr(type(prim), method, None)
    if fun is None:
        return False
    if type(prim).__module__.startswith("jax."):
        return fun.__qualname__.startswith(type(prim).__qualname__ + ".")
    return not fun.__module__.startswith("jax.")


def _takes(method, count: int) -> bool:
    """Whether a method takes exactly that many arguments by position."""
    try:
        kinds = [p.kind for p in inspect.signature(method).parameters.values() if p.default is p.empty]
    except (TypeError, ValueError):
        return False
    by_position = {inspect.Parameter.POSITIONAL_ONLY, inspect.Parameter.POSITIONAL_OR_KEYWORD}
    return len(kinds) == count and by_position.issuperset(kinds)


class Place:
    """Where a user's backward pass brings a cotangent: the cotangent so far, None for zero.

    JAX hands over such an object for each operand, and a pass calls `accum`.
    """

    __slots__ = ("aval", "total", "wanted")
    aval: Any
    total: Any
    wanted: bool

    def __init__(self, aval: Any, wanted: bool) -> None:
        self.aval = aval
        self.wanted = wanted
        self.total = None

    def accum(self, ct: Any) -> None:
        if self.wanted and ct is not None and not is_zero_marker(ct):
            self.total = ct if self.total is None else add(self.total, ct)


def _linear_forward(tape, values, slots, prim):
    """y_dot = p(x, x_dot), linear in the operands with a slot  =>  x_dot_bar by the owner's transpose."""
    outs = object_p.bind(*values, _prim=prim)
    fixed = [None if slot is not None else value for value, slot in zip(values, slots)]
    linear = tuple(slot is not None for slot in slots)
    pull_back = functools.partial(_transpose_pull_back, prim, linear)
    return tape.call(object_p, pull_back, fixed, slots, outs, tape.new_slots(outs))


def _transpose_pull_back(prim, linear, fixed, cts):
    cts = [instantiate(ct, aval) for ct, aval in zip(cts, prim.out_avals_flat)]
    places = [Place(aval, True) if moves else x for aval, moves, x in zip(prim.in_avals_flat, linear, fixed)]
    prim.transpose(tree_unflatten(prim.out_tree, cts), *tree_unflatten(prim.in_tree, places))
    return [place.total if moves else None for place, moves in zip(places, linear)]


def _passes_forward(tape, values, slots, prim):
    active = tuple(slot is not None for slot in slots)
    wanted = tree_unflatten(prim.in_tree, list(active))
    primals = tree_unflatten(prim.in_tree, values)
    first = () if _takes(prim.vjp_fwd, len(primals)) else (wanted,)  # before, JAX did not say what is differentiated
    outs, residuals, *moving = prim.vjp_fwd(*first, *primals)
    outs = prim.out_tree.flatten_up_to(outs)
    # A forward pass may say which outputs depend on what is differentiated.
    moving = tree_leaves(jax.tree.broadcast(moving[0], tree_unflatten(prim.out_tree, outs))) if moving else outs
    residuals, tree = jax.tree.flatten(residuals)
    pull_back = functools.partial(_passes_pull_back, prim, active, tree, tuple(jax.typeof(y) for y in outs))
    out_slots = [None if moves is False else slot for slot, moves in zip(tape.new_slots(outs), moving)]
    return tape.call(object_p, pull_back, residuals, slots, outs, out_slots, numbers=True)


def _passes_pull_back(prim, active, tree, avals, residuals, cts):
    symbolic = type(prim).__module__.startswith("jax.")  # a custom_vjp, say, whose backward pass may ask for zeros
    cts = [
        Zero(aval.to_tangent_aval()) if ct is None and symbolic else instantiate(ct, aval)
        for ct, aval in zip(cts, avals)
    ]
    cts, residuals = tree_unflatten(prim.out_tree, cts), tree_unflatten(tree, residuals)
    if _own(prim, "vjp_bwd"):
        places = [Place(aval, wanted) for aval, wanted in zip(prim.in_avals_flat, active)]
        prim.vjp_bwd(residuals, cts, *tree_unflatten(prim.in_tree, places))
        return [place.total for place in places]
    bars = prim.vjp_bwd_retval_logs(residuals, cts)[0] if _LOGS else prim.vjp_bwd_retval(residuals, cts)
    bars = prim.in_tree.flatten_up_to(bars)
    return [None if not w or bar is None or is_zero_marker(bar) else bar for w, bar in zip(active, bars)]


# --- checkpoint (with the option jax_remat3) --------------------------------------------------------------------------


def remat_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """y = f(x), of which x alone is kept: as for jax.checkpoint."""
    return checkpoint_forward(tape, values, slots, jaxpr=prim.jaxpr, policy=prim.policy)


def name_forward(tape: Any, values: Any, slots: Any, prim: Any) -> Any:
    """y = x, with a name for policies  =>  x_bar = y_bar."""
    outs = object_p.bind(*values, _prim=prim)
    return tape.call(object_p, _name_pull_back, (), slots, outs, tape.new_slots(outs))


def _name_pull_back(_, cts):
    return cts


KINDS = {
    "RematTraced": remat_forward,
    "CheckpointName": name_forward,
    "Ldexp": ldexp_forward,
    "Frexp": frexp_forward,
    "CustomRoot": root_forward,
    "_RootLinearMap": root_map_forward,
}


def _object(fun, derivative):
    """fun with two passes of its own, as one of these objects."""
    before = jax.config.jax_custom_vjp3
    jax.config.update("jax_custom_vjp3", True)
    try:
        made = jax.custom_vjp(fun)
    finally:
        jax.config.update("jax_custom_vjp3", before)
    made.defvjp(lambda x: (fun(x), derivative(x)), lambda kept, ct: (ct * kept,))
    return made


if jax.__version_info__ >= (0, 12):
    object_p = primitive_named("call_hi_primitive", jnp.digitize, np.ones(1, np.float32), np.ones(2, np.float32))
    _PROBES = (
        Probe(_cube_root, low=0.5, dtypes=("float64",), exact=lambda mp, x: mp.cbrt(x)),
        Probe(_linear_root, shapes=((2, 2), (2,)), low=-0.5, high=0.5, dtypes=("float64",)),
        Probe(lambda x: jnp.ldexp(x, np.array([1, -2, 3])), exact=None),
        Probe(lambda x: jnp.frexp(x)[0], low=1.1, high=1.9),
    )
else:
    _sine = _object(lax.sin, lax.cos)
    object_p = primitive_named("call_hi_primitive", _sine, np.float32(1))
    _PROBES = (Probe(lambda x: _sine(x), elementwise=True, forward=False, exact=lambda mp, x: mp.sin(x)),)

call_rule(object_p, *_PROBES, latex=(call, CALL_BAR))(object_forward)
