"""The ways in which one equation's derivative can be wrong: the catalogue that simulation.py tries.

A Fault replaces the linear map dy/dx of an equation y = p(x) by another; a change replaces the equation itself, in a
backward pass that computes fun anew.
"""

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations

NEARBY = 6  # other values of the same shape that a derivative may have been given by mistake
LINEAR = {
    "add", "add_any", "sub", "neg", "reshape", "transpose", "broadcast_in_dim", "reduce_sum", "convert_element_type",
    "slice", "pad", "concatenate", "gather", "select_n", "copy", "copy_p", "real", "imag", "rev", "squeeze", "cumsum",
    "conj",
    "step", "stack", "dynamic_slice", "split", "stop_gradient", "optimization_barrier", "reduce_precision", "sort",
}  # fmt: skip
MOVING = {"pad", "slice", "dynamic_slice", "concatenate", "gather", "conv_general_dilated", "cumsum", "step", "rev",
          "reduce_window_sum", "dynamic_update_slice", "roll", "split"}  # fmt: skip
# the derivative as a function of the output, where it is one: it is easily given the input
FROM_OUTPUT = {
    "tanh": lambda y: 1 - y * y,
    "logistic": lambda y: y * (1 - y),
    "exp": lambda y: y,
    "expm1": lambda y: 1 + y,
    "sqrt": lambda y: 0.5 / y,
    "rsqrt": lambda y: -0.5 * y**3,
    "cbrt": lambda y: 1 / (3 * y * y),
    "tan": lambda y: 1 + y * y,
}
REPEATING = {"gather", "broadcast_in_dim", "dynamic_slice"}


@dataclass(frozen=True)
class Fault:
    """A way for one equation's derivative to be wrong.

    Fields:
      site: position of the equation.
      cause, message: what it is.
      push: push(values, tangents) -> tangents of the outputs under the fault, linear in tangents.
      weight: how much it explains if it fits.
      kind: what the same fault in other equations of a loop shares; None where they are not looked at together.
    """

    site: int
    cause: str
    message: str
    push: Callable
    weight: float
    kind: Any = None


def push_forward(fun, values, dots):
    """Outputs and their tangents; tangents are None for values that are not floating."""
    places = [j for j, v in enumerate(dots) if v is not None]

    def of(*active):
        full = list(values)
        for j, x in zip(places, active):
            full[j] = x
        return fun(*full)

    return jax.jvp(of, tuple(values[j] for j in places), tuple(dots[j] for j in places))


def changes_of(site, values):
    """Other forward equations that a backward pass may have computed: masks inverted, left out, turned or moved."""
    if site.name != "select_n" or values[0].dtype != bool or len(values) != 3:
        return []
    condition = values[0]
    found = [
        ("wrong_branch", "the condition is inverted", lambda c, *v: site.fun(jnp.logical_not(c), *v)),
        ("wrong_branch", "the condition is left out (the first case)", lambda c, *v: [v[0]]),
        ("wrong_branch", "the condition is left out (the second case)", lambda c, *v: [v[1]]),
    ]
    if condition.ndim >= 2 and condition.shape[-1] == condition.shape[-2]:
        turned = lambda c, *v: site.fun(jnp.swapaxes(c, -1, -2), *v)
        found.append(("wrong_branch", "the condition is transposed", turned))
    for axis, n in enumerate(condition.shape):
        for step in (1, -1) if n > 2 else ():
            near = np.take(condition, [0 if step > 0 else n - 1], axis)
            kept = np.take(condition, np.arange(n - 1) if step > 0 else np.arange(1, n), axis)
            moved = np.concatenate([near, kept] if step > 0 else [kept, near], axis)
            if not np.array_equal(moved, condition):
                shifted = lambda c, *v, moved=moved: site.fun(jnp.asarray(moved), *v)
                found.append(("wrong_branch", f"the condition is moved by {step:+d} along axis {axis}", shifted))
    return found


def faults_of(program: equations.Listing, values: dict, dependent: set[int]) -> list[Fault]:
    """The faults that the equations may have which depend on the inputs."""
    found = []
    for n, site in enumerate(program.sites):
        operands = [values[i] for i in site.ins]
        if not dependent.intersection(site.ins) or not any(equations.is_floating(v) for v in operands):
            continue
        found += _branches(n, site, operands)
        found += _reductions(n, site, operands)
        found += _overwrites(n, site, operands)
        found += _shifts(n, site, operands)
        found += _axes(n, site, operands)
        found += _blocks(n, site, operands)
        found += _solves(n, site, operands, program, values)
        if site.name not in LINEAR:
            found += _points(n, site, program, values)
    return found


def where(n, site) -> str:
    """An equation's name, number and line, the last if it stands in a file."""
    path, _, line = site.source.rpartition(":")
    return f"{site.name} (equation {n}{f', {Path(path).name}:{line}' if Path(path).is_file() else ''})"


def _points(n, site, program, values):
    """The derivative of a nonlinear equation evaluated at another value of the same shape."""
    found = []
    made = {name: m for m, s in enumerate(program.sites) for name in s.outs}
    for j, name in enumerate(site.ins):
        x = values[name]
        if not equations.is_floating(x) or (site.name in ("integer_pow",) and x.ndim == 0):
            continue
        others = [
            (abs(made.get(other, -1) - n), other, v)
            for other, v in values.items()
            if other != name and hasattr(v, "shape") and v.shape == x.shape and v.dtype == x.dtype and v.size
        ]
        others = [o for o in others if o[1] in made or o[1] in program.inputs]
        others = [o for o in sorted(others, key=lambda o: o[0]) if not np.array_equal(o[2], x)][:NEARBY]
        labels = [
            (
                "wrong_point",
                0.95,
                v,
                f"the result of {where(made[o], program.sites[made[o]])}" if o in made else "an argument",
                ("point", j, made[o] - n if o in made else -1 - o),
            )
            for _, o, v in others
        ]
        if np.iscomplexobj(x):
            labels.append(("missing_conjugate", 0.96, np.conj(x), "its conjugate", ("point", j, "conjugate")))
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            labels.append(("transpose", 0.96, np.swapaxes(x, -1, -2), "its transpose", ("point", j, "transpose")))
        for cause, weight, z, what, kind in labels:

            def push(operands, dots, j=j, z=z):
                moved = list(operands)
                moved[j] = jnp.asarray(z)
                return push_forward(site.fun, moved, dots)[1]

            message = f"The derivative of {where(n, site)} is evaluated at {what} in place of its operand {j}."
            found.append(Fault(n, cause, message, push, weight, kind))
            if cause == "transpose":  # a saved value that lacks its transpose is a wrong value too
                found.append(Fault(n, "wrong_point", message, push, 0.6))
            if site.name in FROM_OUTPUT and cause == "wrong_point":
                found.append(Fault(n, cause, *_from_output(n, site, z, what), weight, ("output", *kind)))
        if site.name in FROM_OUTPUT:
            found.append(Fault(n, "wrong_point", *_from_output(n, site, x, "its input"), 0.955, ("output", j)))
            found += _of_another(n, site)
    return found


def _of_another(n, site):
    """A formula of the output that belongs to another function."""
    found = []
    for other in ("tanh", "logistic", "exp"):
        if other != site.name:
            slope = FROM_OUTPUT[other]
            push = lambda v, d, slope=slope: [slope(site.fun(*v)[0]) * d[0]]
            message = f"The derivative of {where(n, site)} is that of {other}, as a formula of the output."
            found.append(Fault(n, "wrong_point", message, push, 0.95, ("another", other)))
    return found


def _from_output(n, site, z, what):
    slope = FROM_OUTPUT[site.name]

    def push(values, dots):
        return [slope(jnp.asarray(z)) * dots[0]]

    return f"The derivative of {where(n, site)}, a formula of its output, is given {what}.", push


def _solves(n, site, values, program, known):
    """A y = b.  dy = A^-1 (db - dA y): solved with A in place of its transpose on the way back, or with another y."""
    if site.name != "custom_linear_solve" or len(site.outs) != 1:
        return []
    consts = sum(site.params["const_lengths"])

    def right_side(v, d, y):
        """db - dA y"""
        d = _filled(v, d)
        return d[consts] - equations.moved_product(site.params, v[:consts], d[:consts], [y])[0]

    def solve(v, right):
        return site.fun(*v[:consts], right)[0]

    def turned(v, d):
        right = right_side(v, d, site.fun(*v)[0])
        return [jax.linear_transpose(lambda r: solve(v, r), right)(right)[0]]

    message = f"The adjoint system of {where(n, site)} is solved with the matrix in place of its transpose"
    found = [
        Fault(n, "transpose", f"{message}.", turned, 0.955),
        Fault(n, "wrong_point", f"{message}.", turned, 0.94),
    ]
    for j, z in [(j, known[site.ins[j]]) for j in range(consts, len(site.ins))]:
        push = lambda v, d, z=z: [solve(v, right_side(v, d, jnp.asarray(z)))]
        message = f"In the derivative of {where(n, site)} its operand {j} stands for the solution."
        found.append(Fault(n, "wrong_point", message, push, 0.95))
    return found


def _branches(n, site, values):
    """Masks: inverted, or left out."""
    found = []

    def add(message, push):
        found.append(Fault(n, "wrong_branch", f"{message} in {where(n, site)}.", push, 0.955))

    if site.name == "select_n" and values[0].dtype == bool and len(values) == 3:
        add("The condition is inverted", lambda v, d: site.fun(jnp.logical_not(v[0]), *_filled(v, d)[1:]))
        add("The condition is left out, the first case always passes", lambda v, d: [_filled(v, d)[1]])
        add("The condition is left out, the second case always passes", lambda v, d: [_filled(v, d)[2]])
    if site.name in ("max", "min") and len(values) == 2:
        sign = 1 if site.name == "max" else -1

        def winner(v, d, flip):
            a, b = _filled(v, d)
            first = (sign * v[0] > sign * v[1]) != flip
            return [jnp.where(first, a + jnp.zeros_like(b), b + jnp.zeros_like(a))]

        add("The wrong operand passes", lambda v, d: winner(v, d, True))
        add("Both operands pass", lambda v, d: [sum(_filled(v, d))])
    if site.name in ("reduce_max", "reduce_min"):
        found += _selections(n, site, values)
    if site.name == "clamp":
        add("The bounds are left out", lambda v, d: [_filled(v, d)[1]])
    if site.name == "abs" and not np.iscomplexobj(values[0]):
        add("The sign is left out", lambda v, d: [_filled(v, d)[0]])
    return found


def _selections(n, site, values):
    """A maximum over axes whose cotangent goes to other entries than the largest."""
    shape = np.shape(values[0])
    # which entry each output comes from, told by the axes along which the output does not change with them
    out = np.asarray(site.fun(jnp.arange(values[0].size, dtype=jnp.float64).reshape(shape))[0])
    axes = _reduced(shape, out, site)
    if axes is None:
        return []
    x = values[0]
    others = (jnp.argmin if site.name == "reduce_max" else jnp.argmax) if len(axes) == 1 else None
    found = [
        ("every entry gets the cotangent, not the selected one", lambda v, d: [jnp.sum(d[0], axes)]),
        ("every entry gets an equal part, not the selected one the whole", lambda v, d: [jnp.mean(d[0], axes)]),
    ]
    if others is not None:
        axis = axes[0]
        place = jnp.expand_dims(others(jnp.asarray(x), axis), axis)
        found.append(("the entry at the other end is selected",
                      lambda v, d: [jnp.take_along_axis(d[0], place, axis).squeeze(axis)]))  # fmt: skip
        found.append(("the first entry is taken", lambda v, d: [jnp.take(d[0], 0, axis)]))
    return [Fault(n, "wrong_branch", f"In {where(n, site)} {what}.", push, 0.955) for what, push in found]


def _reduced(shape, out, site):
    """The axes that a maximum or minimum of arange(size) was taken over."""
    ends = np.arange(int(np.prod(shape))).reshape(shape)
    reduce = np.max if site.name == "reduce_max" else np.min
    for count in range(1, len(shape) + 1):
        for axes in itertools.combinations(range(len(shape)), count):
            left = reduce(ends, axis=axes)
            if left.shape == out.shape and np.array_equal(left, out):
                return axes
    return None


def _filled(values, dots):
    """Tangents with zeros where there are none."""
    return [jnp.zeros_like(x) if d is None else d for x, d in zip(values, dots)]


def _reductions(n, site, values):
    if site.name != "broadcast_in_dim":
        return []
    found = []
    shape = np.shape(site.fun(*values)[0])
    source = np.arange(values[0].size).reshape(np.shape(values[0]))
    used = np.asarray(site.fun(jnp.asarray(source), *values[1:])[0])
    for axis, length in enumerate(shape):
        if length < 2 or not np.all(used == np.take(used, [0], axis)):
            continue
        for what, weights in (
            ("only the first index counts", np.eye(length)[0]),
            ("only the last index counts", np.eye(length)[-1]),
            ("the mean is taken", np.full(length, 1 / length)),
        ):
            mask = weights.reshape([-1 if a == axis else 1 for a in range(len(shape))])
            message = f"The cotangent of {where(n, site)} is not summed over the repeated axis {axis}: {what}."

            def push(v, d, mask=mask):
                out = site.fun(*_filled(v, d))[0]
                return [out * jnp.asarray(mask, out.dtype)]

            found.append(Fault(n, "missing_reduction", message, push, 0.96))
    return found


def _overwrites(n, site, values):
    if site.name not in REPEATING or not equations.is_floating(values[0]) or not values[0].size:
        return []
    source = jnp.arange(1, values[0].size + 1, dtype=values[0].dtype).reshape(np.shape(values[0]))
    used = np.rint(np.real(np.asarray(site.fun(source, *values[1:])[0]))).astype(int).reshape(-1)
    found = []
    for what, order in (("last", slice(None, None, -1)), ("first", slice(None))):
        _, kept = np.unique(used[order], return_index=True)
        mask = np.zeros(used.size)
        mask[order][kept] = 1.0
        if mask.all() or np.all(used == used[0]):
            continue
        shaped = mask.reshape(np.shape(site.fun(*values)[0]))
        message = f"In {where(n, site)} only the {what} use of an element that is used more than once counts."

        def push(v, d, shaped=shaped):
            out = site.fun(*[_filled(v, d)[0], *v[1:]])[0]
            return [out * jnp.asarray(shaped, out.dtype)]

        found.append(Fault(n, "overwrite", message, push, 0.95 if site.name == "gather" else 0.7))
    return found


def _blocks(n, site, values):
    """Of a product, the cotangent of one operand summed over a block of the other's rows alone."""
    if site.name != "dot_general" or not site.params:
        return []
    (contracted, batch) = site.params["dimension_numbers"]
    free = [np.ndim(v) - len(c) - len(b) for v, c, b in zip(values, contracted, batch)]
    shape = np.shape(site.fun(*values)[0])
    first = len(batch[0])
    own = {0: range(first + free[0], len(shape)), 1: range(first, first + free[0])}
    found = []
    for j, axes in own.items():
        for axis in axes:
            length = shape[axis]
            for size in sorted({1, length // 4, length // 2} - {0, length}):
                for what, part in (("first", slice(0, size)), ("last", slice(length - size, None))):
                    mask = np.zeros(length)
                    mask[part] = 1.0
                    mask = mask.reshape([-1 if a == axis else 1 for a in range(len(shape))])

                    def push(v, d, j=j, mask=mask):
                        alone = [x if i == j else None for i, x in enumerate(d)]
                        lost = push_forward(site.fun, v, alone)[1][0] if d[j] is not None else 0.0
                        return [push_forward(site.fun, v, d)[1][0] + (mask - 1) * lost]

                    message = (
                        f"In the cotangent of operand {j} of {where(n, site)} the {what} {size} of {length} along axis "
                        f"{axis} count alone: blocks must be added, not written over each other."
                    )
                    found.append(Fault(n, "overwrite", message, push, 0.94))
    return found


def _shifts(n, site, values):
    if site.name not in MOVING or not equations.is_floating(values[0]):
        return []
    found = []
    for axis, length in enumerate(np.shape(values[0])):
        if length < 3:
            continue
        for step in (1, -1):
            message = f"The cotangent of {where(n, site)} is shifted by {step:+d} along axis {axis}."

            def push(v, d, step=step, axis=axis):
                dots = list(d)
                dots[0] = jnp.roll(_filled(v, d)[0], step, axis)
                return push_forward(site.fun, v, dots)[1]

            found.append(Fault(n, "shifted", message, push, 0.9))
    return found


def _axes(n, site, values):
    """Axes confused: a reshape where a transpose should be, or a transform along another axis."""
    if site.name not in ("transpose", "fft", "cumsum") or not equations.is_floating(values[0]):
        return []
    shape = np.shape(values[0])
    if site.name == "transpose":
        out = np.shape(site.fun(*values)[0])
        message = f"In the cotangent of {where(n, site)} a reshape stands where a transpose should."
        reread = lambda v, d: [jnp.reshape(_filled(v, d)[0], out)]
        return [Fault(n, "transpose", message, reread, 0.96, ("reread",))]
    own = (site.params or {}).get("axis", len(shape) - 1)
    found = []
    for axis in range(len(shape)):
        if axis == own or shape[axis] != shape[own]:
            continue

        def along(v, d, axis=axis):
            turned = jnp.swapaxes(_filled(v, d)[0], axis, own)
            return [jnp.swapaxes(site.fun(turned)[0], axis, own)]

        message = f"The cotangent of {where(n, site)} runs along axis {axis} in place of {own}."
        found.append(Fault(n, "transpose", message, along, 0.955, ("along", axis)))
    return found
