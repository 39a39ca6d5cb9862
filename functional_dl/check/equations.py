"""A function as a flat list of equations, and what its readers (here and in walk.py) know of jaxprs.

Calls (jit, checkpoint, custom rules) are replaced by what they call, and short scans by their steps, so that every use
of every value is an equation's operand.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend import source_info_util
from jax.extend.core import Literal, jaxpr_as_fun

LONGEST = 600  # equations; a longer program is not taken apart
_LIBRARY = "/".join(jax.__file__.replace("\\", "/").split("/")[:-1]) + "/"
# calls -> the parameter that holds what they call
CALLS = {
    "jit": "jaxpr", "pjit": "jaxpr", "closed_call": "call_jaxpr", "core_call": "call_jaxpr", "remat": "jaxpr",
    "remat2": "jaxpr", "checkpoint": "jaxpr", "custom_vmap_call": "call",
}  # fmt: skip
CUSTOM = {"custom_jvp_call": "call_jaxpr", "custom_vjp_call": "call_jaxpr", "custom_vjp_call_jaxpr": "fun_jaxpr"}
INLINED = CALLS | CUSTOM


@dataclass(frozen=True)
class Site:
    """One equation: values of `outs` = fun(*values of `ins`); names are numbers.  `source` is the user's line, `params`
    the primitive's own."""

    name: str
    fun: Callable
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    source: str = ""
    params: dict | None = None


@dataclass(frozen=True)
class Listing:
    """A program: `inputs` and `outputs` are names; `constants` maps names to fixed values."""

    sites: tuple[Site, ...]
    inputs: tuple[int, ...]
    outputs: tuple[int, ...]
    constants: dict


class _TooLong(Exception):
    pass


def listing(fun: Callable, args: Sequence) -> Listing | None:
    """The equations of fun at arguments of the given types; None where there are too many."""
    closed = jax.make_jaxpr(fun)(*args)
    builder = _Builder()
    inputs = [builder.new() for _ in args]
    try:
        outputs = builder.inline(closed, inputs)
    except _TooLong:
        return None
    return Listing(tuple(builder.sites), tuple(inputs), tuple(outputs), builder.constants)


class _Builder:
    def __init__(self):
        self.sites: list[Site] = []
        self.constants: dict[int, Any] = {}
        self.count = 0

    def new(self) -> int:
        self.count += 1
        return self.count - 1

    def constant(self, value) -> int:
        name = self.new()
        self.constants[name] = value
        return name

    def add(self, name, fun, ins, outs, source="", params=None) -> None:
        if len(self.sites) >= LONGEST:
            raise _TooLong
        self.sites.append(Site(name, fun, tuple(ins), tuple(outs), source, params))

    def inline(self, closed, inputs, outer: str = "") -> list[int]:
        """Adds a jaxpr's equations, its inputs being the given names; returns its outputs' names.

        outer: the line of equations that have none of their own, being the library's.
        """
        jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
        names = dict(zip(jaxpr.constvars, [self.constant(c) for c in consts]))
        names |= dict(zip(jaxpr.invars, inputs))

        def read(atom):
            return self.constant(atom.val) if isinstance(atom, Literal) else names[atom]

        for eqn in jaxpr.eqns:
            ins = [read(atom) for atom in eqn.invars]
            name, source = eqn.primitive.name, outer or source_of(eqn)
            if name in INLINED and INLINED[name] in eqn.params:
                inner = eqn.params[INLINED[name]]
                outs = self.inline(inner, ins, outer or (source if is_library(inner) else ""))
            elif name == "scan" and scan_equations(eqn.params) <= LONGEST // 4:
                outs = self._unroll(eqn, ins, outer)
            else:
                outs = [self.new() for _ in eqn.outvars]
                self.add(name, applied(eqn), ins, outs, source, eqn.params)
            names |= dict(zip(eqn.outvars, outs))
        return [read(atom) for atom in jaxpr.outvars]

    def _unroll(self, eqn, ins, outer):
        params = eqn.params
        num_consts, num_carry = scan_sizes(params, ins)
        consts, carry, xs = ins[:num_consts], ins[num_consts : num_consts + num_carry], ins[num_consts + num_carry :]
        steps = range(params["length"])
        rows: list[list[int]] = []
        for t in reversed(steps) if params["reverse"] else steps:
            row = []
            for x in xs:
                name = self.new()
                self.add("step", lambda v, t=t: [lax.index_in_dim(v, t, keepdims=False)], [x], [name])
                row.append(name)
            outs = self.inline(params["jaxpr"], [*consts, *carry, *row], outer)
            carry, ys = outs[:num_carry], outs[num_carry:]
            rows.append(ys)
        if params["reverse"]:
            rows.reverse()
        stacked = []
        for i, var in enumerate(eqn.outvars[num_carry:]):
            name = self.new()
            shape, dtype = var.aval.shape, var.aval.dtype
            fun = (lambda *v: [jnp.stack(v)]) if rows else (lambda shape=shape, dtype=dtype: [jnp.zeros(shape, dtype)])
            self.add("stack", fun, [row[i] for row in rows], [name])
            stacked.append(name)
        return [*carry, *stacked]


def applied(eqn) -> Callable:
    """The equation as a function of its operands' values; its outputs are a list."""
    params = eqn.params if "subfuns" in eqn.params else eqn.primitive.get_bind_params(eqn.params)

    def fun(*values):
        outs = eqn.primitive.bind(*values, **params)
        return list(outs) if eqn.primitive.multiple_results else [outs]

    return _linear_solve(fun, eqn.params) if eqn.primitive.name == "custom_linear_solve" else fun


def _linear_solve(fun: Callable, params: dict) -> Callable:
    """A y = b with its derivative, dy = A^-1 (db - dA y), for tangents that need not all be there."""
    consts = sum(params["const_lengths"])

    @jax.custom_jvp
    def solve(own, b):
        return fun(*own, *b)

    @solve.defjvp
    def solve_jvp(primals, tangents):
        (own, b), (own_dot, b_dot) = primals, tangents
        y = solve(own, b)
        return y, fun(*own, *[db - a for db, a in zip(b_dot, moved_product(params, own, own_dot, y))])

    return lambda *values: solve(list(values[:consts]), list(values[consts:]))


def moved_product(params: dict, consts: Sequence, consts_dot: Sequence, y: Sequence) -> Sequence:
    """dA y of a custom_linear_solve."""
    matvec = jaxpr_as_fun(params["jaxprs"].matvec)
    own = slice(0, params["const_lengths"].matvec)
    return jax.jvp(lambda *consts: matvec(*consts, *y), tuple(consts[own]), tuple(consts_dot[own]))[1]


def scan_sizes(params: dict, operands: Sequence) -> tuple[int, int]:
    """How many of a scan's operands are constants, and how many the carry; the rest are scanned over."""
    if "num_consts" in params:
        return params["num_consts"], params["num_carry"]
    consts, carry, _ = params["ft_in"].update(list(operands)).unpack()  # from JAX 0.11 on
    return len(list(consts)), len(list(carry))


def scan_equations(params: dict) -> int:
    """How many equations all steps of a scan have together."""
    inner = params["jaxpr"]
    return params["length"] * len(getattr(inner, "jaxpr", inner).eqns)


def source_of(eqn) -> str:
    """The user's file and line of an equation."""
    place = source_info_util.summarize(eqn.source_info).split(" ")[0]
    parts = place.split(":")
    return ":".join(parts[:2]) if len(parts) > 2 else place


def is_library(inner) -> bool:
    """Whether the called function is JAX's own."""
    info = getattr(getattr(inner, "jaxpr", inner), "debug_info", None)
    place = str(getattr(info, "func_src_info", "") or "")
    return _LIBRARY in place.replace("\\", "/")


def run(program: Listing, args: Sequence, apply: Callable | None = None) -> dict[int, Any]:
    """All values of the program by name; apply(position, site, values) -> outs replaces an equation."""
    values = dict(program.constants) | dict(zip(program.inputs, args))
    for n, site in enumerate(program.sites):
        operands = [values[i] for i in site.ins]
        outs = site.fun(*operands) if apply is None else apply(n, site, operands)
        values |= dict(zip(site.outs, outs))
    return values


def is_floating(x) -> bool:
    return jnp.issubdtype(x.dtype if hasattr(x, "dtype") else np.result_type(x), jnp.inexact)
