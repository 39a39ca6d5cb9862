"""A run of a function, equation by equation, on its actual values: what find_nan searches.

Unlike a trace, a walk has the values: a branch is the one that was taken, a loop is as many steps as were run.  Each
step knows the user's source line.  A call into JAX's own library (jnp.linalg.norm) has the line of the call: the traces
inside are cached and may remember another caller.
"""

from collections.abc import Callable, Sequence
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np
from jax import lax

from functional_dl.check.equations import Listing, Step, scan_equations
from functional_dl.jaxprs import MARKED, staged

LONGEST = 20_000  # steps; a loop that would make the walk longer is run as one step


class Walk(Listing):
    """fun at arguments, run: a listing with its values.

    Attributes:
      values: name -> value.
      constants: names of arguments and constants, which no step made.
    """

    calls = MARKED
    out_tree: Any

    def __init__(self, fun: Callable[..., Any], args: Sequence[Any]) -> None:
        super().__init__()
        self.values: dict[int, Any] = {}
        jaxpr, self.out_tree = staged(fun, *args)
        self.inputs = [self.constant(jnp.asarray(x)) for x in jax.tree.leaves(args)]
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
        more = {"scan": scan_equations, "while": lambda params: 1}.get(eqn.primitive.name)
        return more is None or len(self.steps) + more(eqn.params) <= LONGEST

    def concrete(self, value: Any) -> Any:
        return np.asarray(self.values[value])

    def condition(self, jaxpr: Any, values: Any) -> Any:
        before = len(self.steps)
        going = super().condition(jaxpr, values)
        del self.steps[before:]  # a condition has no derivative
        return going

    def goes_on(self, going: Any) -> Any:
        return len(self.steps) < LONGEST and super().goes_on(going)

    def select(self, eqn: Any, going: Any, new: Any, old: Any) -> Any:
        mask = self.concrete(going)
        mask = self.constant(jnp.broadcast_to(mask.reshape(mask.shape + (1,) * (np.ndim(self.values[new]) - mask.ndim)),
                                              np.shape(self.values[new])))  # fmt: skip
        return self.moving("select_n", lambda *values: [lax.select_n(*values)], [mask, old, new], eqn)
