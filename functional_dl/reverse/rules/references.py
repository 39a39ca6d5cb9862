"""Mutable references: an array that changes is, at each moment, a value, and that value has a slot.

The tape knows for each reference the slot of what it holds now.  A write makes a new value, of the old one and of what
is written; a read takes entries of the present one.  In the backward sweep the cotangents of these values are written
and read at the same places, through a reference of their own.

A loop or a branch that works on the caller's references is run on what they hold: a loop carries it from step to step.
"""

import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core.primitives import get_p, swap_p

from functional_dl.jaxprs import primitive_named
from functional_dl.reverse.rule import Probe, late_rules
from functional_dl.reverse.sweep import call_rule
from functional_dl.reverse.trace import place_of_user
from functional_dl.reverse.values import instantiate, is_reference, zeros_of

_three = np.ones((3,), np.float32)


def _written(x):
    ref = jax.new_ref(lax.sin(x))
    old = jax.ref.swap(ref, 0, lax.index_in_dim(x, 1, keepdims=False))
    jax.ref.addupdate(ref, slice(1, 3), lax.slice(lax.exp(x), (0,), (2,)))
    ref[2] = ref[2] * ref[0] * old
    return jax.ref.freeze(ref)


new_ref_p = primitive_named("new_ref", _written, _three)
addupdate_p = primitive_named("addupdate", _written, _three)
freeze_p = primitive_named("freeze", _written, _three)

# JAX cannot take the second derivative; a test takes ours, against the same functions without references.
_PROBE = Probe(_written, shapes=((3,),), dtypes=("float64", "float32"), order=1)


@call_rule(new_ref_p, _PROBE, latex=(r"\operatorname{ref}(<x>)", r"<c>"), stateful=True)
def new_ref_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """r holds x  =>  x_bar = the cotangent of what r holds."""
    ref = new_ref_p.bind(*values, **params)
    tape.contents[id(ref)] = (ref, None if _is_note(ref) else slots[0])
    return [ref], [None]


@call_rule(freeze_p, _PROBE, latex=(r"<x>[\,]", r"<c>"), stateful=True)
def freeze_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = what r holds last  =>  r_bar = y_bar."""
    return [freeze_p.bind(*values, **params)], [_content(tape, values[0])]


@call_rule(get_p, _PROBE, latex=(r"<x>[\,]", r"<c>"), stateful=True)
def get_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = r[i]  =>  r_bar gains y_bar at i."""
    ref, *index = values
    out, content = get_p.bind(*values, **params), _content(tape, ref)
    if content is None or not tape.recording:
        return [out], [None]
    pull_back = functools.partial(_get_pull_back, jax.typeof(ref).inner_aval, params)
    return tape.call(get_p, pull_back, index, [content], [out], [tape.new_slot()])


def _get_pull_back(aval, params, index, cts):
    bar = jax.new_ref(zeros_of(aval))
    addupdate_p.bind(bar, cts[0], *index, **params)
    return [jax.ref.freeze(bar)]


@call_rule(swap_p, _PROBE, latex=(r"<x>[\,], \quad <x>[\,] := <1>", "<c>", r"\overline{<0>[\,]}"), stateful=True)
def swap_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """y = r[i], then r[i] = x  =>  x_bar = r_bar[i] of the later content; then r_bar[i] = y_bar."""
    ref, x, *index = values
    old, before = swap_p.bind(*values, **params), _content(tape, ref)
    if (before is None and slots[1] is None) or _is_note(ref):
        return [old], [None]
    old_slot, after = None if before is None else tape.new_slot(), _new_content(tape, ref)
    pull_back = functools.partial(_swap_pull_back, jax.typeof(ref).inner_aval, jax.typeof(x), params)
    tape.call(swap_p, pull_back, index, [before, slots[1]], [old], [old_slot, after])
    return [old], [old_slot]


def _swap_pull_back(aval, x_aval, params, index, cts):
    old_bar, after_bar = cts
    bar = jax.new_ref(instantiate(after_bar, aval))
    x_bar = swap_p.bind(bar, instantiate(old_bar, x_aval), *index, **params)
    return [jax.ref.freeze(bar), x_bar]


@call_rule(addupdate_p, _PROBE, latex=(r"<0>[\,] \mathrel{+}= <1>", "<c>", r"\overline{<0>[\,]}"), stateful=True)
def addupdate_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
    """r[i] += x  =>  x_bar = r_bar[i]."""
    ref, _, *index = values
    addupdate_p.bind(*values, **params)
    before = _content(tape, ref)
    if (before is not None or slots[1] is not None) and not _is_note(ref):
        pull_back = functools.partial(_addupdate_pull_back, params)
        tape.call(addupdate_p, pull_back, index, [before, slots[1]], [], [_new_content(tape, ref)])
    return [], []


def _addupdate_pull_back(params, index, cts):
    return [cts[0], get_p.bind(jax.new_ref(jnp.asarray(cts[0])), *index, **params)]


def _is_note(ref):
    """Whether the reference was made with kind="no_grad_no_remat": what is written to it is noted, not
    differentiated."""
    return jax.typeof(ref).kind == "no_grad_no_remat"


def _content(tape, ref):
    return tape.contents.get(id(ref), (None, None))[1]


def _new_content(tape, ref):
    if id(ref) not in tape.contents:
        raise ValueError(
            "performing a set/swap operation with a differentiated value on a non-differentiated array reference of "
            f"type {jax.typeof(ref)}: make the reference inside the differentiated function, or write "
            "jax.lax.stop_gradient(value)."
        )
    if not tape.recording:
        raise NotImplementedError(
            "reverse: the forward pass of a custom_vjp writes to a reference that holds what is differentiated "
            f"({place_of_user()}); let it return the value, and write that outside."
        )
    slot = tape.new_slot()
    tape.contents[id(ref)] = (ref, slot)
    return slot


def holds_references(values: list[Any]) -> bool:
    return any(is_reference(jax.typeof(v)) for v in values)


def takes_part(tape: Any, value: Any, written: bool) -> bool:
    """Whether a value is a reference on whose contents a program is run: one that holds what is differentiated, or that
    the program writes to.  Any other the program may read, and a user's backward pass may write to it."""
    if not is_reference(jax.typeof(value)) or _is_note(value):
        return False
    return written or _content(tape, value) is not None


def runs_on_contents(tape: Any, values: Any, written: Any) -> bool:
    """Whether a program is run on the contents of some of its values; see `run_on_contents`."""
    return any(takes_part(tape, v, i in written) for i, v in enumerate(values))


def run_on_contents(tape: Any, values: Any, slots: Any, program: Any, written: Any) -> Any:
    """Runs a program that works on references among the values, and puts what it leaves in them back.

    Args:
      program: `program(values, contents)` returns a flat list of outputs and the new contents.  Contents are those of
        the references written to, and each value that is a reference and takes part is replaced by a Place: see
        `with_references`.
      written: the positions of the references that the program writes to.
    """
    is_ref = [takes_part(tape, v, i in written) for i, v in enumerate(values)]
    refs = {}  # id -> reference, and whether it is written to: two positions may hold one reference
    for i, value in enumerate(values):
        if is_ref[i]:
            _, before = refs.get(id(value), (value, False))
            refs[id(value)] = value, before or i in written
    changing = [key for key, (_, changes) in refs.items() if changes]
    order = [*changing, *[key for key in refs if key not in changing]]
    plain = [i for i, ref in enumerate(is_ref) if not ref]

    def run(*flat):
        contents, rest = flat[: len(order)], iter(flat[len(order) :])
        own = dict(zip(order, contents))
        filled = []
        for value, ref in zip(values, is_ref):
            if not ref:
                filled.append(next(rest))
            else:
                fixed = None if id(value) in changing else own[id(value)]
                filled.append(Place(changing.index(id(value)) if fixed is None else None, fixed))
        outs, changed = program(filled, list(contents[: len(changing)]))
        return [*changed, *outs]

    held = [jax.ref.get(refs[key][0], ...) for key in order]
    held_slots = [_content(tape, refs[key][0]) for key in order]
    outs, out_slots = tape.run(run, [*held, *[values[i] for i in plain]], [*held_slots, *[slots[i] for i in plain]])
    for key, value, slot in zip(changing, outs, out_slots):
        ref = refs[key][0]
        if key in tape.contents:
            tape.contents[key] = ref, slot
        elif slot is not None:
            _new_content(tape, ref)  # refuses
        jax.ref.set(ref, ..., value)
    return outs[len(changing) :], out_slots[len(changing) :]


class Place:
    """Where a program's argument is a reference: to the content of this number, or to a fixed one."""

    number: Any
    fixed: Any

    def __init__(self, number: Any = None, fixed: Any = None) -> None:
        self.number, self.fixed = number, fixed


def with_references(values: Any, contents: Any) -> Any:
    """The values with a reference in each Place, and a function that returns what those to `contents` hold."""
    refs = [jax.new_ref(c) for c in contents]
    fixed: dict = {}  # one reference for all places of one content

    def fill(value):
        if not isinstance(value, Place):
            return value
        if value.number is not None:
            return refs[value.number]
        if id(value.fixed) not in fixed:
            fixed[id(value.fixed)] = jax.new_ref(value.fixed)
        return fixed[id(value.fixed)]

    return [fill(v) for v in values], lambda: [jax.ref.freeze(r) for r in refs]


# --- references that are made empty, in compiled programs alone: the judges of the other rules run outside of them too


def _made_empty(x):
    ref = jax.empty_ref(jax.ShapeDtypeStruct(x.shape, x.dtype))
    ref[...] = lax.sin(x)
    y = ref[...]
    jax.free_ref(ref)
    return y


@late_rules("empty_ref", "free_ref")
def register() -> None:
    empty_ref_p = primitive_named("empty_ref", _made_empty, _three)
    free_ref_p = primitive_named("free_ref", _made_empty, _three)
    probe = Probe(jax.jit(_made_empty), dtypes=("float64", "float32"), order=1)

    @call_rule(empty_ref_p, probe, latex=(r"\operatorname{ref}()", ""), stateful=True)
    def empty_ref_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
        """r holds nothing yet: r_bar is the cotangent of what is written to it."""
        ref = empty_ref_p.bind(*values, **params)
        tape.contents[id(ref)] = (ref, None)
        return [ref], [None]

    @call_rule(free_ref_p, probe, latex=(r"\operatorname{free}(<x>)", ""), stateful=True)
    def free_ref_forward(tape: Any, values: Any, slots: Any, **params: Any) -> Any:
        """r is given up, after its last use  =>  r_bar = 0 before the backward pass comes to that."""
        free_ref_p.bind(*values, **params)
        return [], []
