"""A function as a flat list of applied primitives.

Calls (jit, checkpoint, custom rules) are replaced by what they call, and short scans by their steps, so that every use
of every value is an operand of a step.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.jaxprs import Interpreter, bind, equations, function_of, scopes_of, source_of, traced_function

LONGEST = 600  # steps; a longer program is not taken apart
_LIBRARY = "/".join(jax.__file__.replace("\\", "/").split("/")[:-1]) + "/"


@dataclass(frozen=True)
class Step:
    """A primitive, applied: values of `outs` = fun(*values of `ins`); names of values are numbers.  `source` is the
    user's line, `params` the primitive's own, `layer` the names of jax.named_scope around it, joined by "/"."""

    name: str
    fun: Callable[..., Any]
    ins: tuple[int, ...]
    outs: tuple[int, ...]
    source: str
    params: dict[Any, Any]
    layer: str = ""


class Listing(Interpreter):
    """The steps of a program: an interpreter whose values are names.

    Attributes:
      steps: in order.
      constants: name -> value, for what no step makes (and is no input).
      inputs, outputs: names.
    """

    count: int
    outer: str
    scopes: tuple[str, ...]

    def __init__(self) -> None:
        self.steps: list[Step] = []
        self.constants: dict[int, Any] = {}
        self.inputs: list[int] = []
        self.outputs: list[int] = []
        self.count = 0
        self.outer = ""  # the line of equations that have none of their own, being the library's
        self.scopes = ()

    def new(self) -> int:
        self.count += 1
        return self.count - 1

    def constant(self, value: Any, aval: Any = None) -> int:
        name = self.new()
        self.constants[name] = value
        return name

    def line(self, eqn: Any) -> str:
        return self.outer or source_of(eqn)

    def equation(self, eqn: Any, operands: Any) -> Any:
        before = self.scopes
        self.scopes = (*before, *scopes_of(eqn.source_info.name_stack))  # a called program's begin anew
        outs = super().equation(eqn, operands)
        self.scopes = before
        return outs

    def call(self, eqn: Any, inner: Any, operands: Any) -> Any:
        before, self.outer = self.outer, self.outer or (source_of(eqn) if is_library(inner) else "")
        outs = super().call(eqn, inner, operands)
        self.outer = before
        return outs

    def takes_apart(self, eqn: Any, operands: Sequence[Any]) -> Any:
        return eqn.primitive.name == "scan" and scan_equations(eqn.params) <= LONGEST // 4

    def apply(self, eqn: Any, operands: Sequence[Any]) -> Any:
        name, source = eqn.primitive.name, self.line(eqn)
        outs = self.names(len(eqn.outvars))
        return self.add(Step(name, applied(eqn), tuple(operands), outs, source, eqn.params, self.layer))

    @property
    def layer(self) -> str:
        return "/".join(self.scopes)

    def names(self, count: int) -> tuple[int, ...]:
        return tuple(self.new() for _ in range(count))

    def add(self, step: Step) -> tuple[int, ...]:
        if len(self.steps) >= LONGEST:
            raise _TooLong
        self.steps.append(step)
        return step.outs

    def moving(self, name: str, fun: Callable[..., Any], operands: Sequence[int], eqn: Any) -> int:
        """One result of a step that no equation stands for: it moves values in and out of a loop."""
        return self.add(Step(name, fun, tuple(operands), self.names(1), self.line(eqn), {}, self.layer))[0]

    def row(self, eqn: Any, x: Any, t: Any) -> Any:
        return self.moving("step", lambda v: [lax.index_in_dim(v, t, keepdims=False)], [x], eqn)

    def stack(self, eqn: Any, rows: Any, aval: Any) -> Any:
        if not rows:
            return self.constant(jnp.zeros(aval.shape, aval.dtype))
        return self.moving("stack", lambda *v: [jnp.stack(v)], rows, eqn)


class _TooLong(Exception):
    pass


def listing(fun: Callable[..., Any], args: Sequence[Any]) -> Listing | None:
    """The steps of fun at arguments of the given types; None where there are too many."""
    found = Listing()
    found.inputs = [found.new() for _ in args]
    try:
        found.outputs = found.run(jax.make_jaxpr(fun)(*args), found.inputs)
    except _TooLong:
        return None
    return found


def applied(eqn: Any) -> Callable[..., Any]:
    """The equation as a function of its operands' values; its outputs are a list."""

    def fun(*values):
        return bind(eqn.primitive, values, eqn.params)

    return _linear_solve(fun, eqn.params) if eqn.primitive.name == "custom_linear_solve" else fun


def _linear_solve(fun: Callable[..., Any], params: dict[Any, Any]) -> Callable[..., Any]:
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


def moved_product(
    params: dict[Any, Any], consts: Sequence[Any], consts_dot: Sequence[Any], y: Sequence[Any]
) -> Sequence[Any]:
    """dA y of a custom_linear_solve."""
    matvec = function_of(params["jaxprs"].matvec)
    own = slice(0, params["const_lengths"].matvec)
    return jax.jvp(lambda *consts: matvec(*consts, *y), tuple(consts[own]), tuple(consts_dot[own]))[1]


def scan_equations(params: dict[Any, Any]) -> int:
    """How many equations all steps of a scan have together."""
    return params["length"] * len(equations(params["jaxpr"]))


def is_library(inner: Any) -> bool:
    """Whether the called function is JAX's own."""
    return _LIBRARY in traced_function(inner)[1].replace("\\", "/")


def run(program: Listing, args: Sequence[Any], apply: Callable[..., Any] | None = None) -> dict[int, Any]:
    """All values of the program by name; apply(position, step, values) -> outs replaces a step."""
    values = dict(program.constants) | dict(zip(program.inputs, args))
    for n, step in enumerate(program.steps):
        operands = [values[i] for i in step.ins]
        values |= dict(zip(step.outs, step.fun(*operands) if apply is None else apply(n, step, operands)))
    return values


def is_floating(x: Any) -> bool:
    return jnp.issubdtype(x.dtype if hasattr(x, "dtype") else np.result_type(x), jnp.inexact)
