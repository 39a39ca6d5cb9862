"""A run of a function, equation by equation, on its actual values: what find_nan searches.

Unlike a trace, a walk has the values: a branch is the one that was taken, a loop is as many steps as were run.  Each
step knows the user's source line.  A call into JAX's own library (jnp.linalg.norm) has the line of the call: the traces
inside are cached and may remember another caller.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax
from jax.extend.core import Literal

from functional_dl.check.equations import CALLS, applied, is_library, scan_equations, scan_sizes, source_of

LONGEST = 20_000  # steps; a loop that would make the walk longer is run as one step


@dataclass(frozen=True)
class Step:
    """One equation as it was run: fun(*values of ins) = values of outs; names are numbers."""

    name: str
    fun: Callable
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    source: str
    params: dict


class Walk:
    """fun at arguments, run.

    Attributes:
      steps: the equations in the order in which they ran.
      values: name -> value.
      inputs, outputs: names.
      given: names of arguments and constants, which no step made.
    """

    def __init__(self, fun: Callable, args: Sequence):
        self.steps: list[Step] = []
        self.values: dict[int, Any] = {}
        self.given: set[int] = set()
        closed, shape = jax.make_jaxpr(fun, return_shape=True)(*args)
        self.out_tree = jax.tree.structure(shape)
        leaves = jax.tree.leaves(args)
        self.inputs = [self._give(jnp.asarray(x)) for x in leaves]
        self.outputs = self._run(closed, self.inputs, "")

    def _name(self, value) -> int:
        name = len(self.values)
        self.values[name] = value
        return name

    def _give(self, value) -> int:
        name = self._name(value)
        self.given.add(name)
        return name

    def _run(self, closed, inputs, outer: str) -> list[int]:
        """Runs a jaxpr; `outer` is the source line for equations of the library's own."""
        jaxpr, consts = getattr(closed, "jaxpr", closed), getattr(closed, "consts", ())
        names = dict(zip(jaxpr.constvars, [self._give(c) for c in consts])) | dict(zip(jaxpr.invars, inputs))

        def read(atom):
            return self._give(atom.val) if isinstance(atom, Literal) else names[atom]

        for eqn in jaxpr.eqns:
            ins = [read(atom) for atom in eqn.invars]
            source = outer or source_of(eqn)
            outs = self._equation(eqn, ins, source, outer)
            names |= dict(zip(eqn.outvars, outs))
        return [read(atom) for atom in jaxpr.outvars]

    def _equation(self, eqn, ins, source, outer):
        name, params = eqn.primitive.name, eqn.params
        if name in CALLS and CALLS[name] in params:
            inner = params[CALLS[name]]
            return self._run(inner, ins, outer or (source if is_library(inner) else ""))
        if name == "cond":
            index = int(np.clip(int(self.values[ins[0]]), 0, len(params["branches"]) - 1))
            return self._run(params["branches"][index], ins[1:], outer)
        if name == "scan" and len(self.steps) + scan_equations(params) <= LONGEST:
            return self._scan(params, ins, source, outer)
        if name == "while" and len(self.steps) < LONGEST:
            return self._while(params, ins, outer)
        return self._step(name, applied(eqn), ins, source, params)

    def _step(self, name, fun, ins, source, params=None):
        outs = fun(*[self.values[i] for i in ins])
        names = [self._name(y) for y in outs]
        self.steps.append(Step(name, fun, tuple(ins), tuple(names), source, params or {}))
        return names

    def _scan(self, params, ins, source, outer):
        num_consts, num_carry = scan_sizes(params, ins)
        consts, carry, xs = ins[:num_consts], ins[num_consts : num_consts + num_carry], ins[num_consts + num_carry :]
        order = range(params["length"])
        rows = []
        for t in reversed(order) if params["reverse"] else order:
            row = [self._step("step", _take(t), [x], source)[0] for x in xs]
            outs = self._run(params["jaxpr"], [*consts, *carry, *row], outer)
            carry = outs[:num_carry]
            rows.append(outs[num_carry:])
        if params["reverse"]:
            rows.reverse()
        if not rows:
            inner = params["jaxpr"]
            avals = [var.aval for var in getattr(inner, "jaxpr", inner).outvars[num_carry:]]
            return [*carry, *[self._give(jnp.zeros((0, *a.shape), a.dtype)) for a in avals]]
        stacked = [self._step("stack", _stack, [row[i] for row in rows], source)[0] for i in range(len(rows[0]))]
        return [*carry, *stacked]

    def _while(self, params, ins, outer):
        cond_count, body_count = params["cond_nconsts"], params["body_nconsts"]
        cond_consts, consts = ins[:cond_count], ins[cond_count : cond_count + body_count]
        state = ins[cond_count + body_count :]
        while True:
            before = len(self.steps)
            going = self._run(params["cond_jaxpr"], [*cond_consts, *state], outer)
            del self.steps[before:]  # a condition has no derivative
            if not np.any(np.asarray(self.values[going[0]])) or len(self.steps) >= LONGEST:
                return state
            state = self._run(params["body_jaxpr"], [*consts, *state], outer)


def _take(t):
    return lambda x: [lax.index_in_dim(x, t, keepdims=False)]


def _stack(*rows):
    return [jnp.stack(rows)]
