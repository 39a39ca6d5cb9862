"""A run of a function, equation by equation, on its actual values: what find_nan searches.

Unlike a trace, a walk has the values: a branch is the one that was taken, a loop is as many steps as were run.  Each
step knows the user's source line.  A call into JAX's own library (jnp.linalg.norm) has the line of the call: the traces
inside are cached and may remember another caller.  A loop that is too long to be taken apart is run compiled, to its
end; where it ends in numbers that are not finite, the round that made the first of them is taken apart.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.check.equations import Listing, Step, scan_equations
from functional_dl.check.function import is_inexact
from functional_dl.jaxprs import CALLS, MARKED, equations, function_of, scan_parts, staged, while_parts

LONGEST = 20_000  # steps; a loop that would make the walk longer is run compiled


class Walk(Listing):
    """fun at arguments, run: a listing with its values.

    Attributes:
      values: name -> value.
      constants: names of arguments and constants, which no step made.
      in_tree, out_tree: of the arguments and of what fun returns.
      loops: a sentence for each loop that was run compiled.
    """

    calls = MARKED
    in_tree: Any
    out_tree: Any

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__()
        self.values: dict[int, Any] = {}
        self.loops: list[str] = []
        jaxpr, self.out_tree = staged(fun, *args)
        leaves, self.in_tree = jax.tree.flatten(tuple(args))
        self.inputs = [self.constant(jnp.asarray(x)) for x in leaves]
        self.outputs = self.run(jaxpr, self.inputs)

    def constant(self, value: Any, aval: Any = None) -> Any:
        name = super().constant(value)
        self.values[name] = value
        return name

    def add(self, step: Step) -> Any:
        self.values |= zip(step.outs, step.fun(*[self.values[i] for i in step.ins]))
        self.steps.append(step)
        return step.outs

    def takes_apart(self, eqn: Any, operands: Any) -> Any:
        steps = {"scan": lambda: scan_equations(eqn.params), "while": lambda: self._while_equations(eqn, operands)}
        count = steps.get(eqn.primitive.name)
        return count is None or len(self.steps) + count() <= LONGEST

    def apply(self, eqn: Any, operands: Any) -> Any:
        if eqn.primitive.name in ("scan", "while"):
            return self._compiled_loop(eqn, operands)
        return super().apply(eqn, operands)

    def concrete(self, value: Any) -> Any:
        return np.asarray(self.values[value])

    def condition(self, jaxpr: Any, values: Any) -> Any:
        before = len(self.steps)
        going = super().condition(jaxpr, values)
        del self.steps[before:]  # a condition has no derivative
        return going

    def row(self, eqn: Any, x: Any, t: Any) -> Any:
        # with the index as an operand all rows are one equation, compiled once
        take = lambda v, t: [lax.dynamic_index_in_dim(v, t, keepdims=False)]
        return self.moving("step", take, [x, self.constant(np.int32(t))], eqn)

    def select(self, eqn: Any, going: Any, new: Any, old: Any) -> Any:
        mask = self.concrete(going)
        mask = self.constant(jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (np.ndim(self.values[new]) - mask.ndim)),
                                              np.shape(self.values[new])))  # fmt: skip
        return self.moving("select_n", lambda *values: [lax.select_n(*values)], [mask, old, new], eqn)

    # --- loops that are run compiled

    def _while_equations(self, eqn: Any, operands: Any) -> int:
        """How many equations all rounds of a while_loop have, which are counted by running it."""
        going, body, state = self._loop(eqn, operands)
        rounds, *_ = _run_until(going, body, state, lambda state: False)
        return int(rounds) * (len(equations(eqn.params["body_jaxpr"])) + 1)

    def _loop(self, eqn, operands):
        """condition(t, state), body(t, state) and the first state of a loop, on values."""
        values = [self.values[i] for i in operands]
        if eqn.primitive.name == "scan":
            return _scan(eqn.params, values)
        tests, consts, state = while_parts(eqn.params, values)
        test, step = function_of(eqn.params["cond_jaxpr"]), function_of(eqn.params["body_jaxpr"])

        def body(t, state):
            going = test(*tests, *state)[0]  # under vmap one for each
            return [_where(going, new, old) for new, old in zip(step(*consts, *state), state)]

        return lambda t, state: jnp.any(test(*tests, *state)[0]), body, state

    def _compiled_loop(self, eqn, operands):
        name, source = eqn.primitive.name, self.line(eqn)
        outs = super().apply(eqn, operands)
        self.loops.append(f"{source}: a {name} is too long to be taken apart; it was run to its end, as one equation")
        if all(_finite(self.values[out]) for out in outs):
            return outs
        going, body, state = self._loop(eqn, operands)
        spoiled = lambda state: ~jnp.all(jnp.array([_finite(x) for x in state if is_inexact(x)]))
        rounds, before, after = _run_until(going, body, state, spoiled)
        if rounds == 0 or not bool(spoiled(after)):
            return outs
        t = int(rounds) - 1
        names = [self.constant(x) for x in before]
        if name == "while":
            _, consts, _ = while_parts(eqn.params, operands)
            inner = self.run(eqn.params["body_jaxpr"], [*consts, *names])
        else:
            consts, carry, xs = scan_parts(eqn.params, operands)
            place = eqn.params["length"] - 1 - t if eqn.params["reverse"] else t
            rows = [self.row(eqn, x, place) for x in xs]
            inner = self.run(eqn.params["jaxpr"], [*consts, *names[: len(carry)], *rows])
        return [i if not _finite(self.values[i]) else out for i, out in zip(inner, outs)]


class InnerWalk(Walk):
    """A walk that enters functions with derivatives of their own, too."""

    calls = CALLS


def _finite(x) -> Any:
    return jnp.all(jnp.isfinite(x)) if is_inexact(x) else True


def _where(going, new, old):
    going = jnp.asarray(going)
    return jnp.where(going.reshape(going.shape + (1,) * (jnp.ndim(new) - going.ndim)), new, old)


def _run_until(going, body, state, stop) -> tuple[Any, list[Any], list[Any]]:
    """The number of rounds until the loop ends or its state is such, that state, and the one before it."""

    def on(loop):
        t, _, now = loop
        return going(t, now) & ~jnp.asarray(stop(now))

    def step(loop):
        t, _, now = loop
        after = [jnp.asarray(x).astype(y.dtype) for x, y in zip(body(t, now), now)]
        return t + 1, now, after

    state = [jnp.asarray(x) for x in state]
    return lax.while_loop(on, step, (jnp.int32(0), state, state))


def _scan(params, values):
    """A scan as a loop whose state is the carry and what the last step gave besides."""
    consts, carry, xs = scan_parts(params, values)
    step, length = function_of(params["jaxpr"]), params["length"]

    def body(t, state):
        place = length - 1 - t if params["reverse"] else t
        return step(*consts, *state[: len(carry)], *[lax.dynamic_index_in_dim(x, place, keepdims=False) for x in xs])

    shapes = jax.eval_shape(lambda: body(jnp.int32(0), list(carry)))
    rest = [jnp.zeros(s.shape, s.dtype) for s in shapes[len(carry) :]]
    return lambda t, state: t < length, body, [*carry, *rest]
