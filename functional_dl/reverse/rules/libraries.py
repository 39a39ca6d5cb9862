"""Primitives of lineax and equinox, by hand.  A program that applies one has loaded the library; it is not loaded here.

equinox packs the arguments of its primitives, pytrees of arrays and of other things, into flat ones: `static` holds
the leaves that are no arrays, with a mark where one stood, `treedef` the tree, `flatten` the tree of the results.
"""

import functools
from collections.abc import Callable
from typing import Any

import jax
import jax.numpy as jnp
from jax import lax
from jax.extend.core import Primitive
from jax.tree_util import tree_flatten, tree_leaves, tree_map, tree_structure, tree_unflatten

from functional_dl.reverse import sweep
from functional_dl.reverse.rule import rule_of
from functional_dl.reverse.rules.algebra import zeros_like
from functional_dl.reverse.rules.matrices import conj
from functional_dl.reverse.trace import implementation, no_rule_message, record_call, recording_tangents
from functional_dl.reverse.values import as_array, instantiate

# (package, name of the primitive) -> forward(primitive, tape, values, slots, **params), as for call_rule
WRITTEN: dict[tuple[str, str], Callable[..., Any]] = {}


def _rule_for(package: str, name: str) -> Callable[..., Any]:
    def register(forward):
        WRITTEN[package, name] = forward
        return forward

    return register


# --- lineax -----------------------------------------------------------------------------------------------------------


@_rule_for("lineax", "linear_solve")
def linear_solve_forward(primitive: Primitive, tape: Any, values: Any, slots: Any, **packed: Any) -> Any:
    """x = A^+ b, with the matrix A of parameters theta and its pseudoinverse A^+ (its inverse, where it has one).  The
    differential of the pseudoinverse, with r = b - A x (0 where the rows are independent), gives

      dx = A^+ (db - dA x) + A^+ A^+H dA^H r + (I - A^+ A) dA^H A^+H x

    (the last term is 0 where the columns are independent).  With u = A^+T x_bar, the solution of the transposed system,

      b_bar = u,    theta_bar = (d[A x] / d theta)^T (-u)
                              + (d[A v] / d theta)^T conj(r),          v = A^+ conj(u)
                              + (d[A w] / d theta)^T A^+T conj(x),     w = conj(x_bar - A^T u)

    at fixed x, v, w.  (dA^H is antilinear in dA: p^T dA^H q is the conjugate of conj(q)^T dA conj(p), and cotangents
    pair by the real part.)  What a solver does is not differentiated, nor what it reports besides x.
    """
    outs = primitive.bind(*values, **packed)
    operator = _unpacked(values, packed)[0]
    unknowns = len(tree_leaves(operator.in_structure()))
    out_slots = [*tape.new_slots(outs[:unknowns]), *[None] * (len(outs) - unknowns)]
    active = tuple(slot is not None for slot in slots)
    pull_back = functools.partial(_solve_pull_back, primitive, packed, active)
    return tape.call(primitive, pull_back, (list(values), outs[:unknowns]), slots, outs, out_slots)


def _unpacked(values, packed):
    remaining = iter(values)
    leaves = [next(remaining) if type(leaf) is object else leaf for leaf in packed["static"]]
    return tree_unflatten(packed["treedef"], leaves)


def _solve_pull_back(primitive, packed, active, residuals, cts):
    values, solution = residuals
    operator, state, vector, options, solver, _ = _unpacked(values, packed)
    domain, image = tree_structure(operator.in_structure()), tree_structure(operator.out_structure())
    mark = next(leaf for leaf in packed["static"] if type(leaf) is object)

    def solve(operator, state, options, b):
        """The leaves of A^+ b: the primitive applied to another system."""
        flat, treedef = tree_flatten((operator, state, b, options, solver, True))
        static = tuple(mark if isinstance(x, jax.Array) else x for x in flat)
        arrays = [x for x in flat if isinstance(x, jax.Array)]
        outs = primitive.bind(*arrays, treedef=treedef, static=static, flatten=type(packed["flatten"])())
        return outs[: len(tree_leaves(operator.in_structure()))]

    transposed, transposed_options = solver.transpose(state, options)
    solve_transposed = functools.partial(solve, operator.transpose(), transposed, transposed_options)
    x = tree_unflatten(domain, solution)
    x_bar = [instantiate(ct, y) for ct, y in zip(cts, solution)]
    u = solve_transposed(tree_unflatten(domain, x_bar))

    # Where the leaves of A and of b stand among the values.
    sizes = [child.num_leaves for child in packed["treedef"].children()]
    positions = [i for i, leaf in enumerate(packed["static"]) if type(leaf) is object]
    of_operator = [place for place, i in enumerate(positions) if i < sizes[0]]
    start = sum(sizes[:2])
    of_vector = {place: i - start for place, i in enumerate(positions) if start <= i < start + sizes[2]}

    bars: list[Any] = [None] * len(values)
    for place, i in of_vector.items():
        bars[place] = u[i] if active[place] else None
    moving = [place for place in of_operator if active[place]]
    if not moving:
        return bars

    points, point_bars = [x], [lax.neg(y) for y in u]  # A is applied to these, with these cotangents of the products
    rows, columns = operator.out_size(), operator.in_size()
    if not (solver.assume_full_rank() and rows <= columns):
        rest = tree_map(lax.sub, vector, operator.mv(x))
        points.append(tree_unflatten(domain, solve(operator, state, options, tree_unflatten(image, map(conj, u)))))
        point_bars += map(conj, tree_leaves(rest))
    if not (solver.assume_full_rank() and columns <= rows):
        back = tree_leaves(operator.transpose().mv(tree_unflatten(image, u)))
        points.append(tree_unflatten(domain, [conj(lax.sub(bar, y)) for bar, y in zip(x_bar, back)]))
        point_bars += solve_transposed(tree_map(conj, x))

    def products(*moved):
        remaining = dict(zip(moving, moved))
        operator, *_ = _unpacked([remaining.get(place, value) for place, value in enumerate(values)], packed)
        return [leaf for point in points for leaf in tree_leaves(operator.mv(point))], []

    _, _, pull = sweep.forward(products, [values[place] for place in moving], [True] * len(moving))
    for place, bar in zip(moving, pull(point_bars)):
        bars[place] = bar
    return bars


# --- equinox ----------------------------------------------------------------------------------------------------------


@_rule_for("equinox", "select_if_vmap")
def select_if_vmap_forward(primitive: Primitive, tape: Any, values: Any, slots: Any) -> Any:
    """z = x where p holds and y elsewhere; a p that is not batched holds, by promise  =>

    x_bar = z_bar where p holds and 0 elsewhere,  y_bar = 0 where p holds and z_bar elsewhere.
    """
    out = primitive.bind(*values)
    pull_back = functools.partial(_select_pull_back, primitive)
    return tape.call(primitive, pull_back, values[0], slots, [out], tape.new_slots([out]))


def _select_pull_back(primitive, chosen, cts):
    zero = zeros_like(cts[0])
    return None, lambda: primitive.bind(chosen, cts[0], zero), lambda: primitive.bind(chosen, zero, cts[0])


@_rule_for("equinox", "maybe_set")
def maybe_set_forward(primitive: Primitive, tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = b with x at the places i where p holds, each place written once and not read before, by promise  =>

    b_bar = y_bar (what stands at i belonged to nobody, so it need not be cleared),   x_bar = y_bar_i where p holds.
    """
    outs = primitive.bind(*values, **params)
    chosen, _, x, *index = values
    pull_back = functools.partial(_maybe_set_pull_back, primitive, params, jax.typeof(x))
    return tape.call(primitive, pull_back, (chosen, index), slots, outs, tape.new_slots(outs))


def _maybe_set_pull_back(primitive, params, aval, residuals, cts):
    chosen, index = residuals

    def written(x):  # linear in x: the program that defines the primitive, swept at 0
        return implementation(primitive)(chosen, cts[0], x, *index, **params), []

    def x_bar():
        _, _, pull = sweep.forward(written, [instantiate(None, aval)], [True])
        return pull([cts[0]])[0]

    return None, cts[0], x_bar, *[None] * len(index)


@_rule_for("equinox", "vprim")
def vprim_forward(
    primitive: Primitive, tape: Any, values: Any, slots: Any, *, prim: Any, params: Any, **batched: Any
) -> Any:
    """y_k = p(x_k) for every k of a batch  =>  x_k_bar by p's rule at x_k, and the sum over k for what all k share."""
    rule = rule_of(prim)
    if rule is None or rule.forward is None:
        raise NotImplementedError(no_rule_message(prim))
    axes, size, name = (batched[f"__{part}"] for part in ("batch_axes", "axis_size", "axis_name"))
    active = [slot is not None for slot in slots]
    programs = []

    def one(*xs):
        outs, program, residuals = record_call(functools.partial(rule.forward, **dict(params)), xs, active)
        programs.append(program)
        return outs, residuals

    with recording_tangents(tape.tangents):
        outs, residuals = jax.vmap(one, in_axes=tuple(axes), axis_size=size, axis_name=name)(*map(as_array, values))
    [program] = programs
    pull_back = functools.partial(_vprim_pull_back, program, tuple(axes), size, name, tuple(map(jax.typeof, outs)))
    out_slots = [None if slot is None else tape.new_slot() for slot in program.outputs]
    return tape.call(primitive, pull_back, residuals, slots, outs, out_slots)


def _vprim_pull_back(program, axes, size, name, avals, residuals, cts):
    cts = [ct if slot is None else instantiate(ct, aval) for ct, aval, slot in zip(cts, avals, program.outputs)]
    pull = functools.partial(sweep.backward, program)
    bars = jax.vmap(pull, axis_size=size, axis_name=name)(residuals, cts)
    return [
        None if bar is None else jnp.sum(bar, 0) if axis is None else jnp.moveaxis(bar, 0, axis)
        for bar, axis in zip(bars, axes)
    ]
