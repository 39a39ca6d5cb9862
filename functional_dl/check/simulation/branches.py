"""Conditions and selections that are inverted, left out, transposed or moved."""

import itertools
from typing import Any

import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.check.evidence import mask_values
from functional_dl.check.simulation.fault import Fault, filled, where

SPREAD = 0.05  # relative: a factor that varies less is a scale


def changes_of(site: Any, values: Any, dependent: set[int]) -> Any:
    """Other forward equations that a backward pass may have computed: masks inverted, left out, transposed or moved; a
    factor left out."""
    if site.name == "mul" and site.ins[0] != site.ins[1]:
        return [
            (
                "mask_missing" if mask_values(values[j]) else "missing_factor",
                f"operand {j} is left out",
                lambda *v, j=j: [v[1 - j] + jnp.zeros_like(v[j])],
            )
            for j in (0, 1)
            if np.ptp(np.abs(values[j])) > SPREAD * np.max(np.abs(values[j]), initial=0.0)
        ]
    if site.name != "select_n" or not _chooses(site, values, dependent):
        return []
    condition = values[0]
    found = [("wrong_branch", "the condition is inverted", lambda c, *v: site.fun(jnp.logical_not(c), *v))]
    for case, name in ((0, "first"), (1, "second")):
        if site.ins[1 + case] not in dependent:
            continue
        mask = site.ins[0] not in dependent and site.ins[1 + case] in dependent and site.ins[2 - case] not in dependent
        what = "the mask is left out" if mask else f"the condition is left out (the {name} case)"
        found.append(("mask_missing" if mask else "wrong_branch", what, lambda c, *v, case=case: [v[case]]))
    if condition.ndim >= 2 and condition.shape[-1] == condition.shape[-2]:
        transposed = lambda c, *v: site.fun(jnp.swapaxes(c, -1, -2), *v)
        found.append(("wrong_branch", "the condition is transposed", transposed))
    for axis, n in enumerate(condition.shape):
        for step in (1, -1) if n > 2 else ():
            near = np.take(condition, [0 if step > 0 else n - 1], axis)
            kept = np.take(condition, np.arange(n - 1) if step > 0 else np.arange(1, n), axis)
            moved = np.concatenate([near, kept] if step > 0 else [kept, near], axis)
            if not np.array_equal(moved, condition):
                shifted = lambda c, *v, moved=moved: site.fun(jnp.asarray(moved), *v)
                found.append(("wrong_branch", f"the condition is moved by {step:+d} along axis {axis}", shifted))
    return found


def _chooses(site, values, dependent) -> bool:
    """Whether a select_n is one between two cases that somebody may have got wrong: a condition that is the same
    everywhere, whatever the inputs, is a safeguard of a library's."""
    condition = values[0]
    if condition.dtype != bool or len(values) != 3:
        return False
    return site.ins[0] in dependent or bool(0 < np.count_nonzero(condition) < condition.size)


def branches(n: Any, site: Any, values: Any, dependent: set[int]) -> Any:
    """Masks: inverted, or left out.  A condition that does not depend on the inputs is a mask of the data's."""
    found = []

    def add(message, push, cause="wrong_branch"):
        found.append(
            Fault(
                n,
                cause,
                f"{message} in {where(n, site)}.",
                push,
                "equation's mask" if cause == "mask_missing" else "equation's case",
            )
        )

    if site.name == "select_n" and _chooses(site, values, dependent):
        add("The condition is inverted", lambda v, d: site.fun(jnp.logical_not(v[0]), *filled(v, d)[1:]))
        given = site.ins[0] not in dependent
        for case, name in ((1, "first"), (2, "second")):
            if site.ins[case] not in dependent:
                continue  # a constant: to let it pass is to lose the path, which is tried by itself
            mask = given and site.ins[case] in dependent and site.ins[3 - case] not in dependent
            what = "The mask is not applied to the cotangent" if mask else (
                f"The condition is left out, the {name} case always passes")  # fmt: skip
            passed = lambda v, d, case=case: [filled(v, d)[case]]
            add(what, passed, "mask_missing" if mask else "wrong_branch")
    if site.name in ("max", "min") and len(values) == 2:
        sign = 1 if site.name == "max" else -1

        def winner(v, d, flip):
            a, b = filled(v, d)
            first = (sign * v[0] > sign * v[1]) != flip
            return [jnp.where(first, a + jnp.zeros_like(b), b + jnp.zeros_like(a))]

        add("The wrong operand passes", lambda v, d: winner(v, d, True))
        add("Both operands pass", lambda v, d: [sum(filled(v, d))])
    if site.name in ("reduce_max", "reduce_min"):
        found += _selections(n, site, values)
    if site.name in ("reduce_window_max", "reduce_window_min"):
        found += _windows(n, site, values)
    if site.name == "clamp":
        add("The bounds are left out", lambda v, d: [filled(v, d)[1]])
    if site.name == "abs" and not np.iscomplexobj(values[0]):
        add("The sign is left out", lambda v, d: [filled(v, d)[0]])
    return found


def _selections(n, site, values):
    """A maximum over axes whose cotangent goes to other entries than the largest."""
    shape = np.shape(values[0])
    # which entry each output comes from, told by the axes along which the output does not change with them
    out = np.asarray(site.fun(jnp.asarray(np.arange(values[0].size).reshape(shape), values[0].dtype))[0])
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
    return [Fault(n, "wrong_branch", f"In {where(n, site)} {what}.", push, "equation's case") for what, push in found]


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


def _windows(n, site, values):
    """A maximum over windows whose cotangent goes to other entries than the largest."""
    window = site.params or {}
    if "window_dimensions" not in window:
        return []
    options = {
        "window_strides": window["window_strides"], "padding": window["padding"],
        "base_dilation": window["base_dilation"], "window_dilation": window["window_dilation"],
    }  # fmt: skip

    def total(v, d):
        dot = filled(v, d)[0]
        zero = np.zeros((), dot.dtype)
        return lax.reduce_window(dot, zero, lax.add, window["window_dimensions"], **options)

    count = float(np.prod(window["window_dimensions"]))
    found = [
        ("every entry of a window gets the cotangent, not the selected one", lambda v, d: [total(v, d)]),
        ("every entry of a window gets an equal part, not the selected one the whole",
         lambda v, d: [total(v, d) / count]),
    ]  # fmt: skip
    return [Fault(n, "wrong_branch", f"In {where(n, site)} {what}.", push, "equation's case") for what, push in found]
