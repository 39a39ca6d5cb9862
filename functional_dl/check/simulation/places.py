"""Cotangents that reach other places than they should: not summed, written over each other, shifted, transposed."""

from typing import Any

import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.simulation.fault import Fault, filled, push_forward, where

MOVING = {"pad", "slice", "dynamic_slice", "concatenate", "gather", "conv_general_dilated", "cumsum", "step", "rev",
          "reduce_window_sum", "dynamic_update_slice", "roll", "split"}  # fmt: skip
REPEATING = {"gather", "broadcast_in_dim", "dynamic_slice"}


def reductions(n: Any, site: Any, values: Any) -> Any:
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
                out = site.fun(*filled(v, d))[0]
                return [out * jnp.asarray(mask, out.dtype)]

            found.append(Fault(n, "missing_reduction", message, push, "equation's reduction"))
    return found


def overwrites(n: Any, site: Any, values: Any) -> Any:
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
            out = site.fun(*[filled(v, d)[0], *v[1:]])[0]
            return [out * jnp.asarray(shaped, out.dtype)]

        found.append(
            Fault(n, "overwrite", message, push, "equation's gather" if site.name == "gather" else "equation's overlap")
        )
    return found


def blocks(n: Any, site: Any, values: Any) -> Any:
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
                    found.append(Fault(n, "overwrite", message, push, "equation's block"))
    return found


def shifts(n: Any, site: Any, values: Any) -> Any:
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
                dots[0] = jnp.roll(filled(v, d)[0], step, axis)
                return push_forward(site.fun, v, dots)[1]

            found.append(Fault(n, "shifted", message, push, "equation's shift"))
    return found


def axes(n: Any, site: Any, values: Any) -> Any:
    """Axes confused: a reshape where a transpose should be, a transform along another axis, a sum that runs the same
    way forward and backward."""
    if site.name not in ("transpose", "fft", "cumsum", "dot_general") or not equations.is_floating(values[0]):
        return []
    shape = np.shape(values[0])
    if site.name == "dot_general":
        out = np.shape(site.fun(*values)[0])
        if len(out) < 2 or out[-1] != out[-2]:
            return []
        message = f"In the cotangents of the operands of {where(n, site)} that of its result is transposed."
        turned = lambda v, d: [jnp.swapaxes(push_forward(site.fun, v, d)[1][0], -1, -2)]
        return [Fault(n, "not_transposed", message, turned, "equation transposed, perhaps", ("turned",))]
    if site.name == "transpose":
        out = np.shape(site.fun(*values)[0])
        message = f"In the cotangent of {where(n, site)} a reshape stands where a transpose should."
        reread = lambda v, d: [jnp.reshape(filled(v, d)[0], out)]
        return [Fault(n, "transpose", message, reread, "equation's transpose", ("reread",))]
    own = (site.params or {}).get("axis", len(shape) - 1)
    found = []
    if site.name == "cumsum":
        message = f"The cotangent of {where(n, site)} is summed in the direction of the sum, not against it."
        same_way = lambda v, d: [jnp.flip(site.fun(jnp.flip(filled(v, d)[0], own))[0], own)]
        grounds = {"not_transposed": "equation's transpose", "wrong_point": "looks alike"}
        found += [Fault(n, cause, message, same_way, ground, (cause, "same way")) for cause, ground in grounds.items()]
    if site.name == "fft" and np.iscomplexobj(values[0]) and np.shape(site.fun(*values)[0]) == shape:
        count = float(
            np.prod([shape[axis] for axis in range(len(shape) - len(site.params["fft_lengths"]), len(shape))])
        )
        for size in (1.0, count, 1 / count):
            other = lambda v, d, size=size: [size * jnp.conj(site.fun(jnp.conj(filled(v, d)[0]))[0])]
            message = f"In the cotangent of {where(n, site)} the transform of the other direction stands."
            found.append(Fault(n, "missing_conjugate", message, other, "equation's conjugate", ("direction", size)))
    for axis in range(len(shape)):
        if axis == own or shape[axis] != shape[own]:
            continue

        def along(v, d, axis=axis):
            swapped = jnp.swapaxes(filled(v, d)[0], axis, own)
            return [jnp.swapaxes(site.fun(swapped)[0], axis, own)]

        message = f"The cotangent of {where(n, site)} runs along axis {axis} in place of {own}."
        found.append(Fault(n, "transpose", message, along, "equation's axis", ("along", axis)))
    return found
