"""Derivatives evaluated at another value, or by another function's formula."""

from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from functional_dl.check import equations
from functional_dl.check.evidence import mask_values
from functional_dl.check.simulation.fault import Fault, filled, push_forward, where

NEARBY = 6  # other values of the same shape that a derivative may have been given by mistake
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
# slips of the pen in those formulas
SLIPS = {
    "tanh": [("1 - y (the square is missing)", lambda y: 1 - y)],
    "logistic": [("1 - y", lambda y: 1 - y), ("y (1 - y^2)", lambda y: y * (1 - y * y)), ("y", lambda y: y)],
    "sqrt": [("1 / y (the half is missing)", lambda y: 1 / y), ("y / 2", lambda y: 0.5 * y)],
}  # fmt: skip


def points(n: Any, site: Any, program: Any, values: Any) -> Any:
    """The derivative of a nonlinear equation evaluated at another value of the same shape."""
    found = []
    made = {name: m for m, s in enumerate(program.steps) for name in s.outs}
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
                "equation at another value",
                v,
                f"the result of {where(made[o], program.steps[made[o]])}" if o in made else "an argument",
                ("point", j, made[o] - n if o in made else -1 - o),
            )
            for _, o, v in others
        ]
        if np.iscomplexobj(x):
            labels.append(
                ("missing_conjugate", "equation's conjugate", np.conj(x), "its conjugate", ("point", j, "conjugate"))
            )
        if x.ndim >= 2 and x.shape[-1] == x.shape[-2]:
            cause = "not_transposed" if site.name == "dot_general" else "transpose"
            labels.append(
                (cause, "equation's transpose", np.swapaxes(x, -1, -2), "its transpose", ("point", j, "transpose"))
            )
        for cause, ground, z, what, kind in labels:

            def push(operands, dots, j=j, z=z):
                moved = list(operands)
                moved[j] = jnp.asarray(z)
                return push_forward(site.fun, moved, dots)[1]

            message = f"The derivative of {where(n, site)} is evaluated at {what} in place of its operand {j}."
            found.append(Fault(n, cause, message, push, ground, kind))
            if cause in ("transpose", "not_transposed"):  # a saved value that lacks its transpose is a wrong value too
                found.append(Fault(n, "wrong_point", message, push, "looks alike"))
            if site.name in FROM_OUTPUT and cause == "wrong_point":
                found.append(Fault(n, cause, *_from_output(n, site, z, what), ground, ("output", *kind)))
        if site.name == "conv_general_dilated" and j == 1:
            found.append(_unflipped(n, site, x))
        if site.name in FROM_OUTPUT:
            found.append(
                Fault(
                    n,
                    "wrong_point",
                    *_from_output(n, site, x, "its input"),
                    "equation's formula given its input",
                    ("output", j),
                )
            )
            found += _of_another(n, site)
    return found


def _of_another(n, site):
    """A formula of the output that belongs to another function."""
    found = []
    others = [(f"that of {name}", FROM_OUTPUT[name]) for name in ("tanh", "logistic", "exp") if name != site.name]
    for what, slope in [*others, *SLIPS.get(site.name, ())]:
        push = lambda v, d, slope=slope: [slope(site.fun(*v)[0]) * d[0]]
        message = f"The derivative of {where(n, site)} is {what}, as a formula of the output."
        found.append(Fault(n, "wrong_point", message, push, "equation at another value", ("another", what)))
    return found


def left_out(n: Any, site: Any, values: Any, dependent: set[int]) -> Any:
    """The chain rule's factor of an elementwise equation left out: its input gets the output's cotangent."""
    if site.name in ("mul", "div") and len(values) == 2:
        return _of_two(n, site, values, dependent)
    if len(values) != 1 or len(site.outs) != 1 or (site.params is None and site.name not in FROM_OUTPUT):
        return []
    x = values[0]
    out = jax.eval_shape(site.fun, x)[0]
    if not equations.is_floating(x) or out.shape != x.shape or out.dtype != x.dtype or not _is_elementwise(site, x):
        return []
    message = f"The derivative of {where(n, site)} is left out: its input gets the cotangent of its output."
    found = [Fault(n, "missing_factor", message, lambda v, d: [d[0]], "equation's factor", ("left out",))]
    if site.name == "sqrt":  # of a norm x / |x|, say
        message = f"The derivative 1 / (2 y) of {where(n, site)} lacks the division by y."
        found.append(
            Fault(n, "missing_factor", message, lambda v, d: [0.5 * d[0]], "equation's factor", ("undivided",))
        )
    return found


def _of_two(n, site, values, dependent):
    """Of y = a b or y = a / b: one operand's cotangent without the other as its factor (a mask, if it is one)."""
    found = []
    if site.name == "mul" and site.ins[0] == site.ins[1]:
        message = f"The derivative 2 x of the square {where(n, site)} is left out."
        return [Fault(n, "missing_factor", message, lambda v, d: [d[0]], "equation's factor", ("left out",))]
    for j in (0, 1):
        other = values[1 - j]
        if not equations.is_floating(values[j]) or site.ins[j] not in dependent or not np.size(other):
            continue
        mask = site.name == "mul" and mask_values(other) and (site.ins[1 - j] not in dependent or np.size(other) > 1)
        cause = "mask_missing" if mask else "missing_factor"
        same = np.ptp(np.abs(other)) <= 1e-6 * np.max(np.abs(other))
        if not mask and same and site.ins[1 - j] not in dependent:
            continue  # one number for all, whatever the data: a scale
        kinds = [("is not multiplied by", lambda v, d: _unweighted(site.name, v, d))]
        if site.name == "div":
            kinds = [("is not divided by", kinds[0][1])]
            if j == 1:
                kinds = [("-a / b^2 lacks one division by", lambda v, d: [-d[1] * v[0] / v[1]]),
                         ("-a / b^2 lacks the factor a: it", lambda v, d: [-d[1] / v[1] ** 2 + 0 * v[0]])]  # fmt: skip
        for what, own in kinds:

            def push(v, d, j=j, own=own):
                alone = [x if i == j else None for i, x in enumerate(d)]
                rest = [x if i != j else None for i, x in enumerate(d)]
                total = own(v, alone)
                if rest[1 - j] is None:
                    return total
                return [total[0] + push_forward(site.fun, v, rest)[1][0]]

            message = f"The cotangent of operand {j} of {where(n, site)} {what} the other operand."
            if mask:
                message = f"The mask of {where(n, site)} is not applied to the cotangent of its operand {j}."
            found.append(
                Fault(n, cause, message, push, "equation's mask" if mask else "equation's factor", ("factor", j, what))
            )
    return found


def _unweighted(name, v, d):
    given = d[0] if d[0] is not None else d[1]
    other = v[1] if d[0] is not None else v[0]
    return [given + jnp.zeros_like(other) if name == "mul" else given + 0 * other]


def _is_elementwise(site, x) -> bool:
    """Whether a tangent of one entry alone moves that entry alone."""
    if x.size < 2:
        return True
    one = np.zeros(x.shape, x.dtype)
    one.reshape(-1)[0] = 1
    moved = np.asarray(push_forward(site.fun, [jnp.asarray(x)], [jnp.asarray(one)])[1][0]).reshape(-1)
    return not np.any(moved[1:])


def _unflipped(n, site, kernel):
    """The cotangent of a convolution's input convolved with the kernel as it stands, not flipped."""
    spatial = site.params["dimension_numbers"].rhs_spec[2:]
    flipped = np.flip(kernel, spatial)

    def push(v, d):
        by_input = push_forward(site.fun, [v[0], jnp.asarray(flipped)], [d[0], None])[1] if d[0] is not None else None
        by_kernel = push_forward(site.fun, v, [None, d[1]])[1] if d[1] is not None else None
        return [sum(part[0] for part in (by_input, by_kernel) if part is not None)]

    message = f"In the cotangent of the input of {where(n, site)} the kernel is not flipped along its spatial axes."
    return Fault(n, "wrong_point", message, push, "equation at another value", ("unflipped",))


def _from_output(n, site, z, what):
    slope = FROM_OUTPUT[site.name]

    def push(values, dots):
        return [slope(jnp.asarray(z)) * dots[0]]

    return f"The derivative of {where(n, site)}, a formula of its output, is given {what}.", push


def solves(n: Any, site: Any, values: Any, program: Any, known: Any) -> Any:
    """A y = b.  dy = A^-1 (db - dA y): solved backward with A in place of its transpose, or with another y."""
    if site.name != "custom_linear_solve" or len(site.outs) != 1:
        return []
    consts = sum(site.params["const_lengths"])

    def right_side(v, d, y):
        """db - dA y"""
        d = filled(v, d)
        return d[consts] - equations.moved_product(site.params, v[:consts], d[:consts], [y])[0]

    def solve(v, right):
        return site.fun(*v[:consts], right)[0]

    def transposed(v, d):
        right = right_side(v, d, site.fun(*v)[0])
        return [jax.linear_transpose(lambda r: solve(v, r), right)(right)[0]]

    message = f"The adjoint system of {where(n, site)} is solved with the matrix in place of its transpose"
    found = [
        Fault(n, "transpose", f"{message}.", transposed, "equation's transpose"),
        Fault(n, "wrong_point", f"{message}.", transposed, "equation transposed, perhaps"),
    ]
    for j, z in [(j, known[site.ins[j]]) for j in range(consts, len(site.ins))]:
        push = lambda v, d, z=z: [solve(v, right_side(v, d, jnp.asarray(z)))]
        message = f"In the derivative of {where(n, site)} its operand {j} stands for the solution."
        found.append(Fault(n, "wrong_point", message, push, "equation at another value"))
    return found
