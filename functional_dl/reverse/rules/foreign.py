"""Primitives of users and of other libraries, whose derivative their owner registered with JAX.

An owner registers (x, x_dot) -> (y, y_dot), and for a primitive that is linear in some operands its transpose, with
`jax.interpreters.ad`.  That is the user's own rule, as a custom_jvp is, and honoured as such.  A registration of JAX's
own is none: what JAX defines has its rule in the table, or no rule.  No other file reads registrations.

The rules of some libraries' primitives are written out in `libraries`, and come first.
"""

import functools
import sys
from collections.abc import Iterator
from types import FunctionType, MethodType
from typing import Any

import jax
from jax.extend.core import Primitive
from jax.interpreters.ad import UndefinedPrimal, Zero, primitive_jvps, primitive_transposes

from functional_dl.jaxprs import bind
from functional_dl.reverse.rule import Rule, fallback
from functional_dl.reverse.rules.libraries import WRITTEN
from functional_dl.reverse.sweep import recorded_rule
from functional_dl.reverse.trace import is_zero_marker, no_rule_message, place_of_user
from functional_dl.reverse.values import as_array, instantiate, is_users_type

# Packages that define nothing for somebody else: a function of theirs says nothing about a primitive's owner.
NEUTRAL = {*sys.stdlib_module_names, "jax", "jaxlib", "numpy", "scipy", "ml_dtypes", "opt_einsum"} - {"__main__"}


def owners(primitive: Primitive) -> set[str]:
    """The packages (of a script "__main__") whose primitive this is; none for JAX's own.

    A primitive that a module of JAX holds by name is JAX's, whatever anyone has registered for it.  Of any other, the
    functions tell that define it: its class, what evaluates it, what types it, what its registrations hold.  An
    owner's function may be wrapped in JAX's, as `defjvp` and `def_abstract_eval` do.
    """
    for name, module in tuple(sys.modules.items()):
        if name.split(".")[0] == "jax" and any(value is primitive for value in tuple(vars(module).values())):
            return set()
    parts = [type(primitive), *(getattr(primitive, name, None) for name in ("impl", "abstract_eval"))]
    parts += [table.get(primitive) for table in (primitive_jvps, primitive_transposes)]
    return {str(part.__module__).split(".")[0] for part in _functions(parts, set())} - NEUTRAL


def _functions(part: Any, seen: set[int]) -> Iterator[Any]:
    """The functions and classes that a callable is made of: what it wraps, is applied to, and closes over."""
    if id(part) in seen:
        return
    seen.add(id(part))
    inner: tuple[Any, ...] = ()
    if isinstance(part, list | tuple):
        inner = tuple(part)
    elif isinstance(part, functools.partial):
        inner = (part.func, *part.args, *part.keywords.values())
    elif isinstance(part, MethodType):
        inner = (part.__func__,)
    elif isinstance(part, FunctionType | type):
        yield part
        inner = tuple(_contents(cell) for cell in getattr(part, "__closure__", None) or ())
    wrapped = getattr(part, "__wrapped__", None) if callable(part) else None
    for other in (*inner, wrapped):
        if other is not None:
            yield from _functions(other, seen)


def _contents(cell):
    try:
        return cell.cell_contents
    except ValueError:  # not yet filled
        return None


_known: dict[Primitive, set[str]] = {}  # the owners of primitives that are not JAX's


@fallback
def rule_of_others(primitive: Primitive) -> Rule | None:
    """The rule of a primitive that is not JAX's: written out here, or as its owner registered it."""
    packages = _known.get(primitive) or owners(primitive)
    if not packages:
        return None
    _known[primitive] = packages
    written = next((WRITTEN[key] for key in WRITTEN if key[0] in packages and key[1] == primitive.name), None)
    if written is None and primitive not in primitive_jvps and primitive not in primitive_transposes:
        return None
    return _rule(primitive, written or registered_forward)


@functools.cache
def _rule(primitive, function):
    return recorded_rule(primitive, functools.wraps(function)(functools.partial(function, primitive)))


def registered_forward(primitive: Primitive, tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = p(x) with the owner's (x, x_dot) -> (y, y_dot), linear in x_dot: y_dot = A x_dot  =>  x_bar = A^T y_bar.

    As for custom_jvp, the program of y_dot is recorded, with x_dot in the slot of x.  Where it applies p to x_dot, or
    another primitive with a registered transpose, that is what its cotangent goes through.
    """
    if tape.tangents:
        return _linear_forward(primitive, tape, values, slots, params)
    jvp = primitive_jvps.get(primitive)
    if jvp is None:
        raise NotImplementedError(no_rule_message(primitive))

    def fun(*tangents):
        outs, dots = jvp(tuple(values), tangents, **params)
        if not primitive.multiple_results:
            outs, dots = [outs], [dots]
        return [*outs, *[0.0 if is_zero_marker(dot) else dot for dot in dots]]

    def tangent(value, slot):
        aval = jax.typeof(value)
        if slot is None:
            return Zero(aval.to_tangent_aval())
        # y_dot is linear: its transpose is the same at any x_dot, and x is one where the owner's type has no zero
        return value if _has_no_zero(aval) and aval.to_tangent_aval() == aval else instantiate(None, aval)

    tangents = [tangent(value, slot) for value, slot in zip(values, slots)]
    outs, out_slots = tape.run_tangents(fun, tangents, slots)
    half = len(outs) // 2
    return outs[:half], out_slots[half:]


def _has_no_zero(aval):
    return is_users_type(aval) and type(aval.to_tangent_aval()).vspace_zero.__module__.startswith("jax.")


def _linear_forward(primitive, tape, values, slots, params):
    """y_dot = p(x, x_dot), linear in the operands with a slot  =>  x_dot_bar by the owner's transpose."""
    if primitive not in primitive_transposes:
        raise NotImplementedError(
            f"Transpose rule (for reverse-mode differentiation) for '{primitive}' not implemented ({place_of_user()}). "
            "A derivative applies it to a tangent, in which it is linear: its owner can register the transpose in "
            "jax.interpreters.ad.primitive_transposes."
        )
    outs = bind(primitive, values, params)
    linear = tuple(None if slot is None else jax.typeof(value) for value, slot in zip(values, slots))
    fixed = [None if slot is not None else as_array(value) for value, slot in zip(values, slots)]
    avals = tuple(jax.typeof(y) for y in outs)
    pull_back = functools.partial(_transpose_pull_back, primitive, params, linear, avals)
    return tape.call(primitive, pull_back, fixed, slots, outs, tape.new_slots(outs), params)


def _transpose_pull_back(primitive, params, linear, avals, fixed, cts):
    cts = [Zero(aval.to_tangent_aval()) if ct is None else ct for ct, aval in zip(cts, avals)]
    operands = [x if aval is None else UndefinedPrimal(aval) for x, aval in zip(fixed, linear)]
    transpose = primitive_transposes[primitive]
    bars = transpose(cts if primitive.multiple_results else cts[0], *operands, **params)
    return [None if aval is None or bar is None or is_zero_marker(bar) else bar for aval, bar in zip(linear, bars)]
